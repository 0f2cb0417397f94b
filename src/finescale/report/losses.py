"""The figure a study is about: loss against examples, one a task, with the numbers behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pandas as pd

from finescale.report import numbers
from finescale.report.along import along_figure
from finescale.report.markup import Html, join, tag
from finescale.report.section import Section, listed, paragraph, plural
from finescale.report.series import Plotted
from finescale.report.tables import Column, table
from finescale.stats import units

if TYPE_CHECKING:
    from finescale.study.analyse import Analysis

FILLED = "fill: currentColor"
RINGED = "fill: currentColor; stroke: var(--ink); stroke-width: 2.2"
HOLLOW = "fill: none; stroke: currentColor; stroke-width: 1.4"


def loss_section(analysis: Analysis, shown: Plotted) -> Section:
    """Panels that the page's script draws; what they show is said in words and in a table too."""
    lead = paragraph(
        "Each dot is one finetuning run, scored on the whole test set. Lines are the law, fitted without the runs that "
        f"are marked as held out or flagged; the shade is where its curve lies with {numbers.percent(shown.level)} "
        "probability." + (" The dashed line is the base before any finetuning." if len(shown.untouched) else "")
    )
    figures = [
        join(_figure(shown, task, number), along_figure(shown, task))
        for number, task in enumerate(shown.tasks(), start=1)
    ]
    return Section("loss", "Loss against each factor", "Losses", join(lead, figures))


def _figure(shown: Plotted, task: str, number: int) -> Html:
    points, _, _ = shown.of_task(task)
    parts = (
        tag("div", class_="controls"),
        tag("p", numbers.with_unit("Test loss", shown.unit), class_="axis"),
        tag("div", class_="panels"),
        tag("p", "Finetuning examples, on a logarithmic scale", class_="axis"),
        _key(points, shown.scale(task).loss[1]),
        tag("noscript", paragraph("The figure needs JavaScript; the table below holds its numbers.")),
        tag("figcaption", tag("b", f"Figure {number}. "), _caption(points, task)),
    )
    figure = tag("figure", parts, class_="multiples wide", data_task=task, data_per="base")
    means = tag("details", tag("summary", "The numbers behind this figure"), _means(shown, task), class_="spill")
    return join(figure, means)


def _caption(points: pd.DataFrame, task: str) -> str:
    sizes, flagged = points["examples"], int((points["flag"] != "").sum())
    return (
        f"Task {task}: {plural(len(points), 'run')} on {plural(points['base_label'].nunique(), 'base')}, "
        f"{numbers.whole(sizes.min())} to {numbers.whole(sizes.max())} examples"
        + (f"; {plural(flagged, 'run')} flagged" if flagged else "")
        + ("" if points["drawn"].all() else f"; {points['drawn'].sum():,} of them drawn, evenly picked")
        + ". Point at a dot for its run, learning rate, seed and command."
    )


def _key(points: pd.DataFrame, top: float) -> Html:
    """What the marks mean, naming only marks that are there."""
    flagged = points[points["flag"] != ""]
    marks = [tag("span", _dot(FILLED), "fitted")]
    if points["held_out"].any():
        marks.append(tag("span", _dot(RINGED), "held out of the fit"))
    if len(flagged):
        marks.append(tag("span", _dot(HOLLOW), f"kept out of the fit: {listed(sorted(set(flagged['flag'])))}"))
    if not (flagged["loss"] <= top).all():
        marks.append(tag("span", "△ the same, where the loss is above the scale or not finite"))
    return tag("div", marks, class_="key")


def _dot(style: str) -> Html:
    circle = tag("circle", cx="12", cy="7", r="4", style=style)
    return tag("svg", circle, viewBox="0 0 24 14", aria_hidden="true")


def _means(shown: Plotted, task: str) -> Html:
    """Mean loss over seeds per base, examples and method, beside the untouched base."""
    points, _, untouched = shown.of_task(task)
    fine = points[points["flag"] == ""]
    means = fine.pivot_table(index=["base_label", "examples"], columns="method_label", values="loss", aggfunc="mean")
    zero = untouched.set_index("base_label")["zero_loss"]
    columns = [
        Column("Base", lambda key: key[0], kind=""),
        Column("Examples", lambda key: numbers.whole(key[1])),
        *([Column("untouched", lambda key: numbers.fixed(zero.get(key[0])))] if len(zero) else []),
        *(Column(name, _mean(means, name)) for name in shown.methods if name in means),
    ]
    order = sorted(means.index, key=lambda key: (shown.bases.index(key[0]), key[1]))
    said = units.said(shown.unit)
    return table(f"{task}: test {said}, mean over seeds, flagged runs left out", columns, order)


def _mean(means: pd.DataFrame, method: str) -> Callable[[Any], str]:
    return lambda key: numbers.fixed(means.loc[key, method])
