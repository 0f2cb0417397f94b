"""Splits: nothing is shared between train and held-out rows, whatever the rows are."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finescale.lab.corpora.build import clean_pairs
from finescale.lab.corpora.clean import normal
from finescale.lab.corpora.languages import words
from finescale.lab.corpora.multiway import join
from finescale.lab.corpora.rows import Pair, Summary
from finescale.lab.corpora.split import (
    CHARACTER_JACCARD,
    JACCARD,
    LEAK_CHARACTERS,
    LEAK_WORDS,
    SPLITS,
    WHOLE_TEXT_WORDS,
    LeakCheck,
    near_duplicates,
    runs_of,
    shingles,
    split_of,
    split_rows,
)

WORDS = st.sampled_from([a + b for a in "abcde" for b in "vwxyz"])
TEXTS = st.lists(WORDS, min_size=1, max_size=16).map(" ".join)
ROWS = st.lists(
    st.builds(Pair, st.just("en-de"), TEXTS, TEXTS, st.just("made"), st.integers(0, 60).map(lambda i: f"page:{i}")),
    max_size=40,
)
SETS = st.lists(st.frozensets(st.integers(0, 12).map(str), min_size=1), max_size=15)


def similarity(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b)


@given(ROWS)
def test_train_and_held_out_share_nothing(rows: list[Pair]) -> None:
    parts, dropped = split_rows(rows)
    kept = [row for split in SPLITS for row in parts[split]]
    assert len(kept) + dropped.total() == len(rows)
    assert all(split_of(row.group) == split for split in SPLITS for row in parts[split])
    apart = [(one, row) for one in (*parts["dev"], *parts["test"]) for row in parts["train"]]
    apart += [(one, row) for one in parts["dev"] for row in parts["test"]]
    for side in (0, 1):
        for one, row in apart:
            a, b = (frozenset(words(r.sides[side])) for r in (one, row))
            assert similarity(a, b) < JACCARD
            assert set(runs_of(one.sides[side])).isdisjoint(runs_of(row.sides[side]))
    firsts = [normal(row.src) for row in kept]
    assert len(set(firsts)) == len(firsts)


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_distinct_rows_does_not_matter(rows: list[Pair], rng: random.Random) -> None:
    rows = list({normal(row.src): row for row in rows}.values())
    turned = rows.copy()
    rng.shuffle(turned)
    assert split_rows(rows) == split_rows(turned)


@given(SETS, SETS, st.sampled_from([0.5, 0.8, 0.9, 1.0]))
def test_near_duplicates_are_those_that_a_full_search_finds(
    train: list[frozenset[str]], held: list[frozenset[str]], jaccard: float
) -> None:
    full = {i for i, one in enumerate(held) if any(similarity(one, other) >= jaccard for other in train)}
    assert near_duplicates(train, held, jaccard) == full


@given(st.lists(WORDS, min_size=WHOLE_TEXT_WORDS, max_size=30), st.data())
def test_a_passage_is_found_wherever_it_stands(text: list[str], data: st.DataObject) -> None:
    check = LeakCheck([" ".join(text)])
    size = min(len(text), LEAK_WORDS)
    start = data.draw(st.integers(0, len(text) - size))
    before, after = data.draw(st.lists(st.just("other"))), data.draw(st.lists(st.just("other")))
    passage = [*before, *text[start : start + size], *after]
    assert check.leaks(", ".join(passage).upper())
    assert not check.leaks(" ".join(f"{word}q" for word in passage))


@given(st.lists(TEXTS, max_size=8), TEXTS)
def test_the_leak_check_agrees_with_a_full_search(held: list[str], text: str) -> None:
    spaced = f" {' '.join(words(text))} "
    full = {run for one in held for run in runs_of(one) if f" {' '.join(run)} " in spaced}
    check = LeakCheck(held)
    assert set(check.runs_in(text)) == full
    assert check.leaks(text) == bool(full)


def test_short_sentences_are_not_leaks() -> None:
    assert not LeakCheck(["The file could not be opened."]).leaks("The file could not be opened.")


@pytest.mark.parametrize(("kind", "dev", "test"), [("lo", 0.022, 0.045), ("deb", 0.02, 0.06)])
def test_shares_of_groups(kind: str, dev: float, test: float) -> None:
    drawn = [split_of(f"{kind}:{i}") for i in range(20_000)]
    assert drawn.count("dev") / 20_000 == pytest.approx(dev, rel=0.1)  # about 2 standard errors
    assert drawn.count("test") / 20_000 == pytest.approx(test, rel=0.1)


def test_splits_are_stable_for_ever() -> None:
    """Golden: SHA-256 of the name, first 13 hex digits; computed with coreutils' sha256sum and bc."""
    held = {i: split_of(f"lo:{i}") for i in range(40) if split_of(f"lo:{i}") != "train"}
    assert held == {5: "test", 9: "test", 16: "dev", 35: "test"}


