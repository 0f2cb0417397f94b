"""Forecasts for a base nobody has finetuned: joint laws over the family, and the nearest base's own curve.

A joint law knows how the family scales but not a base's quirks; the nearest base's curve knows how the task goes on but
not what another size changes. Three forecasts are stacked: the laws alone, the nearest curve shifted as the laws say,
and the nearest curve as it is. They count alike (laws through few bases overstate what size changes, the nearest curve
denies it) until bases left out in turn say otherwise. An interval for a new base is as wide as the three disagree, and
as the base at the end of the family that faces the question was missed when it was left out: a larger model than any
seen is judged by the largest that was seen, not by the smallest, whose absence is another question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import pandas as pd

from finescale.stats.auto import Pool
from finescale.stats.groups import Cell, Group, solve
from finescale.stats.laws import ADDITIVE, MULTIPLICATIVE, PRODUCT, RECTIFIED_MULTIPLICATIVE, Array, Law
from finescale.stats.local import NOISE, Curve
from finescale.stats.priors import Belief, solve_with
from finescale.stats.stack import HALF_EVIDENCE, MOST_EVIDENCE, stacked
from finescale.stats.status import too_few

Key = tuple[float, ...]
# A new base's deviation before any base has been left out, its worth in bases, the worth of the end left out that faces
# the question, and deviation per unit of disagreement. Proposed on simulated families
# (benchmarks/choose.py), kept only where the public ones did not object (docs/lab-log.md).
_PRIOR_BASES, _PRIOR_DEVIATION, _FACING, _DOUBT = 3.0, 0.05, 2.0, 0.8
# Degrees of freedom of the draws beyond the bases behind them: the errors along a new curve are not all one deviation.
_MORE_FREEDOM = 4.0
# The laws alone, the nearest curve shifted by them, the nearest curve as it is.
_THIRDS = np.full(3, 1 / 3)
# Two bases draw a law through whatever their quirks are; three can contradict it.
_FEWEST_BASES = 3


@dataclass(frozen=True)
class FittedLaw:
    """A law with its shapes (P,) and coefficients (M,)."""

    law: Law
    theta: Array
    coef: Array

    def log_loss(self, z: Array) -> Array:
        """Log loss (N,) at log-factors ``z`` (N, K)."""
        return np.asarray(np.log(np.maximum(self.law.predict(z, self.theta[None], self.coef[None])[0], 1e-300)))


@dataclass(frozen=True)
class Joint:
    """Joint laws fitted to a family, the weights (3,) of the ways to forecast a base not seen, and what was missed.

    ``steps`` (J, K - 1) are the log-factors of bases left out less those of their nearest neighbours, ``missed`` (J,)
    the mean squared errors of log loss of their forecasts.
    """

    laws: tuple[FittedLaw, ...]
    weights: Array = field(default_factory=lambda: _THIRDS)
    steps: Array = field(default_factory=lambda: np.zeros((0, 1)))
    missed: Array = field(default_factory=lambda: np.zeros(0))

    def log_loss(self, z: Array) -> Array:
        """Mean over the laws of log loss (N,) at log-factors ``z`` (N, K)."""
        return np.asarray(np.mean([one.log_loss(z) for one in self.laws], axis=0))

    def new_base(self, key: Key, near: Key, x: Array, centre: Array) -> tuple[Array, Array, float]:
        """Log loss (N,) of a base not seen at log examples ``x``, given the nearest base's own path there.

        And its standard deviation (N,), with its degrees of freedom.
        """
        ways = self.ways(key, near, x, centre)
        middle = ways @ self.weights
        doubt = _DOUBT**2 * ((ways - middle[:, None]) ** 2 @ self.weights)
        facing = _FACING * np.maximum(_cosine(self.steps, np.log(key) - np.log(near)), 0.0)
        worth = _PRIOR_BASES + float(facing.sum())
        missed = (_PRIOR_BASES * _PRIOR_DEVIATION**2 + float(facing @ self.missed)) / worth
        return middle, np.sqrt(missed + doubt), worth + _MORE_FREEDOM

    def ways(self, key: Key, near: Key, x: Array, centre: Array) -> Array:
        """The three forecasts (N, 3) of log loss of a base not seen."""
        alone, beside = self.log_loss(_factors(key, x)), self.log_loss(_factors(near, x))
        return np.stack([alone, centre + alone - beside, centre], axis=1)


def _cosine(steps: Array, step: Array) -> Array:
    """Cosines (J,) of the angles between steps (J, K) and one step (K,)."""
    length = np.linalg.norm(steps, axis=1) * np.linalg.norm(step)
    return np.asarray(steps @ step / np.maximum(length, 1e-300))


def _factors(key: Key, x: Array) -> Array:
    return np.column_stack([np.tile(np.log(key), (len(x), 1)), x])


def candidates(factors: tuple[str, ...]) -> tuple[Law, ...]:
    """Joint laws for these factors (``examples`` last)."""
    if len(factors) == 2:
        return MULTIPLICATIVE, ADDITIVE, RECTIFIED_MULTIPLICATIVE
    return PRODUCT, RECTIFIED_MULTIPLICATIVE


def fit_joint(group: Group, held: Mapping[str, Belief] = MappingProxyType({})) -> Joint | None:
    """Fit the joint laws that the family can carry, with what is believed of their shapes; None if it carries none."""
    if len(group.factors) < 2:
        return None
    laws = [law for law in candidates(group.factors) if too_few(law, group) is None]
    if not laws:
        return None
    found = [miss for part in _end_bases(group) if (miss := _without(group, part, laws, held)) is not None]
    weights = _weights([miss.errors for miss in found if miss.others >= _FEWEST_BASES])
    steps = np.array([miss.step for miss in found]).reshape(len(found), len(group.factors) - 1)
    missed = np.array([np.mean((miss.errors @ weights) ** 2) for miss in found])
    return Joint(tuple(_fitted(law, group, held) for law in laws), weights, steps, missed)


def _fitted(law: Law, group: Group, held: Mapping[str, Belief]) -> FittedLaw:
    cell = Cell(law, [group])
    point = solve(cell, keep=2)
    # Exponents of a product say nothing of the exponents of a sum.
    known = {} if law is ADDITIVE else dict(held)
    if known.keys() & {p.name for p in law.shapes(group.factors[:-1])}:
        point = solve_with(cell, point, [known])
    return FittedLaw(law, point.theta, point.coef)


def _weights(errors: list[Array]) -> Array:
    """Weights (3,) of the ways to forecast a base not seen, from their errors (N, 3) for bases left out."""
    if not errors:
        return _THIRDS
    moments = np.mean([error.T @ error / len(error) for error in errors], axis=0)
    evidence = MOST_EVIDENCE * len(errors) / (len(errors) + HALF_EVIDENCE)
    return np.asarray(stacked(moments[None] + NOISE**2, _THIRDS, np.array([evidence]))[0])


def _end_bases(group: Group) -> list[pd.DataFrame]:
    """Runs of each base at an end of a factor: one between others is interpolated, and says little about a new one."""
    others = list(group.factors[:-1])
    size = group.frame[others]
    ends = group.frame[((size == size.min()) | (size == size.max())).any(axis=1)]
    return [part for _, part in ends.groupby(others)]


@dataclass(frozen=True)
class _Miss:
    """A base left out: its log-factors less its neighbour's (K - 1,), errors (N, 3), and how many others there were."""

    step: Array
    errors: Array
    others: int


