"""What one curve says about its own continuation: lines through its last sizes, and a law averaged over its shapes.

Everything here is in natural logarithms of examples (x) and of loss. "Doubling" is log 2 in x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finescale.stats.laws import RECTIFIED_LAW, Array

DOUBLING = float(np.log(2.0))
# Windows of the two lines: at least so many sizes, and at least so many doublings.
SHORT, LONG = (3, 2.0), (5, 4.0)
# The averaged law forgets: a size this many doublings below the last counts half.
HALF_LIFE = 1.5
# Noise of log loss that the averaged law allows for; seeds and optimisation move a loss by about 1 %.
NOISE = 0.01
_MOST_SIZES = 40


@dataclass(frozen=True)
class Curve:
    """One curve: log examples and log loss, sorted, one point per size (replicates averaged)."""

    x: Array
    log_y: Array

    @classmethod
    def of(cls, examples: Array, loss: Array) -> Curve:
        """Average replicates in log loss; thin very dense curves to at most 40 sizes evenly spaced in log examples."""
        x, inverse = np.unique(np.log(examples), return_inverse=True)
        log_y = np.bincount(inverse, np.log(loss)) / np.bincount(inverse)
        if len(x) > _MOST_SIZES:
            bins = np.unique(np.digitize(x, np.linspace(x[0], x[-1], _MOST_SIZES)), return_inverse=True)[1]
            count = np.bincount(bins)
            x, log_y = np.bincount(bins, x) / count, np.bincount(bins, log_y) / count
        return cls(x, log_y)

    def until(self, cut: float) -> Curve:
        """The part of the curve up to ``cut`` (log examples)."""
        keep = self.x <= cut + 1e-9
        return Curve(self.x[keep], self.log_y[keep])

    @property
    def span(self) -> float:
        return float(self.x[-1] - self.x[0])

    def line(self, window: tuple[int, float]) -> tuple[float, float]:
        """Level at the last size and slope of the log–log line through the last window."""
        count, doublings = window
        first = min(len(self.x) - count, int(np.searchsorted(self.x, self.x[-1] - doublings * DOUBLING - 1e-6)))
        x, y = self.x[max(first, 0) :], self.log_y[max(first, 0) :]
        centred = x - x.mean()
        slope = float(np.sum(centred * y) / np.sum(centred**2))
        return float(y.mean() + slope * (self.x[-1] - x.mean())), slope

    def noise(self) -> float:
        """Standard deviation of log loss about the line through each point's two neighbours (curvature included)."""
        if len(self.x) < 3:
            return NOISE
        left = (self.x[2:] - self.x[1:-1]) / (self.x[2:] - self.x[:-2])
        miss = self.log_y[1:-1] - left * self.log_y[:-2] - (1 - left) * self.log_y[2:]
        return float(np.sqrt(np.mean(miss**2 / (1 + left**2 + (1 - left) ** 2))))


# ------------------------------------------------------------------------------------------------ the averaged law


def _shapes(start: float) -> tuple[Array, Array]:
    """Shapes (G, 3) of the rectified law, as beta, log D0 and E over the last loss; and their log prior (G,).

    The prior is weak: beta about 0.3 within a factor 2.2, D0 anywhere, E about 0.4 of the last loss give or take 0.5.
    """
    beta = np.exp(np.linspace(np.log(0.04), np.log(1.2), 16))
    knee = start + np.linspace(-3.0, 7.0, 12)
    floor = np.linspace(0.0, 0.95, 14)
    grid = np.stack(np.meshgrid(beta, knee, floor, indexing="ij"), axis=-1).reshape(-1, 3)
    z = (np.log(grid[:, 0]) - np.log(0.3)) / 0.8, (grid[:, 1] - start - 2.7) / 4.0, (grid[:, 2] - 0.4) / 0.5
    return grid, -0.5 * (z[0] ** 2 + z[1] ** 2 + z[2] ** 2)


def averaged_law(curve: Curve, targets: Array, half_life: float = HALF_LIFE) -> Array:
    """Posterior mean of log loss (T,) at ``targets`` (log examples) under the rectified law with weak priors.

    The law is ``B/(D_l + D^beta) + E`` written as ``b/(1 + (D/D0)^beta) + E`` so that its onset D0 has a prior; b is
    solved for, the three shapes are averaged over a grid.
    """
    grid, log_prior = _shapes(float(curve.x[0]))
    y = np.exp(curve.log_y)
    phi = 1 / (1 + np.exp(grid[:, :1] * (curve.x - grid[:, 1:2])))
    weight = np.exp2(-(curve.x[-1] - curve.x) / DOUBLING / half_life) / y**2
    above = y - grid[:, 2:] * y[-1]
    b = np.maximum(np.sum(weight * above * phi, axis=1) / np.sum(weight * phi**2, axis=1), 0.0)
    misfit = np.sum(weight * (above - b[:, None] * phi) ** 2, axis=1)
    q = log_prior - 0.5 * misfit / NOISE**2
    q = np.exp(q - q.max())
    future = grid[:, 2:] * y[-1] + b[:, None] / (1 + np.exp(grid[:, :1] * (targets - grid[:, 1:2])))
    return np.asarray((q / q.sum()) @ np.log(future))


CITES = (RECTIFIED_LAW.source, "a log–log line through the last sizes")
