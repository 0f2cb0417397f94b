"""``pilot``: halving with its width, more data with its price, the next run; on curves whose truth is known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_toy import TOML, WORK, toy_loss, toy_study

from finescale.cli import DEBUG, call
from finescale.errors import Refused
from finescale.stats.fit import fit
from finescale.stats.worth import Noise, halving, more, next_run, noise_of_curve, noise_of_runs
from finescale.study import lock
from finescale.study.lock import Study
from finescale.study.pilot import pilot
from finescale.study.run import run

BY = ["task", "base", "method"]


def curve(sizes: list[int], seeds: int, sd: float, draw: int, method: str = "full") -> pd.DataFrame:
    """Runs of a power law with noise in log loss."""
    drawn = np.random.default_rng(draw)
    rows = [
        {"task": "t", "base": "b", "method": method, "examples": n, "seed": s, "loss": 4 * n**-0.2 + 1.0}
        for n in sizes
        for s in range(seeds)
    ]
    frame = pd.DataFrame(rows)
    frame["loss"] *= np.exp(sd * drawn.standard_normal(len(frame)))
    return frame.assign(model_params=1e6, pet_params=1e3)


def test_the_interval_of_half_against_full_holds_the_truth_as_often_as_it_says() -> None:
    truth, inside = (4 * 200**-0.2) - (4 * 400**-0.2), 0
    for draw in range(400):
        runs = curve([100, 200, 400], 3, 0.02, draw)
        found = halving(runs, noise_of_runs(runs, BY), level=0.9)
        assert found is not None
        inside += found.low <= truth <= found.high
    assert 0.86 <= inside / 400 <= 0.94


def test_noise_comes_from_seeds_where_there_are_any_else_from_lines_else_from_nowhere() -> None:
    many = pd.concat([curve([100, 200, 400], 40, 0.03, 1), curve([100, 200, 400], 40, 0.03, 2, "lora")])
    found = noise_of_runs(many, BY)
    assert found is not None
    assert found.sd == pytest.approx(0.03, rel=0.15)
    assert found.freedom == 2 * 3 * 39
    lines = noise_of_runs(curve([50, 100, 200, 400], 1, 0.0, 1), BY)
    assert lines is not None
    assert lines.source.startswith("distance from straight lines")
    assert noise_of_runs(curve([100, 200], 1, 0.03, 1), BY) is None
    told = halving(curve([100, 200], 1, 0.03, 1), None)
    assert told is not None
    assert math.isnan(told.low)
    assert halving(curve([100], 2, 0.03, 1), found) is None


def test_a_quiet_curve_is_not_blamed_for_a_loud_one_and_forecasts_know_the_noise_of_runs() -> None:
    loud, quiet = curve([100, 200, 400], 2, 0.1, 1), curve([100, 200, 400], 2, 0.001, 2, "lora")
    pooled = noise_of_runs(pd.concat([loud, quiet]), BY)
    own = noise_of_curve(noise_of_runs(quiet, BY), pooled)
    assert own is not None
    assert pooled is not None
    assert own.sd < 0.005 < pooled.sd
    assert noise_of_curve(noise_of_runs(curve([100, 200, 400], 1, 0.0, 1), BY), pooled) == pooled
    at = quiet[quiet["examples"] == 400].iloc[[0]]
    narrow, wide = (more(fit(quiet, law="auto", by=BY), at, 400, (2.0,), noise=noise)[0] for noise in (own, pooled))
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert math.log(wide.high / wide.low) >= 2 * 1.64 * pooled.sd * 0.8


@settings(max_examples=50, deadline=None)
@given(scale=st.floats(0.1, 10), sd=st.floats(0.001, 0.1), test=st.floats(0, 1))
def test_a_halving_scales_with_the_loss_and_widens_with_the_test_set(scale: float, sd: float, test: float) -> None:
    runs, noise = curve([100, 200], 2, 0.02, 3), Noise(sd, 4, "seeds")
    one, more_of = halving(runs, noise), halving(runs.assign(loss=scale * runs["loss"]), noise)
    wider = halving(runs, noise, test)
    assert one is not None
    assert more_of is not None
    assert wider is not None
    assert more_of.gain == pytest.approx(scale * one.gain, rel=1e-9, abs=1e-12)
    assert more_of.high - more_of.low == pytest.approx(scale * (one.high - one.low))
    assert wider.high - wider.low >= one.high - one.low


def test_price_and_worth_follow_from_the_gain_and_nothing_is_advised_far_out() -> None:
    runs = curve([50, 100, 200, 400], 2, 0.002, 4)
    fits = fit(runs, law="auto", by=BY)
    at = runs[runs["examples"] == 400].iloc[[0]]
    dear, cheap = (more(fits, at, 400, (1.0, 2.0, 10.0), usd_per_1000=30, usd_per_nat=nat) for nat in (1.0, 1e6))
    now, twice, ten = dear
    assert now.usd == 0
    assert twice.usd == pytest.approx(12.0)
    assert twice.low < 4 * 800**-0.2 + 1 < twice.high
    assert twice.gain == pytest.approx(4 * 400**-0.2 - 4 * 800**-0.2, abs=0.05)
    assert twice.worth == 0
    assert cheap[1].worth is not None
    assert cheap[1].worth > 0.9
    assert twice.usd_per_nat == pytest.approx(12.0 / twice.gain)
    assert ten.worth is None
    assert "no advice 10 times beyond" in ten.refused
    assert ten.low < 4 * 4000**-0.2 + 1 < ten.high
    refused = more(fit(runs[runs["examples"] < 200], law="auto", by=BY), at, 400, (2.0,))
    assert math.isnan(refused[0].median)
    assert "TooFew" in refused[0].refused


def test_the_next_run_is_the_one_that_tells_most_for_its_time() -> None:
    sizes = np.array([100.0, 200.0, 400.0])
    both = [({"method": "a"}, sizes), ({"method": "b"}, sizes)]
    far = next_run(both, 1600, [100, 400, 800], [[1, 1, 1], [1, 1, 1]])
    assert far.examples == 800, "nearest to what is asked, where all cost the same"
    cheap = next_run(both, 1600, [100, 400, 800], [[100, 100, 100], [1, 100, 100]])
    assert (cheap.curve["method"], cheap.examples) == ("b", 100)
    short = [({"method": "a"}, sizes), ({"method": "b"}, sizes[1:])]
    assert next_run(short, 1600, [400], [[1], [1]]).curve["method"] == "b", "where least is known"
    x = np.log(np.append(sizes, 800.0))
    left = 1 / 4 + (np.log(1600) - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()
    y = np.log(sizes)
    was = 1 / 3 + (np.log(1600) - y.mean()) ** 2 / ((y - y.mean()) ** 2).sum()
    assert far.narrows == pytest.approx((was - left) / (2 * was)), "the closed form of a line's variance"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    toml = TOML.replace('["xs", "s"]', '["xs"]').replace("[10_000, 20_000]", "[10_000]")
    made = toy_study(tmp_path_factory.mktemp("toy"), toml + "\n[budget]\nusd_per_1000_examples = 30\n")
    lock.write_lock(made)
    assert run(made, workers=2, function=WORK).complete
    return made


def test_a_pilot_answers_with_forecasts_that_hold_the_truth(study: Study) -> None:
    found = pilot(study, usd_per_nat=500)
    size = int(study.table()["model_params"].iloc[0])
    assert [one.curve["method"] for one in found.outlooks] == ["full", "lora"]
    for one in found.outlooks:
        twice, _ = one.more
        assert twice.low <= toy_loss(one.curve["method"], size, 1600) <= twice.high
        assert one.have == one.most == 800
    assert "the forecast of LoRA" in found.best
    assert "is lowest" in found.best
    text = str(found)
    for part in ("half against full: 800 examples", "ten times the data (8,000", "no advice 10 times", "The next run"):
        assert part in text
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_verb_leaves_with_one_for_a_bad_worth_and_says_so(
    study: Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEBUG, "")
    assert call(["pilot", str(study.folder), "--worth", "-1"]) == 1
    assert "--worth" in capsys.readouterr().err


def test_nothing_is_answered_from_nothing(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no usable run"):
        pilot(toy_study(tmp_path))
