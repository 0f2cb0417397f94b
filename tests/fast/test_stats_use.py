"""What fits say: forecasts, files, crossings, advice, and what read_runs notices."""

import json
import time

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

import finescale as fs
from finescale.stats.critical import eq3
from finescale.stats.runs import size
from finescale.stats.uncertainty import noise_of

mpl.use("Agg")
TRUTH = {"full": (90.0, 0.25, 0.25, 1.2), "lora": (40.0, 0.25, 0.12, 1.2)}


def runs(noise: float = 0.004) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    rows = []
    for method, (A, alpha, beta, E) in TRUTH.items():
        for rung, X in zip("abcd", (1e5, 3e5, 1e6, 3e6), strict=True):
            for D in (100, 200, 400, 800, 1600, 3200):
                loss = (A * X**-alpha * D**-beta + E) * np.exp(noise * rng.standard_normal())
                rows.append({"method": method, "base": rung, "model_params": X, "examples": D, "seed": 0, "loss": loss})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def fits() -> fs.Fits:
    return fs.fit(
        runs(), "multiplicative", "model_params", by="method", share=["E"], hold_out={"examples": 1}, draws=200
    )


def candidates(examples: float) -> pd.DataFrame:
    sizes = {"a": 1e5, "d": 3e6}
    rows = [{"method": m, "base": b, "model_params": x, "examples": examples} for m in TRUTH for b, x in sizes.items()]
    return pd.DataFrame(rows)


def test_forecast_is_aligned_ordered_and_widens(fits: fs.Fits) -> None:
    asked = candidates(800.0).set_index(pd.Index([10, 3, 7, 5]))
    said = fits.forecast(asked)
    assert list(said.index) == [10, 3, 7, 5]
    assert (said["low"] < said["median"]).all()
    assert (said["median"] < said["high"]).all()
    curve = fits.forecast(asked, kind="curve")
    assert ((said["high"] - said["low"]) > (curve["high"] - curve["low"])).all()
    far = fits.forecast(asked.assign(examples=1e6))
    assert (far["high"] / far["low"] > said["high"] / said["low"]).all()
    assert far["reach"].to_numpy() == pytest.approx(1e6 / 1600)


@pytest.mark.parametrize("law", ["multiplicative", "auto"])
@pytest.mark.parametrize("kind", ["run", "curve"])
def test_a_rows_forecast_does_not_depend_on_the_rows_beside_it(law: str, kind: str) -> None:
    made = fs.fit(runs(), law, "model_params", by="method", draws=60)
    new = candidates(900.0).assign(base=["e", "f", "e", "f"], model_params=[2e5, 5e6, 2e5, 5e6])
    asked = pd.concat([candidates(800.0), new, candidates(6000.0), candidates(800.0)], ignore_index=True)
    for frame in (asked, asked.drop(columns="base")):
        whole = made.forecast(frame, kind=kind)
        alone = pd.concat([made.forecast(frame.iloc[[row]], kind=kind) for row in range(len(frame))])
        pd.testing.assert_frame_equal(whole, alone, rtol=1e-12)
        back = made.forecast(frame.iloc[::-1], kind=kind).iloc[::-1]
        pd.testing.assert_frame_equal(whole, back, rtol=1e-12)
    assert (whole.iloc[:4].to_numpy() == whole.iloc[-4:].to_numpy()).all()


def test_noise_of_different_runs_is_drawn_apart_and_has_its_scale(fits: fs.Fits) -> None:
    """Draws of runs less those of their curves: each as wide as noise and base together, none alike."""
    asked = candidates(800.0).assign(base=["e", "f", "g", "h"])
    left = np.log(fits.draws(asked, "run")) - np.log(fits.draws(asked, "curve"))
    wide = [np.sqrt(np.mean(fit.run**2 + fit.base**2)) for fit in fits.groups]
    assert left.std(axis=0) == pytest.approx(np.repeat(wide, 2), rel=0.35)
    apart = np.corrcoef(left.T) - np.eye(4)
    assert np.abs(apart).max() < 0.3


