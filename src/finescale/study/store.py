"""The study folder: the only truth about what was done.

A step works in ``<id>.part``. When it ends well its record is written last (aside, fsync, rename) and the directory is
renamed to ``<id>``: a directory of that name is complete by construction. A step that failed leaves ``error.json`` in
its ``.part``. A finished record is never written again: where two workers finish the same step, the first wins and the
other is compared with it; a difference is kept in ``conflicts.jsonl``.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from finescale.core import fingerprint
from finescale.errors import Fault, StudyError
from finescale.study.lease import WORKER, Lease, hold
from finescale.study.plan import Kind, Plan, Step
from finescale.study.policy import Failure

RECORD_LAYOUT = 2
FOLDERS: dict[Kind, str] = {"data": "data", "base": "bases", "rate": "rates", "run": "runs"}
PASSING = ("progress", "output.txt", "error.json")
SPEC = "spec.json"
CONFLICTS = "conflicts.jsonl"
DAMAGED = "damaged"
COST = ("seconds", "cpu_seconds", "evaluate_seconds", "peak_memory_bytes", "resumed_at_step", "versions")
"""What of a record depends on where and when it was made; it is no part of the result."""


@dataclass(frozen=True)
class How:
    """How a step is carried out this time, which is no part of what it is.

    Attributes:
        parts: in how many parts each batch is worked through.
        shards: processes that share the training.
        keep: which weights a run leaves: ``[run] keep``.
        trust: whether code that the base brings may be run.
        checkpointing: whether finetuning works activations out again instead of keeping them.
        device_map: how a base is spread over the devices of one process, in accelerate's words.
    """

    parts: int = 1
    shards: int = 1
    keep: Literal["scores", "adapters", "best"] = "scores"
    trust: bool = False
    checkpointing: bool = False
    device_map: str | None = None


PLAINLY = How()


def write_json(path: Path, value: Any, durable: bool = True) -> None:
    """Write strict JSON so that ``path`` either holds all of it or is as it was before.

    ``durable`` makes it last through a power cut, at the price of some milliseconds.

    Raises:
        ValueError: the value holds NaN or an infinity.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        aside = aside_of(path)
        aside.write_text(text, encoding="utf-8")
        if durable:
            sync(aside)
        aside.replace(path)
    except OSError:
        with suppress(OSError):
            aside_of(path)
        raise
    if durable:
        sync(path.parent)


def aside_of(path: Path) -> Path:
    """Where a file is written before it gets its name; nothing is there any more, not even a link to elsewhere."""
    aside = path.with_name(f"{path.name}.tmp")
    aside.unlink(missing_ok=True)
    return aside


