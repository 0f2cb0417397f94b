"""Panels for the paper's figures: one colour per series, fitted lines with bands, hollow marks where held out.

``finescale.report.paper_series`` makes what is drawn; this file only draws it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from finescale.report import looks
from finescale.report.figures import INK, SOFT, STYLE
from finescale.report.looks import Look
from finescale.report.numbers import short

_MARKERS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "triangle-down": "v", "pentagon": "p"}
_WIDTH, _HEIGHT = 2.5, 2.1
PAIR = " vs. "


def draw(frame: pd.DataFrame, x: str, y: str) -> Figure:
    """Draw a table of ``paper_series``: panels by ``row`` and ``column``, both axes' words given."""
    rows, columns = (list(dict.fromkeys(frame[name])) for name in ("row", "column"))
    styles = _styles(frame)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.6 + _WIDTH * len(columns), 0.8 + _HEIGHT * len(rows)), layout="constrained")
        axes = figure.subplots(len(rows), len(columns), squeeze=False)
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                part = frame[(frame["row"] == row) & (frame["column"] == column)]
                _panel(axes[i, j], part, styles)
                axes[i, j].set_title(f"{row}, {column}".strip(", "), color=INK)
        figure.supxlabel(x, fontsize=9, color=INK)
        figure.supylabel(y, fontsize=9, color=INK)
        figure.legend(handles=_handles(frame, styles), loc="outside upper center", ncols=min(6, len(styles) + 3))
        # The layout is worked out once, not again for each file format.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    return figure


def _styles(frame: pd.DataFrame) -> dict[str, Look]:
    """Methods and pairs differ in kind; levels of a factor differ in size and come smallest first."""
    names = [name for name in dict.fromkeys(frame["series"]) if name != "untouched base"]
    sizes = {name: _size(name) for name in names}
    if None in sizes.values():
        return looks.of_kinds(sorted(names))
    return looks.of_sizes(sorted(names, key=lambda name: sizes[name] or 0.0))


def _size(label: str) -> float | None:
    """The number that ``numbers.short`` wrote; None for a name."""
    found = re.fullmatch(r"([\d.]+)([kMBT]?)", label)
    return float(found[1]) * {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}[found[2]] if found else None


def _panel(axes: Axes, part: pd.DataFrame, styles: dict[str, Look]) -> None:
    if not len(part):
        axes.text(0.5, 0.5, "no data", ha="center", va="center", color=SOFT, transform=axes.transAxes)
        axes.set(xticks=[], yticks=[])
        return
    _log(axes.xaxis, axes.set_xscale)
    if part["series"].str.contains(PAIR).any():
        _log(axes.yaxis, axes.set_yscale)
    for name, look in styles.items():
        own = part[part["series"] == name].sort_values("x")
        _curve(axes, own[own["kind"] == "curve"], look)
        _marks(axes, own, look)
    untouched = part[part["kind"] == "untouched"].sort_values("x")
    axes.plot(untouched["x"], untouched["y"], color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)))


def _log(axis: Axis, scale: Callable[[str], None]) -> None:
    """A logarithmic axis with a few ticks in words: 10k, 1M."""
    scale("log")
    axis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_locator(NullLocator())


def _curve(axes: Axes, own: pd.DataFrame, look: Look) -> None:
    axes.plot(own["x"], own["y"], color=look.light, linewidth=1.1)
    known = own[np.isfinite(own["low"].astype(float)) & np.isfinite(own["high"].astype(float))]
    axes.fill_between(known["x"], known["low"], known["high"], color=look.light, alpha=0.15, linewidth=0)


def _marks(axes: Axes, own: pd.DataFrame, look: Look) -> None:
    for kind, face in (("run", look.light), ("held out", "none")):
        part = own[own["kind"] == kind]
        axes.scatter(part["x"], part["y"], 13, marker=_MARKERS[look.symbol], facecolor=face, edgecolor=look.light)
    lines = own[own["kind"] == "run"]
    if not (own["kind"] == "curve").any() and len(lines) > 1:
        axes.plot(lines["x"], lines["y"], color=look.light, linewidth=0.7)


def _handles(frame: pd.DataFrame, styles: dict[str, Look]) -> list[Line2D]:
    handles = [
        Line2D([], [], color=look.light, marker=_MARKERS[look.symbol], ms=4, label=name)
        for name, look in styles.items()
    ]
    if (frame["kind"] == "held out").any():
        handles.append(Line2D([], [], linestyle="", marker="o", mec=INK, mfc="none", ms=4, label="held out"))
    if (frame["kind"] == "untouched").any():
        handles.append(Line2D([], [], color=SOFT, linestyle=(0, (4, 3)), label="untouched base"))
    return handles
