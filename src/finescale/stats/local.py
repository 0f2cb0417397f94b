"""What one curve says about its own continuation: its last value, lines through its last sizes, laws over their shapes.

Everything here is in natural logarithms of examples (x) and of loss. "Doubling" is log 2 in x.
"""

from __future__ import annotations

from collections.abc import Sequence
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
# Standard deviations of the forecaster's own priors: beta about 0.3 within a factor exp(0.8), log D0 anywhere.
_LOG_BETA_OWN, _ONSET_OWN = 0.8, 4.0
_BETA_OWN = 0.3 * _LOG_BETA_OWN


@dataclass(frozen=True)
class Believed:
    """What somebody believes of a curve's law beforehand: means and standard deviations of beta and of log D0."""

    beta: tuple[float, float] | None = None
    onset: tuple[float, float] | None = None

    def precision(self) -> float:
        """How many times as precise as the forecaster's own weak priors, in the shape where that is most."""
        both = ((self.beta, _BETA_OWN), (self.onset, _ONSET_OWN))
        return max(((own / given[1]) ** 2 for given, own in both if given is not None), default=0.0)


@dataclass(frozen=True)
class Curve:
    """One curve: log examples and log loss, sorted, one point per size (replicates averaged)."""

    x: Array
    log_y: Array
    believed: Believed | None = None

    @classmethod
    def of(cls, examples: Array, loss: Array, believed: Believed | None = None) -> Curve:
        """Average replicates in log loss; thin very dense curves to at most 40 sizes evenly spaced in log examples."""
        x, inverse = np.unique(np.log(examples), return_inverse=True)
        log_y = np.bincount(inverse, np.log(loss)) / np.bincount(inverse)
        if len(x) > _MOST_SIZES:
            bins = np.unique(np.digitize(x, np.linspace(x[0], x[-1], _MOST_SIZES)), return_inverse=True)[1]
            count = np.bincount(bins)
            x, log_y = np.bincount(bins, x) / count, np.bincount(bins, log_y) / count
        return cls(x, log_y, believed)

    def until(self, cut: float) -> Curve:
        """The part of the curve up to ``cut`` (log examples)."""
        keep = self.x <= cut + 1e-9
        return Curve(self.x[keep], self.log_y[keep], self.believed)

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


# Cells of a grid less probable than this are left out of an average.
_NIL = 1e-10


def _log_prior(log_beta: Array, knee: Array) -> Array:
    """Log prior (G,) of the shapes; ``knee`` is log D0 over the first size.

    The prior is weak: beta about 0.3 within a factor 2.2, D0 anywhere; E about 0.4 of the last loss give or take 0.5.
    """
    return np.asarray(_log_prior_beta(log_beta) + _log_prior_knee(knee))


def _log_prior_beta(log_beta: Array) -> Array:
    return np.asarray(-0.5 * ((log_beta - np.log(0.3)) / _LOG_BETA_OWN) ** 2)


def _log_prior_knee(knee: Array) -> Array:
    return np.asarray(-0.5 * ((knee - 2.7) / _ONSET_OWN) ** 2)


def _log_belief(shapes: Array, first: float, believed: Believed) -> Array:
    """Log density (G,) of what is believed, at log beta and log D0 (G, 2); what is not said keeps the weak prior."""
    log_beta, onset = shapes.T
    beta, knee = _log_prior_beta(log_beta), _log_prior_knee(onset - first)
    if believed.beta is not None:
        mean, spread = believed.beta
        # Normal in beta, so the density over its logarithm has beta as a factor.
        beta = log_beta - 0.5 * ((np.exp(log_beta) - mean) / spread) ** 2
    if believed.onset is not None:
        knee = -0.5 * ((onset - believed.onset[0]) / believed.onset[1]) ** 2
    return np.asarray(beta + knee)


