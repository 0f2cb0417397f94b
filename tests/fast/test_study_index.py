"""The index of records: quick, never trusted over the records, and made anew whenever anything is wrong with it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from study_toy import record, toy_study

from finescale.core import fingerprint
from finescale.errors import StudyError
from finescale.study import index, store, table
from finescale.study.lock import Study
from finescale.study.pace import measured
from finescale.study.plan import Step
from finescale.study.store import Store


def made(study: Study, step: Step, extra: dict[str, Any] | None = None) -> None:
    """Bring a step to its record, as a worker does."""
    study.store.begin(step)
    asked = store.read_json(study.store.part(step) / store.SPEC)
    store.finish(study.store.part(step), record(asked, study.folder) | (extra or {}))


def probe(value: float) -> dict[str, Any]:
    score = {"metric": "nll", "value": value, "low": value - 1, "high": value + 1}
    return {"scores": [score], "zero_scores": [{"metric": "nll", "value": 9.0}]}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A toy study whose first twelve runs are done, some with a probe and one with a refused metric."""
    one = toy_study(tmp_path / "study")
    for step in [*one.plan.of("data"), *one.plan.of("base"), *one.plan.of("rate")]:
        made(one, step)
    for number, step in enumerate(one.plan.of("run")[:12]):
        more = {"probes": {"fr-de": probe(float(number))}} if number % 2 else {"refused": {"comet": "install it"}}
        made(one, step, more | {"steps": number, "epochs": 1.5})
    return one


