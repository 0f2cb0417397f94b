"""Steps pulled by the workers of one Slurm array, through submitit; the same array runs on one machine without Slurm.

The driver puts a ticket per step into ``queue/ready`` of the study folder; a worker claims it by renaming it, runs the
step in a child of its own nursery, and says how it ended in ``queue/ended``. A worker ends when it is told to, or when
the driver has been silent. submitit keeps its own files (a pickle of the call, logs) in ``queue/jobs`` meanwhile.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from finescale.errors import Fault, InputError, StudyError
from finescale.study import remote
from finescale.study.backends import Ended, Setup
from finescale.study.backends.local import LocalBackend
from finescale.study.lease import working
from finescale.study.store import read_json, write_json

QUEUE = "queue"
PLACES = ("ready", "claimed", "ended", "cancelled")
HERE = "local"
"""The ``--address`` that runs the array on this machine, by submitit's own local executor."""
MINUTES_OF_A_WORKER = 24 * 60
SECONDS_BETWEEN_LOOKS = 0.05
SECONDS_OF_A_STEP_POLL = 0.5
SECONDS_BETWEEN_BEATS = 5.0
SECONDS_OF_SILENCE = 120.0
SECONDS_TO_STOP = 20.0


def pull(queue: str, number: int, preload: tuple[str, ...], memory_bytes: int | None, path: list[str]) -> None:
    """In a job of the array: claim steps and run them until the driver says stop or falls silent."""
    sys.path.extend(entry for entry in path if entry not in sys.path)
    nursery = LocalBackend(Setup(preload=preload, memory_bytes=memory_bytes))
    place, heard, beat = Path(queue), time.monotonic(), ""
    try:
        while not (place / "stop").exists() and time.monotonic() - heard < SECONDS_OF_SILENCE:
            if (now := _text(place / "beat")) != beat:
                beat, heard = now, time.monotonic()
            claim = _claim(place, number)
            if claim is None:
                time.sleep(SECONDS_BETWEEN_LOOKS)
                continue
            _carry_out(nursery, place, claim)
            heard = time.monotonic()
    finally:
        nursery.close()


def _claim(queue: Path, number: int) -> Path | None:
    """A ticket nobody else has; renaming is what makes it ours."""
    with suppress(FileNotFoundError):
        for ticket in sorted((queue / "ready").glob("*.json"), key=lambda path: path.name):
            mine = queue / "claimed" / f"{ticket.stem}.{number}.json"
            with suppress(FileNotFoundError):
                ticket.rename(mine)
                return mine
    return None


def _carry_out(nursery: LocalBackend, queue: Path, claim: Path) -> None:
    """Run a claimed step to its end, or to the word that it is not wanted any more."""
    ticket = read_json(claim)
    step = ticket["step"]
    said: dict[str, Any]
    try:
        with working(remote.here(ticket["folder"])):
            nursery.submit(ticket["function"], ticket["folder"], step)
            ended = _end_of(nursery, queue, step)
        said = vars(ended)
    except StudyError as error:
        said = {"step": step, "broken": str(error)}
    with suppress(FileNotFoundError):
        write_json(queue / "ended" / claim.name.removeprefix(ticket["order"] + "-"), said, durable=False)


def _end_of(nursery: LocalBackend, queue: Path, step: str) -> Ended:
    while True:
        for ended in nursery.poll(SECONDS_OF_A_STEP_POLL):
            return ended
        if (queue / "cancelled" / step).exists() or (queue / "stop").exists() or not queue.exists():
            nursery.cancel(step)


