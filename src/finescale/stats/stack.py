"""How much each forecaster is believed, judged by rolling hold-outs that look like what is asked: stacking.

Every curve is cut at every size and its larger sizes are forecast from the smaller. For a question (this far ahead,
from so many sizes) the hold-outs count by how like the question they are. The weights ``q`` minimise

    evidence / 2 · log(mean squared error of the weighted forecast) + KL(q, prior)

over the simplex: the likelihood of as many normal errors as there are independent curves, against a prior that trusts
the humble forecasters (equal weights are hard to beat: the forecast combination puzzle). Because it is the error of the
combination that is scored, forecasters that err to opposite sides support each other. Beyond the largest horizon that
was held out the evidence fades, and the prior remains.

Sources: Yao et al. 2018, Using stacking to average Bayesian predictive distributions, doi 10.1214/17-BA1091; Bates &
Granger 1969, The combination of forecasts, doi 10.1057/jors.1969.103.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from finescale.stats.groups import Codes
from finescale.stats.laws import Array

# In the order of ``local.FORECASTERS``: three humble ones first among equals, two laws that must earn their place, and
# the last value, which is right only where nothing changes any more.
PRIOR = np.array([0.01, 1.0, 1.0, 1.0, 0.1, 0.1]) / 3.21
# A law under priors is believed beforehand as the last law above is, times as much as they are more precise than
# the weak ones; never so much that hold-outs could not overrule it.
_MOST_BELIEVED = 0.95
# Curves of one task err together: however many there are, they count as at most twelve; two are needed for half of it.
MOST_EVIDENCE, HALF_EVIDENCE = 12.0, 2.0
# A hold-out is like the question within a factor two of horizon and a factor 1.35 in the number of sizes seen.
ALIKE_HORIZON, ALIKE_COUNT = 0.7, 0.3
# Evidence falls by e when the horizon asked is e times the largest that was held out.
FADES = 1.0
# Losses are not measured to better than a hundredth of a per cent.
_FLOOR = 1e-4
# Standard deviations of the two corrections' coefficients: pull of level and of slope.
SPREAD = np.array([0.3, 3.0])


@dataclass(frozen=True)
class Rolling:
    """Rolling forecasts, one row each.

    Attributes:
        curve: which curve (N,).
        origin: log examples of the last size seen (N,).
        count: log of the number of sizes seen (N,).
        horizon: log examples ahead of the last size seen (N,).
        span: log examples from the first to the last size seen (N,).
        y: log loss observed (N,).
        said: log loss forecast (N, K).
        pulls: features of the corrections, as slopes (N, 2).
        share: one over the number of forecasts from this origin (N,).
    """

    curve: Codes
    origin: Array
    count: Array
    horizon: Array
    span: Array
    y: Array
    said: Array
    pulls: Array
    share: Array

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: npt.NDArray[Any]) -> Rolling:
        """The rows wanted (a mask or indices)."""
        return Rolling(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Weights:
    """Weights (G, K) of the forecasters and coefficients (G, 2) of the corrections at knots of the log horizon (G,)."""

    knots: Array
    q: Array
    pull: Array

    def forecast(self, horizon: Array, said: Array, pulls: Array) -> tuple[Array, Array]:
        """Combined log loss (T,) and the disagreement (T,), the weighted standard deviation of the forecasters."""
        at = np.clip(np.log(np.maximum(horizon, 1e-9)), self.knots[0], self.knots[-1])
        q = np.stack([np.interp(at, self.knots, column) for column in self.q.T], axis=1)
        pull = np.stack([np.interp(at, self.knots, column) for column in self.pull.T], axis=1)
        middle = np.sum(q * said, axis=1)
        spread = np.sqrt(np.sum(q * (said - middle[:, None]) ** 2, axis=1))
        return middle + horizon * np.sum(pull * pulls, axis=1), spread


# Horizons from a twentieth of an e-fold to a thousandfold.
KNOTS = np.linspace(np.log(0.05), np.log(7.0), 13)


def believing(precision: float) -> Array:
    """Prior weights (K + 1,) where one more forecaster has priors so many times as precise as the weak ones."""
    odds = PRIOR[-1] * precision
    share = min(odds / (1 + odds), _MOST_BELIEVED)
    return np.append((1 - share) * PRIOR, share)


def weigh(seen: Rolling, count: float, prior: Array = PRIOR) -> Weights:
    """Weights for questions asked of a curve with this log number of sizes, at every knot of the horizon."""
    if not len(seen):
        return Weights(KNOTS, np.tile(prior, (len(KNOTS), 1)), np.zeros((len(KNOTS), 2)))
    log_h, error = np.log(seen.horizon), seen.y[:, None] - seen.said
    top = float(log_h.max())
    at = np.minimum(KNOTS, top)
    like = np.exp(-0.5 * ((at[:, None] - log_h) / ALIKE_HORIZON) ** 2 - 0.5 * ((count - seen.count) / ALIKE_COUNT) ** 2)
    like /= np.maximum(like.sum(axis=1, keepdims=True), 1e-300)
    per_curve = np.stack([np.bincount(seen.curve, row) for row in like])
    curves = 1 / np.maximum(np.sum(per_curve**2, axis=1), 1e-12)
    evidence = MOST_EVIDENCE * curves / (curves + HALF_EVIDENCE) * np.exp(-np.maximum(KNOTS - top, 0.0) / FADES)
    q = stacked(np.stack([_square(error, row, prior) for row in like]), prior, evidence)
    return Weights(KNOTS, q, np.stack([_pull(seen, one) for one in q]))


def _square(error: Array, weight: Array, prior: Array) -> Array:
    """Second moments (K, K) of the forecasters' errors (N, K); errors beyond three typical ones count less."""
    size = np.abs(error @ prior)
    order = np.argsort(size)
    typical = size[order][min(int(np.searchsorted(np.cumsum(weight[order]), 0.5)), len(size) - 1)]
    fair = weight * np.minimum(1.0, 3.0 * typical / np.maximum(size, 1e-12))
    moments = (error * fair[:, None]).T @ error / max(float(fair.sum()), 1e-300)
    return np.asarray(moments + _FLOOR**2)


