"""Forecasts against runs that the fit never saw: the test that a law has to pass here, on this data."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd

from finescale.report import numbers
from finescale.report.checks import calibration_parts
from finescale.report.markup import Html, join, tag
from finescale.report.section import Section, listed, paragraph, plural
from finescale.report.series import Plotted
from finescale.report.tables import Column, cell, estimate, first, rows_of, table, telling
from finescale.stats.checks import calibration
from finescale.stats.select import rank_tested

if TYPE_CHECKING:
    from finescale.stats.fits import Fits
    from finescale.study.analyse import Analysis

TITLE = "Forecasts against runs held out"
MOST_SHOWN = 300
LEVELS = {
    "examples": ("number of examples", "numbers of examples"),
    "model_params": ("base", "bases"),
    "pretrain_tokens": ("pretraining size", "pretraining sizes"),
    "pet_params": ("PET size", "PET sizes"),
}


def held_out_section(analysis: Analysis, shown: Plotted) -> Section:
    """How far the law's forecasts were off, by method and run by run, and how its rivals did."""
    held = _labelled(analysis.fits, shown)
    if held.empty:
        body = paragraph("Nothing was held out of the fit, so its forecasts are untested on this task.", class_="warn")
        return Section("held-out", TITLE, "Held out", body)
    tested = calibration(analysis.fits)
    every = tag("details", tag("summary", "Run by run"), _runs(held, shown), class_="spill")
    body = join(
        paragraph(_words(analysis.fits, held, shown.level)),
        _summary(held),
        _rivals(analysis, shown),
        every,
        calibration_parts(tested) if len(tested) else None,
    )
    return Section("held-out", TITLE, "Held out", body)


def _labelled(fits: Fits, shown: Plotted) -> pd.DataFrame:
    held = fits.held_out(shown.level)
    return held if held.empty else held.join(shown.points.set_index("run")[["method_label", "base_label"]], on="run")


def _words(fits: Fits, held: pd.DataFrame, level: float) -> str:
    kept = [_largest(LEVELS[name], count) for name, count in fits.about["hold_out"].items() if count]
    inside = f"{_inside(held).sum()} of {plural(len(held), 'loss', 'losses')}"
    middle, worst = (numbers.percent(error, 1) for error in held["relative_error"].quantile([0.5, 1.0]))
    if len(held) == 1:
        where = "inside" if _inside(held).all() else "outside"
        return (
            f"Before this fit, 1 run was kept out: {listed(kept)}. The law then forecast it. Its median was off by "
            f"{worst} of the loss, which lies {where} its {numbers.percent(level)} interval. One run tells little."
        )
    return (
        f"Before this fit, {plural(len(held), 'run')} were kept out: {listed(kept)}. The law then forecast them. Its "
        f"median was off by {middle} of the loss in the middle case and by {worst} in the worst; {inside} lie inside "
        f"their {numbers.percent(level)} interval."
    )


def _largest(levels: tuple[str, str], count: int) -> str:
    return f"the largest {levels[0]}" if count == 1 else f"the {count} largest {levels[1]}"


def _inside(held: pd.DataFrame) -> pd.Series[bool]:
    return (held["observed"] >= held["low"]) & (held["observed"] <= held["high"])


def _summary(held: pd.DataFrame) -> Html:
    parts = [part for _, part in held.groupby(["task", "method_label"], sort=False)]
    columns = [
        *telling([Column("Task", first("task"), kind="")], parts),
        Column("Method", first("method_label"), kind=""),
        Column("Runs", lambda part: numbers.whole(len(part))),
        Column("Mean error", lambda part: numbers.percent(part["relative_error"].mean(), 1), "of the loss"),
        Column("Worst error", lambda part: numbers.percent(part["relative_error"].max(), 1), "of the loss"),
        Column("Bias", lambda part: numbers.fixed(part["error"].mean()), "forecast − observed"),
        Column("Inside", lambda part: f"{_inside(part).sum()} of {len(part)}", "the interval"),
        Column("Furthest", lambda part: f"{numbers.significant(part['reach'].max(), 2)} ×", "beyond the support"),
    ]
    return table("Error on held-out runs, by method", columns, parts)


def _rivals(analysis: Analysis, shown: Plotted) -> Html:
    """Other laws on the same held-out runs: how far each was off, and what the data can tell of the difference."""
    handed = "" if analysis.table else f"finescale table {shlex.quote(analysis.name)} --out runs.csv; "
    command = f"{handed}finescale compare {shlex.quote(analysis.table or 'runs.csv')}"
    more = join(tag("code", command), " holds out one level after the other.")
    if not analysis.others:
        return paragraph("No other law was tested on these runs. ", more)
    laws = {analysis.fits.law: analysis.fits, **analysis.others}
    tested = {law: _labelled(fits, shown) for law, fits in laws.items()}
    ranked, verdict = rank_tested(laws)
    rank = {str(row["law"]): row for row in ranked.to_dict("records")}
    columns = [
        Column("Law", lambda law: law, kind=""),
        Column("Mean error", lambda law: numbers.percent(rank.get(law, {}).get("error"), 2), "of the loss"),
        Column("Behind the best", lambda law: _behind(rank.get(law)), "with a 90% interval"),
        Column("Inside", lambda law: numbers.percent(rank.get(law, {}).get("coverage")), "of its 90% intervals"),
        *(Column(method, _mean_error(tested, method), "mean error") for method in shown.methods),
        Column("", lambda law: "used for the answer" if law == analysis.fits.law else "", kind=""),
    ]
    order = [*rank, *(law for law in tested if law not in rank)]
    found = table("Laws on the same held-out runs", columns, order, lambda law: law == analysis.fits.law)
    said = f"On the runs that all of them forecast: {verdict}. The law used is the one asked for, whichever errs least."
    return join(tag("h3", "Laws against each other"), paragraph(said), found, paragraph(more, class_="small soft"))


def _behind(row: dict[Any, Any] | None) -> object:
    if row is None:
        return join(numbers.MISSING, tag("small", "could not forecast them"))
    if not row["behind"]:
        return "best"
    return estimate(row["behind"], row["behind_low"], row["behind_high"], lambda value: numbers.percent(value, 2))


def _mean_error(tested: dict[str, pd.DataFrame], method: str) -> Callable[[Any], str]:
    def mean(law: str) -> str:
        held = tested[law]
        if held.empty:
            return numbers.MISSING
        return numbers.percent(held.loc[held["method_label"] == method, "relative_error"].mean(), 1)

    return mean


def _runs(held: pd.DataFrame, shown: Plotted) -> Html:
    columns = [
        Column("Base", cell("base_label"), kind=""),
        Column("Method", cell("method_label"), kind=""),
        Column("Examples", lambda row: numbers.whole(row["examples"])),
        Column("Seed", lambda row: numbers.whole(row["seed"])),
        Column("Observed", lambda row: numbers.fixed(row["observed"]), shown.unit),
        Column(
            "Forecast",
            lambda row: estimate(row["median"], row["low"], row["high"], numbers.fixed),
            f"{numbers.percent(shown.level)} interval for one run",
        ),
        Column("Error", lambda row: numbers.percent(row["relative_error"], 1), "of the loss"),
        Column("Run", lambda row: tag("span", row["run"], class_="mono"), kind=""),
    ]
    worst = held.nlargest(MOST_SHOWN, "relative_error").sort_index()
    which = "every held-out run" if len(worst) == len(held) else f"the {MOST_SHOWN} held-out runs furthest off"
    return table(f"Observed and forecast loss of {which}", columns, rows_of(worst))
