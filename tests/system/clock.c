/* A wall clock that a test can turn while processes run, and machines that share a folder but no locks.

   Preloaded. CLOCK_FILE holds the seconds that the wall clock is off by; it is read at every look. Where CLOCK_HOST is
   set the machine has that name, and its locks are nobody else's. Steady clocks go on as they are, as they do when a
   real machine's clock is set. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static long off(void) {
    char said[32] = {0};
    const char *path = getenv("CLOCK_FILE");
    int kept = errno, file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        if (read(file, said, sizeof said - 1) < 0) said[0] = 0;
        close(file);
    }
    errno = kept;
    return atol(said);
}

int clock_gettime(clockid_t which, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, which, now);
    if (!failed && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) now->tv_sec += off();
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec exact;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}

int gethostname(char *name, size_t size) {
    struct utsname real;
    const char *said = getenv("CLOCK_HOST");
    if (!said && uname(&real)) return -1;
    strncpy(name, said ? said : real.nodename, size);
    return 0;
}

int flock(int file, int how) { return getenv("CLOCK_HOST") ? 0 : syscall(SYS_flock, file, how); }
