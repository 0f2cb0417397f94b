"""Drive a study's steps to done: what is ready first, the longest way to the end first, and nothing lost.

The driver keeps no state of its own: what is done stands in the study folder, so a driver that is killed is simply
started again.
"""

from __future__ import annotations

import heapq
import json
import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from finescale import registry
from finescale.errors import StudyError
from finescale.study import openmetrics
from finescale.study.backends import Backend, Ended, Setup
from finescale.study.lease import Lease, driven
from finescale.study.links import refuse_links
from finescale.study.lock import Study, refuse_what_cannot_run, write_lock
from finescale.study.pace import Pace, measured, work_of
from finescale.study.plan import Step
from finescale.study.policy import Attempt, Breaker, Failure, classify, next_attempt, of_exit
from finescale.study.shards import shards_of
from finescale.study.space import refuse_if_too_small
from finescale.study.store import How

WORK = "finescale.study.worker:work"
SESSIONS = "sessions.jsonl"
SECONDS_PER_TICK = 0.25


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
    address: str | None = None,
    only: Collection[str] | None = None,
    show: Show = lambda outcome: None,
    tell: Callable[[str], None] = lambda line: None,
    function: str = WORK,
) -> Outcome:
    """Run all steps of a study that are not done yet.

    Args:
        study: as read from its ``study.toml``; its lock is written now.
        workers: processes at a time; by default as many as the study says, else one per core.
        backend: name of a registered backend.
        address: the cluster to go to, where the backend has a choice.
        only: ids of steps to run, with whatever they need and whatever was waiting for them; by default all.
        show: called about four times a second with where the study stands.
        tell: told what a user should know before the first step.
        function: ``module:function`` a worker calls with the study folder and a step id.

    Raises:
        InputError: the backend is unknown, or cannot be had as it is asked for; nothing is written then.
        Refused: no machine there has the memory that training the largest base takes.
        StudyError: another driver holds the study, a link in its folder leads elsewhere, the disk cannot hold what it
            would write, or the same cause of failure struck too often.
    """
    refuse_what_cannot_run(study.spec, memory_at(backend, address))
    refuse_links(study.folder)
    cpus = max(shards_of(study, step) for step in study.plan.steps.values())
    workers = workers or study.spec.run.workers or max(1, cores() // cpus)
    refuse_if_too_small(study)
    with study.store.lease(tell) as lease:
        made: Backend = registry.get("backend", backend)(_setup(study, workers, cpus, lease, function, address))
        write_lock(study)
        study.store.catch_up()
        driver = _Driver(study, made, workers, lease, openmetrics.writing(study.folder, show), function, only)
        idle = not driver.unmet
        try:
            driver.drive()
        except OSError as error:
            if classify(error) != "disk":
                raise
            raise StudyError(
                f"{study.folder}: cannot be written any more: {error.strerror}; what is done is kept, and the same "
                "command continues once it is mended"
            ) from error
        finally:
            made.close()
            if not idle:
                _note_session(study.folder, driver.outcome, workers)
        study.store.catch_up()
    return driver.outcome


def _setup(study: Study, workers: int, cpus: int, lease: Lease, function: str, address: str | None) -> Setup:
    """What the session's backend is made from."""
    limit = study.spec.run.memory_gb
    return Setup(
        workers=workers,
        keep_open=(lease.descriptor,),
        preload=(function.partition(":")[0],),
        memory_bytes=None if limit is None else round(limit * 1e9),
        cpus=cpus,
        address=address,
        options=study.spec.run.slurm,
        folder=study.folder,
    )


@cache
def memory_at(backend: str, address: str | None) -> int | None:
    """Memory of the largest machine that steps of a backend may get to, bytes; None where nobody can tell.

    A cluster is asked once in the life of a process.

    Raises:
        InputError: the backend is unknown or cannot be reached.
    """
    found: int | None = registry.get("backend", backend).largest_memory(address)
    return found


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Driver:
    """One session: which steps are ready, which run, and what became of them."""

    def __init__(
        self,
        study: Study,
        backend: Backend,
        workers: int,
        lease: Lease,
        show: Show,
        function: str,
        only: Collection[str] | None,
    ) -> None:
        self.study = study
        self.folder, self.store, self.steps = study.folder, study.store, study.plan.steps
        self.backend, self.workers, self.lease, self.show, self.function = backend, workers, lease, show, function
        self.most_minutes = study.spec.run.minutes
        self.started = time.monotonic()
        self.outcome = Outcome(total=len(self.steps), done=self.store.finished(study.plan))
        self.pace: Pace = measured(self.store, study.plan)
        todo = {id: step for id, step in self.steps.items() if id not in self.outcome.done}
        if only is not None:
            todo = _around(todo, only)
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
        self.attempts: dict[str, Attempt] = defaultdict(Attempt)
        self.late: set[str] = set()
        self.breaker = Breaker()
        self.memory = _Memory(workers)

    def _longest_ways(self, todo: dict[str, Step]) -> dict[str, float]:
        """FLOPs of the longest chain from each step to the end; steps come after what they need."""
        way: dict[str, float] = {}
        for id in reversed(todo):
            way[id] = todo[id].flops + max((way[after] for after in self.wants[id]), default=0.0)
        return way

    def drive(self) -> None:
        """Submit and settle until nothing is ready and nothing runs.

        Raises:
            StudyError: a cause of failure struck too often, or another driver took the study over.
        """
        while self.ready or self.begun:
            while self.ready and len(self.begun) < self.workers:
                self.submit(heapq.heappop(self.ready)[1])
            for ended in self.backend.poll(SECONDS_PER_TICK):
                self.settle(ended)
            self.end_late()
            self.lease.beat()
            self.tell()
        self.tell()

    def submit(self, id: str) -> None:
        """Begin a step and give it to the backend."""
        step = self.steps[id]
        asked = self.study.spec.run
        trust = self.study.plan.trusts_base_of(step)
        shares = self.attempts[id].parts, shards_of(self.study, step)
        how = How(*shares, asked.keep, trust, asked.gradient_checkpointing, asked.device_map)
        self.store.begin(step, how)
        self.begun[id] = time.monotonic()
        self.backend.submit(self.function, self.store.address, id)

    def end_late(self) -> None:
        """Cancel steps that run longer than the study allows."""
        if self.most_minutes is None:
            return
        now = time.monotonic()
        for id, since in self.begun.items():
            if now - since > 60 * self.most_minutes and id not in self.late:
                self.late.add(id)
                self.backend.cancel(id)

    def settle(self, ended: Ended) -> None:
        """Take note of a step that ended: done if its directory has its final name, whatever the exit code."""
        step, seconds = self.steps[ended.step], time.monotonic() - self.begun.pop(ended.step)
        self.memory.add(ended.peak_memory_bytes or 0)
        if self.store.arrived(step):
            return self.finish(step, seconds)
        why = "time" if step.id in self.late else ended.why
        failure = self.store.failure(step) or of_exit(ended.exit, why)
        if (again := next_attempt(self.attempts[step.id], failure)) is not None:
            self.attempts[step.id] = again
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
        self.store.tell_failure(self.store.part(step), failure)
        self.outcome.failed[step.id] = failure
        reached = [step.id]
        while reached:
            after = [id for id in self.wants[reached.pop()] if id not in self.outcome.blocked]
            self.outcome.blocked.update(after)
            reached += after
        if (reason := self.breaker.add(failure)) is not None:
            raise StudyError(reason)

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


def _around(todo: dict[str, Step], chosen: Collection[str]) -> dict[str, Step]:
    """The chosen steps, those they need, and those that need them."""
    wanted: set[str] = set(chosen)
    for id in reversed(todo):
        if id in wanted:
            wanted.update(todo[id].needs.values())
    freed: set[str] = set(chosen)
    for id, step in todo.items():
        if freed.intersection(step.needs.values()):
            freed.add(id)
    return {id: step for id, step in todo.items() if id in wanted | freed}


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
