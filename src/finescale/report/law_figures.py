"""The fitted law for papers: its parameters with intervals, and their correlations, each figure with its CSV."""

from __future__ import annotations

from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from finescale.report import looks, numbers
from finescale.report.correlated import correlation_table
from finescale.report.drawing import INK, SOFT, Drawing, at, panels, titled, wrapped
from finescale.report.numbers import ticks
from finescale.stats.fits import Fits

PANELS_PER_ROW = 4
MOST_GROUPS = 24
MOST_MATRICES = 12


def parameters(fits: Fits, level: float) -> list[Drawing]:
    """Every parameter with its interval, a panel each and a line per group: ``parameters``; CSV is ``Fits.table``."""
    table = fits.table(level)
    if not table["low"].notna().any():
        return []
    return [Drawing("law", "parameters", lambda: table, partial(_forest, table, list(fits.by)))]


def _forest(table: pd.DataFrame, by: list[str]) -> Figure:
    table = table[table["estimate"].notna()].assign(group=_groups(table, by))
    groups = list(dict.fromkeys(table["group"]))[:MOST_GROUPS]
    names = list(dict.fromkeys(table["parameter"]))
    drawing, every = panels(len(names), PANELS_PER_ROW, 1.9, 0.7 + 0.2 * len(groups), sharey=True)
    for axes, name in zip(every, names, strict=True):
        own = table[(table["parameter"] == name) & table["group"].isin(groups)].drop_duplicates("group")
        y = [groups.index(group) for group in own["group"]]
        axes.hlines(y, own["low"], own["high"], color=looks.HUES_LIGHT[0], linewidth=1.4)
        axes.plot(own["estimate"], y, "o", color=looks.HUES_LIGHT[0], ms=4)
        titled(axes, name.replace("_", " "))
        low, high = float(own["low"].min()), float(own["high"].max())
        if low > 0 and high > 30 * low:
            axes.set_xscale("log")
            at(axes.xaxis, ticks(low, high, 3))
        axes.set_yticks(range(len(groups)), [wrapped(group, 44) for group in groups])
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.tick_params(axis="x", labelsize=7.5)
    return drawing


def _groups(table: pd.DataFrame, by: list[str]) -> list[str]:
    """A group's name: what tells it from the others."""
    telling = [name for name in by if table[name].nunique() > 1] or by[:1]
    return [
        ", ".join(map(numbers.level, telling, row)) or "all runs"
        for row in table[telling].itertuples(index=False, name=None)
    ]


def correlations_figure(fits: Fits) -> list[Drawing]:
    """Correlations of each group's parameters over the draws: ``parameter-correlations``; the CSV has a row a pair."""
    table = correlation_table(fits)
    if table.empty:
        return []
    return [Drawing("law", "parameter-correlations", lambda: table, partial(_matrices, table, list(fits.by)))]


def _matrices(table: pd.DataFrame, by: list[str]) -> Figure:
    parts = list(table.assign(group=_groups(table, by)).groupby("group", sort=False))[:MOST_MATRICES]
    drawing, every = panels(len(parts), PANELS_PER_ROW, 1.9, 1.9)
    shade: Any = None
    for axes, (group, own) in zip(every, parts, strict=True):
        names = list(dict.fromkeys([*own["first"], *own["second"]]))
        matrix = np.full((len(names), len(names)), np.nan)
        for row in own.to_dict("records"):
            i, j = names.index(row["first"]), names.index(row["second"])
            if row["judged"]:
                matrix[i, j] = matrix[j, i] = row["r"]
            for x, y in ((i, j), (j, i)):
                said = f"{row['r']:.2f}" if np.isfinite(row["r"]) else "–"
                colour = SOFT if not row["judged"] else "white" if abs(row["r"]) > 0.6 else INK
                axes.text(x, y, said, ha="center", va="center", fontsize=6.5, color=colour)
        shade = axes.imshow(matrix, cmap=mpl.colormaps["RdBu"], vmin=-1, vmax=1)
        axes.set_xticks(range(len(names)), names, fontsize=7.5)
        axes.set_yticks(range(len(names)), names, fontsize=7.5)
        titled(axes, str(group), 8.5)
    drawing.colorbar(shade, ax=every, location="right", shrink=0.7).set_label(
        "correlation over the draws;\nwithout a shade: not judged", fontsize=8
    )
    return drawing
