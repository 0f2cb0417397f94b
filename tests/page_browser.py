"""The page in the system's Chromium: starting it, opening a page, reading what was drawn, said and asked for.

Needs Debian's ``chromium`` and ``chromium-driver`` and the package ``selenium``. Where they are missing the tests fail
and say so; they never pass unseen. Set ``FINESCALE_SHOTS`` to a folder to keep screenshots.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --force-device-scale-factor=1"
)
WIDTHS = (375, 1600)
SCHEMES = ("light", "dark")
DRAWN = """const plots = [...document.querySelectorAll('.plot')];
  return plots.length > 0 && plots.every((plot) => plot.querySelector('.main-svg'));"""
DRAW_NEXT = """const drawn = (one) => (one.tBodies ? one.tBodies[0].rows.length : one.querySelector('.main-svg'));
  const shown = [...document.querySelectorAll('.plot, .plot-of-what-if, #runs-table')].filter((one) => !one.hidden);
  const next = shown.find((one) => !drawn(one));
  if (next) next.scrollIntoView({block: 'center'});
  else if (window.drawing) window.scrollTo(0, 0);
  window.drawing = Boolean(next);
  return !next;"""
"""Scrolls to what is not drawn yet, then back to the top; true when all is drawn."""
FINISHED = (
    """const entry = performance.getEntriesByType('navigation')[0]; return entry.loadEventEnd - entry.startTime"""
)


def started(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The system's Chromium, headless, with a fresh profile; its downloads go to ``.downloads``."""
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
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.downloads = downloads
    return browser


def _selenium() -> Any:
    try:
        from selenium import webdriver
    except ImportError:
        pytest.fail("selenium is not installed: pip install selenium")
    return webdriver


def until(check: Callable[[], Any], seconds: float = 15.0) -> Any:
    """The first true value of ``check``; the last one, true or not, when time is up."""
    end = time.monotonic() + seconds
    while not (value := check()) and time.monotonic() < end:
        time.sleep(0.05)
    return value


def show(browser: Any, address: str, width: int = 1600, scheme: str = "light") -> None:
    """Open a page at a width and colour scheme, and wait until every panel is drawn."""
    visit(browser, address, width, scheme)
    draw_all(browser)
    assert until(lambda: browser.execute_script(DRAWN)), f"panels were not drawn: {browser.get_log('browser')}"


def visit(browser: Any, address: str, width: int = 1600, scheme: str = "light") -> None:
    """Open a page as a reader does: figures far below wait."""
    browser.get_log("browser")
    browser.get_log("performance")
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(address)


def draw_all(browser: Any) -> None:
    """Have every figure and the table of runs drawn, as a reader does who goes through the page."""
    assert until(lambda: browser.execute_script(DRAW_NEXT), 60.0), f"not drawn: {browser.get_log('browser')}"


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
    draw_all(browser)
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
