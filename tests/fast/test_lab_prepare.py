"""Preparation: what stands in the folder says the same as the text, in every script, and what was left out is told."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from test_lab_tasks_own import task_of, write
from tiny_corpus import SUMMARIES, write_tiny_corpus
from tokenizers import Tokenizer

from finescale import registry
from finescale.core import DataSpec, TaskSpec
from finescale.errors import InputError
from finescale.lab import prepare, probes, splits, tokenizer
from finescale.lab.duplicates import overlaps
from finescale.lab.tasks import Rendered
from finescale.study.files import FileTask

CHINESE = [
    "这是一个图形界面配置工具，用于帮助系统管理员选择哪些程序需要设置默认命令。",
    "还能再见到你真是太好了，虽然我希望不是在这样让人悲哀的时候。",
    "TODAY 是一个不含参数的函数。",
    "缺失主机名且 URL 方案不是 'file:'",
]
PROBES = ("fr-de", "zh-de", "fr-de@1", "text:zh", "text:en", "task:summarise")
LANGUAGES = ("en", "de", "zh")


def data_spec(digest: str, tasks: tuple[TaskSpec, ...], names: tuple[str, ...] = (), **changed: Any) -> DataSpec:
    fields: dict[str, Any] = {
        "corpus": "tiny",
        "corpus_digest": digest,
        "languages": LANGUAGES,
        "vocab": 600,
        "context": 128,
        "stream_tokens": 60_000,
        "tasks": tasks,
        "probes": tuple(probes.parse(name, 20) for name in names),
    }
    return DataSpec(**(fields | changed))


def built_in(digest: str, *names: str) -> tuple[TaskSpec, ...]:
    choice = {"summarise": tuple(SUMMARIES)}
    return tuple(
        registry.get("task", name).spec(
            digest=digest, dev_examples=10, test_examples=20, languages=choice.get(name, ())
        )
        for name in names
    )


def prepared(folder: Path, spec: DataSpec, files: dict[str, Path] | None = None) -> tuple[Path, dict[str, Any]]:
    out = folder / "data"
    out.mkdir()
    return out, prepare.prepare(spec, out, files or {}, lambda _: None)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINESCALE_CACHE", str(cache))
        yield write_tiny_corpus(cache)


@pytest.fixture(scope="module")
def made(corpus: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    tasks = built_in(corpus, "mt-en-de", "mt-en-zh", "summarise")
    return prepared(tmp_path_factory.mktemp("made"), data_spec(corpus, tasks, PROBES))


def text_of(words: Tokenizer, ids: np.ndarray) -> str:
    return words.decode(ids.tolist())


@pytest.mark.parametrize("name", ["mt-en-de", "mt-en-zh", "summarise", "fr-de@1", "zh-de"])
def test_tokens_and_text_say_the_same_row_by_row(name: str, made: tuple[Path, dict[str, Any]]) -> None:
    words = tokenizer.load(made[0])
    rows, text = splits.load_split(made[0], name, "test"), splits.load_text(made[0], name, "test")
    assert len(rows) == len(text) == 20
    for row, (source, prompt, reference, _) in zip(rows, text.itertuples(index=False), strict=True):
        assert text_of(words, row.prompt) == prompt
        assert source in prompt
        assert not any(mark in source for mark in ("English:", "German:", "Chinese:", "Summar")), "no template"
        assert text_of(words, row.target) == " " + reference
        assert (row.prompt[0], row.target[-1]) == (tokenizer.BOS, tokenizer.EOS)
        assert row.target_bytes == len(reference.encode())


def test_a_mixed_task_keeps_its_mix_and_its_strata(made: tuple[Path, dict[str, Any]]) -> None:
    test, text = splits.load_split(made[0], "summarise", "test"), splits.load_text(made[0], "summarise", "test")
    assert Counter(text["language"]) == {code: 2 * tenths for code, tenths in SUMMARIES.items()}
    assert [list(SUMMARIES)[row.stratum] for row in test] == list(text["language"])
    assert made[1]["tasks"]["summarise"]["languages"] == {"de": 90, "en": 180, "zh": 30}
    assert set(splits.load_text(made[0], "mt-en-zh", "dev")["language"]) == {"zh"}
    assert {row.stratum for row in splits.load_split(made[0], "mt-en-zh", "train")} == {0}


def test_a_translation_probe_is_asked_as_the_task_is(made: tuple[Path, dict[str, Any]]) -> None:
    text = splits.load_text(made[0], "zh-de", "test")
    assert all(prompt.startswith("Chinese: 这") and prompt.endswith("\nGerman:") for prompt in text["prompt"])
    shown = splits.load_text(made[0], "fr-de@1", "test")
    assert all(prompt.count("French:") == prompt.count("German:") == 2 for prompt in shown["prompt"])
    assert all(row.reference not in row.prompt for row in shown.itertuples())
    assert set(text["language"]) == {"de"}


def test_a_task_probe_is_that_tasks_test_set(made: tuple[Path, dict[str, Any]]) -> None:
    whole = splits.load_text(made[0], "summarise", "test")
    assert splits.load_text(made[0], "task:summarise", "test").equals(whole)


def test_the_source_is_what_is_translated_alone(made: tuple[Path, dict[str, Any]]) -> None:
    shown = splits.load_text(made[0], "fr-de@1", "test")
    assert all(row.prompt.endswith(f"French: {row.source}\nGerman:") for row in shown.itertuples())
    said = splits.load_text(made[0], "summarise", "test")
    assert all(f":\n{row.source}\nSummary:" in row.prompt for row in said.itertuples())


def test_text_prepared_before_sources_were_kept_has_none(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    frame = pd.read_parquet(made[0] / "mt-en-de-text.parquet").drop(columns="source")
    frame.to_parquet(tmp_path / "mt-en-de-text.parquet")
    text = splits.load_text(tmp_path, "mt-en-de", "test")
    assert set(text["source"]) == {""}
    assert text.drop(columns="source").equals(splits.load_text(made[0], "mt-en-de", "test").drop(columns="source"))


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_text_probe_is_text_of_its_language_that_no_base_trains_on(
    language: str, made: tuple[Path, dict[str, Any]]
) -> None:
    stream, rows = prepare.load_stream(made[0]), splits.load_split(made[0], f"text:{language}", "test")
    valid, train = stream["valid"].tobytes(), stream["train"].tobytes()
    for row in rows:
        cuts = np.flatnonzero(row.target == tokenizer.EOS) + 1
        for piece in np.split(row.target.astype(np.uint16), cuts):
            assert piece.tobytes() in valid
            assert len(piece) < 16 or piece.tobytes() not in train
        assert list(row.prompt) == [tokenizer.BOS]
        assert len(row.target) == 64
    words = tokenizer.load(made[0])
    letters = "".join(text_of(words, row.target) for row in rows)
    assert (sum("\u4e00" <= letter <= "\u9fff" for letter in letters) > len(letters) / 3) == (language == "zh")
    whole = "".join(words.decode(row.target.tolist(), skip_special_tokens=True) for row in rows)
    if "\ufffd" not in whole:
        assert sum(row.target_bytes for row in rows) == len(whole.encode())


@settings(deadline=None)
@given(st.text(max_size=40) | st.sampled_from([*CHINESE, "<bos>a<eos> <pad>"]))
def test_any_text_survives_the_tokenizer_and_none_is_taken_for_a_special_token(text: str) -> None:
    assert min(WORDS.encode(text).ids, default=3) >= len(tokenizer.SPECIAL)
    assert WORDS.decode(WORDS.encode(text).ids, skip_special_tokens=False) == text
    assert tokenizer.byte_count(WORDS.encode(text).ids, WORDS) == len(text.encode())


WORDS = tokenizer.train([*CHINESE, "The house is old."] * 3, 400)


def test_chinese_examples_survive_preparation() -> None:
    rows = [Rendered(f"English: {i}\nChinese:", text, "zh") for i, text in enumerate(CHINESE)]
    for row, made in zip(rows, prepare.encode(rows, ("zh",), WORDS), strict=True):
        assert WORDS.decode(made.target.tolist()) == " " + row.target
        assert made.bytes == len(row.target.encode())


def test_what_is_left_out_is_told(corpus: str, tmp_path: Path) -> None:
    """The corpus's own pretraining text stands in the test targets here; some rows are too long, and few are left."""
    from finescale.lab.corpora import find

    stolen = [d.text for d in find(corpus).documents("de")][:6]
    rows = [{"src": f"number {i} of many", "tgt": text} for i, text in enumerate(stolen)]
    rows += [{"src": f"number {i} of many " + "x y z " * 60, "tgt": "short"} for i in range(20, 40)]
    write(tmp_path / "train.jsonl", *({"src": f"train {i}", "tgt": "label"} for i in range(9)))
    write(tmp_path / "test.jsonl", *rows)
    table = FileTask(file="train.jsonl", dev="train.jsonl", test="test.jsonl", max_target_tokens=400)
    write(tmp_path / "train.jsonl", *({"src": f"train {i}", "tgt": "label"} for i in range(9)))
    write(tmp_path / "dev.jsonl", *({"src": f"dev {i}", "tgt": "label"} for i in range(9)))
    table = table.model_copy(update={"dev": "dev.jsonl"})
    task = task_of(tmp_path, table, dev=50, test=50).model_copy(update={"max_target_tokens": 400})
    files = {"mine": tmp_path / "train.jsonl", **{f"mine:{s}": tmp_path / f"{s}.jsonl" for s in ("dev", "test")}}
    _, record = prepared(tmp_path, data_spec(corpus, (task,)), files)
    assert record["tasks"]["mine"]["overlap"] == {"test_targets_in_pretraining_text": 6, "of": 6}
    assert record["tasks"]["mine"]["test"] == {"read": 26, "too_long": 20, "kept": 6}
    told = "\n".join(record["findings"])
    assert "20 of 26 test rows are too long" in told
    assert "its test split has 6 examples, 50 were asked for" in told
    assert "its dev split has 9 examples, 50 were asked for" in told
    assert "6 of 6 test targets stand in the pretraining text" in told


