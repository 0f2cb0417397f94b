"""Loss against every factor but the examples, for papers: a figure per factor and task, with its CSV."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from finescale.report import looks
from finescale.report.drawing import DASHES, INK, Drawing, at, key_of, legend, log_axes, named, panels, scatter, titled
from finescale.report.looks import Look
from finescale.report.numbers import ticks, whole, with_unit
from finescale.report.series import Plotted, Scale
from finescale.report.slicing import SHORT, WORDS, Slice

STEMS = {
    "model_params": "loss-against-model-size",
    "pretrain_tokens": "loss-against-pretraining-tokens",
    "pet_params": "loss-against-pet-size",
}
PANELS_PER_ROW = 4
MOST_PANELS = 12
COLUMNS = [
    *("kind", "task", "along", "fixed", "examples", "series", "x", "loss", "median", "low", "high", "law"),
    *("base", "seed", "run", "flag", "held_out"),
]


def loss_along(shown: Plotted) -> list[Drawing]:
    """Loss against each factor that varies: ``loss-against-model-size``, ``…-pretraining-tokens``, ``…-pet-size``.

    The CSV has every panel, with a row per ``run`` (``loss``) and per point of a ``curve`` (``median, low, high``);
    ``law`` says whether the fit has a law of the factor. The figure has the first ``MOST_PANELS``.
    """
    kinds: dict[tuple[int, str, str], list[Slice]] = {}
    for place, task in enumerate(shown.tasks()):
        for one in shown.slices:
            if one.task == task:
                kinds.setdefault((place, task, one.factor), []).append(one)
    return [
        Drawing(
            "loss",
            named(STEMS[factor], place, task),
            partial(numbers_along, own),
            partial(draw_along, own[:MOST_PANELS], shown),
        )
        for (place, task, factor), own in kinds.items()
    ]


def numbers_along(own: list[Slice]) -> pd.DataFrame:
    """Everything that panels along one factor plot, in one table."""
    parts = []
    for one in own:
        same: dict[str, Any] = {
            "task": one.task,
            "along": SHORT[one.factor],
            "fixed": one.fixed,
            "examples": one.examples,
        }
        runs = one.runs.drop(columns="base").rename(columns={"base_label": "base"})
        parts.append(runs.assign(kind="run", x=one.runs[one.factor], **same).reindex(columns=COLUMNS))
        parts.append(one.curves.assign(kind="curve", **same).reindex(columns=COLUMNS))
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def draw_along(own: list[Slice], shown: Plotted) -> Figure:
    """A panel per slice: runs as marks, the law as lines and shade, or the forecast of each level as a bar."""
    factor, scale = own[0].factor, shown.scale(own[0].task)
    styles = _styles(own, shown)
    drawing, every = panels(len(own), PANELS_PER_ROW, 2.25, 2.35, sharex=True, sharey=True)
    for axes, one in zip(every, own, strict=True):
        _panel(axes, one, styles, scale)
    values = pd.concat([one.runs[factor].astype(float) for one in own])
    margin = max((values.max() / values.min()) ** 0.07, 1.1)
    ends = (float(values.min() / margin), float(values.max() * margin))
    levels = sorted(set(values))
    log_axes(every[0], ends, levels if len(levels) <= 4 else ticks(*ends, 4), scale.loss)
    for axes in every:
        at(axes.xaxis, levels if len(levels) <= 4 else ticks(*ends, 4))
    drawing.supxlabel(WORDS[factor].lower(), fontsize=9, color=INK)
    drawing.supylabel(with_unit("test loss", shown.unit), fontsize=9, color=INK)
    legend(drawing, key_of(styles))
    return drawing


def _styles(own: list[Slice], shown: Plotted) -> dict[str, Look]:
    every = looks.of_kinds(shown.methods)
    runs = pd.concat([one.runs[["series", "method_label"]] for one in own])
    first = runs.groupby("series")["method_label"].agg(lambda labels: min(labels, key=shown.methods.index))
    return {
        str(series): every[label]
        for series, label in sorted(first.items(), key=lambda pair: shown.methods.index(pair[1]))
    }


def _panel(axes: Axes, one: Slice, styles: dict[str, Look], scale: Scale) -> None:
    for series, look in styles.items():
        curve = one.curves[one.curves["series"] == series].astype(dict.fromkeys(("x", "median", "low", "high"), float))
        if curve["law"].any():
            axes.fill_between(curve["x"], curve["low"], curve["high"], color=look.light, alpha=0.16, linewidth=0)
            axes.plot(curve["x"], curve["median"], color=look.light, linewidth=1.3, linestyle=DASHES[look.dash])
        elif len(curve):
            apart = [curve["median"] - curve["low"], curve["high"] - curve["median"]]
            axes.errorbar(curve["x"], curve["median"], apart, fmt="_", color=look.light, linewidth=1, ms=7)
        scatter(axes, one.runs[one.runs["series"] == series], look, scale.loss[1], one.factor)
    fixed = f", {one.fixed}" if one.fixed else ""
    titled(axes, f"{whole(one.examples)} examples{fixed}", 8.5)
