"""Loss by target language, from the sums per test example that runs keep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from study_toy import TOML, WORK, toy_study

from finescale import cli
from finescale.errors import StudyError
from finescale.lab.splits import TEXT
from finescale.study.languages import by_language
from finescale.study.lock import Study
from finescale.study.run import run

LANGUAGES = ["en", "de", "zh", "de", "en", "en"]
SMALL = TOML.replace('["xs", "s"]', '["xs"]').replace("[10_000, 20_000]", "[10_000]")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A study of toy steps, with a test set in three languages and sums for each of its examples."""
    made = toy_study(tmp_path, SMALL)
    assert run(made, function=WORK).complete
    text = pd.DataFrame({name: [""] * len(LANGUAGES) for name in TEXT} | {"language": LANGUAGES, "split": "test"})
    for data in made.plan.of("data"):
        for task in {step.spec.task.name for step in made.plan.of("run")}:  # type: ignore[attr-defined]
            text.to_parquet(made.store.done(data) / f"{task}-text.parquet")
    rng = np.random.default_rng(0)
    losses = made.table().set_index("run")["loss"]
    for step in made.plan.of("run"):
        sums = {name: rng.integers(1, 99, len(LANGUAGES)).astype(float) for name in ("nats", "tokens", "bytes")}
        sums["nats"] *= losses[step.id] * sums["tokens"].sum() / sums["nats"].sum()
        pd.DataFrame(sums).to_parquet(made.store.done(step) / "rows.parquet")
    return made


def test_the_languages_of_a_run_make_up_the_whole(study: Study) -> None:
    """Token-weighted, the losses of the languages are the loss over all test examples."""
    long = by_language(study.store, study.plan)
    assert list(long["run"].unique()) == [step.id for step in study.plan.of("run")]
    for name, of in long.groupby("run"):
        sums = pd.read_parquet(study.folder / "runs" / str(name) / "rows.parquet")
        assert dict(zip(of["language"], of["test_examples"], strict=True)) == {"de": 2, "en": 3, "zh": 1}
        assert (of["loss"] * of["test_tokens"]).sum() == pytest.approx(sums["nats"].sum())
        assert of["test_tokens"].sum() == sums["tokens"].sum()
    alone = long["test_examples"] == 1
    assert long.loc[alone, "loss_low"].isna().all(), "one example says nothing of its spread"
    rest = long[~alone]
    assert ((rest["loss_low"] <= rest["loss"]) & (rest["loss"] <= rest["loss_high"])).all()


def test_sums_of_another_test_set_are_refused(study: Study) -> None:
    path = study.store.done(study.plan.of("run")[0]) / "rows.parquet"
    pd.read_parquet(path).iloc[1:].to_parquet(path)
    with pytest.raises(StudyError, match="has not the sums of the 6 test examples"):
        by_language(study.store, study.plan)
    first, second = (made / "rows.parquet" for made in map(study.store.done, study.plan.of("run")[:2]))
    first.write_bytes(second.read_bytes())
    with pytest.raises(StudyError, match="its sums are not those of the run's loss"):
        by_language(study.store, study.plan)
    first.unlink()
    first.symlink_to(second)
    with pytest.raises(StudyError, match="is a link"):
        by_language(study.store, study.plan)
    first.unlink()
    path.write_bytes(b"PAR1")
    with pytest.raises(StudyError, match="cannot be read"):
        by_language(study.store, study.plan)


def test_one_table_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["table", str(tmp_path), "--probes", "--languages"]) == 1
    assert "ask for one of them" in capsys.readouterr().err
