"""Forecasts for a base nobody has finetuned: joint laws over the family, half anchored to the nearest base's own curve.

A joint law knows how the family scales but not a base's quirks; the nearest base's curve knows how the task goes on but
not what another size changes. Each law forecasts twice, alone and as a shift from the nearest curve, and all of these
are averaged. Leaving out every base in turn says how wide the interval for a new base must be.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from finescale.stats.auto import Pool, end_level
from finescale.stats.groups import Cell, Group, log_factors, solve
from finescale.stats.laws import ADDITIVE, MULTIPLICATIVE, PRODUCT, RECTIFIED_MULTIPLICATIVE, Array, Law
from finescale.stats.local import NOISE, Curve
from finescale.stats.status import too_few

Key = tuple[float, ...]
# Degrees of freedom and size of a new base's deviation before any base has been left out.
_PRIOR_BASES, _PRIOR_DEVIATION = 2.0, 0.06


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
    """Joint laws fitted to a family and the deviation of a base they have not seen (standard deviation of log loss)."""

    laws: tuple[FittedLaw, ...]
    deviation: float
    freedom: float

    def log_loss(self, z: Array) -> Array:
        """Mean over the laws of log loss (N,) at log-factors ``z`` (N, K)."""
        return np.asarray(np.mean([one.log_loss(z) for one in self.laws], axis=0))


def candidates(factors: tuple[str, ...]) -> tuple[Law, ...]:
    """Joint laws for these factors (``examples`` last)."""
    if len(factors) == 2:
        return MULTIPLICATIVE, ADDITIVE, RECTIFIED_MULTIPLICATIVE
    return PRODUCT, RECTIFIED_MULTIPLICATIVE


def fit_joint(group: Group) -> Joint | None:
    """Fit the joint laws that the family can carry; None if it can carry none."""
    if len(group.factors) < 2:
        return None
    laws = [law for law in candidates(group.factors) if too_few(law, group) is None]
    if not laws:
        return None
    return Joint(tuple(_fitted(law, group) for law in laws), *_left_out(group, laws))


def _fitted(law: Law, group: Group) -> FittedLaw:
    point = solve(Cell(law, [group]), keep=2)
    return FittedLaw(law, point.theta, point.coef)


def _left_out(group: Group, laws: list[Law]) -> tuple[float, float]:
    """Typical error of the mean over laws for a base left out, and its degrees of freedom."""
    others = list(group.factors[:-1])
    misses = []
    size = group.frame[others]
    # A base between others is interpolated; only those at an end tell how far off an unseen one may be.
    ends = group.frame[((size == size.min()) | (size == size.max())).any(axis=1)]
    for _, part in ends.groupby(others):
        rest = group.frame.drop(part.index)
        small = Group(group.key, group.factors, rest, rest.iloc[:0], group.y_name)
        if rest[others].drop_duplicates().shape[0] < 2 or any(too_few(law, small) for law in laws):
            continue
        z = log_factors(part, group.factors)
        said = [_fitted(law, small).log_loss(z) for law in laws]
        misses.append(float(np.mean(np.log(part[group.y_name]) - np.mean(said, axis=0))))
    total = float(np.sum(np.square(misses))) + _PRIOR_BASES * _PRIOR_DEVIATION**2
    freedom = len(misses) + _PRIOR_BASES
    return max(float(np.sqrt(total / freedom)), NOISE / 2), freedom


@dataclass(frozen=True)
class Blend:
    """How much of a seen base's continuation is the family's law (0 to 1), and how the error shrinks by it."""

    weight: float = 0.0
    shrink: float = 1.0


def blend(group: Group, curves: dict[Key, Curve]) -> Blend:
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
    joint = Joint(tuple(_fitted(law, small) for law in laws), 0.0, 0.0)
    pool = Pool([curve.until(cut) for curve in able.values()])
    own, family = [], []
    for index, (key, curve) in enumerate(able.items()):
        ahead = curve.x > cut + 1e-9
        path = pool.forecast(index, curve.x[ahead])
        own.append(curve.log_y[ahead] - path)
        end = pool.curves[index].x[-1]
        family.append(curve.log_y[ahead] - anchored(joint, key, curve.x[ahead], end, end_level(pool.curves[index])))
    one, two = np.concatenate(own), np.concatenate(family)
    mse = [float(np.mean(e**2)) + pool.learnt.noise**2 for e in (one, two)]
    weight = mse[0] ** 2 / (mse[0] ** 2 + mse[1] ** 2)
    mixed = float(np.mean(((1 - weight) * one + weight * two) ** 2)) + pool.learnt.noise**2
    return Blend(weight, min(1.0, max(0.5, float(np.sqrt(mixed / mse[0])))))


def anchored(joint: Joint, key: Key, x: Array, end: float, level: float) -> Array:
    """The family's law at log examples ``x``, shifted to pass through a curve's last level."""
    at = np.append(x, end)
    law = joint.log_loss(np.column_stack([np.tile(np.log(key), (len(at), 1)), at]))
    return np.asarray(level + law[:-1] - law[-1])


def nearest(keys: list[Key], wanted: Key) -> int:
    """Index of the base whose factors are nearest in log distance."""
    distance = [float(np.sum(np.square(np.log(key) - np.log(wanted)))) for key in keys]
    return int(np.argmin(distance))


def key_columns(frame: pd.DataFrame, factors: tuple[str, ...]) -> list[Key]:
    """The factors other than ``examples`` of every row."""
    return [tuple(map(float, row)) for row in frame[list(factors[:-1])].to_numpy(dtype=float)]
