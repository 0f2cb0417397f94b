"""What the page's calculator forecasts from: the fit's own draws, unrounded, and small enough for a page."""

from __future__ import annotations

import base64
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from report_sample import sample_analysis, small_runs

from finescale import registry
from finescale.report.calculator import asked_of, calculator_data
from finescale.report.markup import json_block
from finescale.report.packing import packed
from finescale.report.page import page
from finescale.stats.advise import advise
from finescale.stats.fit import fit
from finescale.stats.whatif import single, what_if
from finescale.study.analyse import Analysis, candidates
from finescale.study.compare import BEYOND


def test_every_registered_law_has_its_formula_on_the_page() -> None:
    source = files("finescale.report").joinpath("assets", "laws.js").read_text(encoding="utf-8")
    table = source[source.index("const LAWS") : source.index("};", source.index("const LAWS"))]
    for name in registry.names("law"):
        assert f'"{name}":' in table or f"  {name}:" in table or f"  {name}," in table


def test_at_the_size_asked_first_a_what_if_forecast_is_the_forecast(analysis: Analysis) -> None:
    fits = asked_of(analysis)
    for kind in ("run", "curve"):
        np.testing.assert_allclose(fits.draws(fits.asked, kind), analysis.final.draws(fits.asked, kind), rtol=1e-6)
    assert advise(fits, fits.asked).sentence == advise(analysis.final, fits.asked).sentence


def test_curves_are_the_fits_own_at_every_size_and_noise_goes_along(analysis: Analysis) -> None:
    fits = asked_of(analysis)
    first = np.log(fits.draws(fits.asked, "run") / fits.draws(fits.asked, "curve"))
    for examples in (300, 9000):
        there = fits.asked.assign(examples=examples)
        np.testing.assert_allclose(fits.draws(there, "curve"), analysis.final.draws(there, "curve"), rtol=1e-6)
        moved = np.log(fits.draws(there, "run") / fits.draws(there, "curve"))
        np.testing.assert_allclose(moved, first, atol=1e-12)


def test_thinned_draws_are_spread_over_all_of_them_and_joint(analysis: Analysis) -> None:
    asked = next(iter(candidates(analysis.runs)))
    thin = what_if(analysis.final, asked, 10)
    assert list(thin.take) == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]
    whole = analysis.final.draws(asked, "run")
    np.testing.assert_allclose(thin.draws(asked, "run"), whole[thin.take], rtol=1e-6)


def test_a_base_nobody_ran_has_noise_of_its_own(analysis: Analysis) -> None:
    fits = asked_of(analysis)
    asked = fits.asked.iloc[:3].drop(columns="base").assign(model_params=1_234_567)
    noise = np.log(fits.draws(asked, "run") / fits.draws(asked, "curve"))
    assert (noise.std(axis=0) > 0).all()
    np.testing.assert_allclose(noise[:, 0], fits.fresh[:, 0])


@pytest.mark.parametrize("numbers", [[0.1, 1 / 3, np.nan], [np.pi, -1e-300, 1e300], [0.5, 0.0, -3e38], []])
def test_arrays_reach_the_page_unrounded(numbers: list[float]) -> None:
    for values in (np.array(numbers), single(np.array(numbers))):
        text = packed(values)
        read = np.frombuffer(base64.b64decode(text[1:]), dtype=f"<f{text[0]}")
        np.testing.assert_array_equal(read, values)
        np.testing.assert_allclose(values, numbers, rtol=1e-7)


def test_draws_are_carried_in_single_precision_and_python_forecasts_from_the_same(analysis: Analysis) -> None:
    fits, data = asked_of(analysis), calculator_data(analysis)
    assert data is not None
    member = data["groups"][0]["members"][0]
    theta = np.frombuffer(base64.b64decode(member["theta"][1:]), dtype="<f4")
    np.testing.assert_array_equal(theta, fits.groups[0].member.draws_theta[fits.take].ravel())
    np.testing.assert_allclose(theta, analysis.final.groups[0].member.draws_theta[fits.take].ravel(), rtol=1e-7)
    texts = [one["departure"] for one in data["candidates"]] + [group["fresh"] for group in data["groups"]]
    assert {text[0] for text in texts} == {"4"}


def test_the_page_stays_small_with_many_candidates() -> None:
    runs = small_runs()
    many = [runs.assign(task=f"task-{i}") for i in range(8)]
    table = pd.concat(many, ignore_index=True)
    final = fit(table, "loglog-line", None, ["task", "method", "model_params"], draws=2000)
    analysis = replace(sample_analysis(runs), runs=table, final=final)
    data = calculator_data(analysis)
    assert data is not None
    assert len(data["candidates"]) == 8 * 4
    assert len(json_block("data", data)) < 800_000
    assert 100 <= data["draws"] < 2000


def test_where_nothing_was_fitted_there_is_a_sentence_and_no_data() -> None:
    analysis = sample_analysis(small_runs().query("examples == 250").reset_index(drop=True))
    assert not any(one.fitted for one in analysis.final.groups)
    assert calculator_data(analysis) is None
    assert "Nothing was fitted, so there is nothing to forecast from." in page(analysis)


@pytest.mark.parametrize("times", [1.0, BEYOND])
def test_the_reach_is_stated_once(analysis: Analysis, times: float) -> None:
    fits = asked_of(analysis)
    far = advise(fits, fits.asked.assign(examples=4000 * times), max_reach=BEYOND)
    assert not far.refused
    assert advise(fits, fits.asked.assign(examples=4001 * BEYOND), max_reach=BEYOND).refused


def test_a_method_of_which_the_fit_uses_no_run_is_no_candidate(analysis: Analysis) -> None:
    runs = pd.concat([analysis.runs, analysis.runs.head(3).assign(method="unheard")], ignore_index=True)
    assert "unheard" not in set(asked_of(replace(analysis, runs=runs)).asked["method"])