class SlurmBackend:
    """One array of as many jobs as there are workers; a job whose time is up is replaced with the next array.

    Raises:
        InputError: submitit is not installed, there is no Slurm here, or the study's ``[run.slurm]`` says what submitit
            does not know.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.queue = setup.folder.resolve() / QUEUE
        self.running: set[str] = set()
        self.jobs: dict[int, Any] = {}
        self.made = self.count = 0
        self.beat_due = self.look_due = 0.0
        self.executor = _executor(setup, self.queue / "jobs")

    def submit(self, function: str, folder: str, step: str) -> None:
        """Put up a ticket for ``module:function`` with two strings; first come, first served."""
        for name in PLACES:
            (self.queue / name).mkdir(parents=True, exist_ok=True)
        self.running.add(step)
        self.count += 1
        (self.queue / "cancelled" / step).unlink(missing_ok=True)
        order = f"{self.count:09d}"
        ticket = {"function": function, "folder": folder, "step": step, "order": order}
        write_json(self.queue / "ready" / f"{order}-{step}.json", ticket, durable=False)
        self._beat()
        if not self.jobs:
            self._start()

    def poll(self, timeout: float) -> list[Ended]:
        """Steps that ended since the last call; waits up to ``timeout`` seconds for one.

        Raises:
            StudyError: the modules that steps need cannot be imported.
        """
        deadline = time.monotonic() + timeout
        while True:
            self._beat()
            found = [*self._told(), *self._lost()]
            if found or time.monotonic() >= deadline:
                return found
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def cancel(self, step: str) -> None:
        """End a running step; it is still reported by ``poll``."""
        for ticket in (self.queue / "ready").glob(f"*-{step}.json"):
            with suppress(FileNotFoundError):
                ticket.rename(self.queue / "claimed" / f"{ticket.stem}.0.json")
                write_json(self.queue / "ended" / f"{step}.0.json", vars(Ended(step, -9)), durable=False)
        (self.queue / "cancelled" / step).touch()

    def close(self) -> None:
        """End all running steps and the array, and clear the queue away."""
        if self.queue.exists():
            (self.queue / "stop").touch()
        deadline = time.monotonic() + SECONDS_TO_STOP
        while any(not job.done() for job in self.jobs.values()) and time.monotonic() < deadline:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        for job in self.jobs.values():
            if not job.done():
                job.cancel()
        self.jobs.clear()
        self.running.clear()
        shutil.rmtree(self.queue, ignore_errors=True)

    @staticmethod
    def largest_memory(address: str | None) -> int | None:
        """That of this machine where the array runs here; what the nodes of a cluster have, sbatch alone knows."""
        return LocalBackend.largest_memory(None) if address == HERE else None

    def _start(self) -> None:
        """Submit one array of as many workers as are wanted."""
        (self.queue / "stop").unlink(missing_ok=True)
        setup, numbers = self.setup, range(self.made + 1, self.made + 1 + self.setup.workers)
        self.made += setup.workers
        with self.executor.batch():
            jobs = [
                self.executor.submit(pull, str(self.queue), number, setup.preload, setup.memory_bytes, sys.path)
                for number in numbers
            ]
        self.jobs = dict(zip(numbers, jobs, strict=True))

    def _beat(self) -> None:
        if time.monotonic() >= self.beat_due and self.queue.exists():
            self.beat_due = time.monotonic() + SECONDS_BETWEEN_BEATS
            (self.queue / "beat").write_text(str(time.monotonic_ns()))

    def _told(self) -> Iterator[Ended]:
        """What workers have said, each once."""
        for path in sorted((self.queue / "ended").glob("*.json")):
            said = read_json(path)
            path.unlink()
            for claim in (self.queue / "claimed").glob(f"*-{path.name}"):
                claim.unlink()
            if "broken" in said:
                raise StudyError(said["broken"])
            if said["step"] in self.running:
                self.running.discard(said["step"])
                yield Ended(**said)

    def _lost(self) -> Iterator[Ended]:
        """Steps of workers whose job has ended: taken away by the cluster, or out of time."""
        if time.monotonic() < self.look_due or not self.running:
            return
        self.look_due = time.monotonic() + SECONDS_BETWEEN_BEATS
        gone = {number for number, job in self.jobs.items() if job.done()}
        for claim in sorted((self.queue / "claimed").glob("*.json")):
            step, number = claim.stem.partition("-")[2].rsplit(".", 1)
            if int(number) in gone and not (self.queue / "ended" / f"{step}.{number}.json").exists():
                claim.unlink()
                self.running.discard(step)
                yield Ended(step, -9, why="preempted")
        if gone and len(gone) == len(self.jobs):
            self._start()


def _executor(setup: Setup, folder: Path) -> Any:
    """submitit's executor with the study's settings: whatever sbatch takes, under ``[run.slurm]``."""
    submitit = _submitit()
    if setup.address not in (None, HERE):
        raise InputError(Fault(f"--address {setup.address}", "is no cluster of Slurm's", f"leave it out, or {HERE!r}"))
    if setup.address is None and shutil.which("sbatch") is None:
        fix = f"run it on a login node, or with `--address {HERE}` on this machine alone"
        raise InputError(Fault("backend 'slurm'", "finds no Slurm here", fix))
    executor = submitit.AutoExecutor(folder=folder, cluster=setup.address or "slurm")
    wanted: dict[str, Any] = {f"slurm_{name}": value for name, value in setup.options.items() if name != "minutes"}
    wanted |= {"name": "finescale", "cpus_per_task": setup.cpus}
    wanted["timeout_min"] = setup.options.get("minutes", MINUTES_OF_A_WORKER)
    if setup.step_bytes is not None:
        wanted["mem_gb"] = setup.step_bytes / 1e9
    try:
        executor.update_parameters(**wanted)
    except (NameError, ValueError, AssertionError) as error:
        raise InputError(Fault("run.slurm", f"cannot be used: {error}", "see `man sbatch`")) from error
    return executor


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _submitit() -> Any:
    """submitit, which is an extra: listing backends must not need it."""
    try:
        import submitit
    except ImportError as error:
        fix = "pip install 'finescale[slurm]'"
        raise InputError(Fault("backend 'slurm'", "needs submitit, which is not installed", fix)) from error
    return submitit