def _box(x: Array, believed: Believed | None) -> tuple[Array, Array]:
    """Where log beta and log D0 (2,) are looked for: where weak priors allow, and two deviations about a belief."""
    low, high = np.array([np.log(0.03), x[0] - 4.0]), np.array([np.log(1.6), x[-1] + 1.0])
    known = believed or Believed()
    if known.beta is not None:
        ends = np.log(np.clip(known.beta[0] + known.beta[1] * np.array([-2.0, 2.0]), 2e-3, 3.0))
        low[0], high[0] = min(low[0], ends[0]), max(high[0], ends[1])
    if known.onset is not None:
        ends = known.onset[0] + known.onset[1] * np.array([-2.0, 2.0])
        low[1], high[1] = min(low[1], ends[0]), max(high[1], ends[1])
    return low, high


def averaged_law(curves: Sequence[Curve], targets: Array, half_life: float = HALF_LIFE) -> Array:
    """Posterior mean of log loss (C, T) at ``targets`` (log examples) under the rectified law with weak priors.

    The law is ``B/(D_l + D^beta) + E`` written as ``b/(1 + (D/D0)^beta) + E`` so that its onset D0 has a prior; b is
    solved for, the three shapes are averaged over a grid. It allows a fixed noise of 1 %, so that it bends cautiously.
    The curves must have the same sizes.
    """
    x, log_y = curves[0].x, np.stack([curve.log_y for curve in curves])
    log_beta, knee = np.linspace(np.log(0.04), np.log(1.2), 16), x[0] + np.linspace(-3.0, 7.0, 12)
    grid = np.stack(np.meshgrid(log_beta, knee, indexing="ij"), axis=-1).reshape(-1, 2)
    floor = np.linspace(0.0, 0.95, 14)
    phi = _above_floor(grid, x)
    # Residuals are relative; with u the losses over the last, (1 - (floor + b phi) / u) is squared and summed.
    inverse = np.exp(log_y[:, -1:] - log_y)
    forget = np.exp2(-(x[-1] - x) / DOUBLING / half_life)
    one, two = forget * inverse, forget * inverse**2
    cross = (one @ phi.T)[..., None] - floor * (two @ phi.T)[..., None]
    square = (two @ (phi**2).T)[..., None]
    b = np.maximum(cross / square, 0.0)
    above = forget.sum() - 2 * floor * one.sum(axis=1)[:, None] + floor**2 * two.sum(axis=1)[:, None]
    misfit = above[:, None] - 2 * b * cross + b**2 * square
    q = _log_prior(grid[:, 0], grid[:, 1] - x[0])[:, None] - 0.5 * ((floor - 0.4) / 0.5) ** 2
    q = np.exp(q - 0.5 * misfit / NOISE**2 - np.max(q - 0.5 * misfit / NOISE**2, axis=(1, 2), keepdims=True))
    q /= q.sum(axis=(1, 2), keepdims=True)
    ahead, out = _above_floor(grid, targets), np.empty((len(curves), len(targets)))
    for index, weight in enumerate(q):
        shape, E = np.nonzero(weight > _NIL)
        said = floor[E][:, None] + b[index, shape, E][:, None] * ahead[shape]
        out[index] = weight[shape, E] @ np.log(said)
    return out + log_y[:, -1:]