def stacked(moments: Array, prior: Array, evidence: Array, steps: int = 120) -> Array:
    """Weights (P, K) on the simplex that minimise ``evidence/2 · log(q'Mq) + KL(q, prior)`` for each M (P, K, K).

    Mirror descent; a step that does not lower the objective is taken again at under half its length.
    """
    log_prior = np.log(prior)
    log_q = np.tile(log_prior, (len(moments), 1))
    best, eta = np.full(len(moments), np.inf), np.full(len(moments), 0.5)
    trial = log_q
    for _ in range(steps):
        q = np.exp(trial)
        value = 0.5 * evidence * np.log(np.einsum("pk,pkl,pl->p", q, moments, q)) + np.sum(q * (trial - log_prior), 1)
        better = value < best - 1e-9
        best = np.where(better, value, best)
        log_q = np.where(better[:, None], trial, log_q)
        eta = np.where(better, np.minimum(1.0, 1.6 * eta), 0.4 * eta)
        if np.all(eta < 1e-4):
            break
        q = np.exp(log_q)
        slope = np.einsum("pkl,pl->pk", moments, q)
        slope *= (evidence / np.sum(q * slope, axis=1))[:, None]
        trial = (1 - eta[:, None]) * log_q + eta[:, None] * (log_prior - slope)
        trial = trial - np.logaddexp.reduce(trial, axis=1)[:, None]
    return np.asarray(np.exp(log_q))


def _pull(seen: Rolling, q: Array) -> Array:
    """Coefficients (2,) of the corrections by robust ridge regression; every origin of every curve counts once."""
    left = (seen.y - seen.said @ q) / seen.horizon
    step: Array = np.zeros(2)
    for _ in range(5):
        miss = left - seen.pulls @ step
        scale = max(1.4826 * float(np.median(np.abs(miss))), 1e-6)
        weight = seen.share * np.minimum(1.0, 1.345 * scale / np.maximum(np.abs(miss), 1e-12)) / scale**2
        normal = (seen.pulls * weight[:, None]).T
        step = np.asarray(np.linalg.solve(normal @ seen.pulls + np.diag(SPREAD**-2), normal @ left), dtype=float)
    return step
