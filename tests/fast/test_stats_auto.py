"""The forecaster: it continues curves, learns from neighbours, widens with reach, refuses, survives a file."""

import numpy as np
import pandas as pd
import pytest

import finescale as fs
from finescale.stats.auto import Pool
from finescale.stats.family import fit_joint
from finescale.stats.groups import Group
from finescale.stats.local import DOUBLING, FORECASTERS, LONG, SHORT, Curve, averaged_law, forecasts, settled_law
from finescale.stats.stack import PRIOR, stacked

D = 200.0 * 2.0 ** np.arange(12)


def curve(A: float, beta: float, E: float, noise: float = 0.0, seed: int = 0, sizes=D) -> np.ndarray:
    return (A * sizes**-beta + E) * np.exp(noise * np.random.default_rng(seed).standard_normal(len(sizes)))


def family(noise: float = 0.004, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for rung, X in zip("abcde", 1e5 * 4.0 ** np.arange(5), strict=True):
        for n in D:
            loss = (150 * X**-0.22 * n**-0.2 + 0.9) * np.exp(noise * rng.standard_normal())
            rows.append({"base": rung, "model_params": X, "examples": n, "loss": loss})
    return pd.DataFrame(rows)


def test_a_straight_log_log_line_is_continued_exactly_by_both_lines() -> None:
    one = Curve.of(D, 9 * D**-0.1)
    for window in (SHORT, LONG):
        level, slope = one.line(window)
        assert slope == pytest.approx(-0.1, abs=1e-9)
        assert level == pytest.approx(one.log_y[-1], abs=1e-9)


def test_the_averaged_law_sees_a_floor_that_lines_do_not() -> None:
    loss = curve(30, 0.4, 1.5)
    seen, target = Curve.of(D[:9], loss[:9]), np.log(D[-1:])
    level, slope = seen.line(SHORT)
    line = level + slope * (target[0] - seen.x[-1])
    law = averaged_law([seen], target)[0, 0]
    assert abs(law - np.log(loss[-1])) < abs(line - np.log(loss[-1]))


def test_the_settled_law_follows_a_clean_curve_where_the_cautious_law_does_not() -> None:
    target, truth = np.log(D[-1:] * 4), np.log(30 * (D[-1] * 4) ** -0.4 + 1.5)
    clean = Curve.of(D, curve(30, 0.4, 1.5))
    assert settled_law([clean], target)[0, 0] == pytest.approx(truth, abs=0.015)
    assert abs(settled_law([clean], target)[0, 0] - truth) < abs(averaged_law([clean], target)[0, 0] - truth)


def test_nothing_held_out_means_the_prior_and_far_beyond_it_the_prior_again() -> None:
    lone = Pool([Curve.of(D[:3], curve(20, 0.2, 1)[:3])])
    assert lone.rolling == 0
    assert np.allclose(lone.weights(lone.curves[0]).q, PRIOR)
    pool = Pool([Curve.of(D[:5], curve(A, 0.4, 1)[:5]) for A in (10, 20, 30, 40)])
    q = pool.weights(pool.curves[0]).q
    distance = np.abs(q - PRIOR).sum(axis=1)
    assert distance[-1] < 0.5 * distance.max()


def test_stacking_finds_the_best_weights_when_evidence_is_strong() -> None:
    """Two forecasters that err to opposite sides cancel: the minimum of q'Mq is known in closed form."""
    error = np.array([[1.0, -2.0, 0.0]]) + [0.01, 0.01, 9.0] * np.random.default_rng(0).standard_normal((400, 3))
    moments = error.T @ error / len(error)
    weights = stacked(moments[None], np.full(3, 1 / 3), np.array([500.0]))[0]
    assert weights.sum() == pytest.approx(1.0)
    assert weights[:2] == pytest.approx([2 / 3, 1 / 3], abs=0.05)
    assert np.allclose(stacked(moments[None], PRIOR[1:4] / PRIOR[1:4].sum(), np.zeros(1))[0], 1 / 3)


@pytest.mark.parametrize("evidence", [0.5, 4.0, 12.0])
def test_stacking_never_scores_worse_than_the_prior_or_any_forecaster_beyond_its_prior_cost(evidence: float) -> None:
    rng = np.random.default_rng(int(10 * evidence))
    for _ in range(20):
        error = rng.standard_normal((30, 6)) * np.exp(rng.normal(0, 1.5, 6))
        moments = error.T @ error / 30
        q = stacked(moments[None], PRIOR, np.array([evidence]))[0]
        score = evidence / 2 * np.log(q @ moments @ q) + np.sum(q * np.log(np.maximum(q, 1e-300) / PRIOR))
        assert score <= evidence / 2 * np.log(PRIOR @ moments @ PRIOR) + 1e-6
        assert np.all(score <= evidence / 2 * np.log(np.diag(moments)) - np.log(PRIOR) + 1e-3)


def test_clean_curves_of_one_law_are_forecast_as_that_law() -> None:
    """With six clean curves the law that made them gets the weight, and the forecast is its forecast."""
    pool = Pool([Curve.of(D, curve(A, 0.25, 1.0, 2e-4, A)) for A in (8, 12, 16, 24, 32, 40)])
    target = np.log(D[-1:] * 8)
    for index, A in enumerate((8, 12, 16, 24, 32, 40)):
        assert pool.forecast(index, target)[0] == pytest.approx(np.log(A * (8 * D[-1]) ** -0.25 + 1), abs=0.01)


def test_flat_curves_are_forecast_flat() -> None:
    pool = Pool([Curve.of(D, curve(0, 0.2, 2.0, 0.004, seed)) for seed in range(5)])
    for index in range(5):
        assert pool.forecast(index, np.log(D[-1:] * 8))[0] == pytest.approx(np.log(2.0), abs=0.02)


def test_the_order_of_curves_does_not_matter() -> None:
    curves = [Curve.of(D, curve(A, 0.2, 1.0, 0.006, A)) for A in (10, 20, 30)]
    target = np.log(D[-1:] * [2, 8])
    forth, back = Pool(curves), Pool(curves[::-1])
    for index in range(3):
        assert forth.forecast(index, target) == pytest.approx(back.forecast(2 - index, target), abs=1e-9)
        assert forth.path(index).scale == pytest.approx(back.path(2 - index).scale, rel=1e-9)


def _table(seed: int) -> list[np.ndarray]:
    """Ten curves of one task: rectified laws about common shapes, noise 0.1 to 2 %, some with a slow bend."""
    rng = np.random.default_rng(seed)
    beta, knee, floor = np.exp(rng.uniform(np.log(0.1), np.log(0.6))), rng.uniform(4, 10), rng.uniform(0, 0.6)
    noise, bend = np.exp(rng.uniform(np.log(1e-3), np.log(2e-2))), rng.uniform(0, 0.004)
    out = []
    for _ in range(10):
        b = beta * np.exp(0.15 * rng.standard_normal())
        y = 1 / (1 + np.exp(b * (np.log(D) - knee - 0.5 * rng.standard_normal()))) + floor
        bends = np.cumsum(np.cumsum(bend * rng.standard_normal(len(D))))
        out.append(np.log(y) + bends + noise * rng.standard_normal(len(D)))
    return out


def test_on_simulated_tables_auto_is_near_the_best_forecaster_and_its_intervals_hold() -> None:
    """8 tables × 10 curves, three largest sizes ahead: the best single forecaster differs between tables."""
    best, own, inside = [], [], []
    for seed in range(8):
        logs = _table(seed)
        runs = pd.DataFrame(
            {"base": str(i), "examples": n, "loss": np.exp(v)}
            for i, y in enumerate(logs)
            for n, v in zip(D, y, strict=True)
        )
        held = runs["examples"] > D[8]
        said = fs.fit(runs[~held], "auto", by="base", draws=200).forecast(runs[held])
        inside.append(((runs[held]["loss"] >= said["low"]) & (runs[held]["loss"] <= said["high"])).mean())
        own.append(np.abs(np.log(said["median"] / runs[held]["loss"])).mean())
        alone = [np.abs(forecasts([Curve(np.log(D[:9]), y[:9])], np.log(D[9:]))[0] - y[9:, None]).mean(0) for y in logs]
        best.append(np.mean(alone, axis=0))
    errors = np.array(best)
    assert errors.shape[1] == len(FORECASTERS)
    regret = np.log(np.array(own) / errors.min(axis=1))
    assert np.mean(regret) < 0.1
    assert np.mean(np.log(own)) < np.log(errors).mean(axis=0).min()
    assert 0.85 <= np.mean(inside) <= 0.97


def test_scaling_the_losses_or_the_examples_scales_the_forecast() -> None:
    loss = curve(20, 0.25, 1.0, 0.005, 1)
    target = np.log(D[-1:] * 8)
    plain = Pool([Curve.of(D, loss)]).forecast(0, target)
    louder = Pool([Curve.of(D, 3 * loss)]).forecast(0, target)
    wider = Pool([Curve.of(10 * D, loss)]).forecast(0, target + np.log(10))
    assert louder == pytest.approx(plain + np.log(3), abs=1e-6)
    assert wider == pytest.approx(plain, abs=1e-6)


def test_dense_curves_are_thinned_and_replicates_averaged() -> None:
    x = np.geomspace(100, 1e6, 3000)
    thin = Curve.of(np.repeat(x, 2), np.repeat(curve(20, 0.2, 1, sizes=x), 2))
    assert len(thin.x) <= 40
    assert thin.span == pytest.approx(np.log(1e4), rel=0.1)


def test_neighbours_help_a_short_noisy_curve() -> None:
    """Curves of one law and different heights: the pooled forecast beats the line and the law of each curve."""
    heights, errors = (8, 12, 16, 24, 32, 40), {"line": [], "law": [], "pooled": []}
    target = np.log(D[-1:])
    for seed in range(6):
        seen = [Curve.of(D[:5], curve(A, 0.25, 1.0, 0.01, 10 * seed + i)[:5]) for i, A in enumerate(heights)]
        pool = Pool(seen)
        for i, (one, A) in enumerate(zip(seen, heights, strict=True)):
            truth = np.log(A * D[-1] ** -0.25 + 1)
            level, slope = one.line(SHORT)
            errors["line"].append(abs(level + slope * (target[0] - one.x[-1]) - truth))
            errors["law"].append(abs(averaged_law([one], target)[0, 0] - truth))
            errors["pooled"].append(abs(pool.forecast(i, target)[0] - truth))
    mean = {name: np.mean(values) for name, values in errors.items()}
    assert mean["pooled"] < min(mean["line"], mean["law"])


def test_intervals_widen_with_reach_and_hold_on_simulated_curves() -> None:
    inside = []
    for seed in range(8):
        runs = pd.concat(
            pd.DataFrame({"base": str(i), "examples": D, "loss": curve(A, b, 1.0, 0.006, 50 * seed + i)})
            for i, (A, b) in enumerate([(10, 0.2), (15, 0.25), (20, 0.22), (30, 0.28)])
        )
        held = runs["examples"] > D[7]
        fits = fs.fit(runs[~held], "auto", by="base")
        said = fits.forecast(runs[held])
        inside.extend((runs[held]["loss"] >= said["low"]) & (runs[held]["loss"] <= said["high"]))
        width = (said["high"] / said["low"]).to_numpy().reshape(4, -1)
        assert np.all(np.diff(width, axis=1) > 0)
    # 128 forecasts at a nominal 90 %, correlated within curves; below 0.75 would be a broken promise.
    assert 0.75 < np.mean(inside) <= 1.0


def test_auto_on_a_family_forecasts_seen_and_unseen_bases() -> None:
    runs = family()
    seen = runs[(runs["model_params"] < 2e7) & (runs["examples"] <= D[8])]
    fits = fs.fit(seen, "auto", "model_params")
    own = fits.forecast(runs[(runs["base"] == "b") & (runs["examples"] == D[-1])])
    unseen = fits.forecast(runs[(runs["base"] == "e") & (runs["examples"] == D[8])])
    truth = runs.set_index(["base", "examples"])["loss"]
    assert own["median"].iloc[0] == pytest.approx(truth["b", D[-1]], rel=0.02)
    assert unseen["median"].iloc[0] == pytest.approx(truth["e", D[8]], rel=0.05)
    assert unseen["low"].iloc[0] < truth["e", D[8]] < unseen["high"].iloc[0]
    assert (unseen["high"] / unseen["low"]).iloc[0] > (own["high"] / own["low"]).iloc[0]


def test_a_family_of_few_bases_weighs_three_ways_alike_and_more_bases_favour_the_law_they_follow() -> None:
    runs = family(0.002)
    few = fit_joint(Group({}, ("model_params", "examples"), runs[runs["base"] < "d"], runs.iloc[:0]))
    many = fit_joint(Group({}, ("model_params", "examples"), runs, runs.iloc[:0]))
    assert few is not None
    assert many is not None
    assert few.weights == pytest.approx([1 / 3] * 3)
    assert many.weights[2] < 0.1
    assert many.missed.mean() < few.missed.mean()


def test_auto_refuses_beyond_its_stated_reach() -> None:
    fits = fs.fit(family(), "auto", "model_params")
    with pytest.raises(fs.Refused, match="up to 1,024 times above"):
        fits.forecast(model_params=1e5, examples=D[-1] * 2000)


def test_auto_survives_a_file(tmp_path) -> None:
    runs = family()
    fits = fs.fit(runs, "auto", "model_params", hold_out={"examples": 1})
    fits.to_json(tmp_path / "auto.json")
    again = fs.load_fits(tmp_path / "auto.json")
    asked = pd.DataFrame({"model_params": [1e5, 5e7], "examples": [1e6, 1e5]})
    pd.testing.assert_frame_equal(again.forecast(asked), fits.forecast(asked), check_exact=True)
    pd.testing.assert_frame_equal(again.held_out(), fits.held_out(), check_exact=True)
    assert str(again) == str(fits)


def test_auto_needs_three_sizes_and_says_so() -> None:
    runs = pd.DataFrame({"examples": [100.0, 200.0], "loss": [2.0, 1.9]})
    assert fs.fit(runs, "auto").groups[0].status.name == "TooFew"


def test_a_horizon_of_one_doubling_costs_little() -> None:
    loss = curve(20, 0.2, 1.0, 0.003, 3)
    pool = Pool([Curve.of(D[:-1], loss[:-1])])
    assert pool.width.scale(0, np.array([DOUBLING]), pool.curves[0].span, np.zeros(1))[0] < 0.03


def test_auto_is_measured_by_each_curve_and_looks_upwards() -> None:
    """A base seen to a smaller size lies further from a question than the table's largest size says."""
    runs = family()
    largest = runs["model_params"].max()
    short = runs[(runs["model_params"] < largest) | (runs["examples"] <= runs["examples"].max() / 4)]
    fits = fs.fit(short, "auto", "model_params", draws=50)
    asked = fits.forecast(model_params=largest, examples=float(runs["examples"].max()))
    assert asked["reach"].iloc[0] == pytest.approx(4.0)
    with pytest.raises(fs.Refused, match="2 times below"):
        fits.forecast(model_params=largest, examples=float(runs["examples"].min()) / 3)


def test_below_the_smallest_size_the_band_widens_and_holds_the_truth() -> None:
    rng = np.random.default_rng(0)
    sizes = 500.0 * 2.0 ** np.arange(8)
    loss = (8 * sizes**-0.25 + 1.2) * np.exp(0.003 * rng.standard_normal(8))
    found = fs.fit(pd.DataFrame({"examples": sizes, "loss": loss})).forecast(examples=300.0).iloc[0]
    assert found["low"] < 8 * 300**-0.25 + 1.2 < found["high"]
