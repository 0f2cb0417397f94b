"""How a worker carries out one step: from two strings, leaving one folder, whatever the work is.

Nothing else passes between driver and worker, so the same step runs in this process, in a local worker or on another
machine that sees the study's folder or URL.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finescale.study import remote
from finescale.study.lease import alone
from finescale.study.policy import Failure, classify

SECONDS_BETWEEN_TELLS = 0.5

Execute = Callable[[Path, Path, "Teller"], dict[str, Any]]


def serve(folder: str, step_id: str, execute: Execute) -> None:
    """Run a begun step to its record; whatever it prints goes to ``output.txt`` beside it.

    Args:
        folder: the study's folder or URL.
        step_id: a step that the driver has begun.
        execute: does the work from (study folder, working folder, tell) and returns the record.

    Raises:
        SystemExit: the step failed, and ``error.json`` says why.
    """
    home = remote.store_at(folder)
    part = home.ready(step_id)
    with alone(part) as mine:
        if not mine:
            return
        with (part / "output.txt").open("ab") as output:
            os.dup2(output.fileno(), sys.stdout.fileno())
            os.dup2(output.fileno(), sys.stderr.fileno())
        try:
            home.keep(part, execute(home.folder, part, Teller(part / "progress")))
        except Exception as error:
            home.tell_failure(part, describe(error))
            raise SystemExit(1) from error


class Teller:
    """Writes the fraction done to a file, at most twice a second."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.next = 0.0

    def __call__(self, fraction: float) -> None:
        if (now := time.monotonic()) >= self.next:
            self.path.write_text(f"{fraction:.4f}")
            self.next = now + SECONDS_BETWEEN_TELLS


def describe(error: Exception) -> Failure:
    """Class, message and cause of what a step raised; equal causes have equal ``cause``."""
    kind, name = classify(error), type(error).__name__
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f"{Path(place[0].filename).name}:{place[0].lineno}" if place else ""
    details = "".join(traceback.format_exception(error))
    return Failure(kind, f"{name}: {error}"[:2000], f"{kind}: {name} at {where}", details)
