"""Drive a study's steps to done: what is ready first, the longest way to the end first, and nothing lost.

The driver keeps no state of its own: what is done stands in the study folder, so a driver that is killed is simply
started again.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import resource
import socket
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from finescale import registry
from finescale.errors import StudyError
from finescale.study.backends import Backend, Ended
from finescale.study.lock import Study, write_lock
from finescale.study.pace import Pace, measured, work_of
from finescale.study.plan import Step
from finescale.study.store import Failure, fail

WORK = "finescale.study.worker:work"
LEASE = "leases/driver.json"
SESSIONS = "sessions.jsonl"
KILLED_TRIES = 2
SAME_CAUSE_LIMIT = 5
SECONDS_PER_TICK = 0.25
SECONDS_FOR_OLD_WORKERS = 5.0


@dataclass
class Outcome:
    """Where a study stands after, or during, a session of driving it."""

    total: int
    done: set[str]
    failed: dict[str, Failure] = field(default_factory=dict)
    blocked: set[str] = field(default_factory=set)
    running: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    seconds_left: float | None = None
    peak_memory_bytes: int = 0

    @property
    def complete(self) -> bool:
        """Whether every step is done."""
        return len(self.done) == self.total


Show = Callable[[Outcome], None]


def run(
    study: Study,
    *,
    workers: int | None = None,
    backend: str = "local",
    show: Show = lambda outcome: None,
    function: str = WORK,
) -> Outcome:
    """Run all steps of a study that are not done yet.

    Args:
        study: as read from its ``study.toml``; its lock is written now.
        workers: processes at a time; by default as many as the study says, else one per core.
        backend: name of a registered backend.
        show: called about four times a second with where the study stands.
        function: ``module:function`` a worker calls with the study folder and a step id.

    Raises:
        StudyError: another driver holds the study, or the same cause of failure struck too often.
    """
    workers = workers or study.spec.run.workers or cores()
    with hold(study.folder) as lease:
        write_lock(study)
        preload = (function.partition(":")[0],)
        made: Backend = registry.get("backend", backend)(workers, keep_open=(lease,), preload=preload)
        driver = _Driver(study, made, workers, show, function)
        idle = driver.outcome.complete
        try:
            driver.drive()
        finally:
            made.close()
            if not idle:
                _note_session(study.folder, driver.outcome, workers)
    return driver.outcome


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def hold(folder: Path) -> Iterator[int]:
    """Hold the study as its only driver; yields the descriptor that holds it.

    The lease is the kernel's lock on the file, so it ends with the last process that holds it, killed or not. What
    stands in the file only says who it is.

    Raises:
        StudyError: another driver holds it.
    """
    path = folder / LEASE
    path.parent.mkdir(exist_ok=True)
    lease = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(lease, folder)
        os.ftruncate(lease, 0)
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        os.pwrite(lease, json.dumps(holder).encode(), 0)
        yield lease
    finally:
        os.close(lease)


def _lock(lease: int, folder: Path) -> None:
    """Take the lock; workers of a driver that was killed are given a moment to be gone."""
    deadline = time.monotonic() + SECONDS_FOR_OLD_WORKERS
    while True:
        try:
            return fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                holder = os.pread(lease, 1000, 0).decode(errors="replace")
                raise StudyError(
                    f"{folder}: another driver is running this study: {holder}; wait for it, or end it"
                ) from None
            time.sleep(0.1)


class _Driver:
    """One session: which steps are ready, which run, and what became of them."""

    def __init__(self, study: Study, backend: Backend, workers: int, show: Show, function: str) -> None:
        self.folder, self.store, self.steps = study.folder, study.store, study.plan.steps
        self.backend, self.workers, self.show, self.function = backend, workers, show, function
        self.started = time.monotonic()
        self.outcome = Outcome(total=len(self.steps), done=self.store.finished(study.plan))
        self.pace: Pace = measured(self.store, study.plan)
        todo = {id: step for id, step in self.steps.items() if id not in self.outcome.done}
        self.left = work_of(todo.values())
        self.wants: dict[str, list[str]] = defaultdict(list)
        self.unmet: dict[str, int] = {}
        for id, step in todo.items():
            needed = {other for other in step.needs.values() if other in todo}
            self.unmet[id] = len(needed)
            for other in needed:
                self.wants[other].append(id)
        self.way = self._longest_ways(todo)
        self.ready = [(-self.way[id], id) for id, count in self.unmet.items() if count == 0]
        heapq.heapify(self.ready)
        self.begun: dict[str, float] = {}
        self.tries: Counter[str] = Counter()
        self.causes: Counter[str] = Counter()
        self.memory = _Memory(workers)

    def _longest_ways(self, todo: dict[str, Step]) -> dict[str, float]:
        """FLOPs of the longest chain from each step to the end; steps come after what they need."""
        way: dict[str, float] = {}
        for id in reversed(todo):
            way[id] = todo[id].flops + max((way[after] for after in self.wants[id]), default=0.0)
        return way

    def drive(self) -> None:
        while self.ready or self.begun:
            while self.ready and len(self.begun) < self.workers:
                self.submit(heapq.heappop(self.ready)[1])
            for ended in self.backend.poll(SECONDS_PER_TICK):
                self.settle(ended)
            self.tell()
        self.tell()

    def submit(self, id: str) -> None:
        self.store.begin(self.steps[id])
        self.begun[id] = time.monotonic()
        self.tries[id] += 1
        self.backend.submit(self.function, str(self.folder.resolve()), id)

    def settle(self, ended: Ended) -> None:
        """Take note of a step that ended: done if its directory has its final name, whatever the exit code."""
        step, seconds = self.steps[ended.step], time.monotonic() - self.begun.pop(ended.step)
        self.memory.add(ended.peak_memory_bytes or 0)
        if self.store.done(step).exists():
            return self.finish(step, seconds)
        failure = self.store.failure(step) or _killed(ended)
        if failure.kind == "killed" and self.tries[step.id] < KILLED_TRIES:
            return heapq.heappush(self.ready, (-self.way[step.id], step.id))
        return self.give_up(step, failure)

    def finish(self, step: Step, seconds: float) -> None:
        self.outcome.done.add(step.id)
        self.left[step.kind] -= step.flops
        self.pace.add(step, seconds)
        for after in self.wants[step.id]:
            self.unmet[after] -= 1
            if self.unmet[after] == 0:
                heapq.heappush(self.ready, (-self.way[after], after))

    def give_up(self, step: Step, failure: Failure) -> None:
        """Record a failure; what needs the step is blocked; enough of one cause ends the session.

        Raises:
            StudyError: the cause has struck too often.
        """
        fail(self.store.part(step), failure)
        self.outcome.failed[step.id] = failure
        reached = [step.id]
        while reached:
            after = [id for id in self.wants[reached.pop()] if id not in self.outcome.blocked]
            self.outcome.blocked.update(after)
            reached += after
        self.causes[failure.cause] += 1
        if self.causes[failure.cause] >= SAME_CAUSE_LIMIT or failure.kind == "disk":
            raise StudyError(
                f"stopped after {self.causes[failure.cause]} failures of one cause ({failure.cause}); what is done is "
                f"kept, and the same command continues once it is mended\n  last: {failure.message}"
            )

    def tell(self) -> None:
        """Bring the outcome up to date and show it."""
        self.outcome.seconds = time.monotonic() - self.started
        self.outcome.peak_memory_bytes = self.memory.peak()
        self.outcome.running = {id: self.store.progress(self.steps[id]) for id in self.begun}
        self.outcome.seconds_left = self._seconds_left()
        self.show(self.outcome)

    def _seconds_left(self) -> float | None:
        left = dict(self.left)
        for id, fraction in self.outcome.running.items():
            left[self.steps[id].kind] -= fraction * self.steps[id].flops
        seconds = self.pace.estimate(left)
        return None if seconds is None else max(0.0, seconds) / self.workers


def _killed(ended: Ended) -> Failure:
    how = f"signal {-ended.exit}" if ended.exit < 0 else f"exit code {ended.exit} without a word"
    return Failure("killed", f"the worker was ended by {how}", f"killed: {how}")


class _Memory:
    """Upper bound of the memory a session held at one time: its driver and its ``workers`` largest processes."""

    def __init__(self, workers: int) -> None:
        self.largest = [0] * workers

    def add(self, peak: int) -> None:
        """Add the peak of a process that ended."""
        heapq.heappushpop(self.largest, peak)

    def peak(self) -> int:
        """The bound, bytes."""
        unit = 1 if sys.platform == "darwin" else 1024
        return sum(self.largest) + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _note_session(folder: Path, outcome: Outcome, workers: int) -> None:
    """Append what this session did: a study's cost is the sum of its sessions. A full disk must not hide its cause."""
    entry = {
        "seconds": outcome.seconds,
        "workers": workers,
        "done": len(outcome.done),
        "failed": len(outcome.failed),
        "total": outcome.total,
        "peak_memory_bytes": outcome.peak_memory_bytes,
    }
    with suppress(OSError), (folder / SESSIONS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def driven(folder: Path) -> bool:
    """Whether a driver, or a worker it left, is at work in this study now."""
    try:
        lease = os.open(folder / LEASE, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lease)
    return False


def state(study: Study) -> Outcome:
    """Where a study stands on disk, whether or not a driver is running."""
    plan, store, active = study.plan, study.store, driven(study.folder)
    outcome = Outcome(total=len(plan.steps), done=store.finished(plan))
    for step in plan.steps.values():
        if step.id in outcome.done:
            continue
        if (failure := store.failure(step)) is not None:
            outcome.failed[step.id] = failure
        if any(need in outcome.failed or need in outcome.blocked for need in step.needs.values()):
            outcome.blocked.add(step.id)
        elif active and (store.part(step) / "progress").exists():
            outcome.running[step.id] = store.progress(step)
    left = work_of(step for step in plan.steps.values() if step.id not in outcome.done)
    seconds = measured(store, plan).estimate(left)
    outcome.seconds_left = None if seconds is None else seconds / (study.spec.run.workers or cores())
    return outcome