def test_forecast_by_name_equals_forecast_by_frame(fits: fs.Fits) -> None:
    row = {"method": "lora", "model_params": 1e6, "examples": 2000.0}
    pd.testing.assert_frame_equal(fits.forecast(**row), fits.forecast(pd.DataFrame([row])))


def test_forecast_lists_every_fault(fits: fs.Fits) -> None:
    bad = pd.DataFrame({"method": ["lorra", "full"], "model_params": [np.nan, 1.0], "examples": [0.0, -3.0]})
    with pytest.raises(fs.InputError) as caught:
        fits.forecast(bad)
    text = str(caught.value)
    for part in ("3 faults", "'examples'", "'model_params'", "did you mean 'method=lora'"):
        assert part in text


def test_held_out_runs_are_the_largest_level_and_are_forecast_well(fits: fs.Fits) -> None:
    held = fits.held_out()
    assert set(held["examples"]) == {3200.0}
    assert len(held) == 8
    assert held["relative_error"].mean() < 0.01
    assert {"method", "base", "observed", "median", "low", "high", "reach", "error"} <= set(held)


def test_saved_fits_forecast_exactly_the_same(fits: fs.Fits, tmp_path) -> None:
    fits.to_json(tmp_path / "fits.json")
    again = fs.load_fits(tmp_path / "fits.json")
    pd.testing.assert_frame_equal(again.table(), fits.table(), check_exact=True)
    asked = candidates(5000.0)
    pd.testing.assert_frame_equal(again.forecast(asked), fits.forecast(asked), check_exact=True)
    pd.testing.assert_frame_equal(again.held_out(), fits.held_out(), check_exact=True)
    assert str(again) == str(fits)


@pytest.mark.parametrize(
    ("first", "second", "keys"),
    [
        (None, "lora", ["lora", "missing"]),
        (None, 4, [4, "missing"]),
        (pd.Timestamp("2024-02-27"), pd.NaT, ["2024-02-27T00:00:00", "missing"]),
    ],
)
def test_groups_of_missing_values_and_times_are_named_saved_and_forecast(first, second, keys, tmp_path) -> None:
    n = 100 * 2.0 ** np.arange(7)
    rows = [
        pd.DataFrame({"by": [by] * 7, "examples": n, "loss": c * n**-0.3 + 1}) for c, by in ((5, first), (7, second))
    ]
    made = fs.fit(pd.concat(rows), "power", by="by", hold_out={"examples": 1}, draws=20)
    assert [one.group.key["by"] for one in made.groups] == keys
    held = made.held_out()
    assert len(held) == 2
    assert held["relative_error"].max() < 1e-3
    made.to_json(tmp_path / "fits.json")
    again = fs.load_fits(tmp_path / "fits.json")
    for by in (first, second):
        asked = pd.DataFrame({"by": [by], "examples": [1e4]})
        pd.testing.assert_frame_equal(again.forecast(asked), made.forecast(asked))
        assert again.find(by=by).group.key == made.find(by=by).group.key


def test_what_no_file_can_hold_is_a_fault_and_leaves_nothing(tmp_path) -> None:
    n = 100 * 2.0 ** np.arange(5)
    for odd in (np.inf, {1, 2}, 1j):
        made = fs.fit(pd.DataFrame({"examples": n, "loss": 5 * n**-0.3 + 1, "odd": [odd] * 5}), "power", draws=5)
        with pytest.raises(fs.InputError, match="cannot be written"):
            made.to_json(tmp_path / "fits.json")
    assert not list(tmp_path.iterdir())


def test_another_format_is_refused(tmp_path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"format": "finescale-fits/1"}))
    with pytest.raises(fs.InputError, match="expected 'finescale-fits/2'"):
        fs.load_fits(tmp_path / "x.json")


def test_critical_size_matches_the_closed_form_and_the_truth(fits: fs.Fits) -> None:
    found = fs.critical_size(fits, "full", "lora", at={"model_params": 1e6}, within=(10, 1e5)).iloc[0]
    truth = (90 / 40) ** (1 / (0.25 - 0.12))
    assert found["closed_form"] == pytest.approx(found["median"], rel=0.05)
    assert found["low"] < truth < found["high"]
    assert found["share"] > 0.95
    assert found["better_above"] == "full"
    assert found["verdict"].startswith("full overtakes lora at")


