"""Splits by document group, near-duplicates across splits, and the leak check of pretraining text."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Generic, TypeVar

from finescale.lab.corpora.clean import normal, words
from finescale.lab.corpora.rows import Pair, Summary

TaskRow = TypeVar("TaskRow", Pair, Summary)
SPLITS = ("train", "dev", "test")

SHARES = {"deb": (0.02, 0.06)}
"""Shares of groups that go to dev and test, by kind of group (the part before the colon)."""
USUAL_SHARES = (0.022, 0.045)

JACCARD = 0.8
LEAK_WORDS = 13
WHOLE_TEXT_WORDS = 8


def digest_of(*parts: str) -> str:
    """SHA-256 over ``parts``, hexadecimal; also the key by which rows are shuffled."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def split_of(group: str) -> str:
    """``train``, ``dev`` or ``test``: decided by the hash of the group's name alone, so stable for ever."""
    dev, test = SHARES.get(group.partition(":")[0], USUAL_SHARES)
    place = int(digest_of(group)[:13], 16) / 16**13
    return "dev" if place < dev else "test" if place < dev + test else "train"


def split_rows(rows: Iterable[TaskRow]) -> tuple[dict[str, list[TaskRow]], Counter[str]]:
    """Divide rows so that nothing is shared between train and the held-out splits.

    A row goes where its group goes. Dropped are: train rows either side of which equals a held-out one (up to case,
    numbers and punctuation); held-out rows either side of which has word-Jaccard >= 0.8 to a train row, or 13 words in
    a row in common with one; rows that repeat a first side. Each split is ordered by hash, so that every prefix of it
    is a random sample.

    Returns:
        The rows of each split, and how many were dropped for which reason.
    """
    parts: dict[str, list[_Keyed[TaskRow]]] = {name: [] for name in SPLITS}
    for row in rows:
        first, second = row.sides
        parts[split_of(row.group)].append(_Keyed(row, (normal(first), normal(second))))
    dropped: Counter[str] = Counter()
    held = [{one.normal[i] for one in (*parts["dev"], *parts["test"])} for i in (0, 1)]
    train = [one for one in parts["train"] if one.normal[0] not in held[0] and one.normal[1] not in held[1]]
    dropped["train equals held-out"] = len(parts["train"]) - len(train)
    parts["train"] = train
    seen: set[str] = set()
    for name in ("test", "dev", "train"):
        kept = {one.normal[0]: one for one in reversed(parts[name]) if one.normal[0] not in seen}
        dropped["repeated"] += len(parts[name]) - len(kept)
        seen |= kept.keys()
        parts[name] = sorted(kept.values(), key=lambda one: digest_of(*one.row.sides))
    for i in (0, 1):
        _drop_near(parts, i, dropped)
        _drop_shared(parts, i, dropped)
    return {name: [one.row for one in ones] for name, ones in parts.items()}, dropped


@dataclass(frozen=True, slots=True)
class _Keyed(Generic[TaskRow]):
    row: TaskRow
    normal: tuple[str, str]


def _drop_near(parts: dict[str, list[_Keyed[TaskRow]]], side: int, dropped: Counter[str]) -> None:
    train = [frozenset(words(one.row.sides[side])) for one in parts["train"]]
    for name in ("dev", "test"):
        near = near_duplicates(train, [frozenset(words(one.row.sides[side])) for one in parts[name]])
        dropped["held-out near a train row"] += len(near)
        parts[name] = [one for i, one in enumerate(parts[name]) if i not in near]


def _drop_shared(parts: dict[str, list[_Keyed[TaskRow]]], side: int, dropped: Counter[str]) -> None:
    check = LeakCheck(one.row.sides[side] for name in ("dev", "test") for one in parts[name])
    shared = {run for one in parts["train"] for run in check.runs_in(one.row.sides[side])}
    for name in ("dev", "test"):
        kept = [one for one in parts[name] if shared.isdisjoint(runs_of(one.row.sides[side]))]
        dropped["held-out shares a passage with train"] += len(parts[name]) - len(kept)
        parts[name] = kept


def near_duplicates(
    train: Sequence[frozenset[str]], held: Sequence[frozenset[str]], jaccard: float = JACCARD
) -> set[int]:
    """Places in ``held`` whose word set has Jaccard similarity >= ``jaccard`` to one in ``train``; exact.

    Prefix filter (Bayardo, Ma and Srikant 2007): with words ordered from rare to common, two sets that similar share a
    word among the first ``n - ceil(jaccard * n) + 1`` of each, so only those words are indexed.
    """
    count = Counter(chain.from_iterable([*train, *held]))

    def prefix(text: frozenset[str]) -> list[str]:
        size = len(text) - math.ceil(jaccard * len(text) - 1e-9) + 1
        return sorted(text, key=lambda word: (count[word], word))[:size]

    index: defaultdict[str, list[int]] = defaultdict(list)
    wanted = {word for text in held for word in prefix(text)}
    for place, text in enumerate(train):
        for word in prefix(text):
            if word in wanted:
                index[word].append(place)
    near = set()
    for place, text in enumerate(held):
        candidates = {i for word in prefix(text) for i in index.get(word, ())}
        if any(_similarity(text, train[i]) >= jaccard for i in candidates):
            near.add(place)
    return near


def _similarity(a: frozenset[str], b: frozenset[str]) -> float:
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


Run = tuple[str, ...]


def runs_of(text: str) -> Iterator[Run]:
    """Every 13 words in a row of ``text``; of a shorter text its 8 to 12 words, of a still shorter one nothing.

    Shorter texts ("The file could not be opened.") are everyday language, not a leak.
    """
    found = tuple(words(text))
    for start in range(max(1, len(found) - LEAK_WORDS + 1)):
        if len(run := found[start : start + LEAK_WORDS]) >= WHOLE_TEXT_WORDS:
            yield run


class LeakCheck:
    """Finds the runs of words of held-out texts (``runs_of``) inside other text."""

    def __init__(self, held: Iterable[str]) -> None:
        self._runs: defaultdict[Run, set[Run]] = defaultdict(set)  # by their first 8 words
        for text in held:
            for run in runs_of(text):
                self._runs[run[:WHOLE_TEXT_WORDS]].add(run)

    def runs_in(self, text: str) -> Iterator[Run]:
        """Held-out runs that occur in ``text``."""
        found = tuple(words(text))
        for start in range(len(found) - WHOLE_TEXT_WORDS + 1):
            for run in self._runs.get(found[start : start + WHOLE_TEXT_WORDS], ()):
                if found[start : start + len(run)] == run:
                    yield run

    def leaks(self, text: str) -> bool:
        """Whether a held-out run occurs in ``text``."""
        return next(self.runs_in(text), None) is not None
