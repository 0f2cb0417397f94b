"""Nothing that is not markup of our own reaches the page as markup."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finescale.report.markup import Html, join, json_block, tag
from finescale.report.mathematics import mathematics, symbol
from finescale.report.packing import columnar

# HTML itself cannot carry NUL and reads a carriage return as a newline.
TEXT = st.text(st.characters(exclude_characters="\0\r", exclude_categories=("Cs",)))
LEAF = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
)
JSON = st.recursive(LEAF, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=12)


class Reader(HTMLParser):
    """Collects tags with attributes, and text."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(TEXT)
def test_any_text_comes_back_as_that_text_and_as_no_tag(text: str) -> None:
    read = Reader(tag("p", text, title=text))
    assert read.text == text
    assert read.tags == [("p", {"title": text})]


@given(JSON)
def test_a_json_block_holds_any_value_and_cannot_be_left(value: object) -> None:
    block = json_block("data", value)
    inside = block.removeprefix('<script id="data" type="application/json">').removesuffix("</script>")
    assert "<" not in inside
    assert json.loads(inside) == value


def test_missing_numbers_stay_missing_and_infinite_ones_stay_apart() -> None:
    block = json_block("data", [float("nan"), float("inf"), -float("inf"), None])
    assert '[null,"infinity","-infinity",null]' in block


def test_attributes_can_be_bare_or_left_out() -> None:
    assert tag("button", "x", disabled=True, title=None, class_="a", aria_label="b") == (
        '<button disabled class="a" aria-label="b">x</button>'
    )
    assert join("a<", None, False, Html("<b></b>"), ["c", 1]) == "a&lt;<b></b>c1"
    assert tag("br") == "<br>"


@pytest.mark.parametrize(
    ("name", "set_as"),
    [
        ("alpha", "<var>α</var>"),
        ("alpha_m", "<var>α</var><sub>m</sub>"),
        ("D0", "<var>D</var><sub>0</sub>"),
        ("E", "<var>E</var>"),
        ("level_pull", "<var>level pull</var>"),
    ],
)
def test_symbols(name: str, set_as: str) -> None:
    assert symbol(name) == set_as


def test_a_formula_is_set_as_mathematics() -> None:
    power = "<var>A</var>·<var>X</var><sup>−<var>α</var></sup>·<var>D</var><sup>−<var>β</var></sup>"
    assert power in mathematics("L = A·X^-alpha·D^-beta + E")
    assert "log <var>L</var>" in mathematics("log L = log A - beta·log D")


@given(TEXT)
def test_a_formula_of_any_text_is_no_markup(text: str) -> None:
    assert {name for name, _ in Reader(mathematics(text)).tags} <= {"span", "var", "sup", "sub"}


@given(st.lists(st.tuples(st.sampled_from([1, 1.0, True, "1", None, float("nan")]), st.integers()), max_size=12))
def test_a_table_with_levels_is_the_table(rows: list[tuple[object, int]]) -> None:
    wanted = pd.DataFrame(rows, columns=["few", "many"], dtype=object)
    table = columnar(wanted)
    cells = [
        [cell if levels is None else levels[cell] for cell, levels in zip(row, table["levels"], strict=True)]
        for row in table["rows"]
    ]
    assert table["columns"] == ["few", "many"]
    assert repr(cells) == repr(wanted.to_numpy().tolist())
    for levels, name in zip(table["levels"], wanted, strict=True):
        assert levels is None or 3 * len(levels) <= len(wanted), name
