"""The study folder: the only truth about what was done.

A step works in ``<id>.part``. When it ends well its record is written last (aside, fsync, rename) and the directory is
renamed to ``<id>``: a directory of that name is complete by construction. A step that failed leaves ``error.json`` in
its ``.part``. A finished record is never written again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finescale.core import fingerprint
from finescale.errors import StudyError
from finescale.study.plan import Kind, Plan, Step

RECORD_LAYOUT = 1
FOLDERS: dict[Kind, str] = {"data": "data", "base": "bases", "rate": "rates", "run": "runs"}
PASSING = ("progress", "output.txt", "error.json")


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON so that ``path`` either holds all of it or is as it was before.

    Raises:
        ValueError: the value holds NaN or an infinity.
    """
    aside = path.with_name(path.name + ".tmp")
    with aside.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        StudyError: it is missing, cut short or no object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StudyError(f"{path}: cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise StudyError(f"{path}: is not a JSON object")
    return value


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Lines ``field: old → new`` for every leaf in which two JSON values differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from differences(old.get(key, "absent"), new.get(key, "absent"), f"{where}.{key}" if where else key)
    elif old != new:
        yield f"{where}: {json.dumps(old, ensure_ascii=False)} → {json.dumps(new, ensure_ascii=False)}"


@dataclass(frozen=True)
class Failure:
    """Why a step failed; ``cause`` groups failures that have one reason."""

    kind: str
    message: str
    cause: str
    details: str = ""


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

    def finished(self, plan: Plan) -> set[str]:
        """Ids of the plan's finished steps; one listing a kind, however large the study."""
        there = {kind: _listing(self.folder / name) for kind, name in FOLDERS.items()}
        return {step.id for step in plan.steps.values() if step.id in there[step.kind]}

    def begin(self, step: Step) -> None:
        """Make a step ready for a worker: its folder, and in it what is to be done and from what."""
        part = self.part(step)
        part.mkdir(parents=True, exist_ok=True)
        for name in PASSING:
            (part / name).unlink(missing_ok=True)
        spec = {"layout": RECORD_LAYOUT, "id": step.id, "kind": step.kind, "label": step.label, "needs": step.needs}
        write_json(part / "spec.json", spec | {"spec": step.spec.model_dump(mode="json")})

    def failure(self, step: Step) -> Failure | None:
        """Why the step last failed, if it did."""
        path = self.part(step) / "error.json"
        return Failure(**read_json(path)) if path.exists() else None

    def progress(self, step: Step) -> float:
        """Fraction of a running step that is done, 0 to 1."""
        try:
            return float((self.part(step) / "progress").read_text())
        except (OSError, ValueError):
            return 0.0

    def record(self, step: Step) -> dict[str, Any]:
        """The record of a finished step, verified.

        Raises:
            StudyError: the record is missing or damaged, of another layout, or of another step than asked for.
        """
        home = self.done(step)
        again = f"delete the folder {home} and run the study again"
        record = _verified(home / "record.json", again)
        if fingerprint(made := read_json(home / "spec.json").get("spec")) != step.spec.fingerprint():
            lines = "\n  ".join(differences(made, step.spec.model_dump(mode="json")))
            raise StudyError(
                f"{home}: was made to another spec than its name says (found → wanted); {again}\n  {lines}"
            )
        return record


def find_part(folder: Path, step_id: str) -> Path:
    """The working directory of a step that was begun.

    Raises:
        StudyError: no such step was begun.
    """
    for name in FOLDERS.values():
        if (folder / name / f"{step_id}.part" / "spec.json").exists():
            return folder / name / f"{step_id}.part"
    raise StudyError(f"{folder}: step {step_id!r} was not begun")


def finish(part: Path, record: dict[str, Any]) -> None:
    """Write the record last and give the directory its final name; the first to finish wins."""
    for name in PASSING:
        (part / name).unlink(missing_ok=True)
    write_json(part / "record.json", {"layout": RECORD_LAYOUT, "digest": fingerprint(record)} | record)
    done = part.with_suffix("")
    if done.exists():
        shutil.rmtree(part)
        return
    part.rename(done)
    sync_folder(done.parent)


def fail(part: Path, failure: Failure) -> None:
    """Note why a step failed."""
    write_json(part / "error.json", vars(failure))


def _listing(folder: Path) -> set[str]:
    return set(os.listdir(folder)) if folder.is_dir() else set()


def _verified(path: Path, again: str) -> dict[str, Any]:
    record = read_json(path)
    layout, digest = record.pop("layout", None), record.pop("digest", None)
    if layout != RECORD_LAYOUT:
        raise StudyError(f"{path}: has layout {layout}, this version reads {RECORD_LAYOUT}")
    if digest != fingerprint(record):
        raise StudyError(f"{path}: is damaged (its digest does not match); {again}")
    return record
