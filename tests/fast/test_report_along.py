"""Loss against every factor: panels hold all but one fixed, curves are the fit's own, and runs have commands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from report_sample import HOSTILE, other_factors, sample_runs
from test_report_page import Document, data_of, frame_of

from finescale.report.page import commands, page
from finescale.report.series import Plotted, plotted
from finescale.report.slicing import MOST_PANELS, slices
from finescale.stats.fit import fit
from finescale.study.analyse import Analysis


@pytest.fixture(scope="module")
def shown(analysis: Analysis) -> Plotted:
    return plotted(analysis)


def test_a_panel_holds_every_run_with_its_number_of_examples(analysis: Analysis, shown: Plotted) -> None:
    assert [(one.factor, one.examples) for one in shown.slices] == [
        ("model_params", size) for size in (250, 500, 1000, 2000, 4000)
    ]
    for one in shown.slices:
        assert set(one.runs["run"]) == set(analysis.runs.loc[analysis.runs["examples"] == one.examples, "run"])
        assert set(one.runs["series"]) == {"full", "lora", "prompt"}


def test_curves_along_a_factor_are_the_fits_forecasts(analysis: Analysis, shown: Plotted) -> None:
    for one in shown.slices:
        asked = one.curves.assign(task=one.task, method=one.curves["series"], model_params=one.curves["x"])
        again = analysis.fits.forecast(asked.assign(examples=one.examples), kind="curve")
        assert np.array_equal(again[["median", "low", "high"]], one.curves[["median", "low", "high"]])
        assert one.curves["law"].all()
        assert one.curves["x"].min() == analysis.runs["model_params"].min()
        assert one.curves["x"].max() == pytest.approx(analysis.runs["model_params"].max())


def test_without_a_law_of_the_factor_each_level_is_forecast_by_its_own_fit() -> None:
    runs = other_factors()
    fits = fit(runs, law="power", by=["task", "method", "base", "pet_size"], draws=20)
    points = runs.assign(
        base_label=runs["base"],
        method_label=[
            f"{a} {b:g}" if a == "lora" else a for a, b in zip(runs["method"], runs["pet_size"], strict=True)
        ],
    )
    found = slices(fits, points, 0.9)
    assert {one.factor for one in found} == {"model_params", "pretrain_tokens", "pet_params"}
    assert not any(one.curves["law"].any() for one in found)
    ranks = next(one for one in found if one.factor == "pet_params")
    assert ranks.fixed.startswith("base ")
    assert ranks.runs["base"].nunique() == 1
    lora = ranks.curves[ranks.curves["series"] == "lora"]
    assert list(lora["x"]) == [2560, 10240]
    row = ranks.runs[(ranks.runs["series"] == "lora")].drop_duplicates("pet_params").sort_values("pet_params")
    again = fits.forecast(row, kind="curve")
    assert np.array_equal(again["median"], lora["median"])
    tokens = next(one for one in found if one.factor == "pretrain_tokens")
    assert "model parameters" in tokens.fixed
    assert set(tokens.runs["series"]) == {"full", "prompt"}


def test_many_sizes_make_no_more_panels_than_can_be_read() -> None:
    runs = pd.concat(
        [sample_runs(seeds=(0,)).assign(examples=size) for size in range(100, 1000, 100)], ignore_index=True
    )
    runs["run"] = [f"run-{place}" for place in range(len(runs))]
    fits = fit(runs[runs["examples"] < 400], "power", by=["task", "method", "base"], draws=10)
    found = slices(fits, runs.assign(base_label=runs["base"], method_label=runs["method"]), 0.9)
    sizes = [one.examples for one in found]
    assert len(sizes) == MOST_PANELS
    assert (sizes[0], sizes[-1]) == (100, 900)


def test_the_page_ships_the_panels_and_a_table_behind_them(small: Analysis) -> None:
    read = Document(page(small), gap=" ")
    data = data_of(read)
    (part,) = data["along"]
    assert [panel["examples"] for panel in part["panels"]] == [one.examples for one in plotted(small).slices]
    runs = frame_of(data["runs"])
    for panel in part["panels"]:
        for one in panel["series"]:
            assert set(runs.loc[one["runs"], "method"]) == {one["name"]}
            assert set(runs.loc[one["runs"], "examples"]) == {panel["examples"]}
    assert "Against model size" in read.texts["loss"]
    mean = small.runs[(small.runs["method"] == "full") & (small.runs["examples"] == 250)]
    assert f"{mean.groupby('model_params')['loss'].mean().iloc[0]:.3f}" in read.texts["loss"]


def test_a_study_has_a_command_for_each_run_and_a_table_has_none(small: Analysis) -> None:
    assert commands(small) == "finescale run demo --only "
    assert commands(replace(small, name=HOSTILE[0])) == f"finescale run '{HOSTILE[0]}' --only "
    assert commands(replace(small, table="runs.csv")) is None