def test_pairs_are_cut_into_sentences() -> None:
    pair = Pair("en-de", "This is the first. This is the next.", "Dies ist der erste. Dies ist der nächste.", "m", "g")
    assert [(p.src, p.tgt, p.group) for p in clean_pairs([pair])] == [
        ("This is the first.", "Dies ist der erste.", "g"),
        ("This is the next.", "Dies ist der nächste.", "g"),
    ]


HAN = st.text(alphabet="的一是在不了有和人这中大为上个国我以要他", min_size=1, max_size=40)
GROUPS = st.integers(0, 60).map(lambda i: f"page:{i}")


@given(st.lists(st.builds(Summary, st.just("zh"), HAN, HAN, st.just("made"), GROUPS), max_size=30))
def test_chinese_is_parted_by_its_characters(rows: list[Summary]) -> None:
    parts, _ = split_rows(rows)
    apart = [(one, row) for one in (*parts["dev"], *parts["test"]) for row in parts["train"]]
    for one, row in [*apart, *((one, row) for one in parts["dev"] for row in parts["test"])]:
        for side in (0, 1):
            a, b = one.sides[side], row.sides[side]
            if len(a) > 1 and len(b) > 1:
                assert similarity(shingles(a), shingles(b)) < CHARACTER_JACCARD
            assert all(a[i : i + LEAK_CHARACTERS] not in b for i in range(len(a) - LEAK_CHARACTERS + 1))


def test_a_changed_word_does_not_hide_a_chinese_duplicate() -> None:
    """One word of two characters differs; without spaces, sets of words would have nothing in common."""
    group = {split: next(f"lo:{i}" for i in range(99) if split_of(f"lo:{i}") == split) for split in SPLITS}
    text = "在「隐藏」区域中，选中「隐藏」复选框，然后单击「确定」按钮关闭对话框。"
    rows = [
        Pair("en-zh", "Tick the box and close the dialogue.", text, "m", group["train"]),
        Pair("en-zh", "Choose hide and leave with the button.", text.replace("单击", "按下"), "m", group["test"]),
        Pair(
            "en-zh", "Something else altogether stands here.", "修改字符大小以适应文本框大小的文字", "m", group["test"]
        ),
    ]
    parts, dropped = split_rows(rows)
    assert [row.tgt for row in parts["test"]] == [rows[2].tgt]
    assert dropped["held-out near a train row"] == 1


def test_a_chinese_passage_is_found_inside_a_document() -> None:
    held = "规则设定不允许该连接，因为服务器拒绝了请求。"
    check = LeakCheck([held, "打开文件"])
    assert check.leaks(f"前面的文字。{held.replace('，', ' ')}后面的文字。")
    assert not check.leaks("打开文件并规则设定不允许该连接")


@given(st.lists(st.tuples(GROUPS, TEXTS, st.sampled_from(["de", "zh", "fr", "it"]), TEXTS), max_size=60))
def test_rows_in_many_languages_hold_out_what_their_pairs_do(rows: list[tuple[str, str, str, str]]) -> None:
    pairs = [Pair(f"en-{lang}", src, f"{lang} {tgt}", "made", group) for group, src, lang, tgt in rows]
    held_first = {pair.src for pair in pairs if split_of(pair.group) != "train"}
    trained = {
        langs: split_rows([pair for pair in pairs if pair.langs == langs], held_first)[0]
        for langs in ("en-de", "en-zh")
    }
    found = join(trained, [pair for pair in pairs if pair.langs not in trained])
    train = {normal(pair.src) for parts in trained.values() for pair in parts["train"]}
    for split, many in found.items():
        for row in many:
            assert next(iter(row.texts)) == "en"
            assert len(row.texts) >= 3
            assert split_of(row.group) == split
            assert normal(row.texts["en"]) not in train
            for lang in set(row.texts) - {"en"}:
                assert Pair(f"en-{lang}", row.texts["en"], row.texts[lang], "made", row.group) in pairs
            for lang in {"de", "zh"} & set(row.texts):
                kept = trained[f"en-{lang}"][split]
                assert Pair(f"en-{lang}", row.texts["en"], row.texts[lang], "made", row.group) in kept