def test_overlap_is_counted_by_passages_not_by_words() -> None:
    target = " ".join(f"word{i}" for i in range(20))
    texts = ["nothing of it", f"before it {' '.join(target.split()[3:16])} after it"]
    assert overlaps({"a": [target, "word1 word2"], "b": ["word4 word9"]}, texts) == {"a": 1, "b": 0}
    assert overlaps({"a": [target]}, [" ".join(target.split()[3:15])]) == {"a": 0}, "twelve words are no passage"


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (("text:fr",), "no pretraining text in 'fr'"),
        (("task:summarise",), "of a task this study does not have"),
        (("it-de",), "no test sentence is in both languages"),
        (("fr-de@30",), "has 20 sentences to demonstrate with|too long"),
    ],
)
def test_a_probe_that_cannot_be_made_says_why(names: tuple[str, ...], what: str, corpus: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=what):
        prepared(tmp_path, data_spec(corpus, built_in(corpus, "mt-en-de"), names))


def test_a_language_without_examples_is_refused(corpus: str, tmp_path: Path) -> None:
    task = built_in(corpus, "summarise")[0].model_copy(update={"languages": ("en", "it")})
    with pytest.raises(InputError, match="no training examples in it"):
        prepared(tmp_path, data_spec(corpus, (task,)))


