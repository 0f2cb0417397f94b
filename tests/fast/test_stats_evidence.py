"""The law that hold-outs support: named where the data tell, undecided where they do not, carried by ``auto``."""

import numpy as np
import pandas as pd
import pytest

import finescale as fs
from finescale.stats.evidence import UNDECIDED, evidence
from finescale.stats.groups import Group

D = 250.0 * 2.0 ** np.arange(9)
X = 1e5 * 3.0 ** np.arange(5)


def family(kind: str, noise: float, seed: int) -> pd.DataFrame:
    grid = pd.DataFrame({"model_params": np.repeat(X, len(D)), "examples": np.tile(D, len(X))})
    size, n = grid["model_params"], grid["examples"]
    loss = 60 * size**-0.25 * n**-0.15 + 1.2 if kind == "multiplicative" else 40 * size**-0.3 + 8 * n**-0.25 + 1
    return grid.assign(loss=loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(grid))))


def group(runs: pd.DataFrame, *factors: str) -> Group:
    return Group({}, (*factors, "examples"), runs, runs.iloc[:0])


@pytest.mark.parametrize("kind", ["multiplicative", "additive"])
def test_clean_data_never_support_a_law_that_did_not_make_them(kind: str) -> None:
    said = [evidence([group(family(kind, 0.001, seed), "model_params")]).named for seed in range(4)]
    assert set(said) <= {kind, UNDECIDED}
    assert kind in said


def test_noise_without_a_slope_supports_the_constant_or_nothing() -> None:
    rng = np.random.default_rng(0)
    said = []
    for _ in range(6):
        curves = [pd.DataFrame({"examples": D, "loss": 2 * np.exp(0.01 * rng.standard_normal(9))}) for _ in range(6)]
        said.append(evidence([group(curve) for curve in curves]).named)
    assert set(said) <= {"constant", UNDECIDED}
    assert "constant" in said


def test_too_few_sizes_and_no_groups_are_undecided() -> None:
    short = pd.DataFrame({"examples": D[:4], "loss": 3 * D[:4] ** -0.1})
    assert evidence([group(short)]).named == UNDECIDED
    assert evidence([]).named == UNDECIDED


def test_replicates_and_order_do_not_change_the_answer() -> None:
    runs = family("additive", 0.003, 1)
    once = evidence([group(runs, "model_params")])
    again = evidence([group(pd.concat([runs, runs]).sample(frac=1, random_state=0), "model_params")])
    assert again.named == once.named
    assert again.error == pytest.approx(once.error, rel=1e-6)


def test_auto_carries_the_law_in_its_table_status_and_file(tmp_path) -> None:
    runs = family("additive", 0.001, 0)
    fits = fs.fit(runs, "auto", "model_params", draws=50)
    named = evidence([group(runs, "model_params")]).named
    row = fits.table().set_index("parameter").loc["law"]
    assert row["meaning"] == f"best-supported law: {named}"
    assert f"Best-supported law: {named}" in fits.status["all runs"].sentence
    fits.to_json(tmp_path / "fits.json")
    assert fs.load_fits(tmp_path / "fits.json").status == fits.status


def test_the_median_of_auto_is_its_centre_whatever_the_draws() -> None:
    runs = family("multiplicative", 0.004, 2)
    seen = runs[runs["model_params"] < X[-1]]
    asked = runs[runs["examples"] == D[-1]]
    medians = [
        fs.fit(seen, "auto", "model_params", draws=draws, seed=draws).forecast(asked) for draws in (40, 200, 401)
    ]
    for said in medians[:2]:
        assert said["median"].to_numpy() == pytest.approx(medians[2]["median"].to_numpy(), rel=2e-3)
