"""Critical data sizes: where one method overtakes another, or why nothing is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd

from finescale.report import numbers
from finescale.report.markup import Html, join, tag
from finescale.report.section import Section, paragraph
from finescale.report.series import Plotted
from finescale.report.tables import Column, estimate, first, rows_of, table, telling
from finescale.report.versus import versus_figure

if TYPE_CHECKING:
    from finescale.study.analyse import Analysis


def crossings_section(analysis: Analysis, shown: Plotted) -> Section:
    """One row per base, one column per pair of methods; each verdict in full below, and the map of each pair."""
    crossings = analysis.crossings
    if crossings.empty:
        body: Html = paragraph("Only one method was run, so there is nothing to compare.")
        return Section("crossings", "Where methods cross", "Crossings", body)
    pairs = list(dict.fromkeys(zip(crossings["a"], crossings["b"], strict=True)))
    places = [part for _, part in crossings.groupby(["task", "base"], sort=False)]
    columns = [
        *telling([Column("Task", first("task"), kind="")], places),
        Column("Base", first("base"), kind=""),
        *(Column(f"{a} and {b}", _critical(a, b), "examples", "") for a, b in pairs),
    ]
    lead = paragraph(
        "The critical data size is the number of examples at which two methods have the same expected loss on the same "
        "base. Its interval comes from the fit's draws; nothing is said beyond the range of examples that was run."
    )
    found = table("Critical data size by base and pair of methods", columns, places)
    body = join(lead, found, _spelled(crossings), versus_figure(analysis))
    return Section("crossings", "Where methods cross", "Crossings", body)


def _critical(a: str, b: str) -> Callable[[Any], object]:
    """A size where most draws cross; else who is better throughout, or that it is open."""

    def cell(part: pd.DataFrame) -> object:
        found = part[(part["a"] == a) & (part["b"] == b)]
        return numbers.MISSING if found.empty else _outcome(found.iloc[0])

    return cell


def _outcome(row: pd.Series[Any]) -> object:
    if pd.isna(row.get("better_below")):
        return join("unknown", tag("small", "no law was fitted"))
    if row["outcome"] == "overtakes":
        size = estimate(row["median"], row["low"], row["high"], lambda value: _size(value, row))
        return join(size, tag("small", f"{row['better_below']} below, {row['better_above']} above"))
    if row["outcome"] == "none":
        return join("none", tag("small", f"{row['better_below']} is better throughout"))
    return join("undecided", tag("small", f"{numbers.percent(row['share'])} of draws cross"))


def _size(value: float, row: pd.Series[Any]) -> str:
    """A number of examples; 0 and infinity lie below and beyond what was looked at."""
    if value == 0:
        return f"below {numbers.significant(row['from'], 2)}"
    return numbers.whole(value) if value < float("inf") else f"beyond {numbers.significant(row['to'], 2)}"


def _spelled(crossings: pd.DataFrame) -> Html:
    several = crossings["task"].nunique() > 1
    words = [
        tag("li", tag("b", f"{task}{row['base']}, {row['a']} and {row['b']}"), ": ", row["verdict"])
        for row in rows_of(crossings)
        for task in [f"{row['task']}, " if several else ""]
    ]
    return tag("details", tag("summary", "Each crossing in words"), tag("ul", words, class_="note small"))
