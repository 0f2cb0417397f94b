"""What a lock says has changed: any field, by its place; and no setting that came later and says nothing."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finescale.study import config, lock
from finescale.study.lock import Study
from finescale.study.plan import Digests

TOML = """
schema = 1
question = "absent"
[base]
ladder = ["xs", "own"]
pretrain_tokens = [10_000, 20_000]
[base.shapes.own]
layers = 3
heads = 2
width = 48
ff = 96
gated = false
[base.recipe]
clip = 2.0
[tasks.sums]
file = "sums.jsonl"
ignore = ["id"]
[finetune]
tasks = ["sums", "mt-en-de"]
examples = [16, 32, 64, 128]
dev_examples = 8
test_examples = 20
recipe = { patience = 5 }
[methods.full]
[methods.lora]
rank = 4
alpha = 8.0
examples = { sums = [16, 32, 64] }
recipe = { clip = 1 }
[rate_search]
examples = 64
[fit]
hold_out = { examples = 1 }
[run]
minutes = 5
slurm = { partition = "cpu" }
"""
SAID = {
    "question",
    "base.ladder",
    "base.pretrain_tokens",
    "base.shapes.own",
    "base.recipe.clip",
    "tasks.sums",
    "finetune.tasks",
    "finetune.examples",
    "finetune.dev_examples",
    "finetune.test_examples",
    "finetune.recipe.patience",
    "fit.hold_out",
    "rate_search.examples",
    "run.minutes",
    "run.slurm",
    "methods.full",
    "methods.lora",
    "schema",
}
"""What that study says otherwise than by default, or has to say."""
USUAL = {
    "base.shapes.own.kv_heads",
    "tasks.sums.dev",
    "tasks.sums.test",
    "tasks.sums.languages",
    "tasks.sums.max_source_tokens",
    "tasks.sums.max_target_tokens",
    "tasks.sums.chat",
    "methods.full.examples",
    "methods.full.recipe",
    "methods.lora.options.rslora",
}
"""What is at its default inside of those."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    folder = tmp_path_factory.mktemp("study")
    rows = ({"prompt": f"{n} twice", "completion": str(2 * n), "id": "x"} for n in range(400))
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / config.STUDY_FILE).write_text(TOML)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lock, "versions", lambda: {"finescale": "1", "torch": "2"})  # asking takes its time
        made = Study(folder, config.read(folder), Digests(corpus="0" * 64, tasks={"sums": "1" * 12}), {})
        lock.write_lock(made)
        yield made


def places(value: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of nested dictionaries."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield (*at, key)
            yield from places(item, (*at, key))


def speaks(place: str) -> bool:
    """Whether the study says something at a place of its file, above it or below it."""
    around = (f"{place}.".startswith(f"{said}.") or said.startswith(f"{place}.") for said in SAID)
    return place not in USUAL and any(around)


def changes_after(study: Study, edit: Callable[[dict[str, Any]], None]) -> list[str]:
    """What has changed since a lock that was edited."""
    path = study.folder / lock.LOCK_FILE
    whole = path.read_text()
    written = json.loads(whole)
    edit(written)
    path.write_text(json.dumps(written))
    try:
        return lock.changes(study)
    finally:
        path.write_text(whole)


def within(written: dict[str, Any], place: tuple[str, ...]) -> dict[str, Any]:
    """The dictionary that holds what is at a place."""
    return functools.reduce(dict.__getitem__, place[:-1], written)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_one_field_that_changed_is_named_and_nothing_else_is(study: Study, data: st.DataObject) -> None:
    written = json.loads((study.folder / lock.LOCK_FILE).read_text())
    leaves = [place for place in places(written) if not isinstance(within(written, place)[place[-1]], dict)]
    place = data.draw(st.sampled_from([at for at in leaves if at[0] in ("spec", "digests", "versions")]))
    now = within(written, place)[place[-1]]
    old = data.draw(st.sampled_from([None, "absent", [], [1], 0.125, 2**40, "0" * 12]).filter(lambda one: one != now))
    told = changes_after(study, lambda lock: within(lock, place).update({place[-1]: old}))
    name, now = ".".join(place), json.dumps(now, ensure_ascii=False)
    assert told == [f"{name}: {json.dumps(old)} → {now}"]


def test_a_setting_that_a_lock_does_not_have_is_named_only_if_it_says_something(study: Study) -> None:
    written = json.loads((study.folder / lock.LOCK_FILE).read_text())
    for place in places(written["spec"]):
        told = changes_after(study, lambda lock, place=place: within(lock["spec"], place).pop(place[-1]))
        name, now = ".".join(place), json.dumps(within(written["spec"], place)[place[-1]], ensure_ascii=False)
        assert told == ([f"spec.{name}: absent → {now}"] if speaks(name) else []), name


def test_what_a_lock_has_and_this_version_does_not_is_named(study: Study) -> None:
    told = changes_after(study, lambda lock: lock["spec"]["run"].update(colour=None))
    assert told == ["spec.run.colour: null → absent"]
    told = changes_after(study, lambda lock: lock["spec"]["methods"].update(ia3={"sizes": []}))
    assert told == ['spec.methods.ia3: {"sizes": []} → absent']
