"""Quality, forgetting, PET size and cost for papers: each figure with its CSV."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from finescale.report import looks
from finescale.report.drawing import INK, MARKERS, SOFT, Drawing, key_of, legend, named, panels, titled, wrapped
from finescale.report.material import KINDS
from finescale.report.numbers import with_unit
from finescale.report.quality import SMALL, kept_table, pet_slopes
from finescale.report.series import Plotted, method_labels
from finescale.stats.correlate import metrics_of

if TYPE_CHECKING:
    from finescale.study.analyse import Analysis

PANELS_PER_ROW = 4
MOST_LINES = 30
SPENT = {"seconds": "hours, sum over steps", "cpu_seconds": "core-hours"}
PLACE = ["task", "method_label", "base_label", "examples", "seed", "run", "loss"]


def quality_against_loss(shown: Plotted) -> list[Drawing]:
    """Every generation metric that was scored against the loss, run by run: ``quality-against-loss`` per task."""
    metrics = metrics_of(shown.points)
    parts = [(place, task, _scored(shown, task, metrics)) for place, task in enumerate(shown.tasks())]
    return [
        Drawing("quality", named("quality-against-loss", place, task), table.copy, partial(_quality, table, shown))
        for place, task, table in parts
        if len(table)
    ]


def _scored(shown: Plotted, task: str, metrics: list[str]) -> pd.DataFrame:
    """One row per run and metric."""
    own = shown.points[(shown.points["task"] == task) & (shown.points["flag"] == "")]
    long = (
        own.melt(id_vars=PLACE, value_vars=metrics, var_name="metric", value_name="value") if metrics else own.head(0)
    )
    return long if long.empty else long.dropna(subset=["value", "loss"]).reset_index(drop=True)


def _quality(table: pd.DataFrame, shown: Plotted) -> Figure:
    metrics = list(dict.fromkeys(table["metric"]))
    styles = {
        name: look for name, look in looks.of_kinds(shown.methods).items() if (table["method_label"] == name).any()
    }
    drawing, every = panels(len(metrics), PANELS_PER_ROW, 2.4, 2.3)
    for axes, metric in zip(every, metrics, strict=True):
        for name, look in styles.items():
            own = table[(table["metric"] == metric) & (table["method_label"] == name)]
            axes.scatter(
                own["loss"], own["value"].astype(float), 12, look.light, marker=MARKERS[look.symbol], linewidth=0
            )
        titled(axes, metric)
    drawing.supxlabel(with_unit("test loss", shown.unit), fontsize=9, color=INK)
    legend(drawing, key_of(styles))
    return drawing


def kept_figure(analysis: Analysis, level: float) -> list[Drawing]:
    """What finetuning changed of each probe at the most examples, with intervals: ``kept``."""
    table = kept_table(analysis.probes, level)
    return [Drawing("kept", "kept", lambda: table, partial(_kept, table))] if len(table) else []


def _kept(table: pd.DataFrame) -> Figure:
    """A line per probe, a panel per metric; right of the line at 0 is better than before."""
    metrics = list(dict.fromkeys(table["metric"]))
    table = _labelled(table)
    styles = looks.of_kinds(list(dict.fromkeys(table["method"])))
    longest = min(max(table.loc[table["metric"] == metric, "probe"].nunique() for metric in metrics), MOST_LINES)
    drawing, every = panels(len(metrics), 3, 3.2, 0.8 + (0.1 + 0.09 * len(styles)) * longest)
    for axes, metric in zip(every, metrics, strict=True):
        own = table[table["metric"] == metric]
        probes = list(dict.fromkeys(own["probe"]))[:MOST_LINES]
        for place, (method, look) in enumerate(styles.items()):
            mine = own[(own["method"] == method) & own["probe"].isin(probes)]
            y = [probes.index(probe) + 0.7 * ((place + 0.5) / len(styles) - 0.5) for probe in mine["probe"]]
            axes.hlines(y, mine["low"], mine["high"], color=look.light, linewidth=1.1)
            axes.plot(mine["kept"], y, MARKERS[look.symbol], color=look.light, ms=3.8)
        axes.axvline(0, color=SOFT, linewidth=0.9)
        axes.set_yticks(range(len(probes)), [wrapped(probe, 28) for probe in probes], fontsize=8)
        axes.set_ylim(len(probes) - 0.5, -0.5)
        titled(axes, f"change of {metric}, above 0: better", 8.5, beside=1.5)
    legend(drawing, key_of(styles))
    return drawing


def _labelled(table: pd.DataFrame) -> pd.DataFrame:
    """Methods with their PET size and probes with their task, where there are several: one mark a place."""
    probe = table["probe"].astype(str)
    if table["task"].nunique() > 1:
        probe = probe + " after " + table["task"].astype(str)
    return table.assign(method=method_labels(table), probe=probe)


def pet_figure(analysis: Analysis, level: float) -> list[Drawing]:
    """Change of the loss per doubling of the PET size, against the band that counts as flat: ``pet-size-flatness``."""
    table = pet_slopes(analysis.runs, level)
    if table.empty:
        return []
    return [Drawing("pet-size", "pet-size-flatness", lambda: table, partial(_flatness, table, analysis.unit))]


def _flatness(table: pd.DataFrame, unit: str) -> Figure:
    names = [f"{row['method']}" + (f", {row['task']}" if table["task"].nunique() > 1 else "") for row in _rows(table)]
    y = np.arange(len(table))
    drawing, (axes,) = panels(1, 1, 3.8, 0.7 + 0.35 * len(table))
    axes.barh(y, 2 * table["small"], left=-table["small"], height=0.8, color=SOFT, alpha=0.18)
    axes.hlines(y, table["low"], table["high"], color=looks.HUES_LIGHT[0], linewidth=1.4)
    axes.plot(table["slope"], y, "o", color=looks.HUES_LIGHT[0], ms=4.5)
    axes.axvline(0, color=SOFT, linewidth=0.9)
    axes.set_yticks(y, [wrapped(name, 28) for name in names])
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.set_xlabel(with_unit("change of the loss per doubling\nof the PET size", unit), color=INK)
    axes.set_title(f"shade: within {SMALL:.0%} of the mean loss", color=INK)
    return drawing


def _rows(table: pd.DataFrame) -> list[dict[str, object]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def cost_figure(analysis: Analysis) -> list[Drawing]:
    """Where the hours went: ``cost``; nothing for a table without a study."""
    kinds = analysis.cost.get("kinds", {})
    if not kinds:
        return []
    table = pd.DataFrame([{"kind": KINDS.get(kind, kind), **spent} for kind, spent in kinds.items()])
    return [Drawing("cost", "cost", lambda: table, partial(_cost, table))]


def _cost(table: pd.DataFrame) -> Figure:
    drawing, every = panels(2, 2, 2.9, 0.7 + 0.32 * len(table), sharey=True)
    y = np.arange(len(table))
    for axes, name, words in zip(
        every, ("seconds", "cpu_seconds"), ("hours, sum over steps", "core-hours"), strict=True
    ):
        axes.barh(y, table[name] / 3600, height=0.62, color=looks.HUES_LIGHT[0])
        axes.set_xlabel(words, color=INK)
        axes.set_yticks(y, table["kind"])
        axes.set_ylim(len(table) - 0.5, -0.5)
    return drawing
