"""Figures for papers: each as PNG, SVG and PDF, with the plotted numbers as CSV beside it."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from finescale.report import looks
from finescale.report.along_figures import loss_along
from finescale.report.beyond_figures import cost_figure, kept_figure, pet_figure, quality_against_loss
from finescale.report.checks_figures import calibration_figure, residuals
from finescale.report.drawing import (
    DASHES,
    INK,
    MARKERS,
    SOFT,
    Drawing,
    legend,
    log_axes,
    named,
    scatter,
    titled,
    write,
)
from finescale.report.law_figures import correlations_figure, parameters
from finescale.report.looks import Look
from finescale.report.numbers import known, short, with_unit
from finescale.report.series import Plotted, Scale, plotted
from finescale.report.versus_figures import critical_size_map
from finescale.report.what_if_figures import what_if_figure
from finescale.stats.checks import calibration

if TYPE_CHECKING:
    from finescale.study.analyse import Analysis

PANELS_PER_ROW = 4
COLUMNS = [
    *("kind", "task", "method", "base", "examples", "loss", "median", "low", "high"),
    *("seed", "run", "flag", "held_out"),
]


def figures(analysis: Analysis, folder: Path) -> list[Path]:
    """Write every figure of ``analysis`` into ``folder``; returns the files written."""
    return write(drawings(analysis, plotted(analysis)), folder)


def drawings(analysis: Analysis, shown: Plotted) -> list[Drawing]:
    """Every figure that the analysis has, in the order of the page's sections."""
    return [
        *what_if_figure(analysis),
        *loss_against_examples(shown),
        *loss_along(shown),
        *parameters(analysis.final, shown.level),
        *correlations_figure(analysis.final),
        *residuals(shown),
        *calibration_figure(calibration(analysis.fits)),
        *critical_size_map(analysis.maps),
        *quality_against_loss(shown),
        *kept_figure(analysis, shown.level),
        *pet_figure(analysis, shown.level),
        *cost_figure(analysis),
    ]


def loss_against_examples(shown: Plotted) -> list[Drawing]:
    """Loss against examples, one panel per base, one colour per method; one figure per task.

    ``loss-against-examples`` (with ``-2-TASK`` for a second task). The CSV has one
    row per thing plotted: ``kind`` is ``run`` (``loss``), ``curve`` (``median``, ``low``, ``high``) or ``untouched``
    (``loss`` of the base before any finetuning), all in the unit of the runs.
    """
    return [
        Drawing(
            "loss",
            named("loss-against-examples", place, task),
            partial(numbers_behind, shown, task),
            partial(draw, shown, task),
        )
        for place, task in enumerate(shown.tasks())
    ]


def numbers_behind(shown: Plotted, task: str) -> pd.DataFrame:
    """Everything the figure of ``task`` plots, in one table."""
    parts = [
        _part(shown.points, task, "run"),
        _part(shown.curves, task, "curve"),
        _part(shown.untouched.rename(columns={"zero_loss": "loss"}), task, "untouched"),
    ]
    return pd.concat(parts, ignore_index=True).reindex(columns=COLUMNS)


def _part(table: pd.DataFrame, task: str, kind: str) -> pd.DataFrame:
    labels = {"method_label": "method", "base_label": "base"}
    own = table[table["task"] == task].drop(columns=["method", "base"], errors="ignore")
    return own.rename(columns=labels).assign(kind=kind)


def draw(shown: Plotted, task: str) -> Figure:
    """The figure of ``task``: runs as marks, the law as lines, its band as shade, the untouched base dashed."""
    points, _, untouched = shown.of_task(task)
    bases = [base for base in shown.bases if (points["base_label"] == base).any()]
    styles = looks.of_kinds(shown.methods)
    columns = min(PANELS_PER_ROW, len(bases))
    rows = math.ceil(len(bases) / columns)
    drawing = Figure(figsize=(1.1 + 2.25 * columns, 0.75 + 2.35 * rows), layout="constrained")
    grid = drawing.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, base in zip(grid, bases, strict=False):
        _panel(axes, shown, task, base, styles)
    for axes in grid[len(bases) :]:
        axes.set_visible(False)
    _axes(grid[0], shown.scale(task))
    drawing.supxlabel("finetuning examples", fontsize=9, color=INK)
    drawing.supylabel(with_unit("test loss", shown.unit), fontsize=9, color=INK)
    legend(drawing, _handles(styles, points, len(untouched) > 0))
    # The layout is worked out once, not again for each file format.
    drawing.draw_without_rendering()
    drawing.set_layout_engine("none")
    return drawing


def _panel(axes: Axes, shown: Plotted, task: str, base: str, styles: dict[str, Look]) -> None:
    points, curves, untouched = (table[table["base_label"] == base] for table in shown.of_task(task))
    for loss in untouched["zero_loss"]:
        axes.axhline(loss, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)))
    for method, look in styles.items():
        curve = curves[curves["method_label"] == method]
        axes.fill_between(curve["examples"], curve["low"], curve["high"], color=look.light, alpha=0.16, linewidth=0)
        axes.plot(curve["examples"], curve["median"], color=look.light, linewidth=1.3, linestyle=DASHES[look.dash])
        scatter(axes, points[points["method_label"] == method], look, shown.scale(task).loss[1])
    size = points["model_params"].iloc[0]
    titled(axes, f"{base} ({short(size)} parameters)" if known(size) else base)


def _axes(axes: Axes, scale: Scale) -> None:
    """Log examples with ticks at sizes really used."""
    log_axes(axes, scale.examples, list(scale.ticks), scale.loss)


def _handles(styles: dict[str, Look], points: pd.DataFrame, untouched: bool) -> list[Line2D]:
    handles = [
        Line2D([], [], color=look.light, linestyle=DASHES[look.dash], marker=MARKERS[look.symbol], ms=4.5, label=method)
        for method, look in styles.items()
    ]
    if points["held_out"].any():
        handles.append(_mark(INK, SOFT, "held out of the fit"))
    if (points["flag"] != "").any():
        handles.append(_mark(SOFT, "none", "flagged, not fitted"))
    if untouched:
        handles.append(Line2D([], [], color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)), label="base untouched"))
    return handles


def _mark(edge: str, face: str, label: str) -> Line2D:
    return Line2D([], [], linestyle="", marker="o", ms=5, markeredgecolor=edge, markerfacecolor=face, label=label)