def reading(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the steps whose records are read from now on."""
    read: list[str] = []
    real = Store.record

    def noting(self: Store, step: Step) -> dict[str, Any]:
        read.append(step.id)
        return real(self, step)

    monkeypatch.setattr(Store, "record", noting)
    return read


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a record and give it the digest of what it says now."""
    whole = json.loads(path.read_text())
    del whole["digest"]
    layout = whole.pop("layout")
    change(whole)
    path.write_text(json.dumps({"layout": layout, "digest": fingerprint(whole)} | whole))


def test_a_warm_index_reads_no_record_and_says_the_same(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    read = reading(monkeypatch)
    cold = study.table(), table.probes(study.store, study.plan), table.refused(study.store, study.plan)
    assert sorted(read) == sorted(study.store.finished(study.plan)), "each record once, for all three"
    read.clear()
    warm = study.table(), table.probes(study.store, study.plan), table.refused(study.store, study.plan)
    assert read == []
    pd.testing.assert_frame_equal(cold[0], warm[0])
    pd.testing.assert_frame_equal(cold[1], warm[1])
    assert cold[2] == warm[2] == {"comet": "install it"}
    assert list(cold[0]["run"]) == [step.id for step in study.plan.of("run")[:12]]
    assert cold[1]["value"].tolist() == [1, 3, 5, 7, 9, 11]
    assert cold[1]["steps"].tolist() == [1, 3, 5, 7, 9, 11]
    assert set(cold[0]["epochs"]) == {1.5}
    assert set(cold[0]["epochs_asked"]) == {4.0}, "what the recipe asked for, beside what was done"


def test_what_is_new_changed_or_gone_is_settled_with_the_records(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    before = study.table()
    runs = study.plan.of("run")
    made(study, runs[12])
    changed = study.store.done(runs[3]) / "record.json"
    rewrite(changed, lambda whole: whole["scores"][0].update(value=123.0))
    study.store.put_aside([runs[0]])
    read = reading(monkeypatch)
    after = study.table().set_index("run")
    assert read == [runs[3].id, runs[12].id]
    assert list(after.index) == [step.id for step in runs[1:13]]
    assert after.loc[runs[3].id, "loss"] == 123.0
    assert after.loc[runs[5].id, "loss"] == before.set_index("run").loc[runs[5].id, "loss"]


def test_a_record_is_read_again_though_its_time_and_size_were_put_back(study: Study) -> None:
    study.table()
    path = study.store.done(study.plan.of("run")[3]) / "record.json"
    was = path.stat()
    path.write_bytes(path.read_bytes().replace(b'"steps": 3', b'"steps": 8'))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert path.stat().st_size == was.st_size
    with pytest.raises(StudyError, match="digest does not match"):
        study.table()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_index_is_made_anew(study: Study, data: st.DataObject) -> None:
    truth = study.table()
    name = data.draw(st.sampled_from([index.RECORDS, index.PROBES, index.MANIFEST]))
    path = study.folder / index.FOLDER / name
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, 999_999)) % len(content)  # times in the file let its length vary by a digit
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    pd.testing.assert_frame_equal(study.table(), truth)
    assert len(table.probes(study.store, study.plan)) == 6


@pytest.mark.parametrize("column", ["seconds", "id"])
def test_an_index_of_another_form_is_made_anew(study: Study, column: str) -> None:
    truth = study.table()
    home = study.folder / index.FOLDER
    other = pq.read_table(home / index.RECORDS).drop_columns([column]).append_column(column, pa.array([[1]] * 18))
    digest = index.write(home / index.RECORDS, other)
    manifest = store.read_json(home / index.MANIFEST)
    store.write_json(home / index.MANIFEST, manifest | {"digests": manifest["digests"] | {index.RECORDS: digest}})
    pd.testing.assert_frame_equal(study.table(), truth)


def test_where_nothing_can_be_written_the_table_is_still_had(study: Study) -> None:
    truth = study.table()
    home = study.folder / index.FOLDER
    for path in home.iterdir():
        path.unlink()
    home.rmdir()
    home.write_text("in the way")
    pd.testing.assert_frame_equal(study.table(), truth)
    assert home.read_text() == "in the way"


def test_a_narrower_plan_leaves_the_index_as_it_is(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = study.table()
    toml = (study.folder / "study.toml").read_text()
    narrow = toy_study(study.folder, toml.replace("[100, 200, 400, 800]", "[100]"))
    read = reading(monkeypatch)
    assert 0 < len(narrow.table()) < len(whole)
    pd.testing.assert_frame_equal(study.table(), whole)
    assert read == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scores": {}}, "scores is not a list of scores"),
        ({"scores": [3]}, "scores is not a table"),
        ({"scores": [{"metric": 7}]}, "scores.metric is not a word"),
        ({"scores": [{"value": 7}]}, "scores.metric is not the name of a metric"),
        ({"zero_scores": [{"metric": "nll", "value": "low"}]}, "zero_scores.value is not a number"),
        ({"seconds": True}, "seconds is not a number"),
        ({"steps": 1.5}, "steps is not a whole number"),
        ({"steps": 10**30}, "steps is not a whole number"),
        ({"seconds": 10**400}, "seconds is not a number"),
        ({"flag": ["late"]}, "flag is not a word"),
        ({"probes": {"fr-de": 3}}, "probes.fr-de is not a table"),
        ({"refused": "comet"}, "refused is not a table"),
    ],
)
def test_a_record_of_another_form_is_named(study: Study, change: dict[str, Any], said: str) -> None:
    step = study.plan.of("run")[2]
    rewrite(study.store.done(step) / "record.json", lambda whole: whole.update(change))
    with pytest.raises(StudyError, match=said) as error:
        study.table()
    assert step.id in str(error.value)


def test_the_pace_of_a_study_is_that_of_its_records(study: Study) -> None:
    pace = measured(study.store, study.plan)
    assert pace.seconds["run"] == pytest.approx(1.2)
    assert pace.flops["run"] == sum(step.flops for step in study.plan.of("run")[:12])
    assert pace.seconds["base"] == pytest.approx(0.2 * len(study.plan.of("base")))


def test_a_study_without_a_finished_run_has_empty_tables(tmp_path: Path) -> None:
    empty = toy_study(tmp_path)
    assert list(empty.table().columns)[:3] == ["task", "method", "base"]
    long = table.probes(empty.store, empty.plan)
    assert (len(empty.table()), len(long), list(long.columns)) == (0, 0, table.PROBE_COLUMNS)
    assert table.refused(empty.store, empty.plan) == {}
    assert not (tmp_path / index.FOLDER).exists(), "nothing to keep"


def test_columns_copied_from_records_are_in_the_index() -> None:
    assert set(table.COPIED) <= {*index.COUNTS, *index.MEASURES}
