"""What a study will write to disk, told before it starts."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from finescale.errors import StudyError
from finescale.study.cost import step_disk

if TYPE_CHECKING:
    from finescale.study.lock import Study

SPARE = 200_000_000


def needed(study: Study) -> int:
    """Bytes that the steps not done yet may write."""
    finished = study.store.finished(study.plan)
    return sum(step_disk(step.spec) for step in study.plan.steps.values() if step.id not in finished)


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
