"""The live page in a real browser: it follows the study, asks nobody else, and stops when told."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from page_browser import shoot, until

from finescale.report.watch import watcher
from finescale.study.run import run

sys.path.insert(0, str(Path(__file__).parent.parent / "fast"))
from study_toy import WORK, toy_study

pytestmark = pytest.mark.slow

NOW = "return document.getElementById('now').textContent"
INSIDE = "return document.getElementById('page').contentDocument.querySelector(arguments[0])?.textContent ?? ''"


def test_the_live_page_follows_the_study(browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent / "fast"), prepend=os.pathsep)
    study = toy_study(tmp_path / "study")
    server, address = watcher(lambda: study)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        browser.get_log("browser")
        browser.get(address)
        assert until(lambda: "0 of" in browser.execute_script(NOW))
        assert until(lambda: "no usable run yet" in browser.execute_script(INSIDE, "p"))
        run(study, workers=2, function=WORK)
        assert until(lambda: "Which method?" in browser.execute_script(INSIDE, "h1"), 60)
        assert until(lambda: browser.execute_script(INSIDE, "#runs-count") != "", 60)
        shoot(browser, "watch")
        browser.find_element("id", "stop").click()
        thread.join(20)
        assert not thread.is_alive()
        assert [line for line in browser.get_log("browser") if "favicon" not in line["message"]] == []
    finally:
        server.shutdown()
        server.server_close()
