"""The page on paper: every section and figure is there, on white whatever the reader's scheme, and axes agree."""

from __future__ import annotations

import base64
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from page_browser import DRAWN, SCHEMES, show, until

from finescale.report import numbers
from finescale.report.page import SECTIONS, write_page
from finescale.study.analyse import Analysis

pytestmark = pytest.mark.slow

PRINTED = """return Object.fromEntries([...document.querySelectorAll('main > section[id]')]
  .map((one) => [one.id, one.innerText.trim()]))"""


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_print_has_every_section_and_figure_on_white(
    browser: Any, analysis: Analysis, tmp_path: Path, scheme: str
) -> None:
    show(browser, write_page(analysis, tmp_path / "index.html").as_uri(), 1000, scheme)
    browser.execute_script("window.dispatchEvent(new Event('beforeprint'))")
    media = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        assert until(lambda: browser.execute_script(DRAWN))
        said = browser.execute_script(PRINTED)
        assert len(said) == len(SECTIONS) + 1
        titles = browser.execute_script("return [...document.querySelectorAll('h2')].map((one) => one.textContent)")
        for title in titles:
            assert any(text.startswith(title) and len(text) > len(title) + 40 for text in said.values()), title
        colours = browser.execute_script(
            "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
        )
        assert colours == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
        inks = browser.execute_script(
            "return [...document.querySelectorAll('.plot')].map((plot) => plot._fullLayout.font.color)"
        )
        assert set(inks) == {"#5d5a54"}
        printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "paperWidth": 8.27})
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        browser.execute_script("window.dispatchEvent(new Event('afterprint'))")
    pdf = base64.b64decode(printed["data"])
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 5


def test_ticks_are_the_same_on_the_page_and_in_figures(browser: Any) -> None:
    source = files("finescale.report").joinpath("assets", "figures.js").read_text(encoding="utf-8")
    (function,) = re.findall(r"^function niceTicks.*?^}$", source, re.S | re.M)
    browser.get("data:text/html,<title>ticks</title>")
    ends = [(250, 4000), (1, 10), (3, 7.7), (62.5, 16_000), (55_540, 2_210_000), (0.002, 0.3), (999.5, 1001), (1, 1e9)]
    for low, high in ends:
        for most in (4, 5, 6, 9):
            drawn = browser.execute_script(f"{function}; return niceTicks(...arguments)", low, high, most)
            assert drawn == pytest.approx(numbers.ticks(low, high, most)), (low, high, most)
