"""Verdicts: right where the truth is known, undecided where the design cannot tell, wrong no oftener than they say."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paper_world import SMALL, Truth, simulate
from typer.testing import CliRunner

import finescale as fs
from finescale.cli import app
from finescale.stats.ability import (
    ability_table,
    against_full,
    cluster_means,
    kind_of,
    lower_is_better,
    read_probes,
    shots_of,
)
from finescale.stats.claims import RULES, Claims
from finescale.stats.correlate import correlations, metrics_of
from finescale.stats.forgetting import forgetting_laws
from finescale.stats.quality import metric_laws
from finescale.stats.runs import Runs
from finescale.stats.slices import cut
from finescale.stats.verdicts import Region, Rule, judge, of_draws, of_means, quantiles

TASK = ("wmt14-en-de",)
NAMES = [rule.name for rule, _ in RULES]


# ---------------------------------------------------------------------------------------------------- verdicts


@given(st.floats(-5, 5), st.floats(0, 5), st.floats(-3, 3), st.floats(0, 3), st.booleans())
def test_a_region_is_held_failed_or_open_and_its_outside_is_the_opposite(
    low: float, width: float, at: float, spread: float, outside: bool
) -> None:
    region = Region(at - 0.01, at + 0.01 + spread, outside)
    verdict = region.judge(low, low + width)
    other = Region(region.low, region.high, not outside).judge(low, low + width)
    assert {verdict, other} in ({"holds", "fails"}, {"undecided"})


def test_an_interval_that_is_not_known_decides_nothing() -> None:
    assert Region().judge(np.nan, 3.0) == "undecided"
    assert of_means({"task": "t"}, np.array([3.0]), ["r"]).interval(0.9)[0] != 3.0


def test_tails_beyond_the_draws_are_those_of_a_normal_distribution() -> None:
    draws = np.random.default_rng(0).standard_normal(200_000)
    wanted = quantiles(draws, 0.999)
    # The mean of many small samples, whose own tail has no draw in it.
    found = np.mean([quantiles(part, 0.999) for part in draws.reshape(-1, 200)], axis=0)
    assert found == pytest.approx(wanted, rel=0.05)


def rule(way: str) -> Rule:
    return Rule("n", "w", "s", Region(), way, "more runs")


@pytest.mark.parametrize(("way", "truth"), [("all", 0.0), ("any", 0.0), ("mean", 0.0)])
def test_at_the_border_verdicts_err_no_oftener_than_they_say(way: str, truth: float) -> None:
    rng, said = np.random.default_rng(1), []
    for _ in range(120):
        pieces = []
        for number in range(4):
            estimate = truth + rng.standard_normal()
            draws = estimate + rng.standard_normal(200)
            pieces.append(of_draws({"task": "t", "piece": str(number)}, np.append(estimate, draws), ["r"]))
        said.append(judge(rule(way), pieces, 0.9).overall.verdict)
    # 5 % each way, and three standard errors of 120 trials.
    assert said.count("holds") <= 120 * 0.05 + 3 * np.sqrt(120 * 0.05 * 0.95)
    assert said.count("fails") <= 120 * 0.05 + 3 * np.sqrt(120 * 0.05 * 0.95)
    assert said.count("undecided") >= 0.85 * 120


def test_all_any_and_mean_differ_where_they_should() -> None:
    draws = np.random.default_rng(2).standard_normal(300) * 0.1
    pieces = [of_draws({"task": "t"}, np.append(at, at + draws), ["r"]) for at in (3.0, -1.0)]
    assert [judge(rule(way), pieces, 0.9).overall.verdict for way in ("all", "any", "mean")] == [
        "fails",
        "holds",
        "holds",
    ]


# -------------------------------------------------------------------------------------------------- whole studies


def verdicts(judged: Claims) -> dict[str, str]:
    return {name: judged[name].overall.verdict for name in NAMES}


@pytest.fixture(scope="module")
def paper() -> Claims:
    return fs.claims(simulate(SMALL, 0, tasks=TASK), draws=60)


def test_the_papers_claims_hold_in_the_papers_world(paper: Claims) -> None:
    said = verdicts(paper)
    for name in ("multiplicative-beats-additive", "model-over-pretraining", "order-of-beta", "scale-over-examples"):
        assert said[name] == "holds", name
    assert said["pet-size-flat"] != "fails"


def test_claims_fail_in_a_world_turned_round() -> None:
    changes = {"alpha_m": 0.1, "alpha_p": 0.3, "alpha_t": 0.06, "E": 0.7}
    changes |= {"beta:full": 0.1, "beta:lora": 0.2, "beta:prompt": 0.35}
    said = verdicts(fs.claims(simulate(SMALL, 0, Truth(changes), 0.002, TASK), draws=40))
    assert {said[name] for name in ("model-over-pretraining", "pet-size-flat", "order-of-beta")} == {"fails"}
    assert said["scale-over-examples"] == "fails"


def test_noise_and_missing_axes_leave_claims_undecided_with_what_is_needed(paper: Claims) -> None:
    wild = simulate(SMALL, 1, noise=0.15, tasks=TASK).frame.query("seed == 0 and method != 'prompt'")
    noisy = fs.claims(Runs(wild, ()), draws=20)
    assert verdicts(noisy)["order-of-beta"] == "undecided"
    lacking = fs.claims(few(), draws=20)
    for name in ("model-over-pretraining", "pet-size-flat", "crossings-depend-on-task", "loss-predicts-quality"):
        assert lacking[name].overall.verdict == "undecided"
        assert lacking[name].needs
    assert not paper["order-of-beta"].needs
    assert "missing" in lacking.slices["words"].str.cat()


def test_every_verdict_names_its_rule_its_runs_and_its_interval(paper: Claims) -> None:
    said = json.loads(json.dumps(paper.to_dict(), allow_nan=False))
    assert [claim["name"] for claim in said["claims"]] == NAMES
    claim = next(one for one in said["claims"] if one["name"] == "order-of-beta")
    assert claim["rule"].startswith("holds if for all pieces the 90% interval is entirely above 0; fails if")
    assert claim["overall"]["low"] < claim["overall"]["statistic"] < claim["overall"]["high"]
    assert set(claim["overall"]["runs"]) <= {f"run-{row:05d}" for row in range(100_000)}
    assert "HOLDS" in str(paper)
    assert "Bonferroni" in str(paper)


def test_wrong_input_is_named() -> None:
    runs = few()
    with pytest.raises(fs.InputError, match="is not between"):
        fs.claims(runs, level=90)
    with pytest.raises(fs.InputError, match="too few for an interval"):
        fs.claims(runs, draws=3)
    with pytest.raises(fs.InputError, match="probes, column 'probe'"):
        fs.claims(runs, pd.DataFrame({"run": ["a"]}))
    with pytest.raises(fs.InputError, match="none is usable"):
        fs.claims(pd.DataFrame({"examples": [0.0], "loss": [1.0]}))


def test_a_table_of_one_curve_is_undecided_throughout() -> None:
    judged = fs.claims(pd.DataFrame({"examples": [1e3, 1e4], "loss": [2.0, 1.5]}))
    assert set(verdicts(judged).values()) == {"undecided"}


# ---------------------------------------------------------------------------------------- abilities and metrics


def probes_of(runs: pd.DataFrame, harm: dict[str, float], seed: int = 0) -> pd.DataFrame:
    """Probes whose loss rises by a known amount per method."""
    rng, parts = np.random.default_rng(seed), []
    for probe in ("fr-de", "fr-de@5", "text:en"):
        rise = runs["method"].map(harm) * (runs["examples"] / 1e4) ** 0.3 + 0.005 * rng.standard_normal(len(runs))
        parts.append(runs.assign(probe=probe, metric="nll", zero_value=3.0, value=3.0 + rise))
    return pd.concat(parts, ignore_index=True)


def few() -> Runs:
    """One seed of the model-size slice, where nothing takes long to fit."""
    frame = simulate(SMALL, 0, tasks=TASK).frame
    return Runs(
        frame.query("pretrain_tokens == 283e9 and pet_size in (0, 4, 100) and seed == 0 and examples < 1e5"), ()
    )


@pytest.mark.parametrize(
    ("harm", "verdict"),
    [({"full": 0.2, "lora": 0.05, "prompt": 0.02}, "holds"), ({"full": 0.05, "lora": 0.2, "prompt": 0.02}, "fails")],
)
def test_what_pet_keeps_is_judged_against_full_on_the_same_base(harm: dict[str, float], verdict: str) -> None:
    judged = fs.claims(few(), probes_of(few().frame, harm), draws=20)
    assert judged["pet-keeps-ability"].overall.verdict == verdict
    assert judged["pet-forgets-less"].overall.verdict == verdict


def test_probes_are_paired_and_averaged_at_the_same_epochs() -> None:
    plain = read_probes(probes_of(few().frame, {"full": 0.2, "lora": 0.05, "prompt": 0.02}))
    once = plain.assign(epochs_asked=1.0)
    both = pd.concat([once, plain.assign(epochs_asked=8.0, kept=plain["kept"] - 1)], ignore_index=True)
    assert len(against_full(both)) == 2 * len(against_full(once))
    assert against_full(both)["difference"].max() == pytest.approx(against_full(once)["difference"].max())
    assert not len(against_full(both[(both["method"] == "full") == (both["epochs_asked"] == 1)]))
    table = ability_table(both)
    assert len(table) == 2 * len(ability_table(once))
    of_plain = ability_table(once)["kept"].to_numpy()
    assert table.loc[table["epochs_asked"] == 1, "kept"].to_numpy() == pytest.approx(of_plain)
    # Without the column, and where it is empty, there is one level.
    assert len(against_full(plain)) == len(against_full(plain.assign(epochs_asked=np.nan))) == len(against_full(once))
    settings = [forgetting_laws(one)["settings"].max() for one in (once, both)]
    assert settings[1] == 2 * settings[0]


def test_where_methods_keep_alike_a_difference_is_seldom_found() -> None:
    found, equal = [], dict.fromkeys(("full", "lora", "prompt"), 0.05)
    for seed in range(25):
        both = against_full(read_probes(probes_of(few().frame, equal, seed)).query("method != 'prompt'"))
        low, high = of_means({}, cluster_means(both), []).interval(0.9)
        found.append(low > 0 or high < 0)
    # 10 % either way, and three standard errors of 25 trials.
    assert sum(found) <= 25 * 0.1 + 3 * np.sqrt(25 * 0.1 * 0.9)


def test_names_of_probes_say_their_kind() -> None:
    assert [kind_of(name) for name in ("fr-de", "fr-de@5", "text:zh", "task:summarise")] == [
        "zero-shot",
        "few-shot",
        "text",
        "task",
    ]
    assert shots_of("fr-de@5") == 5
    assert [lower_is_better(name) for name in ("nll", "bits-per-byte", "empty-rate", "bleu", "chrf")] == [
        *[True] * 3,
        *[False] * 2,
    ]


def with_metric(runs: pd.DataFrame, slope: float, noise: float) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return runs.assign(bleu=40 + slope * (runs["loss"] - 1.2) + noise * rng.standard_normal(len(runs)), zero_bleu=1.0)


def test_correlation_equals_scipy_and_its_interval_holds_it() -> None:
    from scipy import stats

    runs = with_metric(simulate(SMALL, 0, tasks=TASK).frame, -20.0, 0.5).query("method == 'full'")
    found = correlations(cut(runs)).set_index(["factor", "kind"])
    means = runs[runs["pretrain_tokens"] == 283e9].groupby(["model_params", "examples"])[["loss", "bleu"]].mean()
    assert found["value"]["model_params", "pearson"] == pytest.approx(stats.pearsonr(means["loss"], means["bleu"])[0])
    assert found["value"]["model_params", "spearman"] == pytest.approx(stats.spearmanr(means["loss"], means["bleu"])[0])
    assert (found["low"] <= found["value"]).all()
    assert (found["value"] <= found["high"]).all()
    assert metrics_of(runs) == ["bleu"]
    assert found["p"].notna().all()
    few = correlations(cut(runs[runs["seed"] < 2]))
    assert few["p"].isna().all()
    assert few["note"].str.contains("no p-value from 6 curves; 8 are needed").all()


def test_nothing_follows_a_law_whose_parameters_sit_at_bounds() -> None:
    runs = simulate(SMALL, 0, noise=0.002, tasks=TASK).frame.query("method == 'full' and pretrain_tokens == 283e9")
    # A metric that model size does not touch: its alpha is at 0, and yet the law forecasts better than a mean.
    rng = np.random.default_rng(0)
    points = 100 - 80 * (runs["examples"] / 1e4) ** -0.2 * (runs["model_params"] / 1e9) ** 0.02
    runs = runs.assign(bleu=points + 0.01 * rng.standard_normal(len(runs)), zero_bleu=1.0)
    table = metric_laws(cut(runs))
    assert table["alpha"].tolist() == [0.0]
    assert table["answer"].tolist() == ["undecided"]
    assert "at a bound" in table["why"][0]


def test_a_metric_that_is_noise_follows_no_law_and_one_tied_to_loss_does() -> None:
    runs = simulate(SMALL, 0, noise=0.002, tasks=TASK).frame.query("method == 'full'")
    tied = metric_laws(cut(with_metric(runs, -20.0, 0.05)))
    assert "follows a law" in set(tied["answer"])
    assert "does not follow a law" not in set(tied["answer"])
    noise = metric_laws(cut(with_metric(runs, 0.0, 3.0)))
    assert "follows a law" not in set(noise["answer"])
    assert "does not follow a law" in set(noise["answer"])


def test_the_forgetting_law_that_made_the_data_forecasts_best() -> None:
    rng, rows = np.random.default_rng(0), []
    for size in (1e6, 2e6, 4e6, 8e6, 16e6, 32e6):
        for examples in (1e3, 2e3, 4e3, 8e3, 16e3):
            value = 3.0 + 40 * examples**0.4 / size**0.5 + 0.001 * rng.standard_normal()
            rows.append({"run": f"{size}{examples}", "model_params": size, "pet_params": 1e4, "examples": examples})
            rows[-1] |= {"value": value, "zero_value": 3.0, "probe": "text:en", "metric": "nll", "task": "t"}
            rows[-1] |= {"method": "full", "base": str(size), "loss": 2.0}
    table = forgetting_laws(read_probes(pd.DataFrame(rows))).set_index("law")
    assert table["error"].idxmin() == "size-and-data"
    assert table["answer"]["size-and-data"] == "beats the null"
    assert table["error"]["size-and-data"] < 0.01
    assert "a 0.5" in table["parameters"]["size-and-data"]


def decoded(probes: pd.DataFrame, bleu: float) -> pd.DataFrame:
    """The same probes with BLEU of the untouched base beside the loss."""
    return pd.concat([probes, probes.assign(metric="bleu", value=bleu / 2, zero_value=bleu)], ignore_index=True)


def test_a_base_that_can_do_nothing_has_nothing_to_lose() -> None:
    gain = probes_of(few().frame, {"full": -0.2, "lora": -0.05, "prompt": -0.02})
    for probes in (gain, decoded(gain, 0.4), decoded(probes_of(few().frame, {"full": 0.2, "lora": 0.1}), 0.4)):
        judged = fs.claims(few(), probes[probes["method"] != "prompt"], draws=20)
        kept = judged["pet-keeps-ability"].overall
        assert (kept.verdict, kept.sentence.partition(":")[0]) == ("undecided", "the base has nothing to lose")
        assert np.isfinite([kept.statistic, kept.low, kept.high]).all()
        assert set(judged["pet-keeps-ability"].evidence["verdict"]) == {"undecided"}
        assert judged["pet-forgets-less"].overall.verdict in ("holds", "fails")
    # BLEU 12 is an ability, so that a gain under full finetuning is evidence against the claim.
    assert fs.claims(few(), decoded(gain, 12.0), draws=20)["pet-keeps-ability"].overall.verdict == "fails"


def test_a_void_piece_is_shown_and_decides_nothing() -> None:
    draws = np.random.default_rng(2).standard_normal(300) * 0.1
    pieces = [of_draws({"task": "t"}, np.append(at, at + draws), ["r"]) for at in (3.0, -1.0)]
    pieces[1] = replace(pieces[1], void="there is no subject")
    judged = judge(rule("all"), pieces, 0.9)
    assert judged.overall.verdict == "holds"
    assert "1 not judged: there is no subject" in judged.overall.sentence
    assert list(judged.evidence["void"]) == ["", "there is no subject"]


def test_quality_on_too_few_curves_says_how_many_are_needed() -> None:
    frame = simulate(SMALL, 0, tasks=TASK).frame
    runs = with_metric(frame.query("method == 'full' and pretrain_tokens == 283e9 and seed == 0"), -20.0, 0.5)
    curves = runs["model_params"].nunique()
    assert curves < 4
    judged = fs.claims(Runs(runs, ()), draws=20)["loss-predicts-quality"]
    assert judged.overall.verdict == "undecided"
    assert f"{curves} curves; at least 4 are needed" in judged.overall.sentence
    assert judged.evidence["void"].str.len().gt(0).all()


@pytest.mark.parametrize("verb", ["claims", "tables"])
def test_level_and_draws_are_judged_before_anything_is_read(verb: str, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("no table of runs\n")
    for asked in (["--level", "1"], ["--level", "0"], ["--level", "nan"], ["--draws", "0"]):
        told = CliRunner().invoke(app, [verb, str(tmp_path / "runs.csv"), *asked])
        assert told.exit_code
        said = f"{told.output} {told.exception}"
        assert asked[0].removeprefix("--") in said
        assert "runs.csv" not in said
    told = CliRunner().invoke(app, [verb, str(tmp_path / "nowhere"), "--level", "2", "--draws", "-1"])
    assert "3 faults" in str(told.exception)


def test_a_note_on_the_runs_stands_first_and_progress_is_told() -> None:
    told: list[str] = []
    judged = fs.claims(few(), draws=20, note="From 3 of 4 runs.", tell=told.append)
    assert str(judged).startswith("From 3 of 4 runs.")
    assert judged.to_dict()["note"] == "From 3 of 4 runs."
    assert len(told) == len({line.partition("(")[0] for line in told}) == 3
