"""The what-if calculator in a real browser: its numbers and sentences are Python's, and its controls work."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from page_browser import SCHEMES, WIDTHS, requested, shoot, show, until
from report_sample import HOSTILE, hostile_analysis, sample_analysis, sample_runs, small_runs

from finescale import registry
from finescale.report.calculator import asked_of
from finescale.report.page import write_page
from finescale.stats.advise import advise
from finescale.stats.critical import critical_size
from finescale.stats.fit import fit
from finescale.stats.fits import law_named
from finescale.stats.whatif import WhatIf
from finescale.study.analyse import Analysis
from finescale.study.compare import BEYOND, crossings

pytestmark = pytest.mark.slow

SET = """const one = document.getElementById('what-if-' + arguments[0]);
  one.value = arguments[1]; one.dispatchEvent(new Event('input', {bubbles: true}));"""
ROWS = "return [...document.querySelectorAll('#what-if-table tbody tr')].map((row) => ({...row.dataset}))"
SAID = "return document.getElementById('what-if-said').textContent"


def put(browser: Any, name: str, value: object) -> None:
    """Set a control as a user does."""
    browser.execute_script(SET, name, str(value))


def choose(browser: Any, name: str, text: str) -> None:
    """Choose the option with this text."""
    options = browser.find_elements("css selector", f"#what-if-{name} option")
    put(browser, name, [option.get_attribute("textContent") for option in options].index(text))


def same_as_python(browser: Any, fits: WhatIf, asked: pd.DataFrame, level: float) -> None:
    """The page says of these candidates what Python says: every number within 1e-6, every sentence to the letter."""
    said = advise(fits, asked, level, max_reach=BEYOND)
    shown = browser.execute_script(ROWS)
    assert browser.execute_script(SAID) == said.sentence
    assert len(shown) == len(said.table)
    rows = sorted(shown, key=lambda row: (row["name"], row["median"]))
    wanted = sorted(zip(map(name_in(asked), said.table.index), said.table.to_dict("records"), strict=True), key=key_of)
    for row, (name, one) in zip(rows, wanted, strict=True):
        assert row["name"] == name
        assert row["refused"] == one["refused"]
        numbers = ("median", "low", "high", "reach") if not one["refused"] else ()
        for column in numbers:
            assert float(row[column]) == pytest.approx(one[column], rel=1e-6)
        if not said.refused and not one["refused"]:
            assert float(row["best"]) == pytest.approx(one["p_best"], abs=1e-6)


def name_in(asked: pd.DataFrame) -> Any:
    """Names of candidates by their place."""
    from finescale.stats.advise import name_of

    rows = asked.reset_index(drop=True)
    return lambda at: name_of(rows.iloc[at])


def key_of(pair: tuple[str, dict[str, Any]]) -> tuple[str, str]:
    return pair[0], str(pair[1]["median"])


def law_analysis(name: str) -> Analysis:
    """A sample that a law was fitted to."""
    fewest = law_named(name).factors[0] if name != "auto" else 1
    runs = sample_runs(seeds=(0,))
    by = ["task", "method"] if fewest else ["task", "method", "model_params"]
    final = fit(runs, name, "model_params" if fewest else None, by, draws=41)
    return sample_analysis(runs, final=final, crossings=crossings(final, runs, 0.9))


@pytest.fixture(scope="module")
def page(analysis: Analysis, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_page(analysis, tmp_path_factory.mktemp("calculator") / "index.html").as_uri()


@pytest.mark.parametrize("law", ["auto", *registry.names("law")])
def test_the_page_computes_every_law_as_python_does(browser: Any, tmp_path: Path, law: str) -> None:
    analysis = law_analysis(law)
    fits = asked_of(analysis)
    show(browser, write_page(analysis, tmp_path / "index.html").as_uri())
    for examples, level in ((4000, 90), (777, 80), (60, 50), (15_999, 95), (70_000, 90)):
        put(browser, "examples", examples)
        put(browser, "level", level)
        same_as_python(browser, fits, fits.asked.assign(examples=examples), level / 100)
    assert browser.get_log("browser") == []


def test_at_the_answers_size_the_calculator_gives_the_answer(browser: Any, page: str, analysis: Analysis) -> None:
    show(browser, page)
    fits = asked_of(analysis)
    own = advise(analysis.final, fits.asked, 0.9, max_reach=BEYOND)
    assert len(fits.take) == 100
    assert browser.execute_script(SAID) == own.sentence
    np.testing.assert_allclose(fits.draws(fits.asked, "run"), analysis.final.draws(fits.asked, "run"), rtol=1e-6)


def test_sizes_nobody_ran_are_forecast_as_python_does(browser: Any, page: str, analysis: Analysis) -> None:
    show(browser, page)
    fits = asked_of(analysis)
    base = fits.asked["base"].iloc[0]
    choose(browser, "base", base)
    mine = fits.asked[fits.asked["base"] == base].drop(columns="base")
    for size in (1_000_000, 123_456, 90_000_000):
        put(browser, "model_params", size)
        same_as_python(browser, fits, mine.assign(model_params=size), 0.9)


def test_crossings_are_pythons(browser: Any, page: str, analysis: Analysis) -> None:
    show(browser, page)
    fits = asked_of(analysis)
    for base in fits.asked["base"].unique():
        choose(browser, "base", base)
        place = fits.asked[fits.asked["base"] == base].iloc[0][["task", "base", "model_params", "pretrain_tokens"]]
        for a, b in (("full", "lora"), ("full", "prompt"), ("prompt", "lora")):
            choose(browser, "a", a)
            choose(browser, "b", b)
            wanted = critical_size(fits, a, b, at=dict(place)).iloc[0]
            shown = browser.find_element("id", "what-if-crossing")
            assert shown.text == f"On base {base}: {wanted['verdict']}"
            numbers = [
                float(text.replace("Infinity", "inf")) for text in json.loads(shown.get_attribute("data-crossing"))
            ]
            np.testing.assert_allclose(numbers, [wanted[name] for name in ("low", "median", "high")], rtol=1e-6)


def test_moving_the_slider_changes_the_recommendation(browser: Any, page: str) -> None:
    show(browser, page)
    said = set()
    for place in (100, 600, 990):
        put(browser, "examples-range", place)
        said.add(browser.execute_script(SAID).split(" is best")[0].split(", ")[-1])
    assert len(said) > 1


def test_keys_move_the_slider(browser: Any, page: str) -> None:
    show(browser, page)
    before = browser.execute_script(SAID)
    slider = browser.find_element("id", "what-if-examples-range")
    slider.send_keys("\ue012" * 25)
    assert browser.execute_script(SAID) != before
    assert float(browser.find_element("id", "what-if-examples").get_attribute("value")) < 4000


def test_prices_are_counted_only_where_given(browser: Any, page: str, analysis: Analysis) -> None:
    show(browser, page)
    assert {row["cost"] for row in browser.execute_script(ROWS)} == {""}
    put(browser, "label-price", 0.5)
    assert {float(row["cost"]) for row in browser.execute_script(ROWS)} == {2000.0}
    put(browser, "hour-price", 3)
    runs = analysis.runs[(analysis.runs["examples"] == 4000) & (analysis.runs["flag"] == "")]
    hours = runs["seconds"].median() / 3600
    for row in browser.execute_script(ROWS):
        assert float(row["cost"]) == pytest.approx(2000 + 3 * hours)
    put(browser, "examples", 8000)
    assert float(browser.execute_script(ROWS)[0]["hours"]) == pytest.approx(2 * hours)


def test_prices_of_the_budget_are_filled_in_and_no_others(browser: Any, analysis: Analysis, tmp_path: Path) -> None:
    priced = replace(analysis, prices={"label": 0.25})
    show(browser, write_page(priced, tmp_path / "index.html").as_uri())
    assert browser.find_element("id", "what-if-label-price").get_attribute("value") == "0.25"
    assert browser.find_element("id", "what-if-hour-price").get_attribute("value") == ""
    assert {float(row["cost"]) for row in browser.execute_script(ROWS)} == {1000.0}


def test_pet_sizes_nobody_ran_are_forecast_as_python_does(browser: Any, tmp_path: Path) -> None:
    runs = sample_runs(seeds=(0,))
    runs = runs[(runs["method"] == "lora") & (runs["flag"] == "")]
    ladder = [
        runs.assign(pet_size=8 * k, pet_params=runs["pet_params"] * k, run=runs["run"] + f"-r{8 * k}").assign(
            loss=lambda table, k=k: table["loss"] * k**-0.02
        )
        for k in (1, 2, 4, 8)
    ]
    whole = pd.concat(ladder, ignore_index=True)
    whole = whole[whole["base"] == "m@2.5M"].reset_index(drop=True)
    final = fit(whole, "multiplicative", "pet_params", ["task", "method"], draws=41)
    analysis = sample_analysis(whole, fits=final, final=final, crossings=crossings(final, whole, 0.9), advice=[])
    show(browser, write_page(analysis, tmp_path / "index.html").as_uri())
    fits = asked_of(analysis)
    choose(browser, "base", "m@2.5M")
    first = fits.asked.iloc[[0]].drop(columns="base")
    for size in (300_000, 1_234_567):
        put(browser, "pet_params", size)
        (row,) = browser.execute_script(ROWS)
        wanted = fits.forecast(first.assign(pet_params=size), level=0.9).iloc[0]
        for name in ("median", "low", "high", "reach"):
            assert float(row[name]) == pytest.approx(wanted[name], rel=1e-6)
    assert browser.get_log("browser") == []


def test_pretraining_sizes_nobody_ran_are_forecast_as_python_does(browser: Any, tmp_path: Path) -> None:
    runs = sample_runs(seeds=(0,))
    runs = runs[(runs["method"] != "prompt") & (runs["base"] == "m@2.5M") & (runs["flag"] == "")]
    ladder = [
        runs.assign(pretrain_tokens=2_500_000 * k, base=f"m@{2.5 * k:g}M", run=runs["run"] + f"-p{k}").assign(
            loss=lambda table, k=k: table["loss"] * k**-0.04
        )
        for k in (1, 2, 4, 8)
    ]
    whole = pd.concat(ladder, ignore_index=True)
    final = fit(whole, "multiplicative", "pretrain_tokens", ["task", "method"], draws=41)
    analysis = sample_analysis(whole, fits=final, final=final, crossings=crossings(final, whole, 0.9), advice=[])
    show(browser, write_page(analysis, tmp_path / "index.html").as_uri())
    fits = asked_of(analysis)
    choose(browser, "base", "m@5M")
    mine = fits.asked[fits.asked["base"] == "m@5M"].drop(columns="base")
    assert len(mine) == 2
    for tokens in (7_000_000, 31_234_567):
        put(browser, "pretrain_tokens", tokens)
        same_as_python(browser, fits, mine.assign(pretrain_tokens=tokens), 0.9)
    assert browser.get_log("browser") == []


def test_beyond_the_support_the_band_is_hatched_and_beyond_the_reach_nothing_is_said(browser: Any, page: str) -> None:
    show(browser, page)
    data = browser.execute_script(
        """return document.getElementById('what-if-plot').data.map((trace) =>
             [trace.x, trace.fillpattern ? trace.fillpattern.shape : '', trace.fill || ''])"""
    )
    bands = [(x, shape) for x, shape, fill in data if fill == "toself"]
    assert all(max(x) <= 16_000 * 1.001 and min(x) >= 62.5 * 0.999 for x, _ in bands)
    assert {shape for x, shape in bands if max(x) > 4001 or min(x) < 249} == {"/"}
    assert {shape for x, shape in bands if max(x) <= 4000 and min(x) >= 250} == {""}
    put(browser, "examples", 8000)
    assert "2 times" in browser.find_element("id", "what-if-table").text
    put(browser, "examples", 20_000)
    assert browser.execute_script(SAID).startswith("No advice. ")
    assert all(
        row["median"] == "" and "5 times beyond what was seen" in row["refused"] for row in browser.execute_script(ROWS)
    )


def test_nonsense_is_answered_by_a_sentence(browser: Any, page: str) -> None:
    show(browser, page)
    for name, value, again in (
        ("examples", "", 4000),
        ("examples", -3, 4000),
        ("level", 200, 90),
        ("label-price", -1, ""),
    ):
        put(browser, name, value)
        assert browser.execute_script(SAID).startswith("Give ")
        assert not browser.find_element("id", "what-if-table").is_displayed()
        put(browser, name, again)
        assert browser.execute_script(SAID).startswith("With ")
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_the_window_and_is_silent(browser: Any, page: str, width: int, scheme: str) -> None:
    show(browser, page, width, scheme)
    for examples in (4000, 12_000, 90_000):
        put(browser, "examples", examples)
        wide = browser.execute_script("const r = document.documentElement; return [r.scrollWidth, r.clientWidth]")
        assert wide[0] <= wide[1]
    put(browser, "examples", 12_000)
    shoot(browser, f"what-if-{width}-{scheme}")
    assert browser.get_log("browser") == []
    assert requested(browser) == {page}


def test_tasks_are_asked_one_at_a_time(browser: Any, two_tasks: Analysis, tmp_path: Path) -> None:
    show(browser, write_page(two_tasks, tmp_path / "index.html").as_uri())
    fits = asked_of(two_tasks)
    for task in fits.asked["task"].unique():
        choose(browser, "task", task)
        same_as_python(browser, fits, fits.asked[fits.asked["task"] == task], 0.9)


def test_a_group_that_was_not_fitted_says_why(browser: Any, tmp_path: Path) -> None:
    runs = sample_runs(seeds=(0,))
    thin = runs[(runs["method"] != "prompt") | (runs["examples"] == 250)].reset_index(drop=True)
    analysis = sample_analysis(thin)
    show(browser, write_page(analysis, tmp_path / "index.html").as_uri())
    fits = asked_of(analysis)
    same_as_python(browser, fits, fits.asked, 0.9)


def test_hostile_names_do_nothing_here(browser: Any, tmp_path: Path) -> None:
    analysis = hostile_analysis()
    analysis = replace(analysis, runs=analysis.runs.assign(family=HOSTILE[1]))
    show(browser, write_page(analysis, tmp_path / "index.html").as_uri())
    put(browser, "examples", 2000)
    put(browser, "base", 1)
    assert browser.execute_script("return window.hacked") is None
    assert browser.execute_script("return document.querySelectorAll('img, [onerror], [onload]').length") == 0
    assert browser.get_log("browser") == []
    fits = asked_of(analysis)
    first = fits.asked["base"] == sorted(set(fits.asked["base"]), key=list(fits.asked["base"]).index)[0]
    same_as_python(browser, fits, fits.asked[first].assign(examples=2000), 0.9)


def test_a_study_of_two_methods_needs_no_task(browser: Any, tmp_path: Path) -> None:
    show(browser, write_page(sample_analysis(small_runs()), tmp_path / "index.html").as_uri())
    assert not browser.find_element("id", "what-if-task").is_displayed()
    assert until(lambda: browser.execute_script(SAID))


def test_one_candidate_alone_is_said_as_python_says_it(browser: Any, tmp_path: Path) -> None:
    runs = small_runs().query("method == 'full' and base == 'xs@2.5M'").reset_index(drop=True)
    final = fit(runs, "power", None, ["task", "method", "model_params"], draws=41)
    analysis = sample_analysis(runs, final=final, crossings=crossings(final, runs, 0.9))
    fits = asked_of(analysis)
    show(browser, write_page(analysis, tmp_path / "index.html").as_uri())
    assert "is the only candidate; forecast" in browser.execute_script(SAID)
    same_as_python(browser, fits, fits.asked, 0.9)
