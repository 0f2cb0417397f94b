"""The forecaster: what a curve says itself, weighed by what forecast best on the other curves of its task.

1. Six forecasts of a curve (``local.py``): its last value, two log–log lines, three readings of the rectified law. A
   seventh reads that law under priors, if any are given; the more precise they are the more it is believed beforehand.
2. They are stacked with weights learnt by rolling hold-out of the largest sizes inside the data, over all curves of the
   task, for each horizon and number of sizes (``stack.py``). A lone curve with little to hold out keeps the prior.
3. Two corrections that many curves show together, learnt in the same way and shrunk towards none: slopes regress
   towards the common slope, and curves that lie higher fall faster.
4. How wide an interval must be is learnt from forecasts made as they would have been made: each with the weights of
   only what had been seen by then. It grows with the noise, with the horizon and with the forecasters' disagreement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from finescale.stats.laws import Array
from finescale.stats.local import DOUBLING, SHORT, Curve, alike, averaged_law, forecasts
from finescale.stats.stack import PRIOR, Rolling, Weights, believing, weigh

# The corrections reach half their full size at a horizon of sixteen times the span seen.
REACH = 16.0
FEWEST = 3
REFUSES_BEYOND = 1024.0
REFUSES_BELOW = 2.0
# Paths begin two doublings below the smallest size, so that inside they are no edge.
_BEFORE = 2 * DOUBLING
# Standard deviation per e-fold below the smallest size: assumed, since hold-outs only look upwards.
_BELOW = 0.05
_KNOTS_INSIDE, _KNOTS_BEYOND = 24, 32
# Dense curves: so many origins per curve, targets per origin and cuts of the table are enough.
_MOST_ORIGINS, _MOST_TARGETS, _MOST_CUTS = 12, 8, 12
# Width before any error was seen, chosen on simulated tables (benchmarks/choose.py): the drift and the spread of its
# logarithm, the doubt and its spread; what rolling errors count beside them, since the forecasts of a curve overlap;
# origins that a curve's own width, and the shape of the errors, need for half the say; that shape's degrees of freedom.
_DRIFT, _DRIFT_SPREAD, _DOUBT, _DOUBT_SPREAD, _OVERLAP = 0.01, 0.7, 0.7, 0.4, 0.5
_OWN, _SHAPE, _TAILS = 8.0, 40.0, 4.0


@dataclass(frozen=True)
class Path:
    """A forecast path: centre and scale of log loss at knots (log examples); ``run`` is the noise within the scale."""

    x: Array
    centre: Array
    scale: Array
    run: float

    @property
    def support(self) -> tuple[float, float]:
        """Smallest and largest number of examples seen of the curve, without what logarithms lose of them."""
        ends = np.exp(self.x[0] + _BEFORE), np.exp(self.x[-1]) / REFUSES_BEYOND
        return float(f"{ends[0]:.12g}"), float(f"{ends[1]:.12g}")

    def at(self, x: Array) -> tuple[Array, Array]:
        """Centre and scale (N,) at log examples ``x``; the ends are carried on flat."""
        return np.interp(x, self.x, self.centre), np.interp(x, self.x, self.scale)


@dataclass(frozen=True)
class Width:
    """What rolling errors say of width: variance of log loss is ``noise^2 + drift^2 g(horizon) + doubt^2 spread^2``.

    ``per_curve`` multiplies the deviation of each curve; ``unit`` holds the standardised errors' quantiles (200,).
    """

    noise: float
    drift: float
    doubt: float
    per_curve: Array
    unit: Array

    def scale(self, curve: int, horizon: Array, span: float, spread: Array) -> Array:
        """Standard deviation of log loss (T,) at horizons (in log examples) beyond a curve of this span."""
        variance = self.noise**2 + self.drift**2 * _stretch(horizon, span) + self.doubt**2 * spread**2
        return np.asarray(self.per_curve[curve] * np.sqrt(variance))


def _stretch(horizon: Array, span: Array | float) -> Array:
    """Growth of the squared error with the horizon: a slope that is uncertain, over a span that bounds it."""
    return np.asarray(horizon**2 * (1 + horizon / span))


class Pool:
    """Curves of one task that inform each other."""

    def __init__(self, curves: list[Curve]) -> None:
        self.curves = curves
        beliefs = [curve.believed.precision() for curve in curves if curve.believed is not None]
        self.prior = believing(float(np.mean(beliefs))) if beliefs else PRIOR
        self._lines: dict[float, tuple[float, float]] = {}
        self._weights: dict[float, Weights] = {}
        self.seen = self._rolling()
        self.rolling = len(self.seen)
        self.width = self._calibrated()

    # ---------------------------------------------------------------------------------------------------- forecasting

    def _common(self, cut: float) -> tuple[float, float]:
        """Mean level and mean slope, at ``cut``, of all curves with enough sizes up to there."""
        if cut not in self._lines:
            seen = [curve.until(cut) for curve in self.curves]
            lines = [(c.line(SHORT), c.x[-1]) for c in seen if len(c.x) >= FEWEST]
            level = np.mean([line[0] + line[1] * (cut - last) for line, last in lines])
            self._lines[cut] = float(level), float(np.mean([line[1] for line, _ in lines]))
        return self._lines[cut]

    def _pulls(self, curve: Curve, targets: Array) -> Array:
        """Features (T, 2) of the corrections, as slopes: how far level and slope are from the common ones."""
        ahead = targets - curve.x[-1]
        level, slope = curve.line(SHORT)
        mean_level, mean_slope = self._common(float(curve.x[-1]))
        grown = ahead / (ahead + REACH * curve.span)
        return np.stack([grown * (level - mean_level), grown * (slope - mean_slope)], axis=1)

    def weights(self, curve: Curve) -> Weights:
        """The weights for questions asked of this curve."""
        count = float(_rounded(np.log(len(curve.x))))
        if count not in self._weights:
            self._weights[count] = weigh(self.seen, count, self.prior)
        return self._weights[count]

    def combined(self, index: int, targets: Array) -> tuple[Array, Array]:
        """Log loss (T,) of a curve beyond its last size, and the forecasters' disagreement (T,)."""
        curve = self.curves[index]
        ahead = targets - curve.x[-1]
        return self.weights(curve).forecast(ahead, forecasts([curve], targets)[0], self._pulls(curve, targets))

    def forecast(self, index: int, targets: Array) -> Array:
        """Log loss (T,) of a curve at log examples beyond its last size."""
        return self.combined(index, targets)[0]

    def path(self, index: int) -> Path:
        """The forecast path of a curve: its averaged law inside, the forecaster beyond, joined at the last size."""
        curve, width = self.curves[index], self.width
        beyond = curve.x[-1] + np.linspace(0, np.log(REFUSES_BEYOND), _KNOTS_BEYOND + 1)[1:]
        inside = np.linspace(curve.x[0] - _BEFORE, curve.x[-1], _KNOTS_INSIDE)
        smooth = averaged_law([curve], inside, half_life=np.inf)[0]
        end = self.end_level(index)
        smooth = smooth + (end - smooth[-1]) * np.exp2((inside - curve.x[-1]) / DOUBLING)
        before = np.maximum(curve.x[0] - inside, 0.0)
        centre, spread = self.combined(index, beyond)
        scale = [
            np.hypot(width.scale(index, before, curve.span, np.zeros(len(inside))), _BELOW * before),
            # Further ahead is never surer, whatever the forecasters agree on by chance.
            np.maximum.accumulate(width.scale(index, beyond - curve.x[-1], curve.span, spread)),
        ]
        run = float(width.per_curve[index] * width.noise)
        return Path(np.concatenate([inside, beyond]), np.concatenate([smooth, centre]), np.concatenate(scale), run)

    def end_level(self, index: int) -> float:
        """Level at the last size as the weighted forecasters have it."""
        curve = self.curves[index]
        return float(forecasts([curve], curve.x[-1:])[0, 0] @ self.weights(curve).q[0])

    # ------------------------------------------------------------------------------------------------------- learning

    def _rolling(self) -> Rolling:
        """Forecasts of every curve's larger sizes from its smaller ones."""
        parts: list[tuple[Array, ...]] = []
        for same in alike(self.curves):
            sizes = self.curves[same[0]].x
            for end in _thinned(np.arange(FEWEST, len(sizes)), _MOST_ORIGINS):
                ahead = _thinned(np.arange(end, len(sizes)), _MOST_TARGETS)
                x, one = sizes[ahead], np.ones(len(ahead))
                seen = [self.curves[index].until(float(sizes[end - 1])) for index in same]
                for index, part, said in zip(same, seen, forecasts(seen, x), strict=True):
                    own = (index * one, part.x[-1] * one, np.log(end) * one, x - part.x[-1], part.span * one)
                    y = self.curves[index].log_y[ahead]
                    parts.append((*own, y, said, self._pulls(part, x), one / len(ahead)))
        if not parts:
            none = np.zeros(0)
            said = none.reshape(0, len(self.prior))
            return Rolling(none.astype(int), none, none, none, none, none, said, none.reshape(0, 2), none)
        whole = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return Rolling(whole[0].astype(int), *whole[1:])

    def _as_it_was(self) -> tuple[Array, Array]:
        """Errors (N,) of the rolling forecasts, each weighed by what had been seen at its origin; and spreads (N,)."""
        seen = self.seen
        error, spread = np.zeros(len(seen)), np.zeros(len(seen))
        cuts = _thinned(np.unique(seen.origin), _MOST_CUTS)
        last = seen.origin + seen.horizon
        rounded = _rounded(seen.count)
        for cut, following in zip(cuts, [*cuts[1:], np.inf], strict=True):
            known = seen.take(last <= cut + 1e-9)
            asked = (seen.origin >= cut - 1e-9) & (seen.origin < following - 1e-9)
            for count in np.unique(rounded[asked]):
                rows = np.flatnonzero(asked & (rounded == count))
                one = seen.take(rows)
                weights = weigh(known, float(count), self.prior)
                said, spread[rows] = weights.forecast(one.horizon, one.said, one.pulls)
                error[rows] = one.y - said
        return error, spread

    def _calibrated(self) -> Width:
        curves = len(self.curves)
        noise = max(float(np.median([curve.noise() for curve in self.curves])), 1e-4)
        if not len(self.seen):
            # Nothing was held out: a slope is trusted to a tenth of a nat per e-fold, as short curves go.
            return Width(noise, 0.02, 1.0, np.ones(curves), _normal_unit())
        return _calibrate(self.seen, *self._as_it_was(), noise, curves)


