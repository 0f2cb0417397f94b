"""How figures for papers look and are written: style, formats, and the CSV beside each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from finescale.report import aside
from finescale.report.spreadsheet import plain

CANVASES: dict[str, Any] = {"png": FigureCanvasAgg, "svg": FigureCanvasSVG, "pdf": FigureCanvasPdf}
FORMATS = tuple(CANVASES)
DATELESS: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
DOTS_AN_INCH = 200
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

MARKERS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "triangle-down": "v", "pentagon": "p"}


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
