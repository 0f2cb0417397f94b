"""Loss against every factor in a real browser: choices work, by keyboard too, and a dot tells its run and command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_browser import SCHEMES, WIDTHS, draw_all, press, requested, shoot, show
from report_sample import hostile_analysis, other_factors, sample_analysis

from finescale.report.page import write_page
from finescale.report.series import plotted
from finescale.study.analyse import Analysis

pytestmark = pytest.mark.slow

PANELS = """return [...document.querySelectorAll('.along .plot')].map((plot) => ({
  said: plot.getAttribute('aria-label'), axis: [plot._fullLayout.xaxis.type, plot._fullLayout.yaxis.type],
  lines: plot.data.filter((one) => one.mode === 'lines' && !one.fill).map((one) => [one.x, one.y]),
  dots: plot.data.filter((one) => one.mode === 'markers' && !one.error_y)
    .flatMap((one) => one.x.map((x, i) => [x, one.y[i], one.text[i]]))}))"""


@pytest.fixture(scope="module")
def address(analysis: Analysis, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(analysis, tmp_path_factory.mktemp("along") / "index.html").as_uri()


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = sample_analysis(other_factors())
    return write_page(made, tmp_path_factory.mktemp("several") / "index.html").as_uri()


def test_panels_are_the_slices(browser: Any, address: str, analysis: Analysis) -> None:
    show(browser, address)
    panels = browser.execute_script(PANELS)
    found = plotted(analysis).slices
    assert len(panels) == len(found)
    for panel, one in zip(panels, found, strict=True):
        assert len(panel["dots"]) == len(one.runs)
        for (_, curve), (x, y) in zip(one.curves.groupby("series", sort=False), panel["lines"], strict=True):
            np.testing.assert_allclose([x, y], curve[["x", "median"]].T, rtol=1e-5)
        assert panel["axis"] == ["log", "log"]
        run = one.runs.iloc[0]
        told = next(text for x, y, text in panel["dots"] if f"run {run['run']}" in text.split("<br>"))
        assert told.split("<br>")[-3:] == ["made by", "finescale run demo \\", f"&nbsp;&nbsp;--only {run['run']}"]


def test_the_factor_what_is_held_and_the_axis_are_chosen(browser: Any, several: str) -> None:
    show(browser, several)
    for name, held in (("pretraining tokens", "model parameters"), ("PET size", "base "), ("model size", "tokens")):
        press(browser, ".along .factors", name)
        assert browser.execute_script("return document.activeElement.textContent") == name
        assert name in browser.find_element("css selector", ".along-caption").text
        options = browser.find_elements("css selector", ".along select option")
        assert len(options) > 1
        assert all(held in option.text for option in options)
    draw_all(browser)
    before = [panel["said"] for panel in browser.execute_script(PANELS)]
    browser.execute_script(
        """const one = document.querySelector('.along select'); one.value = 1 - Number(one.value);
        one.dispatchEvent(new Event('input'))"""
    )
    draw_all(browser)
    assert [panel["said"] for panel in browser.execute_script(PANELS)] != before
    press(browser, ".along .legend", "full")
    press(browser, ".along .controls", "linear")
    panels = browser.execute_script(PANELS)
    assert {panel["axis"][1] for panel in panels} == {"linear"}
    assert not [text for panel in panels for _, _, text in panel["dots"] if "full on" in text]
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_the_window_and_is_silent(browser: Any, several: str, width: int, scheme: str) -> None:
    show(browser, several, width, scheme)
    wide = browser.execute_script("const r = document.documentElement; return [r.scrollWidth, r.clientWidth]")
    assert wide[0] <= wide[1]
    browser.execute_script("document.querySelector('.along').scrollIntoView()")
    shoot(browser, f"along-{width}-{scheme}")
    assert browser.get_log("browser") == []
    assert requested(browser) == {several}


def test_hostile_names_are_text_in_commands_too(browser: Any, tmp_path: Path) -> None:
    made = hostile_analysis()
    show(browser, write_page(made, tmp_path / "index.html").as_uri())
    dots = [text for panel in browser.execute_script(PANELS) for _, _, text in panel["dots"]]
    assert dots
    for text in dots:
        line = text.split("<br>")[-1]
        assert "<" not in line.replace("&lt;", "")
        assert line.startswith("&nbsp;&nbsp;--only '")
        assert line.endswith("'")
    assert browser.execute_script("return window.hacked") is None
    assert browser.execute_script("return document.querySelectorAll('img, [onerror], [onload]').length") == 0
