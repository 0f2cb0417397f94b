"""What a study will write to disk, told before it starts."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from finescale.core import BaseSpec, DataSpec
from finescale.errors import StudyError
from finescale.lab.ladder import count

if TYPE_CHECKING:
    from finescale.study.lock import Study
    from finescale.study.plan import Step

BYTES_PER_TOKEN = 2
BASE_COPIES = 7
"""A base's weights, its trunk (weights and two moments) and, while it is made, a state to resume from, as large."""
BYTES_PER_WEIGHT = 4
BYTES_PER_RUN = 50_000
"""A run's record, curve and sums per test example: 20 to 40 kB as seen, rounded up."""
SPARE = 200_000_000


def bytes_of(step: Step) -> int:
    """Upper bound of what a step leaves on disk or needs there while it works."""
    if isinstance(spec := step.spec, BaseSpec):
        return count(spec.shape).total * BYTES_PER_WEIGHT * BASE_COPIES
    if isinstance(spec, DataSpec):
        return BYTES_PER_TOKEN * spec.stream_tokens + 50_000_000 * len(spec.tasks)
    return BYTES_PER_RUN


def needed(study: Study) -> int:
    """Bytes that the steps not done yet may write."""
    finished = study.store.finished(study.plan)
    return sum(bytes_of(step) for step in study.plan.steps.values() if step.id not in finished)


def refuse_if_too_small(study: Study) -> None:
    """Refuse to start a study that the disk cannot hold.

    Raises:
        StudyError: it cannot; says how much is needed and how much is free.
    """
    free, need = shutil.disk_usage(study.folder).free, needed(study)
    if need and need + SPARE > free:
        raise StudyError(
            f"{study.folder}: the disk has {free / 1e9:.1f} GB free, and the steps left may need {need / 1e9:.1f} GB "
            f"and {SPARE / 1e9:.1f} GB to spare; free some, or put the study on another disk"
        )
