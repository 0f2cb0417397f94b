"""Formulas and parameter names, written as ``A·X^-alpha`` in plain text, set as mathematics."""

from __future__ import annotations

import re

from finescale.report.markup import Html, join, tag

GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ"}
_PIECE = re.compile(r"(?P<minus>\^-|\^)?(?P<name>[A-Za-z]+(?:_[A-Za-z0-9]+|\d+)?|\d+)")


def symbol(name: str) -> Html:
    """A parameter's name: Greek where it spells a letter, an index lowered; a name of several words as those words."""
    stem, _, index = name.partition("_")
    if len(index) > 2:
        return tag("var", name.replace("_", " "))
    if not index and (match := re.fullmatch(r"([A-Za-z]+)(\d+)", name)):
        stem, index = match.groups()
    return join(tag("var", GREEK.get(stem, stem)), tag("sub", index) if index else None)


def mathematics(formula: str) -> Html:
    """A formula with powers raised and names as ``symbol`` sets them; words of more than two letters stay upright."""
    pieces: list[object] = []
    end = 0
    for match in _PIECE.finditer(formula):
        pieces.append(formula[end : match.start()])
        pieces.append(_raised(match["minus"], _set(match["name"])))
        end = match.end()
    return tag("span", pieces, formula[end:], class_="math")


def _set(name: str) -> object:
    stem = name.partition("_")[0].rstrip("0123456789")
    return symbol(name) if stem in GREEK or len(stem) == 1 else name


def _raised(mark: str | None, content: object) -> object:
    return content if mark is None else tag("sup", mark.replace("^", "").replace("-", "−"), content)
