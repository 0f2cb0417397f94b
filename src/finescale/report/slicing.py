"""Slices of the runs along every factor but the examples: what makes a panel, and the law along it.

A *slice* holds everything fixed but one factor. Its series are methods (their PET sizes together, where the PET size is
the factor), its panel a number of examples; what else varies in the study is a choice of the reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from finescale.report import numbers

if TYPE_CHECKING:
    from finescale.stats.fits import Fits, GroupFit

WORDS = {
    "model_params": "Model parameters without embeddings",
    "pretrain_tokens": "Pretraining tokens",
    "pet_params": "Trained parameters (PET size)",
}
SHORT = {"model_params": "model size", "pretrain_tokens": "pretraining tokens", "pet_params": "PET size"}
FIXED = {"model_params": "pretrain_tokens", "pretrain_tokens": "model_params", "pet_params": "base_label"}
"""What besides examples and method is held fixed along a factor, and chosen by the reader where it varies."""
POINTS = 24
CURVE = ["series", "x", "median", "low", "high", "law"]
MOST_PANELS, MOST_FIXED = 6, 8


@dataclass(frozen=True)
class Slice:
    """Runs that differ in one factor (and in seed), and the law along it.

    Attributes:
        factor: the factor that varies.
        fixed: what is held fixed besides, in words; empty where it is the same for the whole task.
        examples: the number of examples, the same for all.
        runs: the runs, rows of ``Plotted.points``, with ``series``.
        curves: ``series, x, median, low, high`` in the unit of the losses, and ``law``: whether the fit has a law of
            this factor. If it has none, each level is forecast by the fit of its own curve.
    """

    task: str
    factor: str
    fixed: str
    examples: float
    runs: pd.DataFrame
    curves: pd.DataFrame


def slices(fits: Fits, points: pd.DataFrame, level: float) -> list[Slice]:
    """Every panel that is shown, in order: by task, factor, what is held fixed, and number of examples.

    Args:
        fits: the law, whose draws make the curves.
        points: the runs with ``method_label`` and ``base_label``.
        level: coverage of the bands.
    """
    tasks = dict.fromkeys(points["task"])
    found = [one for task in tasks for factor in WORDS for one in _of_factor(points, task, factor)]
    grids = [_grid(fits, one).assign(at=place) for place, one in enumerate(found)]
    asked = pd.concat(grids, ignore_index=True) if grids else pd.DataFrame()
    if not len(asked):
        return found
    asked = asked[fits.answers(asked)].reset_index(drop=True)
    curves = asked[["at", "series", "x", "law"]].join(fits.forecast(asked, level=level, kind="curve"))
    return [replace(one, curves=curves.loc[curves["at"] == place, CURVE]) for place, one in enumerate(found)]


def _of_factor(points: pd.DataFrame, task: str, factor: str) -> Iterator[Slice]:
    """Slices along a factor, without their curves: those in which some series has at least two levels."""
    known = pd.to_numeric(points[factor], errors="coerce") > 0
    own = points[(points["task"] == task) & known]
    own = own.assign(series=_series(own, factor), fixed=_fixed(own, factor))
    told = own[own["flag"] == ""].groupby(["fixed", "examples", "series"])[factor].nunique()
    able = told[told > 1].reset_index()[["fixed", "examples"]].drop_duplicates()
    for fixed in _picked(_in_order(own, set(able["fixed"])), MOST_FIXED):
        sizes = sorted(able.loc[able["fixed"] == fixed, "examples"])
        for size in _picked(sizes, MOST_PANELS):
            runs = own[(own["fixed"] == fixed) & (own["examples"] == size)]
            if factor != "pet_params":  # along it, a method of one size is what the others are held against
                runs = runs[runs.groupby("series")[factor].transform("nunique") > 1]
            yield Slice(task, factor, fixed, float(size), runs, pd.DataFrame(columns=CURVE))


def _series(own: pd.DataFrame, factor: str) -> pd.Series[Any]:
    """The method as it is labelled; along the PET size the method without its size."""
    if factor != "pet_params" or "pet_size" not in own:
        return own["method_label"].astype(object)
    bare = [_without(str(name), size) for name, size in zip(own["method"], own["pet_size"], strict=True)]
    return pd.Series(bare, index=own.index, dtype=object)


def _without(method: str, size: Any) -> str:
    return method.removesuffix(f"-{size:g}").removesuffix(f"{size:g}") if numbers.known(size) else method


def _fixed(own: pd.DataFrame, factor: str) -> pd.Series[Any]:
    """What is held fixed besides examples and method, in words; empty where it does not vary."""
    name = FIXED[factor]
    if own[name].nunique(dropna=False) < 2:
        return pd.Series("", index=own.index, dtype=object)
    if name == "base_label":
        return own[name].map(lambda base: f"base {base}").astype(object)
    return own[name].map(lambda value: f"{numbers.short(value, 4)} {_unit(name)}").astype(object)


def _unit(name: str) -> str:
    return "pretraining tokens" if name == "pretrain_tokens" else "model parameters"


def _in_order(own: pd.DataFrame, able: set[str]) -> list[str]:
    """What may be held fixed, from the smallest to the largest."""
    ordered = own.sort_values(["model_params", "pretrain_tokens"], kind="stable")
    return [fixed for fixed in dict.fromkeys(ordered["fixed"]) if fixed in able]


def _picked(values: list[Any], most: int) -> list[Any]:
    """At most so many values, evenly picked, the first and the last among them."""
    if len(values) <= most:
        return values
    return [values[at] for at in np.unique(np.linspace(0, len(values) - 1, most).round().astype(int))]


# ---------------------------------------------------------------------------------------------------------- the curves


def _grid(fits: Fits, one: Slice) -> pd.DataFrame:
    """The rows at which the law is asked along a slice: a grid where there is a law of the factor, else each level."""
    parts = []
    fitted = {tuple(fit.group.key[name] for name in fits.by): fit for fit in fits.groups if fit.fitted}
    span = one.runs[one.factor].min(), one.runs[one.factor].max()
    for series, runs in one.runs.groupby("series", sort=False):
        levels = runs.drop_duplicates(one.factor).sort_values(one.factor)
        first = fitted.get(_key(fits, levels.iloc[0]))
        if first is not None and len(levels) > 1 and _has_law(fits, first, one.factor):
            x = np.geomspace(*span, POINTS)
            rows = levels.iloc[np.zeros(POINTS, dtype=int)].assign(**{one.factor: x})
            rows["base"] = "between the bases"
            parts.append(rows.assign(series=series, x=x, law=True))
        else:
            known = [_key(fits, row) in fitted for _, row in levels.iterrows()]
            rows = levels[known]
            parts.append(rows.assign(series=series, x=rows[one.factor].astype(float), law=False))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _key(fits: Fits, row: pd.Series[Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in fits.by)


def _has_law(fits: Fits, fit: GroupFit, factor: str) -> bool:
    return factor in fit.group.factors and factor not in fits.by and "base" not in fits.by