def test_no_crossing_is_said(fits: fs.Fits) -> None:
    found = fs.critical_size(fits, "full", "lora", at={"model_params": 1e6}, within=(20_000, 50_000)).iloc[0]
    assert found["share"] == 0.0
    assert np.isnan(found["median"])
    assert found["verdict"].startswith("no crossing inside the range (20,000 to 50,000 examples): full beats lora")


def test_equation_3_on_the_papers_own_numbers() -> None:
    # Zhang et al. 2024, Table 4, En-De, model size, full against prompt; Table 5 prints H = 3.7e14, gamma = -1.2.
    log_h, gamma = eq3(1.2e5, 3.9e3, 0.15, 0.051, np.array([0.52]), np.array([0.40]))
    assert gamma[0] == pytest.approx(-1.2, abs=0.05)
    assert np.exp(log_h) == pytest.approx(3.7e14, rel=3.0)


def test_advice_names_the_best_and_its_probability(fits: fs.Fits) -> None:
    advice = fs.advise(fits, candidates(3000.0))
    assert advice.best is not None
    assert (advice.best["method"], advice.best["base"]) == ("full", "d")
    assert advice.probability > 0.9
    assert advice.runner_up is not None
    assert advice.table["p_best"].sum() == pytest.approx(1.0)
    assert advice.sentence.startswith("With 3,000 examples, full finetuning on base d is best with probability")


def test_advice_is_refused_far_beyond_the_support(fits: fs.Fits) -> None:
    advice = fs.advise(fits, candidates(100_000.0))
    assert advice.refused
    assert "more than 4 times" in advice.sentence


def test_nothing_is_called_best_that_stands_alone(fits: fs.Fits) -> None:
    """A lone candidate among refused ones has nothing to be better than."""
    far = candidates(100_000.0)
    alone = fs.advise(fits, pd.concat([candidates(3000.0).iloc[:1], far]))
    assert alone.refused
    assert np.isnan(alone.probability)
    assert alone.sentence.startswith("No advice: with 3,000 examples only ")
    assert alone.table["median"].notna().sum() == 1
    some = fs.advise(fits, pd.concat([candidates(3000.0), far]))
    assert some.best is not None
    assert "that can be forecast with probability" in some.sentence
    assert fs.advise(fits, candidates(3000.0).iloc[:1]).best is not None, "one candidate asked for is one answer"


def test_advice_for_a_target_takes_the_cheapest_that_meets_it(fits: fs.Fits) -> None:
    many = pd.concat([candidates(float(n)) for n in (100, 400, 1600, 3200)])
    advice = fs.advise(fits, many, target_loss=1.7)
    assert advice.best is not None
    meets = advice.table.query("p_target >= 0.9")
    assert advice.best["examples"] == meets["examples"].min()


def test_plot_draws_every_group(fits: fs.Fits) -> None:
    ax = fits.plot()
    assert len(ax.get_legend().get_texts()) == 2
    assert len(ax.collections) == 8


def test_read_runs_finds_what_is_wrong_and_keeps_every_row(tmp_path) -> None:
    frame = pd.DataFrame(
        {
            "model": ["m"] * 9 + ["k"],
            "n": [0, 100, 200, 400, 800, 1600, 3200, 3200, 6400, 100],
            "loss": [5.0, 3.0, 3.1, 2.8, 2.7, 2.6, 2.5, 2.5, np.nan, 25.0],
        }
    )
    frame.to_csv(tmp_path / "runs.csv", index=False)
    found = fs.read_runs(tmp_path / "runs.csv", {"model": "base", "n": "examples"})
    assert len(found) == 10
    assert {f.kind for f in found.findings} >= {"size 0", "not finite", "rise", "duplicate", "straight line", "unit"}
    assert len(found.usable) == 8


def test_read_runs_sees_the_known_blemishes_of_a_published_table() -> None:
    opt = pd.DataFrame({"base": "opt-6.7b", "examples": [204800, 409600, 819200, 1638400]})
    found = fs.read_runs(opt.assign(loss=[1.338759, 1.307568, 1.276376, 1.245185]))
    assert [f.kind for f in found.findings] == ["straight line"]
    two = pd.DataFrame({"base": ["phi-2", "lamini"], "examples": 819200, "loss": 1.35387504100799})
    assert [f.kind for f in fs.read_runs(two).findings] == ["shared decimals"]


