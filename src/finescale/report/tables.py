"""Tables of the page: a caption, headings with units, numbers to the right, and a frame that scrolls by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from finescale.report.markup import Html, join, tag
from finescale.report.numbers import known


@dataclass(frozen=True)
class Column:
    """A column: its heading, what stands in the cell of a row, its unit, and how it is set.

    ``kind`` is ``num`` (to the right), ``text`` (wraps) or empty (words on one line).
    """

    head: object
    cell: Callable[[Any], object]
    unit: str = ""
    kind: str = "num"


def table(
    caption: str,
    columns: list[Column],
    rows: Iterable[Any],
    chosen: Callable[[Any], object] | None = None,
    tall: bool = False,
) -> Html:
    """A table in a frame that scrolls sideways where the window is narrow, and if ``tall`` downwards too.

    ``chosen`` rows stand out.
    """
    head = tag("thead", tag("tr", [_heading(column) for column in columns]))
    body = tag("tbody", [_row(columns, row, chosen is not None and bool(chosen(row))) for row in rows])
    return framed(caption, tag("table", head, body), tall=tall)


def framed(caption: str, made: Html, class_: str = "spill", tall: bool = False) -> Html:
    """A table under its caption, in a frame that scrolls."""
    frame = tag("div", made, class_=f"scroll{' tall' if tall else ''}", tabindex="0", role="region", aria_label=caption)
    return tag("figure", tag("figcaption", caption), frame, class_=f"table {class_}")


def telling(columns: Iterable[Column], rows: list[Any]) -> list[Column]:
    """Those columns whose cells differ between rows: what is the same everywhere tells a reader nothing."""
    return [column for column in columns if len({str(column.cell(row)) for row in rows}) > 1]


def cell(name: str) -> Callable[[Any], object]:
    """The value of a column of the frame whose rows are shown."""
    return lambda row: row[name]


def first(name: str) -> Callable[[Any], object]:
    """The value that all rows of a part of a frame share."""
    return lambda part: part[name].iloc[0]


def rows_of(frame: pd.DataFrame) -> list[Any]:
    """The rows of a frame, to show one each."""
    return [row for _, row in frame.iterrows()]


def estimate(middle: Any, low: Any, high: Any, write: Callable[[Any], str]) -> Html:
    """An estimate and, set softly after it, its interval."""
    bounds = f"[{write(low)}, {write(high)}]" if known(low) and known(high) else ""
    return join(write(middle), " ", tag("span", bounds, class_="interval"))


def _heading(column: Column) -> Html:
    unit = tag("small", column.unit) if column.unit else None
    return tag("th", column.head, unit, scope="col", class_="num" if column.kind == "num" else None)


def _row(columns: list[Column], row: Any, chosen: bool) -> Html:
    first, *rest = columns
    head = tag("th", first.cell(row), scope="row", class_=first.kind or None)
    cells = [head, *(tag("td", column.cell(row), class_=column.kind or None) for column in rest)]
    return tag("tr", cells, class_="chosen" if chosen else None)
