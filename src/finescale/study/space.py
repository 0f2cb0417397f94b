"""What a study will write to disk, told before it starts."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING, Any

from finescale.core import MethodSpec
from finescale.errors import StudyError
from finescale.study.cost import kept_disk, step_disk

if TYPE_CHECKING:
    from finescale.study.lock import Study

SPARE = 200_000_000


def needed(study: Study, finished: Collection[str] = ()) -> int:
    """Bytes that the steps which are not ``finished`` may write, the weights that runs keep included."""
    plan, keep = study.plan, study.spec.run.keep
    bases: list[Any] = [step.spec for step in plan.of("base")]
    shapes = {base.fingerprint(): base.shape for base in bases}

    @cache
    def kept(base: str, name: str, size: int | None) -> int:
        return kept_disk(MethodSpec(name=name, pet_size=size), shapes[base], keep)

    left: list[Any] = [step.spec for step in plan.of("run") if step.id not in finished]
    weights = sum(kept(run.base, run.method.name, run.method.pet_size) for run in left)
    return weights + sum(step_disk(step.spec) for step in plan.steps.values() if step.id not in finished)


def refuse_if_too_small(study: Study) -> None:
    """Refuse to start a study that the disk cannot hold.

    Raises:
        StudyError: it cannot; says how much is needed and how much is free.
    """
    free, need = shutil.disk_usage(study.folder).free, needed(study, study.store.finished(study.plan))
    if need and need + SPARE > free:
        raise StudyError(
            f"{study.folder}: the disk has {free / 1e9:.1f} GB free, and the steps left may need {need / 1e9:.1f} GB "
            f"and {SPARE / 1e9:.1f} GB to spare; free some, or put the study on another disk"
        )