def test_read_runs_lists_every_fault() -> None:
    with pytest.raises(fs.InputError) as caught:
        fs.read_runs(pd.DataFrame({"size": ["a"], "model_params": ["x"]}))
    assert "column 'examples'" in str(caught.value)
    assert "column 'loss'" in str(caught.value)
    assert "is not a number in row 0" in str(caught.value)
    assert "--column THEIRS=loss" in str(caught.value)


@pytest.mark.parametrize(("suffix", "place"), [(".csv", "line 4"), (".jsonl", "line 3"), (".parquet", "row 2")])
def test_rows_of_a_file_are_counted_as_its_reader_sees_them(tmp_path, suffix: str, place: str) -> None:
    path = tmp_path / f"runs{suffix}"
    frame = pd.DataFrame({"examples": [100.0, 200.0, 0.0, 800.0], "loss": [3.0, 2.7, 2.5, 2.4]})
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    finding = fs.read_runs(path).findings[0]
    assert f"({place})" in finding.sentence
    assert finding.rows == (2,)
    assert f"left out: 1 of 4 ({place})" in str(fs.fit(path, "power", draws=5))


def test_a_factor_not_given_leaves_only_the_fits_that_need_it() -> None:
    n = np.tile([100.0, 200.0, 400.0, 800.0, 1600.0], 4)
    size = np.repeat([1e6, 2e6, 4e6, np.nan], 5)
    rng = np.random.default_rng(0)
    runs = pd.DataFrame({"examples": n, "pet_params": size, "loss": (3 * n**-0.2 + 1) * rng.uniform(0.999, 1.001, 20)})
    table = fs.read_runs(runs)
    assert [finding.kind for finding in table.findings] == ["missing value"]
    assert len(table.usable) == 20
    fits = fs.fit(table, "multiplicative", "pet_params", draws=5)
    assert fits.groups[0].diagnostics["runs"] == 15
    assert fits.left_out == ("5 of 20 (rows 15, 16, 17, 18, 19) do not give pet_params",)
    assert fs.fit(table, "power", draws=5).groups[0].diagnostics["runs"] == 20


