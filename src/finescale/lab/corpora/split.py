"""Splits by document group, near-duplicates across splits, and the leak check of pretraining text."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Generic, TypeVar

from finescale.lab.corpora.clean import normal
from finescale.lab.corpora.languages import CHARACTER, words
from finescale.lab.corpora.rows import Pair, Summary

TaskRow = TypeVar("TaskRow", Pair, Summary)
SPLITS = ("train", "dev", "test")

SHARES = {"deb": (0.02, 0.06)}
"""Shares of groups that go to dev and test, by kind of group (the part before the colon)."""
USUAL_SHARES = (0.022, 0.045)

JACCARD = 0.8
CHARACTER_JACCARD = 0.7
"""For texts in Chinese or Japanese, over pairs of characters: one word of twelve changed gives about this."""
LEAK_WORDS = 13
WHOLE_TEXT_WORDS = 8
LEAK_CHARACTERS = 20
WHOLE_TEXT_CHARACTERS = 12
"""As many Chinese or Japanese characters as 13 and 8 English words make."""


def digest_of(*parts: str) -> str:
    """SHA-256 over ``parts``, hexadecimal; also the key by which rows are shuffled."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def split_of(group: str) -> str:
    """``train``, ``dev`` or ``test``: decided by the hash of the group's name alone, so stable for ever."""
    dev, test = SHARES.get(group.partition(":")[0], USUAL_SHARES)
    place = int(digest_of(group)[:13], 16) / 16**13
    return "dev" if place < dev else "test" if place < dev + test else "train"


def split_rows(
    rows: Iterable[TaskRow], held_first: Iterable[str] = (), part_dev: bool = True
) -> tuple[dict[str, list[TaskRow]], Counter[str]]:
    """Divide rows so that nothing is shared between train and the held-out splits.

    A row goes where its group goes. Dropped are: train rows either side of which equals a held-out one (up to case,
    numbers and punctuation); held-out rows either side of which has word-Jaccard >= 0.8 to a train row, or 13 words in
    a row in common with one (``shingles`` and ``runs_of`` say what stands for a word in Chinese); dev rows that are as
    close to a test row; rows that repeat a first side. Each split is ordered by hash, so that every prefix of it is a
    random sample.

    Args:
        rows: what to divide.
        held_first: first sides that other rows hold out (the same English in another language).
        part_dev: also drop dev rows that are close to test rows.

    Returns:
        The rows of each split, and how many were dropped for which reason.
    """
    parts: dict[str, list[_Keyed[TaskRow]]] = {name: [] for name in SPLITS}
    for row in rows:
        first, second = row.sides
        parts[split_of(row.group)].append(_Keyed(row, (normal(first), normal(second))))
    dropped: Counter[str] = Counter()
    held = [{one.normal[i] for one in (*parts["dev"], *parts["test"])} for i in (0, 1)]
    held[0].update(map(normal, held_first))
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
        _drop_close(parts, i, "train", ("dev", "test"), dropped)
    for i in (0, 1) if part_dev else ():
        _drop_close(parts, i, "test", ("dev",), dropped)
    return {name: [one.row for one in ones] for name, ones in parts.items()}, dropped


@dataclass(frozen=True, slots=True)
class _Keyed(Generic[TaskRow]):
    row: TaskRow
    normal: tuple[str, str]


def _drop_close(
    parts: dict[str, list[_Keyed[TaskRow]]], side: int, kept: str, names: Sequence[str], dropped: Counter[str]
) -> None:
    """Drop rows of the splits ``names`` that are near a row of the split ``kept`` or share a passage with one."""
    where = f"{'held-out' if kept == 'train' else 'dev'} {{}} a {kept} row"
    texts = [one.row.sides[side] for one in parts[kept]]
    for name in names:
        near = _near_texts(texts, [one.row.sides[side] for one in parts[name]])
        dropped[where.format("near")] += len(near)
        parts[name] = [one for i, one in enumerate(parts[name]) if i not in near]
    check = LeakCheck(one.row.sides[side] for name in names for one in parts[name])
    shared = {run for text in texts for run in check.runs_in(text)}
    for name in names:
        clean = [one for one in parts[name] if shared.isdisjoint(runs_of(one.row.sides[side]))]
        dropped[where.format("shares a passage with")] += len(parts[name]) - len(clean)
        parts[name] = clean


def _near_texts(train: Sequence[str], held: Sequence[str]) -> set[int]:
    """Places in ``held`` that are near one in ``train``, each script by its own measure."""
    near: set[int] = set()
    for characters, jaccard in ((False, JACCARD), (True, CHARACTER_JACCARD)):
        places = [i for i, text in enumerate(held) if bool(CHARACTER.search(text)) is characters]
        others = [shingles(text) for text in train if bool(CHARACTER.search(text)) is characters]
        near |= {places[i] for i in near_duplicates(others, [shingles(held[i]) for i in places], jaccard)}
    return near


def shingles(text: str) -> frozenset[str]:
    """The set of words by which texts are compared; pairs of neighbours where Chinese or Japanese characters are."""
    found = words(text)
    if not CHARACTER.search(text):
        return frozenset(found)
    pairs = {a + b for a, b in pairwise(found) if CHARACTER.match(a) and CHARACTER.match(b)}
    return frozenset(pairs.union(word for word in found if not CHARACTER.match(word)))


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

    Shorter texts ("The file could not be opened.") are everyday language, not a leak. Of a text that is mostly Chinese
    or Japanese: every 20 characters in a row, of a shorter one its 12 to 19.
    """
    found = tuple(words(text))
    mostly_characters = 2 * len(CHARACTER.findall(text)) > len(found)
    longest, least = (LEAK_CHARACTERS, WHOLE_TEXT_CHARACTERS) if mostly_characters else (LEAK_WORDS, WHOLE_TEXT_WORDS)
    for start in range(max(1, len(found) - longest + 1)):
        if len(run := found[start : start + longest]) >= least:
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
