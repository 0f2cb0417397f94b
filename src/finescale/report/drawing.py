"""How figures for papers look and are written: style, formats, and the CSV beside each."""

from __future__ import annotations

import re
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from finescale.report import aside
from finescale.report.looks import Look
from finescale.report.numbers import short
from finescale.report.spreadsheet import plain

CANVASES: dict[str, Any] = {"png": FigureCanvasAgg, "svg": FigureCanvasSVG, "pdf": FigureCanvasPdf}
FORMATS = tuple(CANVASES)
DATELESS: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
DOTS_AN_INCH = 200
NO_GLYPH = r"Glyph \d+ "
BOXES = "some names have letters that the figures' font lacks: .png and .pdf have boxes there, .svg and the page do not"
LETTER = 0.55
"""Width of a letter in the mean, as a share of its size; generous."""
MOST_LINES = 3
INK, SOFT = "#1C1B19", "#5D5A54"

# A fixed salt and no date: the same analysis gives the same bytes.
STYLE: Any = {
    "font.family": "serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlesize": 9.5,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "finescale",
    "pdf.fonttype": 42,
}

DASHES: dict[str, Any] = {"solid": "-", "dash": "--", "dashdot": "-.", "dot": ":", "longdash": (0, (8, 3))}
MARKERS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "triangle-down": "v", "pentagon": "p"}


@dataclass(frozen=True)
class Drawing:
    """A figure that can be written: the section of the page it belongs to, its file's name, its numbers, itself."""

    section: str
    name: str
    numbers: Callable[[], pd.DataFrame]
    draw: Callable[[], Figure]


def write(drawings: list[Drawing], folder: Path) -> list[Path]:
    """Draw and write each figure and its CSV; returns the files written."""
    written = []
    with warnings.catch_warnings(record=True) as raised:
        warnings.filterwarnings("always", NO_GLYPH)
        for one in drawings:
            with mpl.rc_context(STYLE):
                drawing = one.draw()
            written += save(drawing, one.numbers(), folder, one.name)
    for other in (one for one in raised if not re.match(NO_GLYPH, str(one.message))):
        warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    if any(re.match(NO_GLYPH, str(one.message)) for one in raised):
        warnings.warn(BOXES, stacklevel=2)
    return written


def named(stem: str, place: int, task: str) -> str:
    """A file's name for the task at a place; the first one has the stem alone."""
    return stem + (f"-{place + 1}-{slug(task)}" if place else "")


def save(drawing: Figure, numbers: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    """Write each format and the CSV."""
    drawn = [save_as(drawing, folder / f"{name}.{kind}", kind) for kind in FORMATS]
    return [*drawn, aside.write(folder / f"{name}.csv", lambda to: plain(numbers).to_csv(to, index=False))]


def save_as(drawing: Figure, path: Path, kind: str) -> Path:
    """Write a figure in one of ``FORMATS``, by its canvas: ``savefig`` would draw everything a second time first."""

    def put(to: Path) -> None:
        with mpl.rc_context(STYLE):
            drawing.set_dpi(DOTS_AN_INCH)
            getattr(CANVASES[kind](drawing), f"print_{kind}")(to, metadata=DATELESS[kind])

    return aside.write(path, put)


def slug(name: str) -> str:
    """A name as part of a file's: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "task"


def scatter(axes: Axes, runs: pd.DataFrame, look: Look, top: float, along: str = "examples") -> None:
    """Runs as marks; a flagged one above the scale or without a finite loss is a triangle at the upper edge."""
    flagged, own = runs["flag"] != "", MARKERS[look.symbol]
    off = flagged & ~(runs["loss"] <= top)
    for chosen, face, edge, size, marker in (
        (~flagged & ~runs["held_out"], look.light, look.light, 13, own),
        (~flagged & runs["held_out"], look.light, INK, 20, own),
        (flagged & ~off, "none", look.light, 16, own),
        (off, "none", look.light, 16, "^"),
    ):
        part = runs[chosen]
        height = part["loss"].where(~off[chosen], top)
        axes.scatter(part[along], height, size, facecolor=face, edgecolor=edge, marker=marker, zorder=3, clip_on=False)


def log_axes(axes: Axes, x: tuple[float, float], ticks: list[float], loss: tuple[float, float]) -> None:
    """A logarithmic factor with these ticks against the loss, logarithmic too unless its axis reaches zero."""
    axes.set(xscale="log", xlim=x)
    at(axes.xaxis, ticks)
    if loss[0] > 0:
        axes.set_yscale("log")
        inside = [tick for tick in MaxNLocator(6).tick_values(*loss) if loss[0] <= tick <= loss[1]]
        axes.yaxis.set_major_locator(FixedLocator(inside))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylim(loss)


def at(axis: Any, ticks: list[float]) -> None:
    """Ticks at these places of a logarithmic axis and nowhere else."""
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def panels(count: int, across: int, wide: float, high: float, **shared: Any) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, at most ``across`` in a row, each so wide and high in inches."""
    columns = max(min(across, count), 1)
    rows = -(-count // columns)
    drawing = Figure(figsize=(0.9 + wide * columns, 0.7 + high * rows), layout="constrained")
    every = list(drawing.subplots(rows, columns, squeeze=False, **shared).ravel())
    for axes in every[count:]:
        axes.set_visible(False)
    for axes in every[max(count - columns, 0) : count]:  # what stands above an empty place has ticks of its own
        axes.tick_params(labelbottom=True)
    return drawing, every[:count]


def wrapped(text: str, letters: int) -> str:
    """Text in at most ``MOST_LINES`` lines of so many letters; a longer one keeps its end, which often tells most."""
    letters = max(letters, 8)
    lines = textwrap.wrap(text, letters, break_on_hyphens=False)
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], f"… {text[2 - letters :]}"]
    return "\n".join(lines)


def titled(axes: Axes, words: str, size: float = 9.5, beside: float = 0.5) -> None:
    """A panel's title, in lines that end before the next panel's; ``beside`` is what its axis takes, in inches."""
    spec = axes.get_subplotspec()
    across = spec.get_gridspec().ncols if spec else 1
    wide = axes.get_figure(root=True).get_figwidth() / across - beside  # type: ignore[union-attr]
    axes.set_title(wrapped(words, int(wide * 72 / (LETTER * size))), color=INK, fontsize=size)


def legend(drawing: Figure, handles: list[Line2D], size: float = 8.5) -> None:
    """The key above the panels, in as many columns as the figure is wide."""
    room = drawing.get_figwidth() * 72 / size  # in heights of a letter
    for handle in handles:
        handle.set_label(wrapped(str(handle.get_label()), int((room - 5) / LETTER)))
    longest = max((len(line) for one in handles for line in str(one.get_label()).split("\n")), default=0)
    columns = max(min(int(room / (5 + LETTER * longest)), len(handles)), 1)
    drawing.legend(handles=handles, loc="outside upper center", ncols=columns, fontsize=size)


def key_of(methods: dict[str, Look]) -> list[Line2D]:
    """What stands in a legend for each method."""
    return [
        Line2D([], [], color=look.light, linestyle=DASHES[look.dash], marker=MARKERS[look.symbol], ms=4.5, label=name)
        for name, look in methods.items()
    ]
