"""Looking after a study: retry, check, and what a platform's monitoring reads; through the command line."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from study_toy import TOML, WORK, order, toy_study

from finescale import cli
from finescale.study import lock, openmetrics, store
from finescale.study import run as running
from finescale.study.lock import Study
from finescale.study.policy import CLASSES, TRIES, Attempt, Failure, next_attempt, of_exit
from finescale.study.run import Outcome, run

SMALL = TOML.replace('["xs", "s"]', '["xs"]').replace("[10_000, 20_000]", "[10_000]")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A small study whose steps are toys, also when the command line drives it."""
    made = toy_study(tmp_path, SMALL)
    monkeypatch.setattr(lock, "read_study", lambda folder, tell=None: toy_study(folder, SMALL))
    monkeypatch.setattr(running.run, "__kwdefaults__", {**run.__kwdefaults__, "function": WORK})
    return made


def test_retry_tries_what_failed_and_says_what_it_does_not_know(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    order(study.folder, "rate", "fail")
    assert cli.call(["run", str(study.folder)]) == 2
    assert cli.call(["retry", str(study.folder)]) == 1
    assert cli.call(["retry", str(study.folder), "--class", "memroy"]) == 1
    assert "did you mean 'memory'" in capsys.readouterr().err
    assert cli.call(["retry", str(study.folder), "--class", "oom"]) == 1
    assert "classes of those there are: bug" in capsys.readouterr().err
    (study.folder / "orders" / "rate").unlink()
    assert cli.call(["retry", str(study.folder), "--failed"]) == 0
    assert study.store.finished(study.plan) == set(study.plan.steps)


def test_a_run_that_is_named_is_made_with_what_it_needs_and_nothing_else(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = study.plan.of("run")[0]
    assert cli.call(["run", str(study.folder), "--only", wanted.id[:-1]]) == 1
    assert f"did you mean '{wanted.id}'" in capsys.readouterr().err
    assert cli.call(["run", str(study.folder), "--only", wanted.id]) == 0
    made = study.store.finished(study.plan)
    assert {id for id in made if study.plan.steps[id].kind == "run"} == {wanted.id}
    assert set(wanted.needs.values()) <= made


def test_check_names_what_is_damaged_and_mends_it_without_deleting(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.call(["run", str(study.folder)]) == 0
    assert cli.call(["check", str(study.folder)]) == 0
    victim = study.store.done(study.plan.of("run")[0])
    (victim / "record.json").write_text("{")
    (study.folder / "runs" / "left.part").mkdir()
    capsys.readouterr()
    assert cli.call(["check", str(study.folder), "--json"]) == 3
    said = json.loads(capsys.readouterr().out)
    assert list(said["damaged"]) == [str(victim)]
    assert said["unfinished"] == [str(study.folder / "runs" / "left.part")]
    assert cli.call(["check", str(study.folder), "--mend"]) == 0
    assert not victim.exists()
    assert [path.name.startswith(victim.name) for path in (study.folder / store.DAMAGED).iterdir()] == [True]
    assert cli.call(["run", str(study.folder)]) == 0
    assert cli.call(["check", str(study.folder)]) == 0


def test_a_record_made_twice_with_other_numbers_is_told(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["run", str(study.folder)]) == 0
    step = study.plan.of("rate")[0]
    study.store.begin(step)
    store.finish(study.store.part(step), {"learning_rate": 9.0})
    capsys.readouterr()
    assert cli.call(["check", str(study.folder)]) == 3
    assert "learning_rate: 0.01 → 9.0" in capsys.readouterr().out


def test_the_openmetrics_file_says_where_the_study_stands(study: Study) -> None:
    order(study.folder, "rate", "fail")
    outcome = run(study, workers=2, function=WORK)
    text = (study.folder / openmetrics.FILE).read_text()
    found = {
        (sample.name, sample.labels.get("state") or sample.labels.get("class") or ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["finescale_steps", "done"] == len(outcome.done)
    assert found["finescale_steps", "blocked"] == len(outcome.blocked) > 0
    assert found["finescale_failures", "bug"] == 1
    assert found["finescale_peak_memory_bytes", ""] == outcome.peak_memory_bytes
    assert sum(value for (name, _), value in found.items() if name == "finescale_steps") == outcome.total


def test_a_hostile_name_stays_inside_its_label() -> None:
    outcome = Outcome(total=1, done=set())
    text = openmetrics.exposed('a"} 1\nfinescale_steps{state="done', outcome).decode()
    (family, *_) = [f for f in text_string_to_metric_families(text) if f.name == "finescale_steps"]
    assert {sample.labels["study"] for sample in family.samples} == {'a"} 1\nfinescale_steps{state="done'}


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_has_an_end(kind: str) -> None:
    attempt, failure = Attempt(), Failure(kind, "", kind)
    tried = 1
    while (again := next_attempt(attempt, failure)) is not None:
        attempt, tried = again, tried + 1
        assert tried < 100
    assert tried == TRIES.get(kind, 1)
    assert attempt.parts == (2 ** (tried - 1) if kind == "memory" else 1)


def test_an_end_without_a_word_is_classed_by_its_signal() -> None:
    assert of_exit(-15, "").kind == "preempted"
    assert of_exit(-9, "").kind == "killed"
    assert of_exit(-9, "memory").kind == "memory"
    assert of_exit(3, "").message == "the worker was ended by exit code 3 without a word"


def test_the_table_is_handed_out_whole(study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.call(["run", str(study.folder)]) == 0
    capsys.readouterr()
    assert cli.call(["table", str(study.folder)]) == 0
    printed = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert cli.call(["table", str(study.folder), "--out", str(tmp_path / "runs.parquet")]) == 0
    kept = pd.read_parquet(tmp_path / "runs.parquet")
    assert list(printed["run"]) == list(kept["run"]) == [step.id for step in study.plan.of("run")]
    assert kept["loss"].tolist() == study.table()["loss"].tolist()
    assert cli.call(["table", str(study.folder), "--out", str(tmp_path / "runs.xlsx")]) == 1
    assert "is no kind of table" in capsys.readouterr().err
    assert cli.call(["table", str(study.folder), "--rates"]) == 0
    trials = pd.read_csv(io.StringIO(capsys.readouterr().out), keep_default_na=False)
    assert trials["method"].tolist() == ["lora", "lora"], "full was given its rate"
    assert trials["chosen"].tolist() == [True, False]
    assert trials["flag"].tolist() == ["", "diverged"]
