"""The head of the page: the question, and the answer or the refusal, in the words of the advice itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from finescale.report import numbers
from finescale.report.markup import Html, join, tag
from finescale.report.section import paragraph, plural
from finescale.report.series import method_labels
from finescale.report.tables import Column, cell, estimate, rows_of, table, telling
from finescale.stats.advise import spoken_unit
from finescale.stats.checks import calibration

if TYPE_CHECKING:
    from finescale.stats.advise import Advice
    from finescale.study.analyse import Analysis

MOST_CANDIDATES = 8
OF_TABLE = (
    "There is no study behind this page, so it says nothing of pretraining, text, cost, or abilities before and after; "
    "finescale claims judges the paper's claims on the same table."
)


def head(analysis: Analysis) -> Html:
    """Name, question, answer: what a reader in a hurry reads."""
    title = tag("h1", analysis.question or analysis.name)
    if analysis.table:
        kicker = tag("p", "From a table of runs", class_="kicker")
        return join(tag("header", kicker, title, paragraph(OF_TABLE, class_="small soft")), answer(analysis))
    kicker = tag("p", "A finetuning scaling study: ", analysis.name, class_="kicker")
    return join(tag("header", kicker, title), answer(analysis))


def answer(analysis: Analysis) -> Html:
    """The first advice at length, the others a sentence each; each with its candidates."""
    if not analysis.advice:
        said = paragraph("No advice was asked of this study.", class_="lead refusal")
        return tag("section", said, class_="answer", id="answer", aria_label="The answer")
    first, *others = analysis.advice
    more = [tag("h3", "Also asked"), *(_also(analysis, one) for one in others)] if others else None
    return tag("section", _lead(analysis, first), more, class_="answer", id="answer", aria_label="The answer")


def _lead(analysis: Analysis, advice: Advice) -> Html:
    lead = paragraph(advice.sentence, class_="lead refusal" if advice.refused else "lead")
    return join(lead, _beside(analysis, advice), candidates(advice, spoken_unit(analysis.final).strip()))


def _beside(analysis: Analysis, advice: Advice) -> list[Html]:
    """What a reader should hold against the answer: the best run really seen, and a fit that is not sound."""
    if advice.best is None:
        return []
    runs, best = analysis.runs, advice.best
    same = runs[(runs["task"] == best["task"]) & (runs["examples"] == best["examples"]) & (runs["flag"] == "")]
    status = analysis.final.find(**best).status
    notes = []
    if len(same):
        seen = same.loc[same["loss"].idxmin()]
        loss = f"{numbers.fixed(seen['loss'])}{spoken_unit(analysis.final)}"
        what = f"{loss}: {seen['method']} on base {seen['base']}, one run"
        notes.append(paragraph(f"The lowest loss seen with {numbers.whole(best['examples'])} examples is {what}."))
    if status.name != "Converged":
        name = tag("b", status.name, class_="warn")
        notes.append(paragraph("The fit behind this forecast is ", name, f": {status.sentence}", class_="refusal"))
    return [*notes, *(paragraph(said) for said in held_against(analysis, advice))]


def held_against(analysis: Analysis, advice: Advice) -> Iterator[str]:
    """What measured calibration says of such intervals, the price of the labels, and where the answer turns."""
    assert advice.best is not None
    found = calibration(analysis.fits, [analysis.level])
    if len(found):
        row = found.iloc[0]
        held = f"Of {plural(int(row['runs']), 'loss', 'losses')} held out of the fit"
        yield f"{held}, the {analysis.level:.0%} intervals held {int(row['inside'])}, {_calibrated(row)}."
    if (price := analysis.prices.get("label")) is not None:
        many = advice.best["examples"]
        yield f"At {price:g} USD a label, {numbers.whole(many)} examples cost {numbers.whole(price * many)} USD."
    if advice.runner_up is not None and (turn := _turn(analysis.crossings, advice.best, advice.runner_up)):
        yield f"What would change the answer: {turn.rstrip('.')}."


def _calibrated(row: pd.Series[Any]) -> str:
    """How an actual coverage compares with what chance would give of the nominal one, in words."""
    if row["actual"] < row["low"]:
        return "fewer than chance would explain: read the interval as too narrow"
    if row["actual"] > row["high"]:
        return "more than chance would explain: the interval is wider than it need be"
    return "as many as chance would have them hold"


def _turn(crossings: pd.DataFrame, best: dict[str, Any], other: dict[str, Any]) -> str:
    """Where the best and the runner-up cross on one base; nothing where they are of two bases, or one method."""
    pair = {best["method"], other["method"]}
    if len(pair) == 1 or best["base"] != other["base"]:
        return ""
    rows = (row for row in crossings.to_dict("records") if {row["a"], row["b"]} == pair)
    here = (row for row in rows if (row["task"], row["base"]) == (best["task"], best["base"]))
    return next((str(row["verdict"]) for row in here), "")


def _also(analysis: Analysis, advice: Advice) -> Html:
    summary = tag("details", tag("summary", "Candidates"), candidates(advice, spoken_unit(analysis.final).strip()))
    return tag("div", paragraph(advice.sentence, class_="refusal" if advice.refused else None), summary)


def candidates(advice: Advice, unit: str) -> Html:
    """The candidates, the likeliest first, each with its forecast as numbers and as a line on a common scale."""
    asked = "p_target" if advice.table["p_target"].notna().any() else "p_best"
    labelled = advice.table.assign(method=method_labels(advice.table))
    ranked = labelled.sort_values([asked, "median"], ascending=[False, True], kind="stable")
    best = ranked.head(MOST_CANDIDATES)
    rows, left = rows_of(best), len(ranked) - len(best)
    caption = "The candidates" + (f"; {plural(left, 'less likely one')} left out" if left else "")
    return table(caption, _columns(best, rows, asked, unit), rows)


def _columns(best: pd.DataFrame, rows: list[Any], asked: str, unit: str) -> list[Column]:
    scale = (best["low"].min(), best["high"].max())
    sure = ("Best" if asked == "p_best" else "Meets the target", _probability(asked), "probability")
    names = [name for name in ("task", "method", "base") if name in best]
    return [
        *telling([Column(name.capitalize(), cell(name), kind="") for name in names], rows),
        Column("Examples", lambda row: numbers.whole(row["examples"])),
        *([Column(*sure)] if asked != "p_best" or len(rows) > 1 else []),  # one alone is best of nothing
        Column("Forecast", _forecast, ", ".join(filter(None, [unit, "with the interval of a new run"]))),
        Column("", lambda row: _strip(row, scale), kind=""),
        *telling([Column("Refused", cell("refused"), kind="text")], rows),
    ]


def _probability(name: str) -> Callable[[Any], str]:
    return lambda row: numbers.probability(row[name])


def _forecast(row: pd.Series[Any]) -> Html:
    return estimate(row["median"], row["low"], row["high"], numbers.fixed)


def _strip(row: pd.Series[Any], scale: tuple[float, float], width: int = 150) -> Html | None:
    """The interval as a line with the median as a dot; the numbers beside it say the same."""
    if not numbers.known(row["median"]) or scale[0] >= scale[1]:
        return None
    low, middle, high = (
        4 + (width - 8) * (row[name] - scale[0]) / (scale[1] - scale[0]) for name in ("low", "median", "high")
    )
    line = tag("line", x1=f"{low:.1f}", x2=f"{high:.1f}", y1="7", y2="7", stroke="currentColor", stroke_width="1.5")
    dot = tag("circle", cx=f"{middle:.1f}", cy="7", r="3.6", fill="currentColor")
    return tag("svg", line, dot, viewBox=f"0 0 {width} 14", width=width, height=14, aria_hidden="true", class_="strip")
