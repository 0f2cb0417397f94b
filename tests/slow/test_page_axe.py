"""No serious or critical accessibility fault in the page, by axe-core (https://github.com/dequelabs/axe-core).

``make test-page`` fetches axe-core and names its file in ``FINESCALE_AXE``.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from page_browser import show
from report_sample import other_factors, sample_analysis

from finescale.report.page import write_page
from finescale.study.analyse import Analysis
from finescale.study.rivals import with_rivals

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("FINESCALE_AXE" not in os.environ, reason="FINESCALE_AXE names no axe.min.js: make test-page"),
]
RUN = "const done = arguments[0]; axe.run(document).then((found) => done(found), (error) => done(String(error)))"


def faults(browser: Any) -> list[str]:
    """Serious and critical faults of the page that is open, a line each."""
    browser.set_script_timeout(120)
    browser.execute_script(Path(os.environ["FINESCALE_AXE"]).read_text(encoding="utf-8"))
    found = browser.execute_async_script(RUN)
    assert isinstance(found, dict), found
    assert len(found["passes"]) > 10
    return [
        f"{one['id']}: {one['help']}: {node['html'][:160]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize(("width", "scheme"), [(1600, "light"), (375, "dark")])
def test_axe_finds_nothing_serious(browser: Any, analysis: Analysis, tmp_path: Path, width: int, scheme: str) -> None:
    show(browser, write_page(analysis, tmp_path / "index.html").as_uri(), width, scheme)
    browser.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert faults(browser) == []


@pytest.mark.parametrize("of", ["study", "table"])
def test_axe_finds_nothing_serious_with_every_section_and_of_a_table(browser: Any, tmp_path: Path, of: str) -> None:
    runs = other_factors()
    runs["chrf"] = 60 - 8 * runs["loss"]
    probes = runs.assign(probe="text:en", metric="nll", value=runs["loss"] + 0.1, zero_value=runs["zero_loss"])
    made = with_rivals(replace(sample_analysis(runs), probes=probes, table="" if of == "study" else "runs.csv"))
    show(browser, write_page(made, tmp_path / "index.html").as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert faults(browser) == []


def test_axe_finds_a_fault_that_is_there(browser: Any, small: Analysis, tmp_path: Path) -> None:
    show(browser, write_page(small, tmp_path / "index.html").as_uri())
    browser.execute_script("document.querySelector('main').append(document.createElement('button'))")
    assert any(line.startswith("button-name") for line in faults(browser))