def sync(path: Path) -> None:
    """Make what is in a file, or the names in a folder, last through a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        StudyError: it is missing, cut short, no object, or a link, which may lead out of the study.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), encoding="utf-8") as file:
            value = json.loads(file.read())
    except (OSError, ValueError, RecursionError) as error:
        why = "it is a link, and a study reads its own files only" if path.is_symlink() else error
        raise StudyError(f"{path}: cannot be read: {why}") from error
    if not isinstance(value, dict):
        raise StudyError(f"{path}: is not a JSON object")
    return value


_ABSENT: Any = object()


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Lines ``field: old → new`` for every leaf in which two JSON values differ; what one does not have is absent."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from differences(old.get(key, _ABSENT), new.get(key, _ABSENT), f"{where}.{key}" if where else key)
    elif old != new:
        yield f"{where}: {_leaf(old)} → {_leaf(new)}"


def _leaf(value: Any) -> str:
    return "absent" if value is _ABSENT else json.dumps(value, ensure_ascii=False)


class Store:
    """Steps and records of one study folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def done(self, step: Step) -> Path:
        """Where a finished step is, or will be."""
        return self.folder / FOLDERS[step.kind] / step.id

    def part(self, step: Step) -> Path:
        """Where a step works until it is finished."""
        return self.done(step).with_name(step.id + ".part")

    @property
    def address(self) -> str:
        """What a worker on any machine finds the study by."""
        return str(self.folder.resolve())

    def lease(self, tell: Callable[[str], None]) -> AbstractContextManager[Lease]:
        """Be the one driver of this study for a ``with`` block.

        Raises:
            StudyError: another driver holds it.
        """
        return hold(self.folder, tell)

    def arrived(self, step: Step) -> bool:
        """Whether a step is finished, wherever it was made."""
        return self.done(step).exists()

    def catch_up(self) -> None:
        """Have all that is finished in the folder; where the folder is the study itself, it is there."""

    def finished(self, plan: Plan) -> set[str]:
        """Ids of the plan's finished steps; one listing a kind, however large the study."""
        there = {kind: _listing(self.folder / name) for kind, name in FOLDERS.items()}
        return {step.id for step in plan.steps.values() if step.id in there[step.kind]}

    def begin(self, step: Step, how: How = PLAINLY) -> None:
        """Make a step ready for a worker: in its folder, what is to be done, from what, and how."""
        part = self.part(step)
        part.mkdir(parents=True, exist_ok=True)
        for name in PASSING:
            (part / name).unlink(missing_ok=True)
            (part / f"{name}.tmp").unlink(missing_ok=True)
        asked: dict[str, Any] = {"id": step.id, "kind": step.kind, "label": step.label, "needs": step.needs}
        asked |= {"how": vars(how), "spec": step.spec.model_dump(mode="json")}
        write_json(part / SPEC, asked, durable=False)

    def failure(self, step: Step) -> Failure | None:
        """Why the step last failed, if it did."""
        path = self.part(step) / "error.json"
        return Failure.told(read_json(path)) if path.exists() else None

    def progress(self, step: Step) -> float:
        """Fraction of a running step that is done, 0 to 1."""
        try:
            return float((self.part(step) / "progress").read_text())
        except (OSError, ValueError):
            return 0.0

    def ready(self, step_id: str) -> Path:
        """In a worker: the working folder of a step that was begun, with all it needs beside it.

        Raises:
            StudyError: no such step was begun.
        """
        return find_part(self.folder, step_id)

    def keep(self, part: Path, record: dict[str, Any]) -> None:
        """In a worker: make a step finished."""
        finish(part, record)

    def tell_failure(self, part: Path, failure: Failure) -> None:
        """Note why a step failed."""
        fail(part, failure)

    def record(self, step: Step) -> dict[str, Any]:
        """The record of a finished step, verified.

        Raises:
            StudyError: the record is missing or damaged, of another layout, or of another step than asked for.
        """
        home = self.done(step)
        again = f"`finescale check {self.folder} --mend` moves it aside, and the next run makes it again"
        record = _verified(home / "record.json", again)
        origin = record.pop("made", None)
        made = origin.get("spec") if isinstance(origin, dict) else None
        if _digest(made) != step.spec.fingerprint():
            lines = "\n  ".join(differences(made, step.spec.model_dump(mode="json")))
            raise StudyError(
                f"{home}: was made to another spec than its name says (found → wanted); {again}\n  {lines}"
            )
        return record

    def read_all(self, plan: Plan) -> tuple[dict[str, str], list[Fault]]:
        """Read every finished record of the plan once.

        Returns:
            The digest of each sound one by the step's id, and a fault for each damaged one, in the order of their
            folders.
        """
        finished, faults, digests = self.finished(plan), [], {}
        for step in plan.steps.values():
            if step.id in finished:
                try:
                    digests[step.id] = digest(self.record(step))
                except StudyError as error:
                    faults.append(Fault(str(self.done(step)), str(error)))
        return digests, sorted(faults, key=lambda fault: fault.where)

    def put_aside(self, steps: Iterable[Step]) -> list[Path]:
        """Move finished steps out of the study into ``damaged/``, so that they are made again; returns where to."""
        moved = []
        for step in steps:
            place = self.folder / DAMAGED / f"{step.id}-{time.time_ns():x}"
            place.parent.mkdir(exist_ok=True)
            self.done(step).rename(place)
            moved.append(place)
        return moved


