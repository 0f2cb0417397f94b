"""Splits: nothing is shared between train and held-out rows, whatever the rows are."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finescale.lab.corpora.build import clean_pairs
from finescale.lab.corpora.clean import normal, words
from finescale.lab.corpora.rows import Pair
from finescale.lab.corpora.split import (
    JACCARD,
    LEAK_WORDS,
    SPLITS,
    WHOLE_TEXT_WORDS,
    LeakCheck,
    near_duplicates,
    runs_of,
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
    held = [*parts["dev"], *parts["test"]]
    for side in (0, 1):
        for one in held:
            for row in parts["train"]:
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
