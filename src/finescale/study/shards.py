"""In how many processes a step trains: as many as the study says, or as its memory needs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from finescale import registry
from finescale.study.families import params_of
from finescale.study.lock import BYTES_A_FROZEN_WEIGHT, BYTES_A_TRAINED_WEIGHT

if TYPE_CHECKING:
    from finescale.study.lock import Study
    from finescale.study.plan import Step


def shards_of(study: Study, step: Step) -> int:
    """Processes that share a step's training: ``[run] shards``, else what ``[run] memory_gb`` makes needed.

    Finetuning alone is shared, and not where ``[run] device_map`` spreads it. What is reckoned are weights, and
    gradients and moments where all weights are trained.
    """
    if step.kind not in ("rate", "run"):
        return 1
    asked = study.spec.run
    if asked.shards is not None or asked.memory_gb is None or asked.device_map is not None:
        return asked.shards or 1
    base: Any = study.plan.steps[step.needs["base"]].spec
    spec: Any = step.spec
    trained = registry.get("method", spec.method.name).whole
    held = params_of(base).total * (BYTES_A_TRAINED_WEIGHT if trained else BYTES_A_FROZEN_WEIGHT)
    return max(1, math.ceil(held / (asked.memory_gb * 1e9)))
