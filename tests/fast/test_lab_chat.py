"""Conversations by a model's own chat template: the tokens are transformers' own, the loss is on the answer alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import local_hub
import pytest
from typer.testing import CliRunner

from finescale.cli import app
from finescale.core import TaskSpec
from finescale.errors import InputError
from finescale.lab import checkpoint, prepare, splits, steps
from finescale.lab.chat import Chat, chat_of
from finescale.lab.packing import Example
from finescale.lab.tasks import Rendered
from finescale.study import config, lock, propose, worker
from finescale.study.files import paths_by_task
from finescale.study.propose import Wanted

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    "[{{ m.role }}] {{ m.content }}<|end|>\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
)
OTHER = TEMPLATE.replace("[", "(")
DATED = "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }} {% endif %}" + TEMPLATE
TURNS = (("user", "Capital of Germany?"), ("assistant", "Berlin."), ("user", "Of «China»?"))


def tokenizer(template: str | None = TEMPLATE) -> Any:
    made = local_hub.words()
    made.chat_template = template
    return made


def chat(template: str = TEMPLATE) -> Chat:
    found = chat_of(tokenizer(template))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of models without a chat template, with one, and with another."""
    home = tmp_path_factory.mktemp("models")
    for seed, (name, template) in enumerate((("plain", None), ("chat", TEMPLATE), ("other", OTHER))):
        local_hub.save(home / name, "llama", seed)
        tokenizer(template).save_pretrained(home / name)
    return {name: str(home / name) for name in ("plain", "chat", "other")}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "talk.jsonl"
    rows = [
        [{"role": "user", "content": f"{n} twice?"}, {"role": "assistant", "content": f"That is {2 * n}."}]
        for n in range(1000, 1160)
    ]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("turns", [TURNS, TURNS[:1], ()])
def test_prompt_and_target_together_are_what_transformers_writes(turns: tuple[tuple[str, str], ...]) -> None:
    row = Rendered("Capital of Germany?", "北京, I think", turns=turns)
    ((told, prompt, target),) = chat().encode([row], "task 'x'")
    asked = turns or (("user", row.prompt),)
    messages = [{"role": role, "content": content} for role, content in asked]
    theirs = tokenizer()
    given = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    whole = theirs.apply_chat_template([*messages, {"role": "assistant", "content": row.target}], return_dict=False)
    assert prompt.tolist() == given
    assert [*prompt, *target] == whole[: len(prompt) + len(target)]
    assert target[-1] == theirs.eos_token_id
    assert theirs.decode(target[:-1]) == row.target, "the loss is on the answer, and on nothing after its end"
    assert told.prompt.endswith("[assistant] ")
    assert told.target == row.target


def test_a_template_that_writes_no_end_of_text_gets_one() -> None:
    bare = TEMPLATE.replace("<|end|>", "")
    ((_, _, target),) = chat(bare).encode([Rendered("2 + 2?", "4")], "task 'x'")
    assert target.tolist() == [*tokenizer()("4").input_ids, 0]


@pytest.mark.parametrize(
    ("row", "template", "says"),
    [
        (Rendered("a", "b <|end|>"), TEMPLATE, "spells the special token '<|end|>'"),
        (Rendered("a", "b", turns=(("system", "Be brief."), ("user", "a"))), TEMPLATE, "refuses it: no system here"),
        (Rendered("a", "b"), "{{ messages | length }}", "has no place"),
        (Rendered("a", "b"), "{% for m in messages %}{{ m.role }}{% endfor %}", "has no place"),
    ],
)
def test_rows_that_a_template_cannot_write_are_told(row: Rendered, template: str, says: str) -> None:
    with pytest.raises(InputError, match=f"task 'x'.*{says}"):
        chat(template).encode([row], "task 'x'")
    with pytest.raises(InputError, match="9 rows in all"):
        chat(template).encode([row] * 9, "task 'x'")


