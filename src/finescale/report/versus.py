"""The critical-size map on the page: method against method over model size and examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from finescale.report.markup import Html, join, tag
from finescale.report.packing import packed_shares, six_digits
from finescale.report.section import paragraph
from finescale.study.compare import BEYOND
from finescale.study.maps import Map

if TYPE_CHECKING:
    from finescale.study.analyse import Analysis

LEAD = (
    "Each map sets two methods against each other: the lighter a place, the surer the first one has the lower loss "
    "there; the darker, the surer the second. The line is the critical data size, with its interval in thin lines, "
    "over the examples that both were run with; an end of it that lies beyond them has no line. Small circles are "
    "runs. Further than {reach:g} times beyond what was seen of either method nothing is said, and the map is blank."
)
ROWS = "These fits have no law of model size, so nothing is said between bases: each base is a row of its own."


def versus_figure(analysis: Analysis) -> Html | None:
    """The place for the map and its choices; the page's script fills it. None where no two methods can be compared."""
    if not analysis.maps:
        return None
    several = any(one.sizes is None for one in analysis.maps)
    parts = (
        tag("div", class_="controls", id="versus-controls"),
        tag("p", id="versus-up", class_="axis"),
        tag("div", class_="plot plot-of-versus", id="versus-plot", role="img", aria_label="Critical-size map"),
        tag("p", "Finetuning examples, on a logarithmic scale", class_="axis"),
        tag("div", id="versus-key", class_="key"),
        tag("noscript", paragraph("The map needs JavaScript; figures/critical-size-map.csv holds its numbers.")),
        tag("figcaption", id="versus-caption", aria_live="polite"),
    )
    behind = tag("details", tag("summary", "The numbers behind this figure"), tag("div", id="versus-table"))
    return join(
        tag("h3", "Critical-size map"),
        paragraph(LEAD.format(reach=BEYOND)),
        paragraph(ROWS) if several else None,
        tag("figure", parts, class_="wide"),
        tag("div", behind, class_="spill"),
    )


def versus_data(analysis: Analysis) -> list[dict[str, Any]]:
    """What the script reads; shares to four decimals, packed."""
    return [_data(one) for one in analysis.maps]


def _data(one: Map) -> dict[str, Any]:
    found, lines = one.found, drawn_crossings(one)
    return {
        "title": one.title,
        "a": found.a,
        "b": found.b,
        "labels": one.labels,
        "sizes": one.sizes,
        "examples": six_digits(found.examples),
        "shares": {"expected": packed_shares(found.expected), "run": packed_shares(found.run)},
        **{name: lines[name].tolist() for name in ("low", "median", "high", "from", "to")},
        "frame": one.frame,
        "crosses": (lines["outcome"] == "overtakes").tolist(),
        "verdicts": lines["verdict"].tolist(),
        "seen": one.seen.to_dict("list"),
    }


def drawn_crossings(one: Map) -> pd.DataFrame:
    """The crossing of each row; of rows where the map is blank throughout, nothing but that."""
    lines = one.found.crossing.reset_index(drop=True)
    blank = np.isnan(one.found.expected).all(axis=1)
    lines.loc[blank, ["low", "median", "high"]] = np.nan
    lines.loc[blank, "outcome"] = "undecided"
    lines.loc[blank, "verdict"] = f"nothing is said: more than {BEYOND:g} times beyond what was seen"
    return lines
