"""The page in a real browser: silent console, silent network, nothing overflowing, controls that work."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from page_browser import SCHEMES, WIDTHS, press, requested, shoot, show, traces, until
from report_sample import hostile_analysis

from finescale.report.page import write_page
from finescale.study.analyse import Analysis

pytestmark = pytest.mark.slow

CELLS = (
    "return [...document.querySelectorAll('#runs-table tbody tr')].map((row) => row.cells[arguments[0]].textContent)"
)


@pytest.fixture(scope="module")
def address(analysis: Analysis, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(analysis, tmp_path_factory.mktemp("report") / "index.html").as_uri()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_silent_and_within_the_window(browser: Any, address: str, width: int, scheme: str) -> None:
    show(browser, address, width, scheme)
    shoot(browser, f"page-{width}-{scheme}")
    assert browser.get_log("browser") == []
    assert requested(browser) == {address}
    for opened in (False, True):
        if opened:
            browser.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        root = "document.documentElement"
        wide = browser.execute_script(f"return [{root}.scrollWidth, {root}.clientWidth]")
        assert wide[0] <= wide[1]
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(253, 252, 250)" if scheme == "light" else "rgb(22, 22, 20)")


def test_every_run_is_a_dot_whichever_way_the_panels_are_cut(browser: Any, address: str, analysis: Analysis) -> None:
    show(browser, address)
    runs = analysis.runs
    for per, count in (("base", 4), ("method", 3)):
        press(browser, ".choice", per)
        panels = traces(browser)
        assert [panel["name"] for panel in panels] == list(dict.fromkeys(runs[per]))
        assert len(panels) == count
        points = [point for panel in panels for point in panel["points"]]
        assert len(points) == len(runs)
        for _, run in runs.iterrows():
            mine = [point for point in points if f"run {run['run']}" in point[2].split("<br>")]
            assert len(mine) == 1
            x, y, told, symbol = mine[0]
            assert x == run["examples"]
            assert run["flag"] != "" or y == run["loss"]
            assert symbol.endswith("-open") == (run["flag"] != "")
            assert f"learning rate {run['learning_rate']:g}, seed {run['seed']}" in told
        assert all(panel["said"].startswith(panel["name"]) for panel in panels)


def test_the_legend_hides_and_shows(browser: Any, address: str) -> None:
    show(browser, address)
    before = traces(browser)
    press(browser, "figure:not(.along) .legend", "lora")
    hidden = traces(browser)
    assert all(len(one["points"]) == len(two["points"]) - 10 for one, two in zip(hidden, before, strict=True))
    assert not [point for panel in hidden for point in panel["points"] if "lora on" in point[2]]
    press(browser, "figure:not(.along) .legend", "lora")
    assert traces(browser) == before


def test_pointing_at_a_dot_tells_its_run(browser: Any, address: str) -> None:
    show(browser, address)
    browser.execute_script("document.querySelector('.panels').scrollIntoView()")
    x, y, told = browser.execute_script(
        """const plot = document.querySelector('.plot'), box = plot.getBoundingClientRect(), made = plot._fullLayout;
        const marks = plot.data.find((trace) => trace.mode === 'markers'), last = marks.x.length - 1;
        return [box.x + made._size.l + made.xaxis.d2p(marks.x[last]),
                box.y + made._size.t + made.yaxis.d2p(marks.y[last]), marks.text[last]];"""
    )
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})
    shown = until(lambda: browser.execute_script("return document.querySelector('.panels .hoverlayer').textContent"))
    run = next(line for line in told.split("<br>") if line.startswith("run "))
    assert run.removeprefix("run ") in shown
    assert "finescale run demo" in shown


def test_the_colours_follow_the_scheme(browser: Any, address: str) -> None:
    colour = "return document.querySelector('.plot').data.find((trace) => trace.mode === 'markers').marker.color"
    seen = []
    for scheme in SCHEMES:
        show(browser, address, scheme=scheme)
        seen.append(browser.execute_script(colour))
    assert seen == ["#0072B2", "#56B4E9"]


def test_headings_sort_the_table_of_runs(browser: Any, address: str, analysis: Analysis) -> None:
    show(browser, address)
    heads = browser.execute_script(
        "return [...document.querySelectorAll('#runs-table th')].map((th) => th.dataset.column)"
    )
    at = heads.index("loss")
    press(browser, "#runs-table", "Loss")
    wanted = [f"{loss:.3f}" for loss in sorted(analysis.runs["loss"].dropna())]
    assert browser.execute_script(CELLS, at) == [*wanted, "–"]
    press(browser, "#runs-table", "Loss")
    assert browser.execute_script(CELLS, at) == [*reversed(wanted), "–"]
    assert browser.execute_script("return document.querySelectorAll('#runs-table [aria-sort]').length") == 1


def test_the_csv_is_the_table_of_runs(browser: Any, address: str, analysis: Analysis) -> None:
    show(browser, address)
    path = browser.downloads / "runs.csv"
    path.unlink(missing_ok=True)
    browser.find_element("id", "runs-csv").click()
    assert until(path.exists), "nothing was downloaded"
    rows = list(csv.reader(path.open(encoding="utf-8", newline="")))
    assert rows[0] == list(analysis.runs.columns)
    assert len(rows) == len(analysis.runs) + 1
    for name in ("loss", "examples", "learning_rate"):
        at = rows[0].index(name)
        assert [float(row[at]) if row[at] else None for row in rows[1:]] == [
            None if value != value else float(value) for value in analysis.runs[name]
        ]
    assert [row[rows[0].index("run")] for row in rows[1:]] == list(analysis.runs["run"])


def test_hostile_names_run_nothing(browser: Any, tmp_path: Path) -> None:
    show(browser, write_page(hostile_analysis(), tmp_path / "index.html").as_uri())
    press(browser, ".choice", "method")
    assert browser.execute_script("return window.hacked") is None
    assert browser.execute_script("return document.querySelectorAll('img, [onerror], [onload]').length") == 0
    assert browser.get_log("browser") == []
    shoot(browser, "page-hostile")


def test_the_page_works_by_keyboard(browser: Any, address: str) -> None:
    show(browser, address)
    names = browser.execute_script(
        """return [...document.querySelectorAll('button, a, summary, [tabindex="0"]')]
             .filter((one) => !(one.textContent.trim() || one.getAttribute('aria-label')))
             .map((one) => one.outerHTML)"""
    )
    assert names == []
    heading = [
        int(tag[1])
        for tag in browser.execute_script("return [...document.querySelectorAll('h1,h2,h3,h4')].map((h) => h.tagName)")
    ]
    assert heading[0] == 1
    assert heading.count(1) == 1
    press(browser, ".choice", "method")
    assert browser.execute_script("return document.activeElement.textContent") == "method"