def settled_law(curves: Sequence[Curve], targets: Array, half_life: float = np.inf, believe: bool = False) -> Array:
    """As ``averaged_law``, but the noise is learnt from the curve: a clean curve settles the shapes, a noisy one not.

    b and E are solved for; beta and D0 are averaged over a grid that closes in on where they are probable. The noise
    has an inverse chi-square prior of two degrees of freedom about half a per cent, and is integrated out. With
    ``believe`` what is believed of a curve's shapes takes the place of the weak priors.
    """
    x, log_y = curves[0].x, np.stack([curve.log_y for curve in curves])
    u = np.exp(log_y - log_y[:, -1:])
    w = np.exp2(-(x[-1] - x) / DOUBLING / half_life) / u**2
    freedom = 2.0 + np.sum(w * u**2, axis=1, keepdims=True)
    known = [curve.believed if believe else None for curve in curves]
    low, high = (np.stack(ends) for ends in zip(*(_box(x, one) for one in known), strict=True))
    first, last = low, high
    for cells in (16, 13, 13, 13):
        unit = np.stack(np.meshgrid(*2 * [np.linspace(0, 1, cells)], indexing="ij"), axis=-1).reshape(-1, 2)
        grid = first[:, None] + unit * (last - first)[:, None]
        above, E, b, misfit = _heights(grid, x, u, w)
        prior = [_log_belief(shapes, x[0], one or Believed()) for shapes, one in zip(grid, known, strict=True)]
        q = np.stack(prior) - 0.5 * freedom * np.log(2.0 * _CLEAN**2 + misfit)
        q = np.exp(q - q.max(axis=1, keepdims=True))
        q /= q.sum(axis=1, keepdims=True)
        middle = np.einsum("cg,cgp->cp", q, grid)
        spread = np.sqrt(np.einsum("cg,cgp->cp", q, (grid - middle[:, None]) ** 2))
        half = np.maximum(3.0 * spread, (last - first) / (cells - 1))
        first, last = np.maximum(low, middle - half), np.minimum(high, middle + half)
    future = E[..., None] + b[..., None] * _above_floor(grid, targets) / above
    return np.asarray(np.einsum("cg,cgt->ct", q, np.log(np.maximum(future, 1e-9))) + log_y[:, -1:])


def _above_floor(grid: Array, x: Array) -> Array:
    """Height (..., G, N) over the floor at log examples ``x``, for shapes (..., G, 2), log beta and log D0."""
    return np.asarray(1 / (1 + np.exp(np.exp(grid[..., :1]) * (x - grid[..., 1:]))))


def _heights(grid: Array, x: Array, u: Array, w: Array) -> tuple[Array, Array, Array, Array]:
    """The law's value at the last size (C, G, 1), E and b (C, G) by weighted least squares, and the misfit (C, G)."""
    phi = _above_floor(grid, x)
    above = phi[..., -1:]
    phi = phi / above
    pull = (_CLEAN / 0.5) ** 2
    pp = np.einsum("cgn,cgn,cn->cg", phi, phi, w)
    p1, pu = (np.matmul(phi, other[..., None])[..., 0] for other in (w, w * u))
    one, mean = (total[:, None] for total in (w.sum(axis=1) + pull, (w * u).sum(axis=1) + 0.4 * pull))
    spread = pp * one - p1**2
    E = np.where(spread > 1e-12 * pp * one, (pp * mean - p1 * pu) / np.maximum(spread, 1e-300), 0.4)
    E = np.clip(E, 0.0, 0.98)
    b = np.maximum((pu - E * p1) / pp, 0.0)
    left = u[:, None] - E[..., None] - b[..., None] * phi
    misfit = np.einsum("cgn,cgn,cn->cg", left, left, w) + pull * (E - 0.4) ** 2
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
BELIEVER = ("prior_law", "weight of the rectified law with learnt noise, all sizes alike, under the priors given")
"""One more forecaster where something is believed of the curves."""


def forecasts(curves: Sequence[Curve], targets: Array) -> Array:
    """Log loss (C, T, K) of curves over the same sizes, at log examples beyond the last, by each of the forecasters.

    Where something is believed of the curves, ``BELIEVER`` is the last of them.
    """
    ahead = targets - curves[0].x[-1]
    flat = np.repeat([[curve.log_y[-1]] for curve in curves], len(targets), axis=1)
    lines = []
    for window in (SHORT, LONG):
        level, slope = np.array([curve.line(window) for curve in curves]).T
        lines.append(level[:, None] + slope[:, None] * ahead)
    laws = [averaged_law(curves, targets), settled_law(curves, targets, HALF_LIFE), settled_law(curves, targets)]
    if curves[0].believed is not None:
        laws.append(settled_law(curves, targets, believe=True))
    return np.stack([flat, *lines, *laws], axis=2)


def alike(curves: Sequence[Curve]) -> list[list[int]]:
    """Indices of curves over the same sizes, which are forecast together."""
    found: dict[bytes, list[int]] = {}
    for index, curve in enumerate(curves):
        found.setdefault(curve.x.tobytes(), []).append(index)
    return list(found.values())