def test_a_probes_name_spells_it() -> None:
    probe = probes.parse("fr-de@5", 100)
    assert (probe.kind, probe.src, probe.tgt, probe.shots, probe.examples) == ("translation", "fr", "de", 5, 100)
    assert probes.parse("flores:zh-de").task == probes.FLORES
    assert probes.parse("text:zh").tgt == "zh"
    assert probes.parse("task:mine.v2").task == "mine.v2"


@pytest.mark.parametrize(
    "name", ["", "fr", "fr-de@x", "fr-de@-1", "fr-xx", "text:", "text:xx", "task:", "de-de", "中文"]
)
def test_a_misspelled_probe_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="probe"):
        probes.parse(name)


def test_sizes_and_languages_are_known_before_anything_is_read(corpus: str) -> None:
    from finescale.lab.corpora import find

    manifest = find(corpus).manifest
    summarise = registry.get("task", "summarise")
    assert summarise.size(manifest, ("de", "zh")) == 120
    assert registry.get("task", "mt-en-zh").size(manifest) == 300
    assert registry.get("task", "mt-en-zh").size({}) is None
    assert registry.get("task", "wmt14-de-en").size({}) == 4_508_785
    assert registry.get("task", "wmt19-zh-en").size({}) is None
    assert summarise.languages_in("starter") == ("en", "de")


def test_ids_beyond_two_bytes_are_kept_whole(tmp_path: Path) -> None:
    """Public vocabularies have up to 256 thousand tokens (BLOOM 250,880; OLMo 2 100,352)."""
    for largest, stored in ((65_535, np.uint16), (250_000, np.uint32)):
        ids = np.array([5, largest], np.uint32)
        row = splits.Encoded(Rendered("a", "b", ""), ids, ids[::-1], 1)
        splits.write_sets(tmp_path, "task", {"train": [row], "dev": [row]})
        (found,) = splits.load_split(tmp_path, "task", "train")
        assert found.prompt.tolist() == [5, largest]
        assert found.target.tolist() == [largest, 5]
        with safe_open(tmp_path / "task.safetensors", "np") as file:
            assert file.get_tensor("train/ids").dtype == stored


def test_a_pool_is_not_unpacked_for_a_few_of_its_examples(tmp_path: Path) -> None:
    ids = [np.arange(n % 7, n % 7 + 9) for n in range(20_000)]
    rows = [splits.Encoded(Rendered("a", "b", ""), one[:4], one[4:], n, n % 2) for n, one in enumerate(ids)]
    splits.write_sets(tmp_path, "task", {"train": rows, "dev": rows[:3]})
    tracemalloc.start()
    pool = splits.load_split(tmp_path, "task", "train")
    few = [pool[i] for i in (0, 7, 19_999, -1)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * len(rows), "two arrays an example would be 300 bytes and more"
    assert [one.target_bytes for one in few] == [0, 7, 19_999, 19_999]
    assert [one.prompt.tolist() for one in pool[5:9]] == [one[:4].tolist() for one in ids[5:9]]
    assert [one.target.tolist() for one in pool[-2:]] == [one[4:].tolist() for one in ids[-2:]]
    assert pool.tokens.tolist() == [9] * len(rows)
    assert splits.strata_of(pool) == [n % 2 for n in range(len(rows))] == [one.stratum for one in pool]
    with pytest.raises(IndexError):
        pool[len(rows)]
