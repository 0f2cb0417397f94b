"""The paper's claims with their verdicts, as ``finescale tables`` judged them on the runs there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from finescale.report import numbers
from finescale.report.markup import join, tag
from finescale.report.section import Section, listed, paragraph
from finescale.report.series import Plotted
from finescale.report.tables import Column, cell, estimate, rows_of, table

if TYPE_CHECKING:
    from finescale.study.analyse import Analysis

TITLE = "What the paper claims"
OVERALL = "overall"


def claims_section(analysis: Analysis, shown: Plotted) -> Section:
    """A verdict per claim; judging them takes minutes, so the page shows what was judged before, or says how to."""
    if analysis.claims is None:
        body = paragraph(
            "The paper's claims have not been judged on the runs as they are now. ",
            tag("code", "finescale tables"),
            " judges them, which can take minutes; the next report then shows the verdicts.",
        )
        return Section("claims", TITLE, "Claims", body)
    found = analysis.claims[analysis.claims["task"] == OVERALL]
    columns = [
        Column("Claim", cell("claim"), kind=""),
        Column("Verdict", lambda row: _tone(row["verdict"]), kind=""),
        Column("Statistic", lambda row: estimate(row["statistic"], row["low"], row["high"], numbers.significant)),
        Column("Runs", lambda row: numbers.whole(row["runs"])),
        Column("In words", cell("sentence"), kind="text"),
    ]
    lead = paragraph(
        "Claims of Zhang et al. (ICLR 2024), judged on this study's runs: each holds, fails or is undecided. The "
        f"verdicts are those on file, {_judge(found)}. ",
        tag("code", "finescale claims"),
        " prints the rule and what would decide an open one.",
    )
    return Section("claims", TITLE, "Claims", join(lead, table("Claims and verdicts", columns, rows_of(found))))


def _judge(found: pd.DataFrame) -> str:
    """Which version judged, where the file says it."""
    versions = sorted(set(found["version"].dropna().astype(str))) if "version" in found else []
    return f"judged by finescale {listed(versions)}" if versions else "which do not say the version that judged"


def _tone(verdict: Any) -> object:
    return tag("span", verdict, class_=None if verdict == "holds" else "warn" if verdict == "fails" else "soft")
