"""The page in a real browser: silent console, silent network, nothing overflowing, controls that work.

Needs Debian's ``chromium`` and ``chromium-driver`` and the package ``selenium``. Where they are missing these tests
fail and say so; they never pass unseen. Set ``FINESCALE_SHOTS`` to a folder to keep screenshots.
"""

from __future__ import annotations

import base64
import csv
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from report_sample import hostile_analysis

from finescale.report.page import write_page
from finescale.study.analyse import Analysis

pytestmark = pytest.mark.slow

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --force-device-scale-factor=1"
)
WIDTHS = (375, 1600)
DRAWN = """const plots = [...document.querySelectorAll('.plot')];
  return plots.length > 0 && plots.every((plot) => plot.querySelector('.main-svg'));"""
CELLS = (
    "return [...document.querySelectorAll('#runs-table tbody tr')].map((row) => row.cells[arguments[0]].textContent)"
)
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The system's Chromium with a fresh profile; its downloads go to ``browser.downloads``."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not binary or not driver:
        pytest.fail("no chromium or chromedriver here: run `apt-get install chromium chromium-driver` and try again")
    webdriver = _selenium()
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    downloads = tmp_path_factory.mktemp("downloads")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    started.downloads = downloads
    yield started
    started.quit()


def _selenium() -> Any:
    try:
        from selenium import webdriver
    except ImportError:
        pytest.fail("selenium is not installed: pip install selenium")
    return webdriver


@pytest.fixture(scope="module")
def address(analysis: Analysis, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(analysis, tmp_path_factory.mktemp("report") / "index.html").as_uri()


def until(check: Callable[[], Any], seconds: float = 15.0) -> Any:
    """The first true value of ``check``; the last one, true or not, when time is up."""
    end = time.monotonic() + seconds
    while not (value := check()) and time.monotonic() < end:
        time.sleep(0.05)
    return value


def show(browser: Any, address: str, width: int = 1600, scheme: str = "light") -> None:
    """Open a page at a width and colour scheme, and wait until every panel is drawn."""
    browser.get_log("browser")
    browser.get_log("performance")
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(address)
    assert until(lambda: browser.execute_script(DRAWN)), f"panels were not drawn: {browser.get_log('browser')}"


def shoot(browser: Any, name: str) -> None:
    """Keep a screenshot of the whole page, if a folder is asked for."""
    if folder := os.environ.get("FINESCALE_SHOTS"):
        taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, f"{name}.png").write_bytes(base64.b64decode(taken["data"]))


def requested(browser: Any) -> set[str]:
    """Addresses a page asked for since it was opened, itself and inline data aside."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    own = [params for params in sent if params.get("documentURL", "").startswith("file:")]
    return {params["request"]["url"] for params in own if not params["request"]["url"].startswith(("data:", "blob:"))}


def traces(browser: Any) -> list[dict[str, Any]]:
    """Per panel: its name, the legend's names, and what is drawn as marks."""
    return browser.execute_script(
        """return [...document.querySelectorAll('.panel')].map((panel) => {
          const plot = panel.querySelector('.plot');
          const marks = plot.data.filter((trace) => trace.mode === 'markers');
          return {name: panel.dataset.name, said: plot.getAttribute('aria-label'), traces: plot.data.length,
                  points: marks.flatMap((trace) => trace.x.map((x, i) => [x, trace.y[i], trace.text[i],
                                                                           trace.marker.symbol[i]]))};
        });"""
    )


def press(browser: Any, within: str, label: str) -> None:
    """Press the button with this label."""
    found = [button for button in browser.find_elements("css selector", f"{within} button") if button.text == label]
    assert len(found) == 1, f"{len(found)} buttons {label!r} in {within}"
    found[0].click()


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
    press(browser, ".legend", "lora")
    hidden = traces(browser)
    assert all(len(one["points"]) == len(two["points"]) - 10 for one, two in zip(hidden, before, strict=True))
    assert not [point for panel in hidden for point in panel["points"] if "lora on" in point[2]]
    press(browser, ".legend", "lora")
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
    shown = until(lambda: browser.execute_script("return document.querySelector('.hoverlayer').textContent"))
    assert told.split("<br>")[-2].removeprefix("run ") in shown or told.split("<br>")[-1].removeprefix("run ") in shown


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
    browser.find_element("id", "runs-csv").click()
    path = browser.downloads / "runs.csv"
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
