"""Loss against every factor but the examples, on the page: panels, a choice of factor, and the numbers behind them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from finescale.report import numbers
from finescale.report.markup import Html, join, tag
from finescale.report.packing import six_digits
from finescale.report.section import listed, paragraph
from finescale.report.series import Plotted
from finescale.report.slicing import SHORT, WORDS, Slice
from finescale.report.tables import Column, cell, rows_of, table, telling

MOST_ROWS = 300


def along_figure(shown: Plotted, task: str) -> Html | None:
    """The place for the panels of a task, which the page's script fills; None where no other factor varies."""
    own = [one for one in shown.slices if one.task == task]
    if not own:
        return None
    parts = (
        tag("div", class_="controls"),
        tag("p", numbers.with_unit("Test loss", shown.unit), class_="axis"),
        tag("div", class_="panels"),
        tag("p", class_="axis along-axis"),
        tag("noscript", paragraph("The figure needs JavaScript; the table below holds its numbers.")),
        tag("figcaption", class_="along-caption", aria_live="polite"),
    )
    behind = tag("details", tag("summary", "The numbers behind this figure"), _levels(own, shown), class_="spill")
    return join(
        tag("h3", f"Against {listed(list(dict.fromkeys(SHORT[one.factor] for one in own)))}"),
        tag("figure", parts, class_="along wide", data_task=task),
        behind,
    )


def _levels(own: list[Slice], shown: Plotted) -> Html:
    """Mean loss over seeds at every level of every panel."""
    parts = [
        one.runs[one.runs["flag"] == ""]
        .groupby(["series", one.factor], sort=False)["loss"]
        .agg(["mean", "count"])
        .reset_index(names=["series", "level"])
        .assign(along=SHORT[one.factor], fixed=one.fixed, examples=one.examples)
        for one in own
    ]
    whole = pd.concat(parts, ignore_index=True)
    rows = rows_of(whole.head(MOST_ROWS))
    columns = [
        Column("Method", cell("series"), kind=""),
        *telling([Column("Along", cell("along"), kind=""), Column("At", cell("fixed"), kind="")], rows),
        Column("Level", lambda row: numbers.short(row["level"], 4)),
        Column("Examples", lambda row: numbers.whole(row["examples"])),
        Column("Mean loss", lambda row: numbers.fixed(row["mean"]), shown.unit),
        Column("Runs", lambda row: numbers.whole(row["count"])),
    ]
    more = "" if len(whole) <= MOST_ROWS else f"; the first {MOST_ROWS} of {len(whole):,} rows, the CSV has all"
    return table(f"Mean loss over seeds, flagged runs left out{more}", columns, rows, tall=len(rows) > 14)


def along_data(shown: Plotted) -> list[dict[str, Any]]:
    """What the script reads: panels of each task, factor and fixed setting; runs are rows of the table of runs."""
    kinds: dict[tuple[str, str, str], list[Slice]] = {}
    for one in shown.slices:
        kinds.setdefault((one.task, one.factor, one.fixed), []).append(one)
    return [
        {
            "task": task,
            "factor": factor,
            "words": WORDS[factor],
            "short": SHORT[factor],
            "fixed": fixed,
            "panels": [_panel(one, shown) for one in panels],
        }
        for (task, factor, fixed), panels in kinds.items()
    ]


def _panel(one: Slice, shown: Plotted) -> dict[str, Any]:
    order = {name: place for place, name in enumerate(shown.methods)}
    looks = one.runs.groupby("series", sort=False)["method_label"].agg(
        lambda labels: min(labels, key=order.__getitem__)
    )
    grid = six_digits(one.curves.loc[one.curves["law"].astype(bool), "x"].unique())
    return {
        "examples": one.examples,
        "x": grid,
        "series": [
            {
                "name": series,
                "look": looks[series],
                "runs": one.runs.index[one.runs["series"] == series].tolist(),
                "curve": _curve(one.curves[one.curves["series"] == series], grid),
                "law": bool(one.curves.loc[one.curves["series"] == series, "law"].any()),
            }
            for series in sorted(looks.index, key=lambda name: order[looks[name]])
        ],
    }


def _curve(rows: pd.DataFrame, grid: list[float]) -> dict[str, list[float]]:
    """The curve to six digits; ``x`` only where it is not the panel's ``grid``."""
    curve = {name: six_digits(rows[name]) for name in ("x", "median", "low", "high")}
    return {name: values for name, values in curve.items() if name != "x" or values != grid}
