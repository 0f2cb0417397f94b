"""The critical-size map for papers: a figure a task, a panel per pair of methods, every number in the CSV beside it."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from finescale.report.drawing import INK, Drawing, at, named, titled, wrapped
from finescale.report.numbers import ticks
from finescale.report.versus import drawn_crossings
from finescale.study.maps import Map

PANELS_PER_ROW = 3
MOST_PANELS = 12
COLUMNS = [
    *("kind", "map", "first", "second", "base", "model_params", "examples", "first_expected_lower", "first_run_lower"),
    *("reach", "low", "median", "high", "share", "verdict"),
]


def critical_size_map(maps: list[Map]) -> list[Drawing]:
    """Probability that one method beats another over model size and examples; one figure per task.

    ``critical-size-map`` (with ``-2-TASK`` for a second task); nothing where no two methods can be compared. The first
    ``MOST_PANELS`` maps of a task are drawn; the CSV has every one, with a row per ``cell`` (shares of draws and
    reach), ``crossing`` (the critical data size of a row) and ``run`` (a setting that was run).
    """
    tasks = dict.fromkeys(one.task for one in maps)
    parts = [(place, task, [one for one in maps if one.task == task]) for place, task in enumerate(tasks)]
    return [
        Drawing(
            "crossings",
            named("critical-size-map", place, task),
            partial(_every, own),
            partial(draw_maps, own[:MOST_PANELS]),
        )
        for place, task, own in parts
    ]


def _every(maps: list[Map]) -> pd.DataFrame:
    return pd.concat([_numbers(one) for one in maps], ignore_index=True)


def _numbers(one: Map) -> pd.DataFrame:
    """Everything a map plots, in one table."""
    found, rows, columns = one.found, len(one.labels), len(one.found.examples)
    sizes = found.places["model_params"].to_numpy(dtype=float)
    labels = np.array(one.labels, dtype=object)
    cells = {
        "kind": "cell", "base": labels.repeat(columns), "model_params": sizes.repeat(columns),
        "examples": np.tile(found.examples, rows), "first_expected_lower": found.expected.ravel(),
        "first_run_lower": found.run.ravel(), "reach": found.reach.ravel(),
    }  # fmt: skip
    kept = drawn_crossings(one)[["low", "median", "high", "share", "verdict"]]
    crossings = kept.assign(kind="crossing", base=labels, model_params=sizes)
    at = one.seen["row"].to_numpy(dtype=int)
    runs = {"kind": "run", "base": labels[at], "model_params": sizes[at], "examples": one.seen["examples"]}
    whole = pd.concat([pd.DataFrame(cells), crossings, pd.DataFrame(runs)], ignore_index=True)
    return whole.assign(map=one.title, first=found.a, second=found.b).reindex(columns=COLUMNS)


def draw_maps(maps: list[Map]) -> Figure:
    """The maps of one task, light where the first method is the likelier to have the lower expected loss."""
    columns = min(PANELS_PER_ROW, len(maps))
    rows = math.ceil(len(maps) / columns)
    drawing = Figure(figsize=(1.3 + 2.6 * columns, 1.0 + 2.3 * rows), layout="constrained")
    grid = drawing.subplots(rows, columns, squeeze=False).ravel()
    shades = [_panel(axes, one) for axes, one in zip(grid, maps, strict=False)]
    for axes in grid[len(maps) :]:
        axes.set_visible(False)
    bar = drawing.colorbar(shades[0], ax=list(grid), location="right", shrink=0.8)
    bar.set_label("probability that the first\nhas the lower expected loss", fontsize=8)
    drawing.supxlabel("finetuning examples", fontsize=9, color=INK)
    along = any(one.sizes is not None for one in maps)
    drawing.supylabel("model parameters without embeddings" if along else "base", fontsize=9, color=INK)
    drawing.draw_without_rendering()
    drawing.set_layout_engine("none")
    return drawing


def _panel(axes: Axes, one: Map) -> QuadMesh:
    up = np.arange(len(one.labels), dtype=float) if one.sizes is None else np.array(one.sizes)
    shown = np.ma.masked_invalid(one.found.expected)
    edges = _edges(up, one.sizes is not None), _edges(one.found.examples, True)
    shade = axes.pcolormesh(edges[1], edges[0], shown, cmap="cividis", vmin=0, vmax=1, rasterized=True)
    axes.set(xscale="log", xlim=(edges[1][0], edges[1][-1]), ylim=(edges[0][0], edges[0][-1]))
    at(axes.xaxis, ticks(edges[1][0], edges[1][-1], 5))
    if one.sizes is None:
        axes.set_yticks(up, [wrapped(label, 24) for label in one.labels])
    else:
        axes.set_yscale("log")
        at(axes.yaxis, ticks(edges[0][0], edges[0][-1], 5))
    _lines(axes, one, up)
    seen, height = one.seen, up[one.seen["row"].to_numpy(dtype=int)]
    axes.scatter(seen["examples"], height, 9, "white", edgecolor=INK, linewidth=0.7, zorder=4)
    titled(axes, one.title, 8.5)
    return shade


def _lines(axes: Axes, one: Map, up: np.ndarray[Any, Any]) -> None:
    """The critical size as a line, its interval as thinner ones, where they lie inside what was looked at."""
    lines = drawn_crossings(one)
    crosses = (lines["outcome"] == "overtakes").to_numpy()
    for name, width in (("low", 0.7), ("high", 0.7), ("median", 1.6)):
        value = lines[name].to_numpy(dtype=float)
        x, y = np.where(crosses & lines[name].between(lines["from"], lines["to"]), value, np.nan), up
        if one.sizes is None:
            x, y = np.repeat(x, 3), (up[:, None] + [-0.5, 0.5, np.nan]).ravel()
        for colour, extra in ((INK, 1.1), ("white", 0.0)):
            axes.plot(x, y, color=colour, linewidth=width + extra, zorder=3)


def _edges(centres: np.ndarray[Any, Any], log: bool) -> np.ndarray[Any, Any]:
    """Edges of cells around centres, half-way on the axis's own scale."""
    at = np.log(centres) if log else centres
    if len(at) == 1:
        return np.array([centres[0] / 2, centres[0] * 2] if log else [centres[0] - 0.5, centres[0] + 0.5])
    middle = (at[1:] + at[:-1]) / 2
    edges = np.concatenate([[2 * at[0] - middle[0]], middle, [2 * at[-1] - middle[-1]]])
    return np.asarray(np.exp(edges) if log else edges)
