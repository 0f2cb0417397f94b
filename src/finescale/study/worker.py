"""What a worker process does: one step, from two strings, leaving one folder.

Nothing else passes between driver and worker, so the same step runs in this process, in a local worker or on another
machine that sees the study folder.
"""

from __future__ import annotations

import errno
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finescale.core import BaseSpec, DataSpec, RateSearch, RunSpec
from finescale.errors import FinescaleError, InputError
from finescale.study import lock, store
from finescale.study.files import FileTask
from finescale.study.plan import Kind

SECONDS_BETWEEN_TELLS = 0.5


def work(folder: str, step_id: str) -> None:
    """Run a begun step to its record; whatever it prints goes to ``output.txt`` beside it.

    Raises:
        SystemExit: the step failed, and ``error.json`` says why.
    """
    part = store.find_part(Path(folder), step_id)
    with (part / "output.txt").open("ab") as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    if not attempt(part, lambda: execute(folder, step_id)):
        raise SystemExit(1)


def attempt(part: Path, make: Callable[[], dict[str, Any]]) -> bool:
    """Finish ``part`` with the record that ``make`` returns; note the failure and return False if it raises."""
    try:
        store.finish(part, make())
    except Exception as error:
        store.fail(part, describe(error))
        return False
    return True


def execute(folder: str, step_id: str) -> dict[str, Any]:
    """Do the work of a begun step and return its record."""
    from finescale.lab import steps

    root, part = Path(folder), store.find_part(Path(folder), step_id)
    asked = store.read_json(part / "spec.json")
    spec, needs = asked["spec"], asked["needs"]
    tell = Teller(part / "progress")
    place = {role: root / store.FOLDERS[_KIND_OF_ROLE[role]] / needed for role, needed in needs.items()}
    match asked["kind"]:
        case "data":
            return steps.prepare(DataSpec.model_validate(spec), part, _task_files(root), tell)
        case "base":
            return steps.pretrain(BaseSpec.model_validate(spec), part, place["data"], place.get("previous"), tell)
        case "rate":
            return steps.search_rate(RateSearch.model_validate(spec), part, place["data"], place["base"], tell)
        case _:
            run = RunSpec.model_validate(spec)
            return steps.finetune(run, part, place["data"], place["base"], place.get("rate"), tell)


_KIND_OF_ROLE: dict[str, Kind] = {"data": "data", "base": "base", "previous": "base", "rate": "rate"}


def _task_files(root: Path) -> dict[str, Path]:
    """The user's own files by task; a dev or test file of its own is keyed ``NAME:dev``, ``NAME:test``."""
    tasks: dict[str, FileTask] = lock.open_study(root).spec.tasks
    return {
        name if split == "train" else f"{name}:{split}": path
        for name, task in tasks.items()
        for split, path in task.paths(root).items()
    }


class Teller:
    """Writes the fraction done to a file, at most twice a second."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.next = 0.0

    def __call__(self, fraction: float) -> None:
        if (now := time.monotonic()) >= self.next:
            self.path.write_text(f"{fraction:.4f}")
            self.next = now + SECONDS_BETWEEN_TELLS


def describe(error: Exception) -> store.Failure:
    """Class, message and cause of what a step raised; equal causes have equal ``cause``."""
    kind, name = classify(error), type(error).__name__
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f"{Path(place[0].filename).name}:{place[0].lineno}" if place else ""
    details = "".join(traceback.format_exception(error))
    return store.Failure(kind, f"{name}: {error}"[:2000], f"{kind}: {name} at {where}", details)


def classify(error: Exception) -> str:
    """Class of a failure: ``memory``, ``disk``, ``input`` or ``bug``."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error):
        return "memory"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk"
    if isinstance(error, InputError):
        return "input"
    return "study" if isinstance(error, FinescaleError) else "bug"
