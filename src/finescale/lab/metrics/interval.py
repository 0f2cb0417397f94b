"""Bootstrap intervals over examples: totals of per-example statistics under resampled counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVEL = 0.9
DRAWS = 1000


def resampled(statistics: Floats, draws: int = DRAWS) -> Floats:
    """Totals, (draws, k), of ``statistics``, (examples, k), over examples drawn with replacement (fixed seed)."""
    n = len(statistics)
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=draws).astype(float)
    return counts @ statistics


def bounds(values: Floats, level: float = LEVEL) -> tuple[float, float]:
    """The central interval that holds ``level`` of ``values``."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
