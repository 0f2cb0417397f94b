"""Panels for the paper's figures: one colour per series, fitted lines with bands, hollow marks where held out.

``finescale.report.paper_series`` makes what is drawn; this file only draws it. Places are worked out in inches here:
matplotlib's own layout engines draw a figure several times over to find them.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from finescale.report import looks
from finescale.report.drawing import INK, SOFT, STYLE
from finescale.report.looks import Look
from finescale.report.numbers import short

_MARKERS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "triangle-down": "v", "pentagon": "p"}
_UNTOUCHED = (0, (4, 2.5))
_DASHED = (0, (1.5, 1.5))
# Inches: a panel (alone or beside others), the room around it, and a line of small text.
_ALONE, _PANEL = (3.3, 2.3), (2.1, 1.65)
_LEFT, _RIGHT, _GAP_X, _GAP_Y, _LINE = 0.68, 0.12, 0.5, 0.5, 0.16
_LETTERS_AN_INCH = 17
_MOST_LINES = 5
PAIR = " vs. "


def draw(frame: pd.DataFrame) -> Figure:
    """Draw a table of ``paper_series``: a row of panels per ``row`` and ``y_is``, a column per ``column``."""
    rows = list(dict.fromkeys(zip(frame["row"], frame["y_is"], strict=True)))
    columns = list(dict.fromkeys(frame["column"]))
    styles, notes = _styles(frame), _footnote(frame)
    gap = _GAP_Y if frame["x_is"].nunique() == 1 else _GAP_Y + _LINE
    with mpl.rc_context(STYLE):
        figure, axes = _grid((len(rows), len(columns)), gap, _handles(frame, styles), notes)
        for i, (row, measure) in enumerate(rows):
            here = frame[(frame["row"] == row) & (frame["y_is"] == measure)]
            for j, column in enumerate(columns):
                _panel(axes[i][j], here[here["column"] == column], styles)
                axes[i][j].set_title(f"{row}, {column}".strip(", "), color=INK, y=1.0, pad=4)
            axes[i][0].set_ylabel(measure, fontsize=8.5)
            axes[i][0].yaxis.set_label_coords(-_LEFT * 0.74 / axes[i][0].bbox.width * figure.dpi, 0.5)
            below = frame[(frame["row"] == rows[i + 1][0])]["x_is"].iloc[0] if i + 1 < len(rows) else ""
            if here["x_is"].iloc[0] != below:
                for panel in axes[i]:
                    panel.set_xlabel(here["x_is"].iloc[0], fontsize=8.5)
                    panel.xaxis.set_label_coords(0.5, -0.3 / panel.bbox.height * figure.dpi)
    return figure


def _grid(
    shape: tuple[int, int], gap: float, handles: list[Line2D], notes: list[str]
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with its legend above and its notes below, and its empty panels."""
    rows, columns = shape
    w, h = _ALONE if rows * columns == 1 else _PANEL
    width = _LEFT + columns * w + (columns - 1) * _GAP_X + _RIGHT
    across = max(1, min(len(handles), int(width / 1.2)))
    above = 0.3 + 0.2 * -(-len(handles) // across)
    below = 0.5 + _LINE * sum(len(textwrap.wrap(note, int(width * _LETTERS_AN_INCH))) for note in notes)
    height = above + rows * h + (rows - 1) * gap + below
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(_LEFT / width, below / height, 1 - _RIGHT / width, 1 - above / height, _GAP_X / w, gap / h)
    grid = figure.subplots(rows, columns, squeeze=False)
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 1.0), ncols=across, borderpad=0.2)
    text = "\n".join(textwrap.fill(note, int(width * _LETTERS_AN_INCH)) for note in notes)
    figure.text(0.08 / width, 0.06 / height, text, fontsize=7, color=SOFT, va="bottom")
    return figure, [list(line) for line in grid]


def _footnote(frame: pd.DataFrame) -> list[str]:
    """Why something is not drawn, and how marks that have intervals came by them."""
    out = frame[frame["kind"] == "left out"]
    reasons = list(dict.fromkeys(out["note"]))
    said = [f"No curve: {reason.rstrip('.')}." for reason in reasons[:_MOST_LINES]]
    if len(reasons) > _MOST_LINES:
        said.append(f"{len(reasons) - _MOST_LINES} further reasons are in the CSV.")
    marks = frame[frame["kind"] == "run"]
    if np.isfinite(marks["low"].astype(float)).any():
        said.append("Bars: intervals over test examples, of one run or averaged over runs.")
    return said


def _styles(frame: pd.DataFrame) -> dict[str, Look]:
    """Methods and pairs differ in kind; levels of a factor differ in size and come smallest first."""
    names = [name for name in dict.fromkeys(frame["series"]) if name not in ("untouched base", "")]
    sizes = {name: _size(name) for name in names}
    if None in sizes.values():
        return looks.of_kinds(sorted(names))
    return looks.of_sizes(sorted(names, key=lambda name: sizes[name] or 0.0))


def _size(label: str) -> float | None:
    """The number that ``numbers.short`` wrote; None for a name."""
    found = re.fullmatch(r"([\d.]+)([kMBT]?)", label)
    return float(found[1]) * {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}[found[2]] if found else None