def test_a_tokenizer_without_a_template_is_refused_and_so_are_two_templates(models: dict[str, str]) -> None:
    words = tokenizer(None)
    with pytest.raises(InputError, match=r"task 'x'.*has none — leave chat out"):
        list(prepare.encode([Rendered("a", "b")], (), words.backend_tokenizer, checkpoint.marks(words), "task 'x'"))
    checkpoint.same_chat({models["chat"]: False})
    with pytest.raises(InputError, match=r"plain: has no chat template(.|\n)*other: has another chat template than"):
        checkpoint.same_chat({models["chat"]: False, models["plain"]: False, models["other"]: False})


def test_it_is_a_part_of_the_identity_and_a_task_without_it_is_what_it_was() -> None:
    task = TaskSpec(
        name="x",
        source="jsonl",
        digest="0",
        template="{a}",
        target="b",
        dev_examples=1,
        test_examples=1,
        max_source_tokens=1,
        max_target_tokens=1,
    )
    assert "chat" not in task.model_dump()
    assert task.model_copy(update={"chat": True}).fingerprint() != task.fingerprint()
    assert TaskSpec.model_validate(task.model_dump()) == task


def test_init_proposes_it_and_the_study_prepares_it(models: dict[str, str], data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    said = CliRunner().invoke(app, ["init", str(folder), "--data", str(data), "--models", models["chat"]])
    assert "written by the model's own chat template; the last turn" in said.output
    assert "chat     = true" in (folder / "study.toml").read_text()
    study = lock.preview(folder)
    out = tmp_path / "prepared"
    out.mkdir()
    given = steps.words(models["chat"], out)
    spec: Any = study.plan.of("data")[0].spec
    (talk,) = spec.tasks
    both = spec.model_copy(update={"tasks": (talk, talk.model_copy(update={"name": "lines", "chat": False}))})
    paths = paths_by_task(study.spec.tasks, folder)
    found = steps.prepare(both, out, paths | {"lines": paths["talk"]}, lambda done: None, given)
    assert "task 'lines' in plain text, but 'talk' by the model's chat template" in found["findings"]
    first: Example = splits.load_split(out, "talk", "test")[0]
    text = splits.load_text(out, "talk", "test").iloc[0]
    own = tokenizer()
    asked = text["source"].removeprefix("User: ")
    assert own.decode(first.prompt) == text["prompt"] == f"[user] {asked}<|end|>\n[assistant] "
    assert own.decode(first.target) == f"{text['reference']}<|end|>"
    assert first.target_bytes == len(text["reference"].encode())


def test_init_leaves_it_where_it_is_not_to_be_had_or_not_wanted(
    models: dict[str, str], data: Path, tmp_path: Path
) -> None:
    def reading(name: str, *asked: str, chat: bool | None = None) -> str:
        return propose.propose(
            tmp_path / name, Wanted(data, tuple(models[one] for one in asked), ("lora",), chat=chat)
        ).reading

    assert reading("a", "plain").startswith("conversations are written as lines")
    assert reading("b", "chat", chat=False).startswith("conversations are written as lines")
    assert reading("c", "chat", "other").startswith("conversations are written as lines")
    with pytest.raises(InputError, match="has another chat template"):
        reading("d", "chat", "other", chat=True)
    with pytest.raises(InputError, match="has no chat template"):
        reading("e", "plain", chat=True)


def test_plain_prompts_are_written_by_it_where_that_is_asked_for(models: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{n} twice?", "completion": str(2 * n)}) + "\n" for n in range(160)))
    offered = propose.propose(tmp_path / "a", Wanted(path, (models["chat"],), ("lora",)))
    assert "init --chat has them written so" in offered.reading
    asked = propose.propose(tmp_path / "b", Wanted(path, (models["chat"],), ("lora",), chat=True))
    assert asked.seen.longest(1.0)[0] > offered.seen.longest(1.0)[0], "the template's own tokens count"
    assert config.read(tmp_path / "b").tasks["sums"].chat  # type: ignore[union-attr]


def test_a_ladders_rungs_have_no_template(data: Path, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(
        'schema = 1\n[base]\nladder = ["xs"]\npretrain_tokens = [10_000]\n'
        f'[tasks.talk]\nfile = "{data}"\nchat = true\n'
        '[finetune]\ntasks = ["talk"]\nexamples = [16, 32, 64]\ndev_examples = 8\ntest_examples = 20\n[methods.full]\n'
    )
    with pytest.raises(InputError, match=r"tasks\.talk\.chat: is for published models"):
        config.read(tmp_path)


def test_a_template_that_writes_the_day_is_told_the_same_one_every_day() -> None:
    ((told, prompt, _),) = chat(DATED).encode([Rendered("2 + 2?", "4")], "task 'x'")
    assert told.prompt == "26 Jul 2024 [user] 2 + 2?<|end|>\n[assistant] "
    assert tokenizer().decode(prompt) == told.prompt
    assert chat(DATED).dated
    assert not chat().dated


def test_models_that_write_conversations_otherwise_are_refused_before_anything_is_run(
    models: dict[str, str], data: Path, tmp_path: Path
) -> None:
    folder = propose.propose(tmp_path / "mine", Wanted(data, (models["chat"],), ("lora",))).folder
    path = folder / "study.toml"
    text = path.read_text()
    path.write_text(text.replace(json.dumps(models["chat"]), json.dumps([models["chat"], models["other"]])[1:-1]))
    assert len(config.read(folder).base.models) == 2
    for read in (lock.preview, lock.read_study):
        with pytest.raises(InputError, match="other: has another chat template than"):
            read(folder)
    path.write_text(text.replace("chat     = true\n", "").replace(models["chat"], models["other"]))
    assert lock.preview(folder).digests.chat == ""


def test_the_lock_holds_what_rows_are_written_by_and_another_template_makes_other_rows(
    models: dict[str, str], data: Path, tmp_path: Path
) -> None:
    folder = propose.propose(tmp_path / "mine", Wanted(data, (models["chat"],), ("lora",))).folder
    study = lock.read_study(folder)
    assert study.digests.chat == chat().identity() != chat(DATED).identity()
    lock.write_lock(study)
    assert lock.open_study(folder).digests == study.digests
    other = replace(study, digests=study.digests.model_copy(update={"chat": chat(OTHER).identity()}))
    (told,) = lock.changes(other)
    assert told.startswith("digests.chat: ")
    for kind in ("data", "rate", "run"):
        assert {step.id for step in study.plan.of(kind)}.isdisjoint(step.id for step in other.plan.of(kind))
    assert [one.id for one in study.plan.of("base")] == [one.id for one in other.plan.of("base")]
    step = other.plan.of("data")[0]
    lock.write_lock(other)
    other.store.begin(step)
    with pytest.raises(InputError, match="has changed since the study was planned"):
        worker.execute(folder, other.store.part(step), lambda *told: None)


def test_a_template_of_ones_own_is_the_users_turn_and_is_not_left_out_of_conversations(
    models: dict[str, str], data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps({"n": str(n), "twice": str(2 * n)}) + "\n" for n in range(160)))
    wanted = Wanted(path, (models["chat"],), ("lora",), template="{n} twice?", target="twice", chat=True)
    study = lock.preview(propose.propose(tmp_path / "a", wanted).folder)
    (out := tmp_path / "prepared").mkdir()
    given = steps.words(models["chat"], out)
    spec: Any = study.plan.of("data")[0].spec
    steps.prepare(spec, out, paths_by_task(study.spec.tasks, tmp_path / "a"), lambda done: None, given)
    text = splits.load_text(out, "sums", "test").iloc[0]
    assert text["prompt"] == f"[user] {text['source']} twice?<|end|>\n[assistant] "
    wanted = replace(wanted, data=data, template="{prompt}\nAnswer:", target="completion")
    with pytest.raises(InputError, match=r"tasks\.talk\.template: would be left out.*tasks\.talk\.chat = true"):
        propose.propose(tmp_path / "b", wanted)
