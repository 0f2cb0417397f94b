"""The study folder: what has its final name is complete, what is damaged is named, what is missing stays missing."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from study_toy import TOML, run_record, toy_loss, toy_study

from finescale.errors import InputError, StudyError
from finescale.study import lock, store
from finescale.study.lock import Study
from finescale.study.plan import Step
from finescale.study.table import COLUMNS


def made_by(step: Step) -> dict[str, Any]:
    return run_record(step.spec.model_dump(mode="json"), 50_000) if step.kind == "run" else {"learning_rate": 0.01}


def finished(study: Study, step: Step) -> Path:
    study.store.begin(step)
    store.finish(study.store.part(step), made_by(step))
    return study.store.done(step)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return toy_study(tmp_path)


def test_a_record_is_written_last_and_keeps_its_numbers(study: Study) -> None:
    step = study.plan.of("run")[0]
    home = finished(study, step)
    assert [path.name for path in home.iterdir()] == ["record.json"]
    assert study.store.record(step) == made_by(step)
    assert study.store.finished(study.plan) == {step.id}
    assert not study.store.part(step).exists()


def test_unfinished_steps_do_not_count(study: Study) -> None:
    study.store.begin(study.plan.of("run")[0])
    assert study.store.finished(study.plan) == set()
    assert study.table().empty


def test_the_first_to_finish_wins(study: Study) -> None:
    step = study.plan.of("rate")[0]
    finished(study, step)
    study.store.begin(step)
    store.finish(study.store.part(step), {"learning_rate": 99.0})
    assert study.store.record(step)["learning_rate"] == 0.01
    assert not study.store.part(step).exists()
    (told,) = (study.folder / store.CONFLICTS).read_text().splitlines()
    assert json.loads(told) == {"step": step.id, "first → late": ["learning_rate: 0.01 → 99.0"]}


def test_a_duplicate_that_differs_only_in_its_cost_is_no_conflict(study: Study) -> None:
    step = study.plan.of("rate")[0]
    finished(study, step)
    study.store.begin(step)
    store.finish(study.store.part(step), made_by(step) | {"seconds": 77.0})
    assert "seconds" not in study.store.record(step)
    assert not (study.folder / store.CONFLICTS).exists()


@pytest.mark.parametrize(
    "damage", [lambda text: text[: len(text) // 2], lambda text: text.replace("0.01", "0.02"), lambda _: ""]
)
def test_damage_is_told_with_the_way_out(study: Study, damage) -> None:
    step = study.plan.of("run")[0]
    path = finished(study, step) / "record.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(StudyError, match=r"record\.json.*(damaged|cannot be read)"):
        study.store.record(step)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 7))
def test_no_flipped_bit_passes_for_a_record(tmp_path_factory, place: int, bit: int) -> None:
    """Whatever bit of a record flips, it is refused or still says the same."""
    study = toy_study(tmp_path_factory.mktemp("study"))
    step = study.plan.of("run")[0]
    path = finished(study, step) / "record.json"
    before, content = study.store.record(step), bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    with contextlib.suppress(StudyError):
        assert study.store.record(step) == before


def test_a_record_of_another_layout_is_refused(study: Study) -> None:
    step = study.plan.of("run")[0]
    path = finished(study, step) / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layout": 1}))
    with pytest.raises(StudyError, match="has layout 1, this version reads 2"):
        study.store.record(step)


def test_another_spec_than_the_name_says_is_told_field_by_field(study: Study) -> None:
    step = study.plan.of("run")[0]
    other = step.spec.model_copy(update={"recipe": step.spec.recipe.model_copy(update={"warmup_fraction": 0.5})})
    made = finished(study, replace(step, id="elsewhere", spec=other))
    made.rename(study.store.done(step))
    with pytest.raises(StudyError, match=r"recipe\.warmup_fraction: 0\.5 → 0\.06"):
        study.store.record(step)


def test_nothing_that_is_no_number_enters_a_record(study: Study) -> None:
    step = study.plan.of("run")[0]
    study.store.begin(step)
    with pytest.raises(ValueError, match="nan"):
        store.finish(study.store.part(step), {"loss": math.nan})
    assert study.store.finished(study.plan) == set()


def test_writing_aside_leaves_the_old_file_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    store.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        store.write_json(path, {"a": object()})
    assert store.read_json(path) == {"a": 1}


def test_table_has_the_columns_and_what_is_missing_is_missing(study: Study) -> None:
    for step in study.plan.of("run")[:3]:
        finished(study, step)
    table = study.table()
    assert list(table.columns) == COLUMNS
    assert len(table) == 3
    row = table.iloc[0]
    assert (row["task"], row["method"], row["base"], row["examples"]) == ("mt-en-de", "full", "xs@10K", 100)
    assert row["loss"] == toy_loss("full", 50_000, 100)
    assert (row["flag"], row["zero_loss"]) == ("", 9.0)
    assert math.isnan(row["bits_per_byte"]), "a score the record lacks is missing"


def test_the_table_holds_the_runs_of_the_plan_only(study: Study, tmp_path: Path) -> None:
    for step in study.plan.of("run"):
        finished(study, step)
    narrower = toy_study(tmp_path, TOML.replace("[100, 200, 400, 800]", "[100, 200]"))
    assert len(narrower.table()) == 16
    assert len(study.table()) == 32, "and nothing was deleted"


def test_the_lock_opens_the_study_again_and_tells_changes(study: Study, tmp_path: Path) -> None:
    assert lock.changes(study) == []
    lock.write_lock(study)
    again = lock.open_study(tmp_path)
    assert again.spec == study.spec
    assert list(again.plan.steps) == list(study.plan.steps)
    assert lock.changes(study) == []
    path = tmp_path / lock.LOCK_FILE
    written = json.loads(path.read_text())
    del written["spec"]["run"]["device_map"]
    path.write_text(json.dumps(written))
    assert lock.changes(study) == [], "a version before did not know that setting, and it says nothing"
    changed = toy_study(tmp_path, TOML.replace("rank = 4", "rank = 8"))
    assert lock.changes(changed) == ["spec.methods.lora.sizes: [4] → [8]"]


def test_a_study_never_run_or_with_a_damaged_lock(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing was run in it"):
        lock.open_study(tmp_path)
    for content in (
        "{",
        "[]",
        '{"layout": 7}',
        '{"layout": 1}',
        '{"layout": 1, "spec": {}, "digests": {}, "provenance": {}}',
    ):
        (tmp_path / lock.LOCK_FILE).write_text(content)
        with pytest.raises(StudyError, match=r"study\.lock\.json"):
            lock.open_study(tmp_path)


@settings(max_examples=40, deadline=None)
@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda x: st.dictionaries(st.text(max_size=2), x)))
def test_differences_vanish_only_between_equals(value) -> None:
    assert list(store.differences(value, value)) == []
    assert list(store.differences({"a": value}, {"a": [value]}))