def _panel(axes: Axes, part: pd.DataFrame, styles: dict[str, Look]) -> None:
    shown = part[part["kind"] != "left out"]
    if not len(shown):
        why = "; ".join(dict.fromkeys(part["note"])) or "no runs"
        text = textwrap.fill(why, int(_PANEL[0] * _LETTERS_AN_INCH * 0.8))
        axes.text(0.5, 0.5, text, ha="center", va="center", color=SOFT, fontsize=7.5, transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    _log(axes.xaxis, axes.set_xscale)
    if part["series"].str.contains(PAIR, regex=False).any():
        _log(axes.yaxis, axes.set_yscale)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_ylim(*_limits(shown))
    for height in shown[shown["kind"] == "untouched"]["y"].unique():
        axes.axhline(height, color=INK, linewidth=1.0, linestyle=_UNTOUCHED, zorder=1)
    for name, look in styles.items():
        own = shown[shown["series"] == name].sort_values("x")
        _curves(axes, own, look)
        _marks(axes, own, look, joined=not (part["kind"] != "run")[part["series"] == name].any())
    _missing(axes, part, styles)


def _limits(shown: pd.DataFrame) -> tuple[float, float]:
    """Room for every mark and line, and for bands as far as they do not press those flat."""
    low, high = shown["y"].min(), shown["y"].max()
    reach = max(high - low, 0.02 * abs(high), 1e-9)
    bottom = max(shown["low"].astype(float).min(), low - 0.75 * reach)
    top = min(shown["high"].astype(float).max(), high + 0.75 * reach)
    bottom, top = np.nanmin([low, bottom]), np.nanmax([high, top])
    return float(bottom - 0.06 * (top - bottom) - 1e-9), float(top + 0.06 * (top - bottom) + 1e-9)


def _log(axis: Axis, scale: Callable[[str], None]) -> None:
    """A logarithmic axis with a few ticks in words: 10k, 1M."""
    scale("log")
    axis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_locator(NullLocator())


def _curves(axes: Axes, own: pd.DataFrame, look: Look) -> None:
    """A line with its band, dashed beyond what was seen; broken where part of it is left out."""
    lines = own[own["kind"].isin(("curve", "beyond"))]
    x, y, seen = lines["x"].to_numpy(float), lines["y"].to_numpy(float), (lines["kind"] == "curve").to_numpy()
    if not seen.all():
        axes.plot(x, y, color=look.light, linewidth=1.0, linestyle=_DASHED)
    axes.plot(x, np.where(seen, y, np.nan), color=look.light, linewidth=1.2)
    bounds = lines[["low", "high"]].to_numpy(float)
    axes.fill_between(x, bounds[:, 0], bounds[:, 1], color=look.light, alpha=0.14, linewidth=0)


def _marks(axes: Axes, own: pd.DataFrame, look: Look, joined: bool) -> None:
    """Marks with their intervals, ``joined`` where there is no law to draw through them."""
    lines = own[own["kind"] == "run"]
    if joined and len(lines) > 1:
        axes.plot(lines["x"], lines["y"], color=look.light, linewidth=0.8)
    for kind, face in (("run", look.light), ("held out", "none")):
        part = own[own["kind"] == kind]
        if not len(part):
            continue
        axes.vlines(part["x"], part["low"].astype(float), part["high"].astype(float), color=look.light, linewidth=0.7)
        style: dict[str, Any] = {"linestyle": "", "marker": _MARKERS[look.symbol], "markersize": 3.8, "zorder": 3.0}
        axes.plot(part["x"], part["y"], markerfacecolor=face, markeredgecolor=look.light, **style)


def _missing(axes: Axes, part: pd.DataFrame, styles: dict[str, Look]) -> None:
    """Say in the panel which of its curves are not drawn, or not all of the way."""
    out = part[part["kind"] == "left out"]
    drawn = set(part[part["kind"].isin(("curve", "beyond"))]["series"])
    words = [name + (" in part" if name in drawn else "") for name in styles if (out["series"] == name).any()]
    if words:
        text = textwrap.fill(f"no curve: {', '.join(words)}", int(_PANEL[0] * _LETTERS_AN_INCH))
        place: dict[str, Any] = {"ha": "right", "va": "top", "transform": axes.transAxes}
        axes.text(0.99, 0.99, text, fontsize=6.5, color=SOFT, **place)


def _handles(frame: pd.DataFrame, styles: dict[str, Look]) -> list[Line2D]:
    marked = frame["kind"].isin(("run", "held out")).any()
    handles = [
        Line2D([], [], color=look.light, marker=_MARKERS[look.symbol] if marked else "", ms=4, label=name)
        for name, look in styles.items()
    ]
    if (frame["kind"] == "held out").any():
        handles.append(Line2D([], [], linestyle="", marker="o", mec=INK, mfc="none", ms=4, label="held out"))
    if (frame["kind"] == "untouched").any():
        handles.append(Line2D([], [], color=INK, linewidth=1.0, linestyle=_UNTOUCHED, label="untouched base"))
    if (frame["kind"] == "beyond").any():
        handles.append(Line2D([], [], color=SOFT, linestyle=_DASHED, label="beyond the examples seen"))
    return handles
