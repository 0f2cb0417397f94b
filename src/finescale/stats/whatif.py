"""What-if forecasts: a fit's draws, as few as a page can carry, with each candidate's noise drawn once.

A forecast of a run draws its noise anew for every number of examples. A page has only the draws that came with it: here
each candidate's departure from its curve (what its base and the run's noise add to log loss) is drawn once, at the size
that was asked first, and goes along with the curve to every other size. At that size a what-if forecast is the forecast
itself; at every other one it is another draw of the same noise. Curves have no noise and are the fit's own everywhere.
Draws are rounded to single precision, in which a page carries them: 1e-7 of each, far below any digit that is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from finescale.stats.auto_fit import AutoFit
from finescale.stats.fits import Fits, GroupFit, Kind
from finescale.stats.groups import Codes
from finescale.stats.laws import Array


@dataclass
class WhatIf(Fits):
    """Fits that forecast from shipped draws; ``finescale.stats.advise.advise`` and crossings take them as they are.

    Attributes:
        take: which of the fit's draws are used (B,).
        asked: the candidates, one row each, with ``examples`` as asked first.
        departures: log loss less that of its curve, for each row of ``asked`` (B, rows); NaN where nothing was fitted.
        fresh: the same for a base nobody ran, one column a group (B, groups).
    """

    take: Codes = field(default_factory=lambda: np.zeros(0, dtype=int))
    asked: pd.DataFrame = field(default_factory=pd.DataFrame)
    departures: Array = field(default_factory=lambda: np.zeros((0, 0)))
    fresh: Array = field(default_factory=lambda: np.zeros((0, 0)))

    def _drawn(self, frame: pd.DataFrame, where: Array, kind: Kind) -> Array:
        curve = super()._drawn(frame, where, "curve")[self.take]
        if kind == "curve":
            return curve
        columns = [self._departure(index, row) for index, (_, row) in zip(where, frame.iterrows(), strict=True)]
        return np.asarray(curve * np.exp(np.column_stack(columns)))

    def _departure(self, index: int, row: pd.Series) -> Array:
        for at, (_, known) in enumerate(self.asked.iterrows()):
            if _same(self.groups[index], row, known):
                return np.asarray(self.departures[:, at])
        return np.asarray(self.fresh[:, index])


def what_if(fits: Fits, candidates: pd.DataFrame, most: int) -> WhatIf:
    """Fits that forecast as a page can.

    Args:
        fits: named laws or ``auto``.
        candidates: one row per candidate, as ``finescale.stats.advise.advise`` takes them.
        most: draws that are kept; they are taken evenly.
    """
    B = max((len(fit.run) for fit in fits.groups), default=0)
    take = np.unique(np.linspace(0, max(B - 1, 0), min(B, most)).round().astype(int))
    asked = candidates.reset_index(drop=True)
    departures = np.full((len(take), len(asked)), np.nan)
    for at in range(len(asked)):
        fit = group_of(fits, asked.iloc[at])
        if fit is not None and fit.fitted:
            departures[:, at] = _departure_of(fit, asked.iloc[[at]], fits.seed)[take]
    fresh = np.full((len(take), len(fits.groups)), np.nan)
    for index, fit in enumerate(fits.groups):
        if fit.fitted and len(asked):
            fresh[:, index] = _departure_of(fit, _middle(fit, asked), fits.seed)[take]
    known: dict[str, Any] = {one.name: getattr(fits, one.name) for one in fields(Fits)}
    known["groups"] = [_carried(fit) for fit in fits.groups]
    return WhatIf(**known, take=take, asked=asked, departures=single(departures), fresh=single(fresh))


def single(values: Array) -> Array:
    """Values rounded to single precision; as they are where one is too large or too small for it."""
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32).astype(float)
    held = np.isclose(rounded, values, rtol=1e-7, atol=0, equal_nan=True)
    return rounded if held.all() else values


def _carried(fit: GroupFit) -> GroupFit:
    """A group's fit with its draws rounded."""
    members = [
        replace(one, draws_theta=single(one.draws_theta), draws_coef=single(one.draws_coef), weight=single(one.weight))
        for one in fit.members
    ]
    if isinstance(fit, AutoFit):
        return replace(fit, members=members, strain=single(fit.strain), unit=single(fit.unit))
    return replace(fit, members=members, strain=single(fit.strain))


def group_of(fits: Fits, row: pd.Series) -> GroupFit | None:
    """The group a candidate belongs to; None if there is none."""
    return next((fit for fit in fits.groups if all(fit.group.key[name] == row[name] for name in fits.by)), None)


def _departure_of(fit: GroupFit, row: pd.DataFrame, seed: int) -> Array:
    return np.asarray((fit.log_draws(row, "run", seed) - fit.log_draws(row, "curve", seed))[:, 0])


def _middle(fit: GroupFit, asked: pd.DataFrame) -> pd.DataFrame:
    """A base in the middle of what was seen, without a name."""
    middle = {name: float(np.sqrt(low * high)) for name, (low, high) in fit.group.support.items()}
    return pd.DataFrame([{**middle, "examples": float(asked["examples"].max())}])


def _same(fit: GroupFit, row: pd.Series, known: pd.Series) -> bool:
    """Whether a row is this candidate of a group, whatever its number of examples."""
    names = [*fit.group.key, *fit.group.factors[:-1], *(name for name in ("base", "pretrain_tokens") if name in known)]
    return all(name in row and (row[name] == known[name] or pd.isna([row[name], known[name]]).all()) for name in names)
