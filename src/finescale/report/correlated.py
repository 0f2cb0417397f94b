"""How the law's parameters hang together: their correlations over the fit's draws, as numbers, shades and words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from finescale.report import numbers
from finescale.report.markup import Html, join, tag
from finescale.report.mathematics import symbol
from finescale.report.section import listed, paragraph
from finescale.report.tables import framed
from finescale.stats.auto_fit import AutoFit
from finescale.stats.laws import Array
from finescale.stats.status import undetermined

if TYPE_CHECKING:
    from finescale.stats.fits import Fits, GroupFit

STRONG = 0.9
"""Beyond this correlation two parameters are read together."""
MOST_SHOWN = 24
HUES = {1: "0,114,178", -1: "213,94,0"}
LEAD = (
    "Correlations of the parameters over the same draws that give their intervals (of coefficients, of their "
    "logarithms). Two that go together beyond {strong:g} trade off: the data tell their combination, and hardly either "
    "alone. Nothing is said of a parameter at a bound, or that the data leave open."
)


def correlation_table(fits: Fits) -> pd.DataFrame:
    """One row per group and pair of parameters.

    Returns:
        The ``by`` columns, ``law, first, second``, ``r`` (over the draws; NaN if one never moves) and ``judged``
        (whether the data determine both).
    """
    rows = [
        {**fit.group.key, "law": fit.member.law.name, "first": a, "second": b, "r": r, "judged": {a, b} <= known}
        for fit in _with_parameters(fits)
        for matrix, known in [(_matrix(fits, fit), _determined(fit))]
        for a, b, r in _pairs(*matrix)
    ]
    return pd.DataFrame(rows, columns=[*fits.by, "law", "first", "second", "r", "judged"])


def _with_parameters(fits: Fits) -> list[GroupFit]:
    """Groups with a law of more than one parameter."""
    lawful = [fit for fit in fits.groups if fit.fitted and not isinstance(fit, AutoFit)]
    return [fit for fit in lawful if fit.member.theta.size + fit.member.coef.size > 1]


def _matrix(fits: Fits, fit: GroupFit) -> tuple[list[str], Array]:
    """Names of the parameters (P,) and their correlations (P, P)."""
    found = fits.correlations(**fit.group.key)
    return [str(name) for name in found], found.to_numpy(dtype=float)


def _determined(fit: GroupFit) -> set[str]:
    names = {p.name for p in fit.member.law.parameters(fit.member.factors[:-1])}
    return names - undetermined(fit.group, fit.member)


def _pairs(names: list[str], matrix: Array) -> Iterator[tuple[str, str, float]]:
    for i, a in enumerate(names):
        for j, b in enumerate(names[i + 1 :], start=i + 1):
            yield a, b, float(matrix[i, j])


# ------------------------------------------------------------------------------------------------------------ the page


def correlations_part(fits: Fits) -> Html | None:
    """A matrix per group, and what it says; None where no fit has parameters."""
    groups = _with_parameters(fits)
    if not groups:
        return None
    matrices = [_shown(fits, fit) for fit in groups[:MOST_SHOWN]]
    left = len(groups) - len(matrices)
    more = paragraph(f"{left} more groups are in the CSV.", class_="small soft") if left else None
    grid = tag("div", matrices, class_="matrices")
    key = paragraph(
        "Blue: they rise together. Orange: one rises as the other falls. The fuller the shade, the closer.",
        class_="small soft",
    )
    return join(
        tag("h3", "Correlations of the parameters"),
        paragraph(LEAD.format(strong=STRONG)),
        _findings(fits),
        tag("details", tag("summary", "Every matrix"), key, grid, more, class_="spill"),
    )


def _findings(fits: Fits) -> Html:
    """Pairs that trade off, by group, in words."""
    found = correlation_table(fits)
    strong = found[found["judged"] & (found["r"].abs() > STRONG)]
    if strong.empty:
        open_ = "" if found["judged"].any() else ", for the data determine no two of them"
        return paragraph(f"No two determined parameters are correlated beyond {STRONG:g}{open_}.")
    items = []
    for key, part in strong.groupby(list(fits.by), sort=False) if fits.by else [((), strong)]:
        named = ", ".join(map(numbers.level, fits.by, key)) or "all runs"
        pairs = [f"{_plain(row['first'])} and {_plain(row['second'])} (r = {_r(row['r'])})" for row in _rows(part)]
        items.append(tag("li", tag("b", named), f": {listed(pairs)}: read them together, not one by one."))
    return tag("ul", items, class_="note small")


def _rows(part: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in part.to_dict("records")]


def _plain(name: Any) -> str:
    return str(name).replace("_", " ")


def _r(value: Any) -> str:
    return numbers.fixed(value, 2)


def _shown(fits: Fits, fit: GroupFit) -> Html:
    (names, matrix), known = _matrix(fits, fit), _determined(fit)
    head = tag("tr", tag("td", ""), [tag("th", symbol(name), scope="col", class_="num") for name in names])
    lines = [
        tag(
            "tr",
            tag("th", symbol(a), scope="row"),
            [_cell(r, a == b, {a, b} <= known) for b, r in zip(names, line, strict=True)],
        )
        for a, line in zip(names, matrix, strict=True)
    ]
    open_ = [name for name in names if name not in known]
    label = ", ".join(map(numbers.level, fit.group.key, fit.group.key.values())) or "all runs"
    label += f"; not judged: {listed(open_)}" if open_ else ""
    return framed(label, tag("table", tag("thead", head), tag("tbody", lines)), "matrix")


def _cell(r: float, same: bool, judged: bool) -> Html:
    """A coefficient on a shade of its sign and size; a pair that is not judged is set softly, without a shade."""
    if same or not numbers.known(r):
        return tag("td", "" if same else numbers.MISSING, class_="num soft")
    shade = f"background: rgba({HUES[1 if r > 0 else -1]},{0.5 * abs(r):.2f})" if judged else None
    return tag("td", _r(r), class_="num" if judged else "num soft", style=shade)