def _without(group: Group, part: pd.DataFrame, laws: list[Law], held: Mapping[str, Belief]) -> _Miss | None:
    """What the others say of a base; None if they are too few to say anything."""
    rest = group.frame.drop(part.index)
    small = Group(group.key, group.factors, rest, rest.iloc[:0], group.y_name)
    if not len(rest) or any(too_few(law, small) for law in laws):
        return None
    keys = list(dict.fromkeys(key_columns(rest, group.factors)))
    joint = Joint(tuple(_fitted(law, small, held) for law in laws))
    key = key_columns(part, group.factors)[0]
    near = keys[nearest(keys, key)]
    beside = rest[[one == near for one in key_columns(rest, group.factors)]]
    curve = Curve.of(beside["examples"].to_numpy(dtype=float), beside[group.y_name].to_numpy(dtype=float))
    x = np.log(part["examples"].to_numpy(dtype=float))
    seen = (x >= curve.x[0] - 1e-9) & (x <= curve.x[-1] + 1e-9)
    if not seen.any():
        return None
    said = joint.ways(key, near, x[seen], np.interp(x[seen], curve.x, curve.log_y))
    errors = np.log(part[group.y_name].to_numpy(dtype=float))[seen, None] - said
    return _Miss(np.log(key) - np.log(near), np.asarray(errors), len(keys))


