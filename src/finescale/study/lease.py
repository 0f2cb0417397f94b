"""Who drives a study: one driver at a time, whatever becomes of it.

On one machine the lease is the kernel's lock on a file, so it ends with the last process that holds it, killed or not.
Machines that share a folder may not share locks; for them the file names its holder and a count that the holder raises
as long as it lives. A driver on another machine watches that count by its own steady clock, so no jump of anybody's
wall clock can take a lease from the living or keep it with the dead.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from finescale.errors import StudyError

LEASE = "leases/driver.json"
WORKERS = "leases/workers"
WORKER = "worker"
"""Locked by the one process that works in a step's folder."""
ITS_OWN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
"""How files of leases are opened: never through a link."""
SECONDS_FOR_OLD_WORKERS = 5.0
SECONDS_BETWEEN_BEATS = 2.0
MISSED_BEATS = 5


class Lease:
    """The lease while it is held: ``descriptor`` is what workers keep open; ``beat`` shows that the holder lives."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor
        self.me = uuid.uuid4().hex
        self.count = 0
        self.due = 0.0

    def beat(self) -> None:
        """Raise the count, at most every ``SECONDS_BETWEEN_BEATS``.

        Raises:
            StudyError: another driver has taken the study over, because this one was thought dead.
        """
        if (now := time.monotonic()) < self.due:
            return
        if self.count and (holder := _read(self.path)).get("holder") not in (self.me, None):
            raise StudyError(f"{self.path.parent.parent}: another driver has taken this study over: {_name(holder)}")
        self.count, self.due = self.count + 1, now + SECONDS_BETWEEN_BEATS
        since = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        said = {"holder": self.me, "pid": os.getpid(), "host": socket.gethostname(), "beat": self.count, "at": since}
        os.pwrite(self.descriptor, json.dumps(said).ljust(300).encode(), 0)

    def end(self) -> None:
        """Say that nobody holds the study now, unless somebody else does."""
        if _read(self.path).get("holder") == self.me:
            os.ftruncate(self.descriptor, 0)
        os.close(self.descriptor)


@contextmanager
def hold(folder: Path, tell: Callable[[str], None] = lambda line: None) -> Iterator[Lease]:
    """Hold the study as its only driver.

    Raises:
        StudyError: another driver holds it, or the folder cannot be written.
    """
    path = folder / LEASE
    try:
        path.parent.mkdir(exist_ok=True)
        descriptor = os.open(path, ITS_OWN, 0o644)
    except OSError as error:
        raise StudyError(
            f"{folder}: cannot be written: {error.strerror}; a study needs its folder to write to"
        ) from error
    try:
        _lock(descriptor, folder)
        with _opened(folder / WORKERS) as workers:
            _lock(workers, folder)
        _outwait(path, folder, tell)
    except BaseException:
        os.close(descriptor)
        raise
    lease = Lease(path, descriptor)
    lease.beat()
    try:
        yield lease
    finally:
        with suppress(OSError):
            lease.end()


@contextmanager
def alone(part: Path) -> Iterator[bool]:
    """Be the only process in a step's working folder; False where another finished the step meanwhile.

    A machine that was thought lost may still have a worker in there: the next one waits until it is gone.
    """
    path = part / WORKER
    while part.exists():
        try:
            descriptor = os.open(path, ITS_OWN, 0o644)
        except FileNotFoundError:
            break
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_still(descriptor, path):
                yield True
                return
        finally:
            # Closing alone would leave the lock with a child that was forked meanwhile.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)
    yield False


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one of that name, and not one that was since removed with its folder."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def working(folder: Path) -> Iterator[None]:
    """Keep new drivers waiting while a step runs whose process does not hold the driver's own descriptor."""
    with _opened(folder / WORKERS) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield


def driven(folder: Path) -> bool:
    """Whether a driver, or a worker it left, is at work in this study now; for another machine's, as it last said."""
    path = folder / LEASE
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return _elsewhere(_read(path))


def _lock(descriptor: int, folder: Path) -> None:
    """Take the lock; workers of a driver that was killed are given a moment to be gone."""
    deadline = time.monotonic() + SECONDS_FOR_OLD_WORKERS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise _held(folder, _read(folder / LEASE)) from None
            time.sleep(0.1)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, ITS_OWN, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _outwait(path: Path, folder: Path, tell: Callable[[str], None]) -> None:
    """Where another machine was the last holder, watch its count: if it stands still, take the study over."""
    if not _elsewhere(first := _read(path)):
        return
    tell(f"{_name(first)} drove this study last; watching whether it still does")
    deadline = time.monotonic() + MISSED_BEATS * SECONDS_BETWEEN_BEATS
    while time.monotonic() < deadline:
        time.sleep(SECONDS_BETWEEN_BEATS / 4)
        if (now := _read(path)) and now != first:
            raise _held(folder, now)
    tell("it does not: this driver takes over")


def _elsewhere(holder: dict[str, Any]) -> bool:
    return bool(holder) and holder.get("host") != socket.gethostname()


def _held(folder: Path, holder: dict[str, Any]) -> StudyError:
    return StudyError(f"{folder}: another driver is running this study: {_name(holder)}; wait for it, or end it")


def _name(holder: dict[str, Any]) -> str:
    return f"process {holder.get('pid', '?')} on {holder.get('host', '?')}, last heard of at {holder.get('at', '?')}"


def _read(path: Path) -> dict[str, Any]:
    """What the file says of its holder; nothing where it is empty, half-written or no lease."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
