"""Priors given to the forecaster: they lead where data are few, are overruled where data are many, and are stated."""

import numpy as np
import pandas as pd
import pytest

import finescale as fs
from finescale.stats.auto import Pool
from finescale.stats.family import fit_joint
from finescale.stats.groups import Group
from finescale.stats.laws import ADDITIVE
from finescale.stats.local import Believed, Curve, settled_law
from finescale.stats.priors import Belief
from finescale.stats.stack import PRIOR, believing

D = 200.0 * 2.0 ** np.arange(12)
SURE = {"beta": (0.6, 1e-3)}


def curves(sizes: int, beta: float = 0.1, count: int = 1, noise: float = 0.004, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for index in range(count):
        loss = ((4 + index) * D[:sizes] ** -beta + 1) * np.exp(noise * rng.standard_normal(sizes))
        parts.append(pd.DataFrame({"base": f"b{index}", "examples": D[:sizes], "loss": loss}))
    return pd.concat(parts, ignore_index=True)


def ahead(runs: pd.DataFrame, times: float = 16.0) -> pd.DataFrame:
    return pd.DataFrame({"base": runs["base"].unique(), "examples": runs["examples"].max() * times})


def said(runs: pd.DataFrame, priors=None, **options) -> np.ndarray:
    fits = fs.fit(runs, "auto", by="base", priors=priors, draws=50, **options)
    return fits.forecast(ahead(runs))["median"].to_numpy()


def test_where_data_are_few_a_sure_prior_leads_the_forecast_to_its_slope() -> None:
    runs = curves(3)
    target = np.log(ahead(runs)["examples"].to_numpy())
    one = Curve.of(runs["examples"].to_numpy(), runs["loss"].to_numpy(), Believed(beta=SURE["beta"]))
    led = np.exp(settled_law([one], target, believe=True)[0, 0])
    alone, helped = said(runs)[0], said(runs, SURE)[0]
    assert abs(alone - led) > 0.02
    assert abs(helped - led) < 0.1 * abs(alone - led)


@pytest.mark.parametrize("beta", [0.05, 0.1, 0.4])
def test_the_law_under_a_sure_prior_has_its_exponent(beta: float) -> None:
    """With beta and the onset given, three sizes determine the two heights, and with them every larger size."""
    loss = 5 / (1 + (D / 50.0) ** beta) + 1.0
    one = Curve.of(D[:3], loss[:3], Believed((beta, 1e-5), (np.log(50.0), 1e-5)))
    assert np.exp(settled_law([one], np.log(D), believe=True)[0]) == pytest.approx(loss, rel=0.01)


def test_where_data_are_many_they_overrule_a_wrong_prior() -> None:
    runs = curves(12, count=4)
    truth = np.array([(4 + index) * (16 * D[-1]) ** -0.1 + 1 for index in range(4)])
    alone, misled = said(runs), said(runs, SURE)
    assert np.abs(misled / truth - 1).mean() < 0.03
    assert misled == pytest.approx(alone, rel=0.02)
    weight = fs.fit(runs, "auto", by="base", priors=SURE, draws=20).table().set_index("parameter")["estimate"]
    assert weight["prior_law"].max() < 0.2  # 0.95 beforehand


@pytest.mark.parametrize("sizes", [3, 7])
def test_a_prior_that_says_nothing_changes_nothing(sizes: int) -> None:
    runs = curves(sizes, count=2)
    assert said(runs, {"beta": (0.3, 1e4)}) == pytest.approx(said(runs), rel=1e-6)


def test_the_more_precise_the_more_it_is_believed_beforehand() -> None:
    shares = [believing(precision)[-1] for precision in (0.0, 1.0, 30.0, 1e3, 1e9)]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[1] == pytest.approx(PRIOR[-1] / (1 + PRIOR[-1]))
    assert shares[-1] < 1
    assert np.allclose([believing(precision).sum() for precision in (0.0, 1.0, 1e9)], 1)


def test_the_order_of_runs_does_not_matter_with_priors() -> None:
    runs = curves(6, count=3)
    shuffled = runs.sample(frac=1, random_state=3)
    one, two = (fs.fit(table, "auto", by="base", priors=SURE, draws=50) for table in (runs, shuffled))
    pd.testing.assert_frame_equal(one.forecast(ahead(runs)), two.forecast(ahead(runs)), rtol=1e-9)


def test_priors_of_auto_are_stated_in_table_status_citations_and_file(tmp_path) -> None:
    runs = curves(5).assign(method="lora")
    fits = fs.fit(runs, "auto", by="method", priors=fs.published("zhang2024"), draws=50)
    # Zhang et al. 2024, Table 4: beta of LoRA is 0.081, 0.025 and 0.03 on its three tasks.
    words = "prior 0.0453 ± 0.031 (zhang2024, 3 cells)"
    assert fits.table().set_index("parameter")["meaning"]["beta"] == words
    assert f"With priors: beta {words}." in fits.status["method=lora"].sentence
    assert f"beta: {words}" in fits.citations()
    fits.to_json(tmp_path / "fits.json")
    again = fs.load_fits(tmp_path / "fits.json")
    assert str(again) == str(fits)
    asked = pd.DataFrame({"method": ["lora"], "examples": [2e4]})
    pd.testing.assert_frame_equal(again.forecast(asked), fits.forecast(asked), check_exact=True)


def family(bases: int) -> pd.DataFrame:
    X, n = (axis.ravel() for axis in np.meshgrid(1e6 * 4.0 ** np.arange(bases), D[:6]))
    noise = np.exp(0.004 * np.random.default_rng(1).standard_normal(len(X)))
    return pd.DataFrame({"model_params": X, "examples": n, "loss": (90 * X**-0.2 * n**-0.15 + 1) * noise})


def test_a_sure_prior_on_an_exponent_holds_in_the_familys_products_and_not_in_its_sum() -> None:
    group = Group({}, ("model_params", "examples"), family(3), family(3).iloc[:0])
    plain, sure = fit_joint(group), fit_joint(group, {"alpha": Belief(0.3, 1e-5, "given")})
    assert plain is not None
    assert sure is not None
    for one, other in zip(sure.laws, plain.laws, strict=True):
        if one.law is ADDITIVE:
            assert np.array_equal(one.theta, other.theta)
        else:
            assert one.theta[0] == pytest.approx(0.3, abs=1e-3)
            assert other.theta[0] != pytest.approx(0.3, abs=1e-2)


def test_a_pool_believes_as_its_curves_do_on_average() -> None:
    loss = 4 * D**-0.1 + 1
    pool = Pool([Curve.of(D[:5], loss[:5], Believed(beta=(0.1, spread))) for spread in (0.24, 0.024)])
    assert pool.prior[-1] == pytest.approx(believing((1 + 100) / 2)[-1])
    assert len(Pool([Curve.of(D[:5], loss[:5])]).prior) == len(PRIOR)


def test_priors_that_auto_has_no_use_for_are_faults() -> None:
    with pytest.raises(fs.InputError, match="is no shape of auto"):
        fs.fit(curves(5), "auto", priors={"gama": (0.1, 0.1)})
    with pytest.raises(fs.InputError, match="is not \\(mean, standard deviation > 0\\)"):
        fs.fit(curves(5), "auto", priors={"D0": (-3.0, 0.5)})


def test_priors_that_cannot_be_meant_are_refused() -> None:
    frame = pd.DataFrame(
        [(d, n, 3 * d**-0.3 * n**-0.1 + 1) for d in (1e2, 4e2, 16e2, 64e2) for n in (1e6, 1e7, 1e8)],
        columns=["examples", "pretrain_tokens", "loss"],
    )
    with pytest.raises(fs.InputError, match="are of model_params, and this fit is of pretrain_tokens"):
        fs.fit(frame, "multiplicative", factor="pretrain_tokens", priors=fs.published("zhang2024"))
    for law in ("auto", "multiplicative"):
        with pytest.raises(fs.InputError, match=r"-0\.3 lies outside what .* allows"):
            fs.fit(frame, law, factor="pretrain_tokens", priors={"beta": (-0.3, 0.01)})
    held = fs.fit(frame, "multiplicative", factor="pretrain_tokens", priors={"beta": (0.3, 0.01)})
    with pytest.raises(fs.InputError, match="was fitted with priors"):
        held.profile("beta")
