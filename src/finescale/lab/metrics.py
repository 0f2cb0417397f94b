"""Metrics over per-example statistics, so that any interval is a cheap resample and any total can be checked.

Rows are one per test example: summed nats of the target, its tokens (end of text included), its UTF-8 bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from finescale.core import Score

Floats = NDArray[np.float64]


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

    def score(self, rows: Rows, signature: str, level: float = 0.9, draws: int = 1000) -> Score:
        """Value over the whole set, token-weighted, with a bootstrap interval over examples (fixed seed)."""
        n = len(rows.nats)
        counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=draws).astype(float)
        value = self.of(*(np.asarray(x.sum()) for x in (rows.nats, rows.tokens, rows.bytes)))
        resampled = self.of(counts @ rows.nats, counts @ rows.tokens, counts @ rows.bytes)
        low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
        return Score(
            metric=self.name,
            value=float(value),
            unit=self.unit,
            direction=self.direction,
            n=n,
            low=float(low),
            high=float(high),
            level=level,
            signature=f"{self.name}|{signature}|n:{n}",
        )


NLL = Metric("nll", "nats per target token", "lower", lambda nats, tokens, _: nats / tokens)
PERPLEXITY = Metric("perplexity", "per target token", "lower", lambda nats, tokens, _: np.exp(nats / tokens))
BITS_PER_BYTE = Metric(
    "bits-per-byte", "bits per UTF-8 byte of target", "lower", lambda nats, _, size: nats / np.log(2) / size
)
