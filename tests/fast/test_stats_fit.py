"""Theorems of the fitter: it recovers truths, respects symmetries, reaches a published optimum."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import finescale as fs
from finescale.stats.fit import fit
from finescale.stats.groups import grid_of
from finescale.stats.laws import MULTIPLICATIVE, Law
from finescale.stats.solve import nonnegative

SIZES = np.array([1e5, 3e5, 1e6, 3e6])
EXAMPLES = np.array([250.0, 500, 1000, 2000, 4000])


def table(noise: float = 0.0, seed: int = 0, truth=(60.0, 0.25, 0.15, 1.2), **extra) -> pd.DataFrame:
    A, alpha, beta, E = truth
    X, D = (axis.ravel() for axis in np.meshgrid(SIZES, EXAMPLES))
    loss = (A * X**-alpha * D**-beta + E) * np.exp(noise * np.random.default_rng(seed).standard_normal(X.shape))
    return pd.DataFrame({"model_params": X, "examples": D, "loss": loss}).assign(**extra)


def estimates(fits: fs.Fits) -> dict[str, float]:
    return dict(zip(fits.table()["parameter"], fits.table()["estimate"], strict=True))


def test_recovers_the_paper_law_without_noise() -> None:
    found = estimates(fit(table(), "multiplicative", "model_params", draws=20))
    assert found == pytest.approx({"A": 60.0, "alpha": 0.25, "beta": 0.15, "E": 1.2}, rel=1e-4)


@settings(max_examples=10, deadline=None)
@given(scale=st.integers(2, 500), seed=st.integers(0, 5))
def test_rescaling_a_factor_moves_only_its_coefficient(scale: int, seed: int) -> None:
    runs = table(0.003, seed)
    one = estimates(fit(runs, "multiplicative", "model_params", draws=10))
    two = estimates(fit(runs.assign(examples=runs["examples"] * scale), "multiplicative", "model_params", draws=10))
    assert two["A"] == pytest.approx(one["A"] * scale ** one["beta"], rel=1e-3)
    for name in ("alpha", "beta", "E"):
        assert two[name] == pytest.approx(one[name], rel=1e-3)


def test_order_of_rows_does_not_matter() -> None:
    runs = table(0.005, 3)
    one = estimates(fit(runs, "additive", "model_params", draws=10))
    two = estimates(fit(runs.sample(frac=1, random_state=1), "additive", "model_params", draws=10))
    assert two == pytest.approx(one, rel=1e-6)


@pytest.mark.parametrize("name", ["power", "rectified"])
def test_recovers_curves_in_examples(name: str) -> None:
    D = np.geomspace(200, 2e6, 14)
    loss = 20 * D**-0.3 + 1.0 if name == "power" else 80 / (40 + D**0.5) + 1.0
    found = estimates(fit(pd.DataFrame({"examples": D, "loss": loss}), name, draws=10))
    wanted = {"A": 20.0, "beta": 0.3, "E": 1.0} if name == "power" else {"B": 80.0, "D_l": 40.0, "beta": 0.5, "E": 1.0}
    assert found == pytest.approx(wanted, rel=5e-3)


def test_one_outlier_does_not_move_a_robust_fit() -> None:
    runs = table(0.002, 1)
    runs.loc[7, "loss"] *= 1.3
    assert estimates(fit(runs, "multiplicative", "model_params", draws=10))["beta"] == pytest.approx(0.15, abs=0.02)


def test_the_best_of_several_starts_is_a_stationary_point() -> None:
    how = fit(table(0.004, 2), "multiplicative", "model_params", draws=10).groups[0].diagnostics
    assert how["gradient"] < 1e-3
    assert how["agreeing_starts"] >= 2


def test_sharing_gives_one_value_to_all_groups() -> None:
    runs = pd.concat([table(0.004, 1, method="full"), table(0.004, 2, (30, 0.2, 0.06, 1.2), method="lora")])
    shared = fit(runs, "multiplicative", "model_params", by="method", share=["E"], draws=50).table()
    by_name = shared.groupby("parameter")["estimate"].nunique()
    assert by_name["E"] == 1
    assert by_name["beta"] == 2
    assert shared.query("parameter == 'E'")["estimate"].iloc[0] == pytest.approx(1.2, abs=0.1)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_nonnegative_least_squares_meets_its_optimality_conditions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    A, b = rng.standard_normal((12, 3)), rng.standard_normal(12)
    c = nonnegative((A.T @ A)[None], (A.T @ b)[None])[0]
    slope = A.T @ (A @ c - b)
    assert np.all(c >= 0)
    assert np.all(slope[c == 0] >= -1e-8)
    assert np.all(np.abs(slope[c > 0]) < 1e-8)


def test_curve_intervals_cover_the_truth_as_often_as_they_say() -> None:
    point = pd.DataFrame({"model_params": [1e6], "examples": [1500.0]})
    truth = 60 * 1e6**-0.25 * 1500**-0.15 + 1.2
    hits = 0
    for seed in range(30):
        said = fit(table(0.01, seed), "multiplicative", "model_params", seed=seed, draws=60).forecast(
            point, kind="curve"
        )
        hits += bool(said["low"][0] <= truth <= said["high"][0])
    # 30 fits at 90 %: fewer than 22 has a binomial probability of 0.002.
    assert hits >= 22


def test_statuses_say_what_is_wrong() -> None:
    assert fit(table().iloc[:4], "multiplicative", "model_params", draws=5).groups[0].status.name == "TooFew"
    rng = np.random.default_rng(0)
    flat = table().assign(loss=2 * np.exp(0.01 * rng.standard_normal(20)))
    assert fit(flat, "multiplicative", "model_params", draws=20).groups[0].status.name == "NotALaw"
    floorless = pd.DataFrame({"examples": EXAMPLES, "loss": 20 * EXAMPLES**-0.3 - 0.5})
    assert fit(floorless, "power", draws=20).groups[0].status.name == "AtBound"
    assert fit(table(0.001), "multiplicative", "model_params", draws=50).groups[0].status.name == "Converged"
    short = pd.DataFrame(
        {"examples": EXAMPLES, "loss": (3 * EXAMPLES**-0.05 + 1) * [1.004, 0.997, 1.002, 0.999, 1.001]}
    )
    assert fit(short, "power", draws=50).groups[0].status.name in ("Unidentified", "AtBound")


def test_all_faults_of_a_call_are_listed_at_once() -> None:
    with pytest.raises(fs.InputError) as caught:
        fit(table(), "multiplicativ", "modelparams", by="task", hold_out={"pet_params": 1}, objective="l2")
    text = str(caught.value)
    for part in ("'multiplicative'", "'model_params'", "column 'task'", "hold_out['pet_params']", "objective 'l2'"):
        assert part in text


def test_what_cannot_be_meant_is_a_fault() -> None:
    for options, place in (
        ({"by": "examples"}, "by 'examples'"),
        ({"by": "loss"}, "by 'loss'"),
        ({"hold_out": 2}, "hold_out: 2 is not a dict"),
        ({"law": "auto", "objective": "paper"}, "objective: has no meaning for law='auto'"),
    ):
        with pytest.raises(fs.InputError, match=place):
            fit(table(), options.pop("law", "power"), **options)
    with pytest.raises(fs.InputError, match="is a list, not a table of runs"):
        fit([1, 2], "power")
    named = table().drop(columns="model_params").assign(median=1.0, reach=2.0)
    assert fit(named, "constant", draws=5).groups[0].fitted
    with pytest.raises(fs.InputError, match="2 faults:\n  column 'median': has the name of a forecast"):
        fit(named, "constant", hold_out={"examples": 1})
    for level in ("0.9", 1.5, None):
        with pytest.raises(fs.InputError, match="is not a number between 0 and 1"):
            fit(named, "constant", draws=5).table(level)


def test_a_line_needs_two_sizes_however_many_runs() -> None:
    same = pd.DataFrame({"examples": [1000.0] * 4, "loss": [2.0, 2.01, 1.99, 2.0]})
    status = fit(same, "loglog-line", draws=5).groups[0].status
    assert (status.name, status.sentence) == ("TooFew", "4 runs at 1 size; a line needs 2. Add sizes.")


def test_a_law_refuses_the_wrong_number_of_factors() -> None:
    with pytest.raises(fs.InputError, match="takes 1 factors besides examples, not 0"):
        fit(table(), "multiplicative")


def test_grid_covers_every_shape() -> None:
    law: Law = MULTIPLICATIVE
    grid = grid_of(law, ("model_params", "examples"), np.zeros((3, 2)))
    assert grid.shape[1] == 2
    assert len(np.unique(grid[:, 0])) == len(np.unique(grid[:, 1])) >= 8
