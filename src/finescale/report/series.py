"""What the figures plot, as tables: points, fitted curves with bands, and the untouched bases.

Page and paper figures draw the same tables, and the CSV beside each figure is one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from finescale.report.numbers import short

if TYPE_CHECKING:
    from finescale.study.analyse import Analysis

SERIES = ["task", "method_label", "base_label"]
CURVE_POINTS = 48


@dataclass(frozen=True)
class Plotted:
    """Tables behind the figures.

    Attributes:
        points: one row per run: all columns of the table of runs, ``method_label``, ``base_label`` and ``held_out``.
        curves: per series a grid of ``examples`` with ``median``, ``low``, ``high`` (nats per token), ``reach``.
        untouched: ``zero_loss`` per ``task`` and ``base_label``.
        methods: labels in the order of their appearance.
        bases: labels from the smallest base to the largest.
        level: coverage the bands claim.
    """

    points: pd.DataFrame
    curves: pd.DataFrame
    untouched: pd.DataFrame
    methods: list[str]
    bases: list[str]
    level: float

    def tasks(self) -> list[str]:
        """Tasks in the order of their appearance."""
        return list(dict.fromkeys(self.points["task"]))


def plotted(analysis: Analysis, level: float = 0.9) -> Plotted:
    """The tables behind the figures of ``analysis``; bands claim to hold ``level`` of repetitions of the curve."""
    points = analysis.runs.reset_index(drop=True)
    points = points.assign(
        method_label=_method_labels(points),
        base_label=_base_labels(points),
        held_out=_held_out(points, analysis.fits.held_out()),
    )
    ordered = points.sort_values(["model_params", "pretrain_tokens"], kind="stable")
    return Plotted(
        points=points,
        curves=_curves(analysis, points, level),
        untouched=_untouched(points),
        methods=list(dict.fromkeys(points["method_label"])),
        bases=list(dict.fromkeys(ordered["base_label"])),
        level=level,
    )


def _method_labels(runs: pd.DataFrame) -> list[str]:
    """The method's name, with its PET size where the study has more than one."""
    several = runs.groupby("method")["pet_size"].transform("nunique") > 1
    return [
        f"{method} {size:g}" if many else str(method)
        for method, size, many in zip(runs["method"], runs["pet_size"], several, strict=True)
    ]


def _base_labels(runs: pd.DataFrame) -> list[str]:
    """The base's name; where one name stands for several bases, with what tells them apart."""
    several = runs.groupby("base")["pretrain_tokens"].transform("nunique") > 1
    return [
        f"{base}, {short(tokens)} tokens" if many else str(base)
        for base, tokens, many in zip(runs["base"], runs["pretrain_tokens"], several, strict=True)
    ]


def _held_out(runs: pd.DataFrame, held_out: pd.DataFrame) -> list[bool]:
    """Which runs the fit never saw, by the columns both tables share."""
    shared = [name for name in (*_IDENTITY, "observed") if name in held_out]
    keys = set(held_out[shared].itertuples(index=False, name=None)) if len(held_out) else set()
    own = runs.rename(columns={"loss": "observed"})[shared] if shared else runs.iloc[:, :0]
    return [key in keys for key in own.itertuples(index=False, name=None)] if keys else [False] * len(runs)


_IDENTITY = ("task", "method", "base", "model_params", "pretrain_tokens", "pet_params", "examples", "seed")


def _curves(analysis: Analysis, points: pd.DataFrame, level: float) -> pd.DataFrame:
    """Forecasts of every series' curve over the range of examples of its task."""
    grids = [_grid(points, rows) for _, rows in points.groupby(SERIES, sort=False)]
    grid = pd.concat(grids, ignore_index=True)
    forecast = analysis.fits.forecast(grid, level=level, kind="curve")
    told: Sequence[str] = ["median", "low", "high", "reach"]
    joined = grid.assign(**{name: forecast[name].to_numpy() for name in told})
    return joined.dropna(subset=["median"]).reset_index(drop=True)


def _grid(points: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    examples = points.loc[points["task"] == rows["task"].iloc[0], "examples"]
    grid = np.geomspace(examples.min(), examples.max(), CURVE_POINTS)
    constant = ["task", "method", "base", "family", "model_params", "pretrain_tokens", "pet_params"]
    first = rows.iloc[0]
    return pd.DataFrame({name: first[name] for name in [*constant, *SERIES[1:]]}, index=range(len(grid))).assign(examples=grid)


def _untouched(points: pd.DataFrame) -> pd.DataFrame:
    known = points.dropna(subset=["zero_loss"])
    return known.groupby(["task", "base_label"], sort=False)["zero_loss"].median().reset_index()
