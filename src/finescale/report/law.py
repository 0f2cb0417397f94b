"""The fitted law: its formula, its parameters with intervals, and what the data can and cannot tell about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd

from finescale.report import numbers
from finescale.report.correlated import correlations_part
from finescale.report.markup import Html, join, tag
from finescale.report.mathematics import mathematics, symbol
from finescale.report.section import Section, paragraph
from finescale.report.series import Plotted
from finescale.report.tables import Column, estimate, first, table, telling

if TYPE_CHECKING:
    from finescale.stats.fits import Fits
    from finescale.study.analyse import Analysis

FACTORS = {
    "model_params": "the base's parameters without embeddings",
    "pretrain_tokens": "the base's pretraining tokens",
    "pet_params": "the parameters that the method trains",
}


def law_section(analysis: Analysis, shown: Plotted) -> Section:
    """The law behind the answer: fitted to all runs that learned, the held-out ones among them."""
    fits = analysis.final
    parameters = fits.table(shown.level)
    laws = [_law(fits, str(law), rows, shown.level) for law, rows in parameters.groupby("law", sort=False)]
    held = len(analysis.fits.held_out(shown.level))
    which = "These estimates, the crossings and the answer use every run that learned"
    lead = paragraph(f"{which}, the {held} that the figure shows as held out included." if held else f"{which}.")
    sources = paragraph("Sources: ", "; ".join(fits.citations()), ".", class_="small soft")
    return Section("law", "The fitted law", "Law", join(laws, _statuses(fits), lead, correlations_part(fits), sources))


def _law(fits: Fits, law: str, rows: pd.DataFrame, level: float) -> Html:
    """A law in words, and a table with one row per group and one column per parameter."""
    meanings = rows.drop_duplicates("parameter").set_index("parameter")
    groups = [group for _, group in rows.groupby(list(fits.by), sort=False)] if fits.by else [rows]
    columns = [
        *telling([Column(by.replace("_", " ").capitalize(), _level(by), kind="") for by in fits.by], groups),
        *(Column(symbol(name), _value(name), meanings.loc[name, "unit"]) for name in meanings.index),
        *telling([Column("Weight", lambda group: numbers.percent(group["weight"].iloc[0]))], groups),
        Column("Status", first("status"), kind=""),
    ]
    caption = f"Parameters with {numbers.percent(level)} intervals" if rows["low"].notna().any() else "Settings"
    return join(_in_words(fits, law, meanings), table(caption, columns, groups))


def _level(name: str) -> Callable[[Any], str]:
    return lambda group: numbers.level(name, group[name].iloc[0])


def _value(name: str) -> Callable[[Any], Html]:
    def cell(group: pd.DataFrame) -> Html:
        row = group[group["parameter"] == name].iloc[0]
        return estimate(row["estimate"], row["low"], row["high"], numbers.significant)

    return cell


def _in_words(fits: Fits, law: str, meanings: pd.DataFrame) -> Html:
    """The law as mathematics and its letters in words; a forecaster that combines rules has no formula to show."""
    formulas = [member.law.formula for fit in fits.groups for member in fit.members if member.law.name == law]
    letters = [(symbol(str(name)), f": {row['meaning']}; ") for name, row in meanings.iterrows()]
    if formulas:
        formula = paragraph(f"The {law} law: ", mathematics(formulas[0]), class_="formula")
        return join(formula, paragraph("Here ", symbol("L"), " is the test loss; ", letters, _factors(fits), "."))
    rules = (
        f"The forecaster {law} weighs several rules by how well each foretold the larger sizes from the smaller ones "
        "within this data; it has no single formula. Its settings: "
    )
    return paragraph(rules, letters, "each in the table below.")


def _factors(fits: Fits) -> Html:
    """What D stands for, and X; laws of several factors name each in the meaning of its exponent."""
    one = join(" and ", symbol("X"), f" is {FACTORS[fits.factor[0]]}") if len(fits.factor) == 1 else None
    return join(symbol("D"), " is the number of examples", one)


def _statuses(fits: Fits) -> Html:
    """The outcome of each fit as a sentence with its next step."""
    several = len({fit.group.key.get("task") for fit in fits.groups}) > 1
    items = [
        tag("li", tag("b", _label(fit.group.key, several)), ": ", _tone(fit.status.name), " – ", fit.status.sentence)
        for fit in fits.groups
    ]
    return tag("ul", items, class_="note small")


def _label(key: dict[str, Any], with_task: bool) -> str:
    return ", ".join(numbers.level(*one) for one in key.items() if with_task or one[0] != "task") or "all runs"


def _tone(status: str) -> Html:
    return tag("span", status, class_=None if status == "Converged" else "warn")
