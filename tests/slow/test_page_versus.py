"""The critical-size map in a real browser: what is drawn is the map's own numbers, and its choices work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_browser import SCHEMES, WIDTHS, press, requested, shoot, show
from report_sample import hostile_analysis

from finescale.report.page import write_page
from finescale.study.analyse import Analysis

pytestmark = pytest.mark.slow

PLOT = "const plot = document.getElementById('versus-plot');"
SHADE = f"{PLOT} return plot.data[0].z"
LINE = f"""{PLOT} const median = plot.data.find((one) => one.line?.width === 3 && one.line.color === '#ffffff');
  return [median.x, median.y]"""
CHOOSE = """const one = document.getElementById('versus-pair'); one.value = arguments[0];
  one.dispatchEvent(new Event('input', {bubbles: true}));"""


@pytest.fixture(scope="module")
def address(analysis: Analysis, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(analysis, tmp_path_factory.mktemp("versus") / "index.html").as_uri()


def test_shade_and_line_are_the_maps(browser: Any, address: str, analysis: Analysis) -> None:
    show(browser, address)
    options = browser.find_elements("css selector", "#versus-pair option")
    assert [option.text for option in options] == [one.title for one in analysis.maps]
    for place, one in enumerate(analysis.maps):
        browser.execute_script(CHOOSE, place)
        for label, wanted in (("One new run of each", one.found.run), ("Expected loss", one.found.expected)):
            press(browser, "#versus-controls", label)
            shade = np.array(browser.execute_script(SHADE), dtype=float)
            np.testing.assert_allclose(shade, wanted, atol=5e-5)
        x, y = browser.execute_script(LINE)
        np.testing.assert_allclose(y, one.sizes)
        drawn = [value for value in x if value is not None]
        line = one.found.crossing
        np.testing.assert_allclose(drawn, line.loc[line["verdict"].str.contains("overtakes"), "median"])
    assert browser.get_log("browser") == []


def test_the_table_behind_it_has_the_bases_that_were_run(browser: Any, address: str, analysis: Analysis) -> None:
    show(browser, address)
    browser.execute_script("document.getElementById('versus-table').closest('details').open = true")
    rows = browser.find_elements("css selector", "#versus-table tbody tr")
    assert [row.find_element("css selector", "th").text for row in rows] == list(dict.fromkeys(analysis.runs["base"]))
    first = analysis.crossings.iloc[0]
    assert first["verdict"] in rows[0].text


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_the_window_and_is_silent(browser: Any, address: str, width: int, scheme: str) -> None:
    show(browser, address, width, scheme)
    browser.execute_script("document.getElementById('versus-table').closest('details').open = true")
    wide = browser.execute_script("const r = document.documentElement; return [r.scrollWidth, r.clientWidth]")
    assert wide[0] <= wide[1]
    browser.execute_script("document.getElementById('versus-controls').scrollIntoView()")
    shoot(browser, f"versus-{width}-{scheme}")
    assert browser.get_log("browser") == []
    assert requested(browser) == {address}


def test_hostile_names_do_nothing_here(browser: Any, tmp_path: Path) -> None:
    show(browser, write_page(hostile_analysis(), tmp_path / "index.html").as_uri())
    assert browser.find_element("id", "versus-plot").get_attribute("aria-label")
    assert browser.execute_script("return window.hacked") is None
    assert browser.execute_script("return document.querySelectorAll('img, [onerror], [onload]').length") == 0
    assert browser.get_log("browser") == []
