"""The critical-size map: its line is the critical size, its shares are the advice's, and what is unknown is blank."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_sample import TRUTH, hostile_analysis, sample_analysis, sample_runs, small_runs
from test_report_page import Document, data_of

from finescale.errors import InputError
from finescale.report.drawing import write
from finescale.report.packing import NOTHING
from finescale.report.page import page
from finescale.report.versus_figures import critical_size_map, draw_maps
from finescale.stats.advise import advise
from finescale.stats.critical import critical_size
from finescale.stats.fit import fit
from finescale.stats.versus import versus
from finescale.study.analyse import Analysis
from finescale.study.compare import BEYOND, PLACE, crossings
from finescale.study.maps import Map, maps_of


@pytest.fixture(scope="module")
def maps(analysis: Analysis) -> list[Map]:
    return analysis.maps


def places(analysis: Analysis) -> pd.DataFrame:
    return analysis.runs[PLACE].drop_duplicates().reset_index(drop=True)


def test_the_line_is_the_critical_size_of_the_crossings(analysis: Analysis, maps: list[Map]) -> None:
    assert [(one.found.a, one.found.b) for one in maps] == [("full", "lora"), ("full", "prompt"), ("lora", "prompt")]
    known = analysis.crossings.set_index(["a", "b", "base"])[["low", "median", "high", "share", "verdict"]]
    for one in maps:
        line = one.found.crossing.set_index("base")
        for base in analysis.runs["base"].unique():
            pd.testing.assert_series_equal(
                line.loc[base, known.columns], known.loc[(one.found.a, one.found.b, base)], check_names=False
            )
        at = one.found.places.iloc[[3]]
        again = critical_size(analysis.final, one.found.a, one.found.b, at=at).iloc[0]
        assert one.found.crossing.iloc[3]["median"] == again["median"]


def test_shares_of_runs_are_the_advices_of_two_candidates(analysis: Analysis, maps: list[Map]) -> None:
    one = maps[0].found
    for row, column in ((0, 30), (2, 20), (len(one.places) - 1, 40)):
        asked = pd.DataFrame([dict(one.places.iloc[row])] * 2).assign(method=[one.a, one.b])
        said = advise(analysis.final, asked.assign(examples=one.examples[column]), max_reach=BEYOND)
        assert said.table["p_best"].iloc[0] == pytest.approx(one.run[row, column], abs=1e-12)


def test_half_the_expected_losses_are_lower_where_the_median_draw_crosses(analysis: Analysis) -> None:
    at = places(analysis)
    line = versus(analysis.final, "full", "lora", at, np.array([1000.0])).crossing
    for row in range(len(at)):
        found = versus(analysis.final, "full", "lora", at.iloc[[row]], np.array([line["median"].iloc[row]]))
        assert found.expected[0, 0] == pytest.approx(0.5, abs=0.02)
    left, right = versus(analysis.final, "full", "lora", at, np.array([300.0, 900.0])).expected.T
    assert (left < 0.05).all()
    assert (right > 0.95).all()


def test_the_map_finds_the_true_winner_well_away_from_the_line(maps: list[Map]) -> None:
    for one in maps:
        sizes, examples = np.array(one.sizes)[:, None], one.found.examples[None]
        (A, a, b, E), (A2, a2, b2, E2) = (TRUTH[name] for name in (one.found.a, one.found.b))
        gap = (A * sizes**-a * examples**-b + E) - (A2 * sizes**-a2 * examples**-b2 + E2)
        inside = (one.found.reach == 1) & (np.abs(gap) > 0.15)
        assert inside.sum() > 100
        assert ((one.found.expected > 0.5) == (gap < 0))[inside].mean() > 0.99


def test_beyond_the_reach_of_either_method_the_map_is_blank() -> None:
    runs = sample_runs()
    few = runs[(runs["method"] != "lora") | (runs["examples"] <= 1000)].reset_index(drop=True)
    few = few[few["method"] != "prompt"].reset_index(drop=True)
    law = fit(few, "multiplicative", "model_params", ["task", "method"], draws=50)
    analysis = sample_analysis(few, final=law, crossings=crossings(law, few, 0.9))
    (one,) = analysis.maps
    blank = np.isnan(one.found.expected)
    assert blank[:, one.found.examples > BEYOND * 1000].all()
    assert not blank[:, one.found.examples < BEYOND * 1000 * 0.99].any()
    assert (one.found.reach[~blank] <= BEYOND).all()
    assert np.array_equal(blank, np.isnan(one.found.run))


def test_the_forecaster_is_not_asked_where_it_refuses(analysis: Analysis) -> None:
    auto = fit(analysis.runs, "auto", "model_params", ["task", "method"])
    found = versus(auto, "full", "lora", places(analysis), np.array([100.0, 1000.0, 10_000.0]))
    assert np.isnan(found.expected[:, 0]).all()
    assert np.isfinite(found.expected[:, 1:]).all()


def test_without_a_law_of_model_size_each_base_is_a_row(analysis: Analysis) -> None:
    runs = analysis.runs
    law = fit(runs, "rectified", None, ["task", "method", "model_params"], draws=40)
    found = sample_analysis(runs, final=law, crossings=crossings(law, runs, 0.9), advice=[])
    for one in found.maps:
        assert one.sizes is None
        assert one.labels == list(dict.fromkeys(runs["base"]))
        assert set(one.seen["row"]) == set(range(4))
    assert "each base is a row of its own" in Document(page(found)).texts["crossings"]


def test_a_method_seen_on_one_base_is_compared_there_alone() -> None:
    runs = sample_runs(seeds=(0,))
    runs = runs[(runs["method"] != "prompt") & ((runs["method"] == "full") | (runs["base"] == "s@2.5M"))]
    runs = runs.reset_index(drop=True)
    by = ["task", "method"]
    whole = fit(runs, "multiplicative", "model_params", by, draws=40)
    alone = fit(runs[runs["method"] == "lora"], "power", None, by, draws=40)
    whole.groups = [one if one.group.key["method"] == "full" else alone.groups[0] for one in whole.groups]
    (one,) = maps_of(whole, runs, 0.9)
    assert one.labels == ["s@2.5M"]
    assert one.sizes is None


def test_pretraining_sizes_and_tasks_have_maps_of_their_own(two_tasks: Analysis) -> None:
    assert [one.task for one in two_tasks.maps] == ["mt-en-de", "../Summaries in French"]
    runs = sample_runs(seeds=(0,))
    twice = pd.concat([runs, runs.assign(pretrain_tokens=5_000_000, run=runs["run"] + "-5M")], ignore_index=True)
    law = fit(twice, "multiplicative", "model_params", ["task", "method", "pretrain_tokens"], draws=40)
    found = maps_of(law, twice, 0.9)
    assert len(found) == 6
    assert sorted({one.title for one in found})[:2] == [
        "full against lora, 2,500,000 pretraining tokens",
        "full against lora, 5,000,000 pretraining tokens",
    ]


def test_the_page_holds_the_map_and_its_seen_runs(analysis: Analysis, maps: list[Map]) -> None:
    data = data_of(Document(page(analysis)))["versus"]
    assert [one["title"] for one in data] == [one.title for one in maps]
    for shown, one in zip(data, maps, strict=True):
        read = np.frombuffer(base64.b64decode(shown["shares"]["run"]), dtype="<u2").reshape(one.found.run.shape)
        np.testing.assert_allclose(np.where(read == NOTHING, np.nan, read / 1e4), one.found.run, atol=5e-5)
        learned = analysis.runs[(analysis.runs["flag"] == "") & analysis.runs["method"].isin([shown["a"], shown["b"]])]
        assert len(shown["seen"]["row"]) == len(learned[["base", "examples"]].drop_duplicates())


def test_the_csv_beside_the_figure_has_every_number(analysis: Analysis, maps: list[Map], tmp_path: Path) -> None:
    paths = write(critical_size_map(maps), tmp_path)
    assert [path.name for path in paths] == [f"critical-size-map.{kind}" for kind in ("png", "svg", "pdf", "csv")]
    table = pd.read_csv(paths[-1])
    for one in maps:
        cells = table[(table["map"] == one.title) & (table["kind"] == "cell")]
        np.testing.assert_allclose(cells["first_expected_lower"], one.found.expected.ravel(), atol=1e-12)
        np.testing.assert_allclose(cells["examples"].unique(), one.found.examples)
    assert set(table["kind"]) == {"cell", "crossing", "run"}


def test_one_method_has_no_map_and_no_figure(analysis: Analysis, tmp_path: Path) -> None:
    alone = analysis.runs[analysis.runs["method"] == "full"].reset_index(drop=True)
    law = fit(alone, "multiplicative", "model_params", ["task", "method"], draws=20)
    assert maps_of(law, alone, 0.9) == []
    assert critical_size_map([]) == []


def test_nothing_to_compare_is_an_error(analysis: Analysis) -> None:
    with pytest.raises(InputError, match="nothing to compare"):
        versus(analysis.final, "full", "lora", places(analysis).head(0), np.array([1000.0]))
    with pytest.raises(InputError, match="makes no groups"):
        versus(analysis.final, "full", "lora", places(analysis), np.array([1000.0]), between="flavour")


def test_hostile_names_are_only_data() -> None:
    made = hostile_analysis()
    read = Document(page(made))
    names = {name for one in data_of(read)["versus"] for name in (one["a"], one["b"], *one["labels"])}
    assert {*made.runs["method"], *made.runs["base"]} <= names
    before = Document(page(sample_analysis(small_runs())))
    assert [tag for tag, _ in read.elements].count("script") == [tag for tag, _ in before.elements].count("script")
    assert not {tag for tag, _ in read.elements} - {tag for tag, _ in before.elements}
    assert not [name for _, named in read.elements for name in named if name.startswith("on")]


def test_a_verdict_steers_nothing_that_is_drawn(maps: list[Map], analysis: Analysis) -> None:
    one = next(one for one in maps if (one.found.crossing["outcome"] == "overtakes").any())
    crossing = one.found.crossing
    overtakes = (crossing["share"] >= 0.5) & (crossing["better_below"] != crossing["better_above"])
    assert list(overtakes) == list(crossing["outcome"] == "overtakes")
    assert list(crossing["verdict"].str.contains("overtakes")) == list(overtakes)
    renamed = replace(one, found=replace(one.found, crossing=crossing.assign(verdict="overtakes nothing")))
    drawn, again = ([line.get_xdata() for line in draw_maps([map_]).axes[0].lines] for map_ in (one, renamed))
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(drawn, again, strict=True))


def test_an_end_of_an_interval_beyond_the_frame_has_no_line(maps: list[Map]) -> None:
    one = next(one for one in maps if (one.found.crossing["outcome"] == "overtakes").any())
    open_ = one.found.crossing.assign(low=0.0, high=np.inf)
    drawn = draw_maps([replace(one, found=replace(one.found, crossing=open_))]).axes[0].lines
    assert sum(not np.isfinite(np.asarray(line.get_xdata(), dtype=float)).any() for line in drawn) == 4
    assert any(np.isfinite(np.asarray(line.get_xdata(), dtype=float)).any() for line in drawn)


def test_maps_remember_draws_and_stay_the_same(analysis: Analysis, maps: list[Map]) -> None:
    for one in maps:
        again = versus(
            analysis.final, one.found.a, one.found.b, one.found.places, one.found.examples, BEYOND, level=analysis.level
        )
        assert np.array_equal(again.expected, one.found.expected, equal_nan=True)
        assert np.array_equal(again.run, one.found.run, equal_nan=True)