def _rounded(count: Array | float) -> Array:
    """Log counts of sizes to a tenth: questions from 10 and from 11 sizes are one."""
    return np.asarray(np.round(count, 1))


def _thinned(values: npt.NDArray[Any], most: int) -> npt.NDArray[Any]:
    """At most so many of the values, evenly spaced, the last always among them."""
    if len(values) <= most:
        return values
    kept: npt.NDArray[Any] = values[np.unique(np.linspace(0, len(values) - 1, most).astype(int))]
    return kept


def _normal_unit() -> Array:
    """Quantiles of the standard normal, as standardised errors when none were seen."""
    return np.asarray(norm.ppf((np.arange(200) + 0.5) / 200))


def _calibrate(seen: Rolling, error: Array, spread: Array, noise: float, curves: int) -> Width:
    """Width of intervals from rolling errors: drift and doubt for all, a factor per curve, the errors' own shape."""
    stretch, w = _stretch(seen.horizon, seen.span), seen.share
    drift, doubt = _drift(error**2, stretch, spread**2, w, noise)
    variance = noise**2 + drift**2 * stretch + doubt**2 * spread**2
    total = np.bincount(seen.curve, w * error**2 / variance, curves)
    count = np.bincount(seen.curve, w, curves)
    # A curve's own width is trusted as far as its number of origins goes, against some from the whole table.
    per_curve = np.sqrt((_OWN + total) / (_OWN + count))
    unit = error / (np.sqrt(variance) * per_curve[seen.curve])
    return Width(noise, drift, doubt, per_curve, _symmetric(unit, w))


