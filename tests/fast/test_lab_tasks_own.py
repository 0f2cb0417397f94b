"""The user's own examples: layouts known by their columns, strict templates, and faults that name their lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finescale.core import TaskSpec
from finescale.errors import Faults, InputError
from finescale.lab import own, pools
from finescale.lab.corpora import Corpus
from finescale.lab.tasks import render, source_of
from finescale.study.files import BuiltInTask, FileTask, check_built_in, check_task, digests, paths_by_task, spelled_out

NO_CORPUS = Corpus(Path("nowhere"), {"files": {}, "tier": "none"})


def chat(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


ASKED = chat(("system", "Be brief."), ("user", "Wie heißt die Hauptstadt?"))
LAYOUTS: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "strings": ({"prompt": "2 + 3 =", "completion": " 5"}, ("2 + 3 =", "5")),
    "lists": (
        {"prompt": ASKED, "completion": chat(("assistant", "北京"))},
        ("System: Be brief.\nUser: Wie heißt die Hauptstadt?\nAssistant:", "北京"),
    ),
    "messages": (
        {"messages": [*ASKED, *chat(("assistant", "Berlin"), ("user", "Sure?"), ("assistant", "Yes"))]},
        ("System: Be brief.\nUser: Wie heißt die Hauptstadt?\nAssistant: Berlin\nUser: Sure?\nAssistant:", "Yes"),
    ),
    "pair": ({"src": "{x} house", "tgt": "Haus"}, ("Source: {x} house\nTarget:", "Haus")),
}


def write(path: Path, *rows: object) -> Path:
    path.write_text(
        "".join(f"{row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    )
    return path


def wrong(folder: Path, *rows: object, **table: Any) -> str:
    """What is told about a task whose file holds these rows."""
    write(folder / "mine.jsonl", *rows)
    faults = Faults()
    check_task("mine", FileTask(file="mine.jsonl", **table), folder, faults)
    return "\n".join(map(str, faults))


def task_of(folder: Path, table: FileTask, dev: int = 2, test: int = 2) -> TaskSpec:
    """What a plan makes of a table."""
    whole = spelled_out(table, folder)
    assert whole.template
    assert whole.target
    return TaskSpec(
        name="mine",
        source="jsonl",
        digest=digests({"mine": whole}, ["mine"], folder)["mine"],
        template=whole.template,
        target=whole.target,
        dev_examples=dev,
        test_examples=test,
        max_source_tokens=64,
        max_target_tokens=64,
        languages=whole.languages,
    )


def pool_of(folder: Path, table: FileTask, dev: int = 2, test: int = 2) -> pools.Pool:
    return pools.pool(task_of(folder, table, dev, test), NO_CORPUS, paths_by_task({"mine": table}, folder))


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_known_by_its_columns(name: str, tmp_path: Path) -> None:
    row, told = LAYOUTS[name]
    write(tmp_path / "train.jsonl", "\ufeff" + json.dumps(row), "")
    faults = Faults()
    assert check_task("mine", FileTask(file="train.jsonl", test="train.jsonl"), tmp_path, faults) == {
        "train": 1,
        "test": 1,
    }
    assert not faults.found
    task = task_of(tmp_path, FileTask(file="train.jsonl"))
    fields = own.fields_of(row, own.Form(task.template, task.target))
    assert render(task.template, task.target, fields, "here") == told


def test_a_split_that_only_repeats_another_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", *({"src": f"s{i}", "tgt": "t"} for i in range(9)))
    write(tmp_path / "held.jsonl", {"src": "s1", "tgt": "t"})
    with pytest.raises(InputError, match="all 1 rows of its dev split repeat a row of test"):
        pool_of(tmp_path, FileTask(file="train.jsonl", dev="held.jsonl", test="held.jsonl"))


def test_mixed_layouts_are_told_with_their_lines(tmp_path: Path) -> None:
    rows = [LAYOUTS[name][0] for name in ("strings", "messages", "strings", "lists")]
    found = wrong(tmp_path, *rows)
    assert "mixes layouts" in found
    assert "prompt and completion in lines 1, 3" in found
    assert "messages in line 2" in found
    assert "as message lists in line 4" in found
    assert "no layout has the columns a, b" in wrong(tmp_path, {"a": "x", "b": "y"})
    assert "no layout has the columns src, tgt, prompt, completion" in wrong(
        tmp_path, {"src": "a", "tgt": "b", "prompt": "c", "completion": "d"}
    )


def test_files_of_one_task_have_one_layout(tmp_path: Path) -> None:
    write(tmp_path / "test.jsonl", LAYOUTS["pair"][0])
    assert "different layouts" in wrong(tmp_path, LAYOUTS["strings"][0], test="test.jsonl")
    with pytest.raises(InputError, match="different layouts"):
        spelled_out(FileTask(file="mine.jsonl", test="test.jsonl"), tmp_path)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"messages": chat(("user", "Hello?"))}, "does not end in one message of the assistant"),
        ({"messages": chat(("assistant", "Hello!"))}, "no message before the answer"),
        ({"messages": [{"role": "tool", "content": "x"}, *chat(("assistant", "y"))]}, "not a role"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}, *chat(("assistant", "y"))]}, "not a role"),
        ({"messages": "Hello"}, "has no text in prompt, completion"),
        ({"prompt": [], "completion": chat(("assistant", "y"))}, "no message before the answer"),
        ({"prompt": "x", "completion": "  "}, "has no text in completion"),
        ({"prompt": "x", "completion": None}, "has no text in completion"),
    ],
)
def test_what_is_wrong_with_a_row_is_told_with_its_line(row: dict[str, Any], what: str, tmp_path: Path) -> None:
    found = wrong(tmp_path, row)
    assert "line 1" in found
    assert what in found


@pytest.mark.parametrize(
    ("row", "where"),
    [
        ({"prompt": "x \ud83d", "completion": "y \udc00"}, "in prompt, completion"),
        ({"messages": chat(("user", "x \ud83d"), ("assistant", "y"))}, "in prompt"),
        ({"prompt": "x", "completion": "y", "\ud83d": "z"}, "in a column's name"),
    ],
)
def test_half_a_character_is_told_with_its_line(row: dict[str, Any], where: str, tmp_path: Path) -> None:
    assert "half a" not in wrong(tmp_path, json.dumps({"prompt": "x \U0001f600", "completion": "y"}))
    found = wrong(tmp_path, json.dumps(row))
    assert "line 1: has half a character (a lone surrogate" in found
    assert where in found
    assert found.encode()


def test_a_field_nobody_uses_is_a_fault_until_it_is_left_out_on_purpose(tmp_path: Path) -> None:
    rows = [{"src": "a", "tgt": "b", "note": "c"}, {"src": "d", "tgt": "e"}, {"src": "f", "tgt": "g", "note": "h"}]
    told = {"template": "Say {src}:", "target": "tgt"}
    for table in ({}, told):
        found = wrong(tmp_path, *rows, **table)
        assert "'note' (lines 1, 3)" in found
        assert 'ignore = ["note"]' in found
        assert not wrong(tmp_path, *rows, ignore=("note",), **table)


def test_a_template_comes_with_a_target_and_can_be_filled(tmp_path: Path) -> None:
    assert "tasks.mine.target: is missing" in wrong(tmp_path, {"a": "x"}, template="{a}")
    assert "cannot be filled" in wrong(tmp_path, {"a": "x", "b": "y"}, template="{a:d}", target="b")
    assert "has no text in c" in wrong(tmp_path, {"a": "x", "b": "y"}, template="{a} {c}", target="b")
    assert not wrong(tmp_path, {"a": "x", "b": "y"}, template="{a:.10}", target="b")


def test_a_row_of_several_languages_says_which(tmp_path: Path) -> None:
    rows = [{"src": "a", "tgt": "b", "language": "de"}, {"src": "c", "tgt": "d", "language": "fr"}]
    assert "its language is 'fr', not one of de, zh" in wrong(tmp_path, *rows, languages=("de", "zh"))
    assert not wrong(tmp_path, *rows, languages=("de", "fr"))
    assert "'deutsch' is no known language" in wrong(tmp_path, *rows, languages=("deutsch",))


def test_the_source_of_a_row_is_its_fields_without_the_template(tmp_path: Path) -> None:
    fields = {"title": "北京", "body": "a {b} c", "language": "de", "answer": "x"}
    assert source_of("Say in {language}: {title}\n{body:.3}\n{title}", fields) == "北京\na {b} c"


def test_a_line_separator_inside_a_text_ends_no_line(tmp_path: Path) -> None:
    text = json.dumps({"src": "one\u2028two", "tgt": "x"}, ensure_ascii=False)
    assert [number for number, _ in own.lines(write(tmp_path / "f.jsonl", text, text))] == [1, 2]


def sentence(i: int, tail: str = "") -> str:
    """Nine words of its own, so that no two sentences look alike."""
    return " ".join(f"w{i}x{k}" for k in range(9)) + tail


def test_dev_and_test_are_cut_apart_from_train_and_duplicates_are_told(tmp_path: Path) -> None:
    rows = [{"src": sentence(i), "tgt": f"label{i % 3}"} for i in range(60)]
    near = [{"src": sentence(i, " more"), "tgt": "label9"} for i in range(60)]
    write(tmp_path / "mine.jsonl", *rows, *near, rows[0])
    found = pool_of(tmp_path, FileTask(file="mine.jsonl"), dev=10, test=20)
    prompts = {split: {row.prompt for row in rows} for split, rows in found.splits.items()}
    assert not prompts["train"] & (prompts["dev"] | prompts["test"])
    ids = {split: {prompt.split()[1] for prompt in found} for split, found in prompts.items()}
    assert not ids["train"] & (ids["dev"] | ids["test"]), "nearly the same counts as the same"
    assert not ids["dev"] & ids["test"]
    assert len(found.splits["test"]) == 20
    told = found.facts["duplicates"]
    assert told["near across splits"] > 0
    assert sum(map(len, found.splits.values())) + told["near across splits"] + told["exact across splits"] in (120, 121)


def test_labels_that_repeat_are_no_duplicates(tmp_path: Path) -> None:
    rows = [{"src": f"is {i} even?", "tgt": "yes" if i % 2 == 0 else "no"} for i in range(40)]
    write(tmp_path / "mine.jsonl", *rows)
    assert len(pool_of(tmp_path, FileTask(file="mine.jsonl"), 5, 5).splits["train"]) == 30


def test_a_shared_instruction_makes_no_duplicates(tmp_path: Path) -> None:
    told = "Read the following very long instruction with great care and then answer the question below in one word:"
    write(tmp_path / "mine.jsonl", *({"prompt": f"{told} {i}?", "completion": "no"} for i in range(40)))
    assert len(pool_of(tmp_path, FileTask(file="mine.jsonl"), 5, 5).splits["train"]) == 30


def test_near_duplicates_are_found_in_chinese(tmp_path: Path) -> None:
    held = {"src": "这个图形界面配置工具帮助系统管理员选择默认命令。", "tgt": "配置工具"}
    close = {"src": "这个图形界面配置工具帮助系统管理员选择默认命令吧。", "tgt": "工具"}
    other = {"src": "基于内核的网络和流量控制程序集合提供了许多命令行功能。", "tgt": "网络"}
    filler = [{"src": chr(0x4E00 + 40 * i) * 3 + chr(0x5000 + 37 * i) * 3, "tgt": "字"} for i in range(9)]
    for name, rows in {"train": [close, other, *filler], "dev": [{"src": "那", "tgt": "字"}], "test": [held]}.items():
        write(tmp_path / f"{name}.jsonl", *rows)
    found = pool_of(tmp_path, FileTask(file="train.jsonl", dev="dev.jsonl", test="test.jsonl"))
    assert found.facts["duplicates"]["near across splits"] == 1
    assert "网络" in {row.target for row in found.splits["train"]}


def test_examples_that_changed_since_the_plan_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "mine.jsonl", *({"src": f"s{i}", "tgt": f"t{i}"} for i in range(9)))
    table = FileTask(file="mine.jsonl")
    task = task_of(tmp_path, table)
    write(tmp_path / "mine.jsonl", {"src": "a", "tgt": "b"})
    with pytest.raises(InputError, match="have changed since the study was planned"):
        pools.pool(task, NO_CORPUS, paths_by_task({"mine": table}, tmp_path))


def test_settings_of_a_built_in_task() -> None:
    faults = Faults()
    check_built_in("summarise", BuiltInTask(languages=("de", "xx", "de"), mirror="m"), faults)
    told = "\n".join(map(str, faults))
    assert "no examples in 'xx'" in told
    assert "more than once" in told
    assert "tasks.summarise.mirror" in told


KEYS = st.sampled_from(["messages", "prompt", "completion", "role", "content", "src", "tgt"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
TEXTS = st.text(min_size=1, max_size=30).filter(str.strip)


@given(TEXTS, TEXTS)
def test_a_text_in_braces_is_never_taken_for_a_template(src: str, tgt: str) -> None:
    prompt, target = render("<{src}>\n", "tgt", {"src": src, "tgt": tgt}, "here")
    assert prompt == f"<{src}>\n"
    assert target == tgt.strip()


@given(JSON)
def test_whatever_stands_in_a_line_is_a_fault_of_ours_or_fine(
    tmp_path_factory: pytest.TempPathFactory, row: Any
) -> None:
    folder = tmp_path_factory.mktemp("any")
    assert isinstance(wrong(folder, row), str)