def find_part(folder: Path, step_id: str) -> Path:
    """The working directory of a step that was begun.

    Raises:
        StudyError: no such step was begun.
    """
    for name in FOLDERS.values():
        if (folder / name / f"{step_id}.part" / SPEC).exists():
            return folder / name / f"{step_id}.part"
    raise StudyError(f"{folder}: step {step_id!r} was not begun")


def finish(part: Path, record: dict[str, Any]) -> None:
    """Write the record last and give the directory its final name; the first to finish wins.

    Raises:
        ValueError: the record holds NaN or an infinity.
    """
    seal(part, record)
    place(part)


def seal(part: Path, record: dict[str, Any]) -> None:
    """Write the record into the working folder, last of all its files.

    Raises:
        ValueError: the record holds NaN or an infinity.
    """
    made = read_json(part / SPEC)
    whole = {"made": {key: made[key] for key in ("id", "kind", "label", "needs", "spec")}} | record
    sealed = {"layout": RECORD_LAYOUT, "digest": fingerprint(whole)} | whole
    for path in part.rglob("*"):
        if path.name not in (*PASSING, SPEC, WORKER):
            sync(path)
    write_json(part / "record.json", sealed)


def place(part: Path) -> None:
    """Give a sealed working folder its final name; where another was first, compare with it and be gone."""
    for name in (*PASSING, SPEC, WORKER):
        (part / name).unlink(missing_ok=True)
    done = part.with_suffix("")
    try:
        part.rename(done)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        compare(done, part)
        shutil.rmtree(part)
        return
    sync(done.parent)


def result(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a record is the same wherever and whenever the step is made again."""
    return {key: value for key, value in record.items() if key not in (*COST, "made")}


def digest(record: Mapping[str, Any]) -> str:
    """Identity of what a step found: equal wherever and whenever it is made, on whatever backend, at one thread."""
    return fingerprint(result(record))


def digest_of_all(store: Store, plan: Plan) -> str:
    """Identity of what a study found so far: of its finished steps, each with the digest of its record.

    Raises:
        StudyError: a record is damaged.
    """
    digests, faults = store.read_all(plan)
    if faults:
        raise StudyError("; ".join(fault.what for fault in faults))
    return fingerprint(digests)


def compare(done: Path, late: Path) -> None:
    """Two workers made one step: note every number in which they differ, for they should in none."""
    again = f"delete the folder {done} and run the study again"
    first, second = (result(_verified(home / "record.json", again)) for home in (done, late))
    if lines := list(differences(first, second)):
        with (done.parent.parent / CONFLICTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": done.name, "first → late": lines[:100]}, ensure_ascii=False) + "\n")


def fail(part: Path, failure: Failure) -> None:
    """Note why a step failed."""
    write_json(part / "error.json", vars(failure), durable=False)


def _listing(folder: Path) -> set[str]:
    return set(os.listdir(folder)) if folder.is_dir() else set()


def _digest(value: Any) -> str | None:
    """The fingerprint of what a file holds, or None where it holds what no record can."""
    try:
        return fingerprint(value)
    except (ValueError, RecursionError):
        return None


def _verified(path: Path, again: str) -> dict[str, Any]:
    try:
        record = read_json(path)
    except StudyError as error:
        raise StudyError(f"{error}; {again}") from error
    layout, digest = record.pop("layout", None), record.pop("digest", None)
    if layout != RECORD_LAYOUT:
        raise StudyError(f"{path}: has layout {layout}, this version reads {RECORD_LAYOUT}")
    if digest != _digest(record):
        raise StudyError(f"{path}: is damaged (its digest does not match); {again}")
    return record
