"""What the figures plot, as tables: points, fitted curves with bands, and the untouched bases.

Page and paper figures draw the same tables, and the CSV beside each figure is one of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from finescale.report.numbers import short
from finescale.report.slicing import Slice, slices
from finescale.stats.checks import fitted_losses

if TYPE_CHECKING:
    from finescale.study.analyse import Analysis

CONSTANT = ["task", "method", "base", "family", "model_params", "pretrain_tokens", "pet_params"]
SERIES = ["task", "method_label", "base_label"]
DRAWN = ["examples", "median", "low", "high", "reach"]
CURVE_POINTS = 48
MOST_TICKS = 6
MOST_DOTS = 1000


@dataclass(frozen=True)
class Scale:
    """Common axes of a task's panels: ranges of examples and loss, and the sizes that get a tick."""

    examples: tuple[float, float]
    loss: tuple[float, float]
    ticks: list[int]


@dataclass(frozen=True)
class Plotted:
    """Tables behind the figures.

    Attributes:
        points: one row per run: all columns of the table of runs, ``method_label``, ``base_label``,
            ``held_out``, ``drawn`` (whether the page has a dot for it), ``fitted_loss`` (of the curve without what was
            held out) and ``residual`` (share of it by which the loss lies above).
        curves: per series a grid of ``examples`` with ``median``, ``low``, ``high`` (in ``unit``), ``reach``.
        untouched: ``zero_loss`` per ``task`` and ``base_label``.
        methods: labels in the order of their appearance.
        bases: labels from the smallest base to the largest.
        slices: panels along every other factor that varies, with their curves.
        level: coverage the bands claim.
        unit: of the losses; empty where it is not known.
    """

    points: pd.DataFrame
    curves: pd.DataFrame
    untouched: pd.DataFrame
    methods: list[str]
    bases: list[str]
    slices: list[Slice]
    level: float
    unit: str

    def tasks(self) -> list[str]:
        """Tasks in the order of their appearance."""
        return list(dict.fromkeys(self.points["task"]))

    def of_task(self, task: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Points, curves and untouched bases of one task."""
        points, curves, untouched = (
            table[table["task"] == task] for table in (self.points, self.curves, self.untouched)
        )
        return points, curves, untouched

    def scale(self, task: str) -> Scale:
        """Axes that hold every run that learned; flagged ones may stand far above and do not stretch them."""
        points, curves, untouched = self.of_task(task)
        learned = points.loc[points["flag"] == "", "loss"]
        seen = pd.concat([learned, curves["median"], untouched["zero_loss"]])
        pad = 0.06 * (seen.max() - seen.min() or 1.0)
        sizes = sorted({int(size) for size in points["examples"]})
        margin = max((sizes[-1] / sizes[0]) ** 0.07, 1.1)
        ticks = sizes[:: -math.ceil(len(sizes) / MOST_TICKS)][::-1]
        return Scale((sizes[0] / margin, sizes[-1] * margin), (seen.min() - pad, seen.max() + pad), ticks)


def plotted(analysis: Analysis, level: float = 0.9) -> Plotted:
    """The tables behind the figures of ``analysis``; bands claim to hold ``level`` of repetitions of the curve."""
    points = analysis.runs.reset_index(drop=True)
    points = points.assign(
        method_label=method_labels(points),
        base_label=_base_labels(points),
        held_out=points["run"].isin(set(analysis.fits.held_out(level).get("run", []))),
        drawn=_drawn(points["task"]),
        fitted_loss=fitted_losses(analysis.fits, points),
    )
    points["residual"] = (points["loss"] / points["fitted_loss"] - 1).where(points["flag"] == "")
    ordered = points.sort_values(["model_params", "pretrain_tokens"], kind="stable")
    return Plotted(
        points=points,
        curves=_curves(analysis, points, level),
        untouched=_untouched(points),
        methods=list(dict.fromkeys(points["method_label"])),
        bases=list(dict.fromkeys(ordered["base_label"])),
        slices=slices(analysis.fits, points, level),
        level=level,
        unit=analysis.unit,
    )


def _drawn(tasks: pd.Series[Any]) -> pd.Series[bool]:
    """Every run of a task, or every so many of them where a browser would be slow to draw them all."""
    place = tasks.groupby(tasks).cumcount()
    every = tasks.groupby(tasks).transform("size").floordiv(MOST_DOTS + 1) + 1
    return (place % every) == 0


def method_labels(runs: pd.DataFrame) -> list[str]:
    """The method's name, with its PET size where the table has more than one."""
    if "pet_size" not in runs:
        return [str(method) for method in runs["method"]]
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


def _curves(analysis: Analysis, points: pd.DataFrame, level: float) -> pd.DataFrame:
    """Forecasts of every series' curve over the range of examples of its task, for groups that could be fitted."""
    fits = analysis.fits
    fitted = {tuple(fit.group.key[name] for name in fits.by) for fit in fits.groups if fit.fitted}
    grids = [
        _grid(points, rows)
        for _, rows in points.groupby(SERIES, sort=False)
        if tuple(rows[name].iloc[0] for name in fits.by) in fitted
    ]
    if not grids:
        return pd.DataFrame(columns=[*CONSTANT, *SERIES[1:]]).assign(**{name: pd.Series(dtype=float) for name in DRAWN})
    grid = pd.concat(grids, ignore_index=True)
    forecast = analysis.fits.forecast(grid, level=level, kind="curve")
    return grid.join(forecast)


def _grid(points: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    examples = points.loc[points["task"] == rows["task"].iloc[0], "examples"]
    grid = np.geomspace(examples.min(), examples.max(), CURVE_POINTS)
    first = rows.iloc[0]
    return pd.DataFrame({name: first[name] for name in [*CONSTANT, *SERIES[1:]]} | {"examples": grid})


def _untouched(points: pd.DataFrame) -> pd.DataFrame:
    known = points.dropna(subset=["zero_loss"])
    return known.groupby(["task", "base_label"], sort=False)["zero_loss"].median().reset_index()
