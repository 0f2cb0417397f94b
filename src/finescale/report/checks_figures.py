"""Residuals and calibration for papers, each figure with its CSV."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from finescale.report import looks
from finescale.report.checks import WORDS, factors_of, fitted_points
from finescale.report.drawing import INK, MARKERS, SOFT, Drawing, at, legend, named
from finescale.report.looks import Look
from finescale.report.numbers import ticks
from finescale.report.series import Plotted

BESIDE = 0.035
COLUMNS = [
    *("task", "method_label", "base_label", "model_params", "pretrain_tokens", "pet_params", "examples", "seed", "run"),
    *("loss", "fitted_loss", "residual", "held_out"),
]


def residuals(shown: Plotted) -> list[Drawing]:
    """Residuals against each factor that varies, one figure per task; nothing where nothing was fitted.

    ``residuals`` (with ``-2-TASK`` for a second task); the CSV has a row per run, with
    ``residual`` as a share of ``fitted_loss``.
    """
    points = fitted_points(shown)
    parts = [(place, task, points[points["task"] == task]) for place, task in enumerate(shown.tasks())]
    return [
        Drawing(
            "residuals",
            named("residuals", place, task),
            partial(own.reindex, columns=COLUMNS),
            partial(draw_residuals, own, shown.methods),
        )
        for place, task, own in parts
        if len(own)
    ]


def draw_residuals(own: pd.DataFrame, methods: list[str]) -> Figure:
    """A panel per factor; methods side by side."""
    names = factors_of(own) or ["examples"]
    styles = {name: look for name, look in looks.of_kinds(methods).items() if (own["method_label"] == name).any()}
    drawing = Figure(figsize=(1.0 + 2.7 * len(names), 2.7), layout="constrained")
    for axes, name in zip(drawing.subplots(1, len(names), sharey=True, squeeze=False).ravel(), names, strict=True):
        _panel(axes, own, name, styles)
    drawing.supylabel("observed less fitted loss, %", fontsize=9, color=INK)
    handles = [
        Line2D([], [], linestyle="", marker=MARKERS[look.symbol], color=look.light, ms=4.5, label=name)
        for name, look in styles.items()
    ]
    if own["held_out"].any():
        ring = Line2D([], [], linestyle="", marker="o", ms=5, markeredgecolor=INK, markerfacecolor=SOFT)
        ring.set_label("held out of the fit")
        handles.append(ring)
    legend(drawing, handles)
    return drawing


def _panel(axes: Axes, own: pd.DataFrame, name: str, styles: dict[str, Look]) -> None:
    values = own[name].astype(float)
    wide = max(values.max() / values.min(), 1.5)
    for place, (method, look) in enumerate(styles.items()):
        mine = own[own["method_label"] == method]
        x = mine[name].astype(float) * wide ** (BESIDE * (place - (len(styles) - 1) / 2))
        edge = np.where(mine["held_out"], INK, look.light)
        axes.scatter(x, 100 * mine["residual"], 13, look.light, marker=MARKERS[look.symbol], edgecolor=edge, zorder=3)
    axes.axhline(0, color=SOFT, linewidth=0.9)
    axes.set(xscale="log", xlabel=WORDS[name].lower())
    levels = sorted(set(values))
    at(axes.xaxis, levels if len(levels) <= 5 else ticks(values.min(), values.max(), 5))


def calibration_figure(tested: pd.DataFrame) -> list[Drawing]:
    """Nominal against actual coverage of held-out runs, as ``calibration``; nothing if none was held out.

    Args:
        tested: ``finescale.stats.checks.calibration``.
    """
    return [Drawing("held-out", "calibration", lambda: tested, partial(_calibration, tested))] if len(tested) else []


def _calibration(tested: pd.DataFrame) -> Figure:
    drawing = Figure(figsize=(3.2, 3.0), layout="constrained")
    axes = drawing.subplots()
    level = 100 * tested["level"]
    axes.fill_between(level, 100 * tested["low"], 100 * tested["high"], color=SOFT, alpha=0.2, linewidth=0)
    axes.plot([0, 100], [0, 100], color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.plot(level, 100 * tested["actual"], color=looks.HUES_LIGHT[0], marker="o", ms=4, linewidth=1.2)
    axes.set(xlim=(0, 100), ylim=(0, 102), xlabel="nominal coverage, %", ylabel="actual coverage, %")
    axes.set_title(f"{int(tested['runs'].iloc[0])} runs held out", color=INK)
    return drawing