@dataclass(frozen=True)
class Blend:
    """How much of a seen base's continuation is the family's law (0 to 1), and how the error shrinks by it."""

    weight: float = 0.0
    shrink: float = 1.0


def blend(group: Group, curves: dict[Key, Curve], held: Mapping[str, Belief]) -> Blend:
    """Hold out the largest sizes: does the family's law, anchored to a curve's end, continue it better than itself?

    Weights go with the inverse squared mean squared error: with few bases a doubling of the error is some evidence, not
    proof.
    """
    sizes = np.unique(group.frame["examples"])
    cut = float(np.log(sizes[-1 - max(1, len(sizes) // 4)])) if len(sizes) >= 5 else -np.inf
    rest = group.frame[np.log(group.frame["examples"]) <= cut + 1e-9]
    small = Group(group.key, group.factors, rest, rest.iloc[:0], group.y_name)
    able = {key: curve for key, curve in curves.items() if len(curve.until(cut).x) >= 3 and curve.x[-1] > cut + 1e-9}
    laws = [law for law in candidates(group.factors) if too_few(law, small) is None]
    if not laws or len(able) < 2:
        return Blend()
    joint = Joint(tuple(_fitted(law, small, held) for law in laws))
    pool = Pool([curve.until(cut) for curve in able.values()])
    own, family = [], []
    for index, (key, curve) in enumerate(able.items()):
        ahead = curve.x > cut + 1e-9
        path = pool.forecast(index, curve.x[ahead])
        own.append(curve.log_y[ahead] - path)
        end = pool.curves[index].x[-1]
        family.append(curve.log_y[ahead] - anchored(joint, key, curve.x[ahead], end, pool.end_level(index)))
    one, two = np.concatenate(own), np.concatenate(family)
    mse = [float(np.mean(e**2)) + pool.width.noise**2 for e in (one, two)]
    weight = mse[0] ** 2 / (mse[0] ** 2 + mse[1] ** 2)
    mixed = float(np.mean(((1 - weight) * one + weight * two) ** 2)) + pool.width.noise**2
    return Blend(weight, min(1.0, max(0.5, float(np.sqrt(mixed / mse[0])))))


def anchored(joint: Joint, key: Key, x: Array, end: float, level: float) -> Array:
    """The family's law at log examples ``x``, shifted to pass through a curve's last level."""
    at = np.append(x, end)
    law = joint.log_loss(_factors(key, at))
    return np.asarray(level + law[:-1] - law[-1])


def nearest(keys: list[Key], wanted: Key) -> int:
    """Index of the base whose factors are nearest in log distance."""
    distance = [float(np.sum(np.square(np.log(key) - np.log(wanted)))) for key in keys]
    return int(np.argmin(distance))


def key_columns(frame: pd.DataFrame, factors: tuple[str, ...]) -> list[Key]:
    """The factors other than ``examples`` of every row."""
    return [tuple(map(float, row)) for row in frame[list(factors[:-1])].to_numpy(dtype=float)]
