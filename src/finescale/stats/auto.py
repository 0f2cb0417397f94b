"""The forecaster: what a curve says itself, corrected by what the other curves of its task say, with honest width.

1. Three humble forecasts of a curve are averaged: two log–log lines through its last sizes, and a rectified law
   averaged over its shapes (``local.py``).
2. The average is corrected by two things that many curves of one task show together: slopes regress towards the common
   slope, and curves that lie higher fall faster. Both grow with the horizon over the span seen, and both, like the
   three weights, are learnt by rolling hold-out of the largest sizes inside the data, shrunk towards equal weights
   and no correction. A lone curve keeps the plain average.
3. The errors of those rolling forecasts say how wide an interval must be at each horizon.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

from finescale.stats.laws import Array
from finescale.stats.local import DOUBLING, LONG, SHORT, Curve, averaged_law

# Coefficients: level, slope (corrections), averaged law, long line (weights; the short line has the rest).
CENTRE = np.array([0.0, 0.0, 1 / 3, 1 / 3])
# Equal weights are hard to beat (the forecast combination puzzle), so the weights move little.
SPREAD = np.array([0.15, 1.5, 0.05, 0.05])
# The corrections reach half their full size at a horizon of eight times the span seen.
REACH = 8.0
FEWEST = 3
REFUSES_BEYOND = 1024.0
_KNOTS_INSIDE, _KNOTS_BEYOND = 24, 32


@dataclass(frozen=True)
class Path:
    """A forecast path: centre and scale of log loss at knots (log examples); ``run`` is the noise within the scale."""

    x: Array
    centre: Array
    scale: Array
    run: float

    def at(self, x: Array) -> tuple[Array, Array]:
        """Centre and scale (N,) at log examples ``x``; the ends are carried on flat."""
        return np.interp(x, self.x, self.centre), np.interp(x, self.x, self.scale)


@dataclass(frozen=True)
class Sample:
    """Rolling forecasts of one curve from one origin: features (T, 4), target slopes (T,), horizons (T,), the span."""

    features: Array
    base: Array
    target: Array
    horizon: Array
    span: float
    curve: int


@dataclass(frozen=True)
class Learnt:
    """What a table taught: coefficients (4,), the growth of errors with the horizon, and a scale per curve."""

    coef: Array
    noise: float
    drift: float
    per_curve: Array
    unit: Array

    def scale(self, curve: int, horizon: Array, span: float) -> Array:
        """Standard deviation of log loss at horizons (in log examples) beyond a curve of this span."""
        return np.asarray(self.per_curve[curve] * np.sqrt(self.noise**2 + self.drift**2 * _stretch(horizon, span)))


def _stretch(horizon: Array, span: float) -> Array:
    """Growth of the squared error with the horizon: a slope that is uncertain, over a span that bounds it."""
    return np.asarray(horizon**2 * (1 + horizon / span))


class Pool:
    """Curves of one task that inform each other."""

    def __init__(self, curves: list[Curve]) -> None:
        self.curves = curves
        self._lines: dict[float, tuple[Array, Array]] = {}
        self.rolling = 0
        self.learnt = self._learn()

    def _common(self, cut: float) -> tuple[float, float]:
        """Mean level and mean slope, at ``cut``, of all curves with enough sizes up to there."""
        if cut not in self._lines:
            seen = [curve.until(cut) for curve in self.curves]
            lines = [(c.line(SHORT), c.x[-1]) for c in seen if len(c.x) >= FEWEST]
            slope = np.array([line[1] for line, _ in lines])
            level = np.array([line[0] + line[1] * (cut - last) for line, last in lines])
            self._lines[cut] = level, slope
        level, slope = self._lines[cut]
        return float(level.mean()), float(slope.mean())

    def features(self, curve: Curve, targets: Array) -> tuple[Array, Array, float]:
        """Features (T, 4) as slopes, the short line's slope (T,), and its level at the end of ``curve``."""
        h = targets - curve.x[-1]
        level, slope = curve.line(SHORT)
        long_level, long_slope = curve.line(LONG)
        mean_level, mean_slope = self._common(float(curve.x[-1]))
        grown = h / (h + REACH * curve.span)
        law = (averaged_law(curve, targets) - level) / h - slope
        long = (long_level - level) / h + long_slope - slope
        columns = [grown * (level - mean_level), grown * (slope - mean_slope), law, long]
        return np.stack(columns, axis=1), np.full(len(h), slope), level

    def forecast(self, index: int, targets: Array) -> Array:
        """Log loss (T,) of a curve at log examples beyond its last size."""
        curve = self.curves[index]
        features, slope, level = self.features(curve, targets)
        return np.asarray(level + (targets - curve.x[-1]) * (slope + features @ self.learnt.coef))

    # ---------------------------------------------------------------------------------------------------- learning

    def _samples(self) -> list[Sample]:
        found = []
        for index, curve in enumerate(self.curves):
            for end in range(FEWEST, len(curve.x)):
                seen, ahead = curve.until(float(curve.x[end - 1])), slice(end, len(curve.x))
                features, base, level = self.features(seen, curve.x[ahead])
                h = curve.x[ahead] - seen.x[-1]
                found.append(Sample(features, base, (curve.log_y[ahead] - level) / h, h, seen.span, index))
        return found

    def _learn(self) -> Learnt:
        samples = self._samples()
        self.rolling = sum(len(s.target) for s in samples)
        noise = max(float(np.median([curve.noise() for curve in self.curves])), 1e-4)
        if not samples:
            # Nothing was held out: a slope is trusted to a tenth of a nat per e-fold, as short curves go.
            return Learnt(CENTRE, noise, 0.02, np.ones(len(self.curves)), _normal_unit())
        coef = _ridge(samples)
        errors = [s.horizon * (s.target - s.base - s.features @ coef) for s in samples]
        return _calibrate(samples, errors, coef, noise, len(self.curves))

    def path(self, index: int) -> Path:
        """The forecast path of a curve: its averaged law inside, the forecaster beyond, joined at the last size."""
        curve, learnt = self.curves[index], self.learnt
        beyond = curve.x[-1] + np.linspace(0, np.log(REFUSES_BEYOND), _KNOTS_BEYOND + 1)[1:]
        inside = np.linspace(curve.x[0] - 2 * DOUBLING, curve.x[-1], _KNOTS_INSIDE)
        smooth = averaged_law(curve, inside, half_life=np.inf)
        end = end_level(curve)
        smooth = smooth + (end - smooth[-1]) * np.exp2((inside - curve.x[-1]) / DOUBLING)
        before = np.maximum(curve.x[0] - inside, 0.0)
        run = float(learnt.per_curve[index] * learnt.noise)
        scale = [learnt.scale(index, before, curve.span), learnt.scale(index, beyond - curve.x[-1], curve.span)]
        centre = np.concatenate([smooth, self.forecast(index, beyond)])
        return Path(np.concatenate([inside, beyond]), centre, np.concatenate(scale), run)