def test_a_large_table_is_read_in_time_however_many_curves_it_has() -> None:
    rng = np.random.default_rng(0)
    n = 200 * 2.0 ** rng.integers(0, 12, 100_000)
    runs = pd.DataFrame({"examples": n, "loss": 3 * n**-0.1 * np.exp(0.01 * rng.standard_normal(len(n)))})
    for table in (runs, runs.assign(seed=np.arange(len(n)) // 12), runs.assign(loss=2.0), runs.assign(seed=1)):
        begin = time.process_time()
        assert len(fs.read_runs(table)) == len(n)
        # 0.2 to 0.6 s when it was written; going through the curves one by one took 80 s.
        assert time.process_time() - begin < 15


def test_six_digits_do_not_look_copied_and_chance_is_not_taken_for_it() -> None:
    rng = np.random.default_rng(1)
    many = pd.DataFrame({"base": [f"b{i}" for i in range(3000)], "examples": 800.0})
    for digits in (2, 4, 6):
        found = fs.read_runs(many.assign(loss=np.round(rng.uniform(1, 4, 3000), digits)))
        assert "shared decimals" not in {finding.kind for finding in found.findings}


@pytest.mark.parametrize(
    ("text", "value"),
    [("1000", 1e3), ("1e3", 1e3), ("1,000", 1e3), ("160M", 1.6e8), ("1.4B", 1.4e9), ("8k", 8e3), (" 2 t ", 2e12)],
)
def test_sizes_are_read_as_people_write_them(text: str, value: float) -> None:
    assert size(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "k", "1,00", "1,5", "10,0000", "5 apples", "1.4BB", "small"])
def test_what_is_no_size_is_not_guessed(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        size(text)


def test_written_sizes_are_numbers_and_said_to_be_and_others_are_faults() -> None:
    runs = pd.DataFrame({"model_params": ["160M", "410M", "1.4B", None], "examples": ["1k", "2,000", 4000, 8000]})
    table = fs.read_runs(runs.assign(loss=[3.0, 2.7, 2.5, 2.4]))
    assert table.frame["model_params"].tolist()[:3] == [1.6e8, 4.1e8, 1.4e9]
    assert table.frame["examples"].tolist() == [1e3, 2e3, 4e3, 8e3]
    found = [finding for finding in table.findings if finding.kind == "written size"]
    assert [finding.rows for finding in found] == [(0, 1, 2), (0, 1)]
    assert found[0].sentence == "model_params: sizes are read as numbers, the first as 160,000,000"
    with pytest.raises(fs.InputError, match="column 'examples': is not a number in row 1 — first: 'many'"):
        fs.read_runs(pd.DataFrame({"examples": ["1k", "many"], "loss": [3.0, 2.7]}))


def test_tasks_taken_as_one_curve_are_noted_until_by_tells_them_apart() -> None:
    n = 100 * 2.0 ** np.arange(6)
    both = pd.concat(
        [pd.DataFrame({"task": t, "examples": n, "loss": c * n**-0.3 + 1}) for t, c in (("mt", 5), ("s", 9))]
    )
    mixed = fs.fit(both, "power", draws=5)
    assert mixed.about["notes"] == [
        "task has 2 values that neither by nor factor tells apart: their runs are taken as one curve; "
        "name task in by if they are not"
    ]
    assert "note: task has 2 values" in str(mixed)
    assert fs.fit(both, "power", by="task", draws=5).about["notes"] == []
    rates = both[both["task"] == "mt"].assign(learning_rate=1e-3)
    tried = pd.concat([rates, rates.assign(learning_rate=1e-2, loss=rates["loss"] + 0.1)])
    (note,) = fs.fit(tried, "power", draws=5).about["notes"]
    assert note.startswith("learning_rate has 2 values")
    assert "keep the best of each setting by its dev loss" in note


def test_bases_of_several_sizes_are_never_one_curve_without_a_word() -> None:
    n = 100 * 2.0 ** np.arange(6)
    sizes = [(m, p) for m in (1e6, 1e7) for p in (1e8, 1e9)]
    table = pd.concat(
        [
            pd.DataFrame(
                {"model_params": m, "pretrain_tokens": p, "examples": n, "loss": 8 * (m * p) ** -0.02 * n**-0.2}
            )
            for m, p in sizes
        ]
    )
    for law in ("power", "auto"):
        with pytest.raises(fs.InputError) as caught:
            fs.fit(table, law, draws=5)
        assert [fault.where for fault in caught.value.faults] == ["column 'model_params'", "column 'pretrain_tokens'"]
        with pytest.raises(fs.InputError, match="'pretrain_tokens': has 2 values"):
            fs.fit(table, law, by="model_params", draws=5)
        assert len(fs.fit(table, law, by=["model_params", "pretrain_tokens"], draws=5).groups) == 4
    one_each = table[table["pretrain_tokens"] == 100 * table["model_params"]]
    assert fs.fit(one_each, "power", by="model_params", draws=5).groups
    with pytest.raises(fs.InputError, match="'model_params': has 2 values"):
        fs.compare(table[table["pretrain_tokens"] == 1e8], ["power", "loglog-line"])


def test_a_forecast_passes_over_nothing_it_is_given() -> None:
    n = 100 * 2.0 ** np.arange(6)
    fits = fs.fit(pd.DataFrame({"model_params": 1e6, "examples": n, "loss": 5 * n**-0.3 + 1}), "power", draws=5)
    assert (
        fits.forecast(examples=1e4, model_params=1e6)["median"].item() == fits.forecast(examples=1e4)["median"].item()
    )
    with pytest.raises(fs.InputError, match="'model_params': is 7e\\+09, and all runs have 1e\\+06"):
        fits.forecast(examples=1e4, model_params=7e9)
    with pytest.raises(fs.InputError) as caught:
        fits.forecast(examples=1e4, rank=8, exampels=1)
    assert [fault.where for fault in caught.value.faults] == ["'rank'", "'exampels'"]
    assert "did you mean 'examples'?" in str(caught.value)
    with pytest.raises(fs.InputError, match="'pet_params': "):
        fits.forecast(examples=1e4, pet_params=8)


CURVE = {"examples": [100.0, 200.0, 400.0, 800.0, 1600.0], "loss": [3.0, 2.7, 2.51, 2.4, 2.33]}
FAULTS = {
    "duplicate": lambda t: pd.concat([t, t.iloc[[1]]]),
    "repeated value": lambda t: t.assign(loss=[3.0, 2.7, 2.7, 2.4, 2.33]),
    "straight line": lambda t: t.assign(loss=[3.0, 2.8, 2.6, 2.4, 2.2]),
    "rise": lambda t: t.assign(loss=[3.0, 2.7, 2.8, 2.4, 2.33]),
    "size 0": lambda t: t.assign(examples=[0.0, 200.0, 400.0, 800.0, 1600.0]),
    "not finite": lambda t: t.assign(loss=[3.0, np.nan, np.inf, 2.4, 2.33]),
    "loss not positive": lambda t: t.assign(loss=[3.0, 2.7, 2.51, 2.4, -1.0]),
    "unit": lambda t: t.assign(model_params=[1.5, 1.5, 1.5, 1.5, 1.5e9]),
    "conflict": lambda t: pd.concat([t, t.iloc[[1]].assign(loss=2.6)]).assign(seed=0),
    "negative factor": lambda t: t.assign(pretrain_tokens=[1e9, 1e9, -1.0, 1e9, 1e9]),
    "flagged": lambda t: t.assign(flag=["", "", "diverged", "", ""]),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_of_a_table_is_found_and_no_row_is_dropped(kind: str) -> None:
    clean = pd.DataFrame(CURVE)
    assert fs.read_runs(clean).findings == ()
    wrong = FAULTS[kind](clean)
    found = fs.read_runs(wrong)
    assert kind in {finding.kind for finding in found.findings}
    assert len(found) == len(wrong)


@pytest.mark.parametrize(("bases", "noise"), [(4, 0.02), (8, 0.02), (6, 0.0), (6, 0.05)])
def test_new_runs_on_new_and_on_seen_bases_are_covered(bases: int, noise: float) -> None:
    X, D = np.geomspace(1e5, 3e7, bases), 250 * 2.0 ** np.arange(6)
    grid = pd.DataFrame({"model_params": np.repeat(X, 6), "examples": np.tile(D, bases)})
    new, seen = [], []
    for seed in range(25):
        rng = np.random.default_rng([seed, bases])
        own = noise * rng.standard_normal(bases)
        loss = _law(grid) * np.exp(np.repeat(own, 6) + 0.005 * rng.standard_normal(len(grid)))
        fits = fs.fit(grid.assign(loss=loss), "multiplicative", "model_params", draws=100, seed=seed)
        again = pd.DataFrame({"model_params": X, "examples": rng.uniform(300, 7000, bases)})
        other = again.assign(model_params=np.append(X[:-1] * 1.1, X[-1] * 0.9))
        noise_of_run = 0.005 * rng.standard_normal((2, bases))
        seen.append(_inside(fits, again, _law(again) * np.exp(own + noise_of_run[0])))
        strange = noise * rng.standard_normal(bases)
        new.append(_inside(fits, other, _law(other) * np.exp(strange + noise_of_run[1])))
    # Nominal 0.9. 25 tables of few bases leave a standard error of about 0.03.
    assert 0.8 <= np.mean(new) <= 0.995
    assert 0.8 <= np.mean(seen) <= 0.995


def _law(frame: pd.DataFrame) -> np.ndarray:
    return (60 * frame["model_params"] ** -0.25 * frame["examples"] ** -0.15 + 1.2).to_numpy()


def _inside(fits: fs.Fits, asked: pd.DataFrame, truth: np.ndarray) -> float:
    said = fits.forecast(asked)
    return float(np.mean((said["low"] <= truth) & (truth <= said["high"])))


def test_a_seen_base_keeps_its_own_deviation() -> None:
    X, D = np.geomspace(1e5, 3e7, 6), 250 * 2.0 ** np.arange(6)
    grid = pd.DataFrame({"model_params": np.repeat(X, 6), "examples": np.tile(D, 6)})
    own = np.array([0.0, 0.03, -0.03, 0.03, -0.03, 0.0])
    noise = 0.001 * np.random.default_rng(0).standard_normal(len(grid))
    fits = fs.fit(grid.assign(loss=_law(grid) * np.exp(np.repeat(own, 6) + noise)), "multiplicative", "model_params")
    asked = pd.DataFrame({"model_params": X, "examples": 4000.0})
    run, curve = fits.forecast(asked), fits.forecast(asked, kind="curve")
    truth = _law(asked) * np.exp(own)
    assert np.abs(np.log(run["median"] / truth)).max() < 0.01
    assert np.abs(np.log(curve["median"] / truth)).max() > 0.015
    between = fits.forecast(asked.assign(model_params=X * 1.2))
    assert ((between["high"] / between["low"]) > (run["high"] / run["low"])).all()


def test_sums_of_squares_are_unbiased_for_both_kinds_of_noise() -> None:
    rng = np.random.default_rng(0)
    base = np.repeat(np.arange(6), [3, 5, 8, 4, 6, 7])
    slopes = np.column_stack([np.ones(33), base + 0.1 * rng.standard_normal(33), rng.standard_normal(33)])
    keep = np.eye(33) - slopes @ np.linalg.pinv(slopes)
    run, own = 0.01, 0.02
    seen = [
        noise_of(keep @ (own * rng.standard_normal(6)[base] + run * rng.standard_normal(33)), base, slopes)
        for _ in range(4000)
    ]
    for level in ("within", "between"):
        levels = [getattr(noise, level) for noise in seen]
        expected = run**2 + levels[0].share * own**2
        assert np.mean([one.square / one.freedom for one in levels]) == pytest.approx(expected, rel=0.05)
    assert seen[0].within.freedom + seen[0].between.freedom == pytest.approx(30)


def test_an_interval_of_a_crossing_says_when_it_leaves_the_range() -> None:
    """A crossing at 65,536 just beyond 64,000: draws that do not cross inside count as beyond, not as missing."""
    rng, rows = np.random.default_rng(1), []
    for method, beta in (("full", 0.25), ("lora", 0.15)):
        height = 14.0 * 65_536.0 ** (beta - 0.25)
        rows += [
            (method, size, (height * size**-beta + 1.0) * np.exp(0.005 * rng.normal()))
            for size in 500.0 * 2.0 ** np.arange(8)
            for _ in range(2)
        ]
    runs = pd.DataFrame(rows, columns=["method", "examples", "loss"])
    found = fs.critical_size(fs.fit(runs, "power", by=["method"], draws=200), "full", "lora").iloc[0]
    assert 0 < found["share"] < 1
    assert found["high"] == np.inf
    if "overtakes" in found["verdict"]:
        assert "to beyond 64,000" in found["verdict"]


def test_a_crossing_asked_with_nonsense_is_a_fault(fits: fs.Fits) -> None:
    at = {"model_params": 1e6}
    with pytest.raises(fs.InputError, match="within"):
        fs.critical_size(fits, "full", "lora", at=at, within=(10, float("inf")))
    with pytest.raises(fs.InputError, match="level"):
        fs.critical_size(fits, "full", "lora", at=at, level=1.5)


@pytest.mark.parametrize("name", ["model_params", "pretrain_tokens", "pet_params"])
def test_a_factor_of_0_is_found_and_a_fit_of_it_refuses(name: str) -> None:
    frame = pd.DataFrame([(n, x, 3 * n**-0.3 + 1) for n in (100, 400, 1600) for x in (0.0, 1e6, 1e7)])
    runs = fs.read_runs(frame.set_axis(["examples", name, "loss"], axis=1))
    (found,) = [finding for finding in runs.findings if finding.kind == "size 0"]
    assert found.rows == (0, 3, 6)
    assert len(runs.usable) == 9, "a curve in examples alone can use them"
    with pytest.raises(fs.InputError, match=name):
        fs.fit(runs, "multiplicative", factor=name)
