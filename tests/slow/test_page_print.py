"""The page on paper: every section and figure is there, dark on white whatever the reader's scheme, and axes agree.

Needs the package ``pypdfium2``, which reads and draws the PDF. Where it is missing the test fails and says so.
"""

from __future__ import annotations

import base64
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_browser import DRAWN, SCHEMES, show, until

from finescale.report import numbers
from finescale.report.page import SECTIONS, write_page
from finescale.study.analyse import Analysis

pytestmark = pytest.mark.slow

PRINTED = """return Object.fromEntries([...document.querySelectorAll('main > section[id]')]
  .map((one) => [one.id, one.innerText.trim()]))"""
LEAD = "return document.querySelector('.answer .lead').textContent"
APART = re.compile(r"[\s\u00ad\ufffe-]")
"""What a line's end adds to words or takes from them: space, and hyphens, which PDFium reads as U+FFFE there."""


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
        answer = browser.execute_script(LEAD)
        printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "paperWidth": 8.27})
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        browser.execute_script("window.dispatchEvent(new Event('afterprint'))")
    written, pages = read(base64.b64decode(printed["data"]))
    assert len(pages) >= 5
    place = 0
    for told in (answer, *titles):
        found = written.find(APART.sub("", told), place)
        assert found >= 0, f"not in the PDF, or out of order: {told}"
        place = found if told != answer else 0
    for number, shades in enumerate(pages, start=1):
        margins = (shades[0], shades[-1], shades[:, 0], shades[:, -1])
        assert all((margin > 250).all() for margin in margins), f"page {number} is not white to its edge"
        assert np.median(shades) > 250, f"page {number} is not ink on white"
    assert min(shades.min() for shades in pages) < 60


def read(pdf: bytes) -> tuple[str, list[Any]]:
    """A PDF's text without space and hyphens, and its pages as shades of grey, 0 to 255."""
    try:
        from pypdfium2 import PdfDocument
    except ImportError:
        pytest.fail("pypdfium2 is not installed: pip install pypdfium2")
    pages = list(PdfDocument(pdf))
    text = "".join(page.get_textpage().get_text_range() for page in pages)
    shades = [page.render(scale=0.4, grayscale=True).to_numpy().squeeze() for page in pages]
    return APART.sub("", text), shades


def test_ticks_are_the_same_on_the_page_and_in_figures(browser: Any) -> None:
    source = files("finescale.report").joinpath("assets", "figures.js").read_text(encoding="utf-8")
    (function,) = re.findall(r"^function niceTicks.*?^}$", source, re.S | re.M)
    browser.get("data:text/html,<title>ticks</title>")
    ends = [(250, 4000), (1, 10), (3, 7.7), (62.5, 16_000), (55_540, 2_210_000), (0.002, 0.3), (999.5, 1001), (1, 1e9)]
    for low, high in ends:
        for most in (4, 5, 6, 9):
            drawn = browser.execute_script(f"{function}; return niceTicks(...arguments)", low, high, most)
            assert drawn == pytest.approx(numbers.ticks(low, high, most)), (low, high, most)
