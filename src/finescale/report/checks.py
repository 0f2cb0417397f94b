"""What the law leaves over, run by run, and how often its intervals held: two figures with their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from finescale.report import numbers
from finescale.report.markup import Html, join, tag
from finescale.report.section import Section, paragraph, plural
from finescale.report.series import Plotted
from finescale.report.tables import Column, cell, rows_of, table, telling
from finescale.stats.checks import calibration

if TYPE_CHECKING:
    from finescale.study.analyse import Analysis

TITLE = "What the law leaves over"
WORDS = {
    "examples": "Finetuning examples",
    "model_params": "Model parameters",
    "pretrain_tokens": "Pretraining tokens",
    "pet_params": "Trained parameters",
}
MOST_ROWS = 300
LONG = 14


def residuals_section(analysis: Analysis, shown: Plotted) -> Section:
    """Observed over fitted loss against each factor, by method; the pattern a wrong law would show."""
    points = fitted_points(shown)
    if points.empty:
        body: Html = paragraph("Nothing was fitted, so there is nothing to be left over.")
        return Section("residuals", TITLE, "Residuals", body)
    lead = paragraph(
        "Each dot is a run: how far its loss lies above or below the curve that was fitted without the runs held out, "
        "in per cent of that curve. Around the line at 0 without a pattern is what a right law leaves; a bend along a "
        "factor is what it misses. Ringed runs were held out."
    )
    return Section("residuals", TITLE, "Residuals", join(lead, [_figure(shown, task) for task in shown.tasks()]))


def fitted_points(shown: Plotted) -> pd.DataFrame:
    """The runs that have a place on a curve and may be held against it."""
    points = shown.points
    return points[(points["flag"] == "") & points["residual"].notna()]


def factors_of(points: pd.DataFrame) -> list[str]:
    """Factors that vary, the examples first."""
    return [name for name in WORDS if name in points and points[name].nunique() > 1]


def _figure(shown: Plotted, task: str) -> Html | None:
    points = fitted_points(shown)
    own = points[points["task"] == task]
    if own.empty:
        return None
    panels = [_panel(name) for name in factors_of(own) or ["examples"]]
    parts = (
        tag("p", "Observed less fitted loss, per cent of the fitted", class_="axis"),
        tag("div", panels, class_="panels"),
        tag("div", class_="key"),
        tag("noscript", paragraph("The figure needs JavaScript; the table below holds its numbers.")),
        tag("figcaption", _caption(own, task)),
    )
    behind = tag("details", tag("summary", "The numbers behind this figure"), _levels(own), class_="spill")
    return join(tag("figure", parts, class_="residuals wide", data_task=task), behind)


def _panel(name: str) -> Html:
    plot = tag("div", class_="plot", role="img", aria_label=f"Residuals against {WORDS[name].lower()}")
    return tag("div", tag("h4", WORDS[name], class_="panel-title"), plot, class_="residual-panel", data_factor=name)


def _caption(own: pd.DataFrame, task: str) -> str:
    spread = own.groupby("method_label", sort=False)["residual"].apply(lambda part: float(np.sqrt((part**2).mean())))
    said = "; ".join(f"{name} {numbers.percent(value, 1)}" for name, value in spread.items())
    return f"Task {task}: root mean square residual of {said}. Methods stand side by side, lest dots hide."


def _levels(own: pd.DataFrame) -> Html:
    """Mean residual and spread by method and level of each factor."""
    rows = [
        {"method": method, "factor": WORDS[name], "level": level, **_of(part["residual"])}
        for name in factors_of(own)
        for (method, level), part in own.groupby(["method_label", name], sort=False)
    ]
    rows = rows_of(pd.DataFrame(rows).head(MOST_ROWS)) if rows else []
    columns = [
        Column("Method", cell("method"), kind=""),
        *telling([Column("Along", cell("factor"), kind="")], rows),
        Column("Level", lambda row: numbers.short(row["level"])),
        Column("Mean residual", lambda row: numbers.percent(row["mean"], 2), "of the fitted loss"),
        Column("Spread", lambda row: numbers.percent(row["spread"], 2), "standard deviation"),
        Column("Runs", lambda row: numbers.whole(row["runs"])),
    ]
    return table("Residuals by method and level", columns, rows, tall=len(rows) > LONG)


def _of(residual: pd.Series[Any]) -> dict[str, float]:
    return {"mean": residual.mean(), "spread": residual.std(), "runs": len(residual)}


# --------------------------------------------------------------------------------------------------------- calibration


def calibration_parts(tested: pd.DataFrame) -> Html:
    """Nominal against actual coverage of the runs held out, as a figure and the table behind it."""
    runs = int(tested["runs"].iloc[0])
    lead = paragraph(
        f"Of {plural(runs, 'loss', 'losses')} that the fit never saw, how many lie inside intervals of each width. "
        "On the line the intervals are as wide as they say; below it they are too narrow. The shade is where the share "
        "would lie with 90% probability by chance alone if runs were independent; those of one base are not quite, and "
        "spread wider."
    )
    parts = (
        tag("p", "Actual coverage, per cent", class_="axis"),
        tag("div", class_="plot plot-of-calibration", id="calibration-plot", role="img", aria_label="Calibration"),
        tag("p", "Nominal coverage, per cent", class_="axis"),
        tag("figcaption", "Nominal and actual coverage of the runs held out; the table below has the numbers."),
    )
    columns = [
        Column("Interval", lambda row: numbers.percent(row["level"]), "nominal"),
        Column("Held the loss", lambda row: numbers.percent(row["actual"]), "actual"),
        Column("Runs inside", lambda row: f"{row['inside']:.0f} of {row['runs']:.0f}"),
        Column("By chance", _range, "90% range"),
    ]
    whole = table("Calibration: nominal and actual coverage of held-out runs", columns, rows_of(tested))
    return join(tag("h3", "Calibration"), lead, tag("figure", parts), whole)


def _range(row: Any) -> str:
    return f"{numbers.percent(row['low'])} to {numbers.percent(row['high'])}"


def calibration_data(analysis: Analysis) -> dict[str, list[Any]]:
    """What the script reads, a list per column; empty lists where nothing was held out."""
    tested = calibration(analysis.fits)
    return {str(name): tested[name].to_list() for name in tested}
