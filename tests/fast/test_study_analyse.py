"""A study is fitted along the factor that varies, says what is missing from it, and names its tasks in its answers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from study_toy import TOML, WORK, toy_study

from finescale.cli import call
from finescale.errors import Refused
from finescale.stats.advise import advise
from finescale.study import lock
from finescale.study.analyse import (
    analyse,
    factor_of,
    fit_study,
    must_be_fitted,
    note_on,
)
from finescale.study.compare import crossings, crossings_in_words
from finescale.study.lock import Study
from finescale.study.run import run

QUICK = Path(__file__).parents[2] / "docs" / "quick" / "runs.csv"
ONE_BASE = TOML.replace('ladder = ["xs", "s"]', 'ladder = ["xs"]').replace("10_000, 20_000", "10_000")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study that asks for a law along model size, as all do that ask for nothing else."""
    return toy_study(tmp_path_factory.mktemp("study") / "toy")


@pytest.fixture(scope="module")
def smallest() -> pd.DataFrame:
    """Real runs of English to German on the smallest base: three pretraining sizes, three PET sizes on the largest."""
    frame = pd.read_csv(QUICK, keep_default_na=False, na_values=[""]).query("task == 'mt-en-de'")
    return frame[frame["model_params"] == frame["model_params"].min()].assign(flag="")


def usual(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["pet_size"].isna() | (frame["pet_size"] == frame["method"].map({"lora": 4, "prompt": 16}))]


def test_the_factor_that_varies_is_fitted_where_the_one_asked_for_stands_still(
    study: Study, smallest: pd.DataFrame
) -> None:
    runs = usual(smallest)
    assert factor_of(study, runs) == "pretrain_tokens"
    fits = fit_study(study, runs, "multiplicative", {"examples": 1})
    assert fits.factor == ("pretrain_tokens",)
    assert fits.by == ("task", "method")
    assert set(fits.table()["parameter"]) == {"alpha", "beta", "A", "E"}
    assert len(fits.held_out())


def test_pet_size_is_fitted_for_the_methods_that_have_one_and_examples_for_the_other(
    study: Study, smallest: pd.DataFrame
) -> None:
    runs = smallest[smallest["pretrain_tokens"] == smallest["pretrain_tokens"].max()]
    assert factor_of(study, runs) == "pet_params"
    fits = fit_study(study, runs, "multiplicative", {})
    assert {one.group.key["method"]: one.law for one in fits.groups} == {
        "full": "power",
        "lora": "multiplicative",
        "prompt": "multiplicative",
    }
    found = crossings(fits, runs, 0.9).set_index(["a", "b"])["verdict"]
    assert "not compared" in found["lora", "prompt"]
    assert "not compared" not in found["full", "lora"]


def test_examples_alone_are_a_law_too_and_nothing_is_held_out_that_the_fit_needs(
    study: Study, smallest: pd.DataFrame
) -> None:
    runs = usual(smallest)
    runs = runs[runs["pretrain_tokens"] == runs["pretrain_tokens"].max()]
    assert factor_of(study, runs) is None
    # Four numbers of examples: with one held out three parameters have three runs, which fit anything.
    fits = fit_study(study, runs, "multiplicative", {"examples": 1})
    assert {one.law for one in fits.groups} == {"power"}
    assert len(fits.table()) == 3 * 3


def test_a_study_that_nothing_can_be_fitted_to_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = toy_study(tmp_path / "toy", ONE_BASE.replace("100, 200, 400, 800", "400"))
    lock.write_lock(study)
    run(study, workers=2, function=WORK)
    with pytest.raises(Refused, match="nothing could be fitted: TooFew: 1 runs for 3 parameters"):
        must_be_fitted(analyse(study, save=False))


def test_an_unfinished_study_says_how_many_runs_it_has_and_which_are_missing(tmp_path: Path) -> None:
    study = toy_study(tmp_path / "toy", ONE_BASE)
    lock.write_lock(study)
    assert note_on(study, study.table()).startswith("Partial study: 0 of 8 runs are finished; missing: mt-en-de")
    run(study, workers=2, function=WORK)
    assert note_on(study, study.table()) == ""
    for step in study.plan.of("run")[:2]:
        study.store.put_aside([step])
    said = note_on(study, study.table())
    assert said.startswith("Partial study: 6 of 8 runs are finished; missing: ")
    assert all(step.label in said for step in study.plan.of("run")[:2])
    flagged = study.table().assign(flag=["diverged", *[""] * 5])
    assert "1 finished runs are flagged and left out" in note_on(study, flagged)


@pytest.mark.parametrize("verb", ["claims", "tables"])
def test_both_verbs_announce_a_partial_study(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = toy_study(tmp_path / "toy", ONE_BASE)
    lock.write_lock(study)
    run(study, workers=2, function=WORK)
    study.store.put_aside(study.plan.of("run")[:1])
    assert call([verb, str(study.folder), "--draws", "20"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("Partial study: 7 of 8 runs are finished")
    assert "Partial study: 7 of 8" in said.err
    assert "Fitting mt-en-de, full (1 of 2)" in said.err


def test_decided_crossings_come_first_and_the_others_are_counted() -> None:
    place = {"task": "t", "base": "b", "a": "full", "b": "lora"}
    rows = [place | {"verdict": "undecided: 20% of draws cross.", "outcome": "undecided", "better_below": "full"}] * 36
    rows += [place | {"verdict": "no crossing inside the range.", "outcome": "none", "better_below": "full"}]
    rows += [place | {"verdict": "no law was fitted to full: 2 runs."}]
    said = list(crossings_in_words(pd.DataFrame(rows)))
    assert said[0] == "t, base b, full and lora: no crossing inside the range."
    assert said[1].startswith("36 further pairs undecided; the first: t, base b, full and lora: undecided: 20%")
    assert said[2:] == ["t, base b, full and lora: no law was fitted to full: 2 runs."]
    assert list(crossings_in_words(pd.DataFrame(columns=[*place, "verdict"]))) == []


def test_advice_names_its_task_where_there_are_several(study: Study, smallest: pd.DataFrame) -> None:
    runs = usual(smallest)
    both = pd.concat([runs, runs.assign(task="other", loss=runs["loss"] + 1)], ignore_index=True)
    fits = fit_study(study, both, "multiplicative", {})
    asked = both[both["task"] == "other"].assign(examples=1800.0).drop_duplicates(["method", "pretrain_tokens"])
    columns = ["task", "method", "base", "pretrain_tokens", "examples"]
    assert advise(fits, asked[columns]).sentence.startswith("For other: with 1,800 examples, ")
    assert advise(fits, asked[columns].assign(examples=1e9)).sentence.startswith("For other: no advice. ")
    alone = fit_study(study, runs, "multiplicative", {})
    assert advise(alone, asked[columns].assign(task="mt-en-de")).sentence.startswith("With 1,800 examples, ")