def _drift(e2: Array, g: Array, s2: Array, w: Array, noise: float) -> tuple[float, float]:
    """Most probable drift and doubt for errors with variance ``noise^2 + drift^2 g + doubt^2 s2``, over a grid."""
    drifts = np.exp(np.linspace(np.log(1e-4), np.log(0.3), 50))
    best = (np.inf, 0.0, 0.0)
    for doubt in (0.0, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0):
        variance = noise**2 + drifts[:, None] ** 2 * g + doubt**2 * s2
        score = _OVERLAP * np.sum(w * (np.log(variance) + np.minimum(e2 / variance, 25.0)), axis=1)
        score += (np.log(drifts / _DRIFT) / _DRIFT_SPREAD) ** 2 + ((doubt - _DOUBT) / _DOUBT_SPREAD) ** 2
        place = int(np.argmin(score))
        best = min(best, (float(score[place]), float(drifts[place]), doubt))
    return best[1:]


def _symmetric(unit: Array, weight: Array, count: int = 200) -> Array:
    """Quantiles of the standardised errors made symmetric, shrunk to Student's t where they come from few origins."""
    both, doubled = np.concatenate([unit, -unit]), np.concatenate([weight, weight])
    order = np.argsort(both)
    share = (np.cumsum(doubled[order]) - 0.5 * doubled[order]) / doubled.sum()
    at = (np.arange(count) + 0.5) / count
    seen = np.interp(at, share, both[order])
    trust = float(weight.sum()) / (float(weight.sum()) + _SHAPE)
    return np.asarray(trust * seen + (1 - trust) * t.ppf(at, _TAILS))
