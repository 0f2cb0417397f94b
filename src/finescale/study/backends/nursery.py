"""A process that has imported the heavy modules once and forks a child per step: 0.03 s instead of seconds each.

It speaks JSON lines: orders on standard input, ends of steps on standard output. When its input closes, for whatever
reason, it ends its children and itself; when it is killed, the kernel ends them (Linux). So a killed driver leaves no
worker behind that would write into a study that somebody else resumes.

Forks happen in a process of one thread that has computed nothing, which is what makes them safe.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from importlib import import_module
from typing import Any

GRACE_SECONDS = 3.0
SECONDS_BETWEEN_LOOKS = 0.2
PR_SET_PDEATHSIG = 1


class Nursery:
    """Children by process id, and the two pipes to the driver.

    No process of a child, itself or one it started, may hold more than ``most_bytes`` (0: any).
    """

    def __init__(self, most_bytes: int = 0) -> None:
        self.most_bytes = most_bytes
        self.children: dict[int, str] = {}
        self.too_large: set[int] = set()
        self.ended_by_kernel = _kernel_kills()
        self.unread = b""
        self.wake, wake_writer = os.pipe()
        for end in (self.wake, wake_writer):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        self.libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def run(self) -> None:
        """Serve until standard input closes, then end all children."""
        selector = selectors.DefaultSelector()
        selector.register(0, selectors.EVENT_READ)
        selector.register(self.wake, selectors.EVENT_READ)
        while True:
            watching = self.most_bytes and self.children
            ready = {key.fd for key, _ in selector.select(SECONDS_BETWEEN_LOOKS if watching else None)}
            if watching:
                self.weigh()
            if self.wake in ready:
                os.read(self.wake, 4096)
                self.reap()
            if 0 in ready and not self.obey(os.read(0, 65536)):
                break
        self.end_all()

    def obey(self, received: bytes) -> bool:
        """Follow the orders received; False once there will be no more."""
        if not received:
            return False
        *lines, self.unread = (self.unread + received).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if "cancel" in order:
                self.signal(signal.SIGKILL, only=order["cancel"])
            else:
                self.start(*order["start"])
        return True

    def start(self, function: str, folder: str, step: str) -> None:
        """Fork a child for a step."""
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            self.become_worker(parent)
            os._exit(_call(function, folder, step))
        self.children[child] = step

    def become_worker(self, parent: int) -> None:
        """In the child: shed the nursery's pipes and signals, and tie its life to the nursery's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(2, 1)
        if self.libc is not None:
            self.libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    def reap(self) -> None:
        """Tell the driver of every child that ended."""
        while self.children:
            child, status, usage = os.wait4(-1, os.WNOHANG)
            if child == 0:
                return
            unit = 1 if sys.platform == "darwin" else 1024
            step, code = self.children.pop(child), os.waitstatus_to_exitcode(status)
            why = self.why(child, code)
            self.say({"step": step, "exit": code, "peak_memory_bytes": usage.ru_maxrss * unit, "why": why})

    def weigh(self) -> None:
        """End children of which a process holds more memory than it may."""
        for child in self.children:
            if any(_resident_bytes(process) > self.most_bytes for process in _family(child)):
                self.too_large.add(child)
                self.signal(signal.SIGKILL, only=self.children[child])

    def why(self, child: int, code: int) -> str:
        """``memory`` where a child was ended for what it held, by this process or by the kernel."""
        kills, before = _kernel_kills(), self.ended_by_kernel
        self.ended_by_kernel = kills
        if child in self.too_large or (code == -signal.SIGKILL and kills > before):
            self.too_large.discard(child)
            return "memory"
        return ""

    def say(self, message: dict[str, Any]) -> None:
        """Write a line to the driver; it may be gone, and then nobody needs to know."""
        try:
            os.write(1, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            return

    def signal(self, number: signal.Signals, only: str | None = None) -> None:
        """Send a signal to the children, or to one, and all that they started."""
        for child, step in self.children.items():
            if only in (None, step):
                try:
                    os.killpg(child, number)
                except ProcessLookupError:
                    continue

    def end_all(self) -> None:
        """Ask the children to end, then make them."""
        self.signal(signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while self.children and time.monotonic() < deadline:
            self.reap()
            time.sleep(0.01)
        self.signal(signal.SIGKILL)
        while self.children:
            self.reap()
            time.sleep(0.01)


def _family(process: int) -> Iterator[int]:
    """A process and all that it started, which a training that is spread has."""
    yield process
    try:
        for thread in os.listdir(f"/proc/{process}/task"):
            with open(f"/proc/{process}/task/{thread}/children", encoding="ascii") as file:
                for child in file.read().split():
                    yield from _family(int(child))
    except OSError:
        return


def _resident_bytes(process: int) -> int:
    """Memory a process holds now; 0 where that cannot be told."""
    try:
        with open(f"/proc/{process}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _kernel_kills() -> int:
    """How many processes the kernel has ended for want of memory; 0 where it does not say."""
    try:
        with open("/proc/vmstat", encoding="ascii") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0


def _call(function: str, folder: str, step: str) -> int:
    """Exit code of ``module:function`` called with two strings."""
    try:
        module, name = function.split(":")
        getattr(import_module(module), name)(folder, step)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def main() -> None:
    """Import what is named on the command line, say so, and serve."""
    nursery = Nursery(int(sys.argv[1]))
    try:
        for module in sys.argv[2:]:
            import_module(module)
    except ImportError as error:
        nursery.say({"broken": str(error)})
        return
    gc.collect()
    gc.freeze()
    nursery.run()


if __name__ == "__main__":
    main()