def end_level(curve: Curve) -> float:
    """Level at the last size by the three forecasts, equally weighted."""
    law = averaged_law(curve, curve.x[-1:])[0]
    return float((curve.line(SHORT)[0] + curve.line(LONG)[0] + law) / 3)


def _normal_unit() -> Array:
    """Quantiles of the standard normal, as standardised errors when none were seen."""
    return np.asarray(norm.ppf((np.arange(200) + 0.5) / 200))


def _ridge(samples: list[Sample]) -> Array:
    """Coefficients by robust ridge regression; every origin of every curve counts once."""
    F = np.concatenate([s.features for s in samples])
    left = np.concatenate([s.target - s.base for s in samples]) - F @ CENTRE
    weight = np.concatenate([np.full(len(s.target), 1 / len(s.target)) for s in samples])
    step = np.zeros(len(CENTRE))
    for _ in range(8):
        miss = left - F @ step
        scale = max(1.4826 * float(np.median(np.abs(miss))), 1e-6)
        pull = weight * np.minimum(1.0, 1.345 * scale / np.maximum(np.abs(miss), 1e-12)) / scale**2
        step = np.linalg.solve((F * pull[:, None]).T @ F + np.diag(SPREAD**-2), (F * pull[:, None]).T @ left)
    return CENTRE + step


def _calibrate(samples: list[Sample], errors: list[Array], coef: Array, noise: float, curves: int) -> Learnt:
    """Width of intervals from rolling errors: one drift for all, a factor per curve, and the errors' own shape."""
    stretch = [_stretch(s.horizon, s.span) for s in samples]
    weight = [np.full(len(s.horizon), 1 / len(s.horizon)) for s in samples]
    e2, g, w = (np.concatenate(parts) for parts in ([e**2 for e in errors], stretch, weight))
    drift = _drift(e2, g, w, noise)
    z2 = e2 / (noise**2 + drift**2 * g)
    who = np.concatenate([np.full(len(s.horizon), s.curve) for s in samples])
    total, count = np.bincount(who, w * z2, curves), np.bincount(who, w, curves)
    # A curve's own width is trusted as far as its number of origins goes, against five from the whole table.
    per_curve = np.sqrt((5.0 + total) / (5.0 + count))
    unit = np.concatenate(errors) / (np.sqrt(noise**2 + drift**2 * g) * per_curve[who])
    return Learnt(coef, noise, drift, per_curve, _symmetric(unit, w))


def _drift(e2: Array, g: Array, w: Array, noise: float) -> float:
    """Maximum-likelihood drift for errors with variance ``noise^2 + drift^2 g``, over a grid."""
    grid = np.exp(np.linspace(np.log(1e-4), np.log(0.3), 120))
    variance = noise**2 + grid[:, None] ** 2 * g
    score = np.sum(w * (np.log(variance) + np.minimum(e2 / variance, 25.0)), axis=1)
    return float(grid[np.argmin(score)])


def _symmetric(unit: Array, weight: Array, count: int = 200) -> Array:
    """Quantiles of the standardised errors made symmetric: half seen, half Student's t with 5 degrees of freedom."""
    both, doubled = np.concatenate([unit, -unit]), np.concatenate([weight, weight])
    order = np.argsort(both)
    share = (np.cumsum(doubled[order]) - 0.5 * doubled[order]) / doubled.sum()
    at = (np.arange(count) + 0.5) / count
    seen = np.interp(at, share, both[order])
    trust = len(unit) / (len(unit) + 20.0)
    return np.asarray(trust * seen + (1 - trust) * t.ppf(at, 5))
