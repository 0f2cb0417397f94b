"""What one curve says about its own continuation: its last value, lines through its last sizes, laws over their shapes.

Everything here is in natural logarithms of examples (x) and of loss. "Doubling" is log 2 in x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finescale.stats.laws import Array

DOUBLING = float(np.log(2.0))
# Windows of the two lines: at least so many sizes, and at least so many doublings.
SHORT, LONG = (3, 2.0), (5, 4.0)
# The averaged law forgets: a size this many doublings below the last counts half.
HALF_LIFE = 1.5
# Noise of log loss that the averaged law allows for; seeds and optimisation move a loss by about 1 %.
NOISE = 0.01
# What a clean curve's noise of log loss is before it has been seen.
_CLEAN = 0.005
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


# ------------------------------------------------------------------------------------------------------------ the laws


def _shapes(start: float) -> tuple[Array, Array]:
    """Shapes (G, 3) of the rectified law, as beta, log D0 and E over the last loss; and their log prior (G,).

    The prior is weak: beta about 0.3 within a factor 2.2, D0 anywhere, E about 0.4 of the last loss give or take 0.5.
    """
    beta = np.exp(np.linspace(np.log(0.04), np.log(1.2), 16))
    knee = start + np.linspace(-3.0, 7.0, 12)
    floor = np.linspace(0.0, 0.95, 14)
    grid = np.stack(np.meshgrid(beta, knee, floor, indexing="ij"), axis=-1).reshape(-1, 3)
    return grid, _log_prior(np.log(grid[:, 0]), grid[:, 1] - start) - 0.5 * ((grid[:, 2] - 0.4) / 0.5) ** 2


def _log_prior(log_beta: Array, knee: Array) -> Array:
    """Log prior (G,) of the shapes; ``knee`` is log D0 over the first size."""
    return np.asarray(-0.5 * (((log_beta - np.log(0.3)) / 0.8) ** 2 + ((knee - 2.7) / 4.0) ** 2))


def averaged_law(curve: Curve, targets: Array, half_life: float = HALF_LIFE) -> Array:
    """Posterior mean of log loss (T,) at ``targets`` (log examples) under the rectified law with weak priors.

    The law is ``B/(D_l + D^beta) + E`` written as ``b/(1 + (D/D0)^beta) + E`` so that its onset D0 has a prior; b is
    solved for, the three shapes are averaged over a grid. It allows a fixed noise of 1 %, so that it bends cautiously.
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


def settled_law(curve: Curve, targets: Array, half_life: float = np.inf) -> Array:
    """As ``averaged_law``, but the noise is learnt from the curve: a clean curve settles the shapes, a noisy one not.

    b and E are solved for; beta and D0 are averaged over a grid that closes in on where they are probable. The noise
    has an inverse chi-square prior of two degrees of freedom about half a per cent, and is integrated out.
    """
    x, u = curve.x, np.exp(curve.log_y - curve.log_y[-1])
    w = np.exp2(-(x[-1] - x) / DOUBLING / half_life) / u**2
    freedom = 2.0 + float(np.sum(w * u**2))
    low, high = np.array([np.log(0.03), x[0] - 4.0]), np.array([np.log(1.6), x[-1] + 1.0])
    first, last = low, high
    for cells in (16, 13, 13, 13):
        axes = np.linspace(first, last, cells)
        grid = np.stack(np.meshgrid(axes[:, 0], axes[:, 1], indexing="ij"), axis=-1).reshape(-1, 2)
        above, E, b, misfit = _heights(grid, x, u, w)
        q = _log_prior(grid[:, 0], grid[:, 1] - x[0]) - 0.5 * freedom * np.log(2.0 * _CLEAN**2 + misfit)
        q = np.exp(q - q.max())
        q /= q.sum()
        middle = q @ grid
        half = np.maximum(3.0 * np.sqrt(q @ (grid - middle) ** 2), axes[1] - axes[0])
        first, last = np.maximum(low, middle - half), np.minimum(high, middle + half)
    future = E[:, None] + b[:, None] * _above_floor(grid, targets) / above
    return np.asarray(q @ np.log(np.maximum(future, 1e-9)) + curve.log_y[-1])


def _above_floor(grid: Array, x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(np.exp(grid[:, :1]) * (x - grid[:, 1:]))))


def _heights(grid: Array, x: Array, u: Array, w: Array) -> tuple[Array, Array, Array, Array]:
    """The law's value at the last size (G, 1), E and b (G,) by weighted least squares, and the misfit (G,)."""
    phi = _above_floor(grid, x)
    above = phi[:, -1:]
    phi = phi / above
    pull = (_CLEAN / 0.5) ** 2
    pp, p1, pu = ((w * phi * other).sum(axis=1) for other in (phi, np.ones_like(u), u))
    one, mean = w.sum() + pull, (w * u).sum() + 0.4 * pull
    spread = pp * one - p1**2
    E = np.where(spread > 1e-12 * pp * one, (pp * mean - p1 * pu) / np.maximum(spread, 1e-300), 0.4)
    E = np.clip(E, 0.0, 0.98)
    b = np.maximum((pu - E * p1) / pp, 0.0)
    misfit = (w * (u - E[:, None] - b[:, None] * phi) ** 2).sum(axis=1) + pull * (E - 0.4) ** 2
    return above, E, b, misfit


# ------------------------------------------------------------------------------------------------------ the forecasters

FORECASTERS = {
    "last_value": "weight of the last value",
    "short_line": "weight of the line through the last 3 sizes",
    "long_line": "weight of the line through the last 5 sizes",
    "averaged_law": "weight of the rectified law, cautious, last sizes first",
    "recent_law": "weight of the rectified law with learnt noise, last sizes first",
    "whole_law": "weight of the rectified law with learnt noise, all sizes alike",
}


def forecasts(curve: Curve, targets: Array) -> Array:
    """Log loss (T, K) at log examples beyond the last size, by each of the forecasters."""
    ahead = targets - curve.x[-1]
    lines = [level + slope * ahead for level, slope in (curve.line(SHORT), curve.line(LONG))]
    laws = [averaged_law(curve, targets), settled_law(curve, targets, HALF_LIFE), settled_law(curve, targets)]
    return np.stack([np.full(len(targets), curve.log_y[-1]), *lines, *laws], axis=1)
