"""Metrics of sums: log-perplexity, perplexity, bits per byte.

Rows are one per test example: summed nats of the target, its tokens (end of text included), its UTF-8 bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from finescale.core import Score
from finescale.lab.metrics.interval import DRAWS, LEVEL, Floats, bounds, resampled


@dataclass(frozen=True)
class Rows:
    """Per-example sums, each of shape (examples,): nats, target tokens, target bytes."""

    nats: Floats
    tokens: Floats
    bytes: Floats


@dataclass(frozen=True)
class Metric:
    """A number from totals over the test set; ``of`` takes summed nats, tokens and bytes."""

    name: str
    unit: str
    direction: Literal["lower", "higher"]
    of: Callable[[Floats, Floats, Floats], Floats]

    decoded: ClassVar[bool] = False

    def score(self, rows: Rows, signature: str, level: float = LEVEL, draws: int = DRAWS) -> Score:
        """Value over the whole set, token-weighted, with a bootstrap interval over examples (fixed seed)."""
        statistics = np.stack([rows.nats, rows.tokens, rows.bytes], 1)
        low, high = bounds(self.of(*resampled(statistics, draws).T), level)
        return Score(
            metric=self.name,
            value=float(self.of(*statistics.sum(0))),
            unit=self.unit,
            direction=self.direction,
            n=len(statistics),
            low=low,
            high=high,
            level=level,
            signature=f"{self.name}|{signature}|n:{len(statistics)}",
        )


NLL = Metric("nll", "nats per target token", "lower", lambda nats, tokens, _: nats / tokens)
PERPLEXITY = Metric("perplexity", "per target token", "lower", lambda nats, tokens, _: np.exp(nats / tokens))
BITS_PER_BYTE = Metric(
    "bits-per-byte", "bits per UTF-8 byte of target", "lower", lambda nats, _, size: nats / np.log(2) / size
)
