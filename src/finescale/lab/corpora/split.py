"""Splits by document group, near-duplicates across splits, and the leak check of pretraining text."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TypeVar

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

    A row goes where its group goes. Train rows either side of which equals a held-out one (up to case, numbers and
    punctuation) are dropped; so are held-out rows either side of which has word-Jaccard >= 0.8 to a train row, and
    repeated first sides. Each split is ordered by hash: every prefix is a random sample.

    Returns:
        The rows of each split, and how many were dropped for which reason.
    """
    parts: dict[str, list[TaskRow]] = {name: [] for name in SPLITS}
    for row in rows:
        parts[split_of(row.group)].append(row)
    dropped: Counter[str] = Counter()
    held = [{normal(row.sides[i]) for row in (*parts["dev"], *parts["test"])} for i in (0, 1)]
    train = [row for row in parts["train"] if not any(normal(row.sides[i]) in held[i] for i in (0, 1))]
    dropped["train equals held-out"] = len(parts["train"]) - len(train)
    parts["train"] = train
    seen: set[str] = set()
    for name in ("test", "dev", "train"):
        first = {normal(row.sides[0]): row for row in reversed(parts[name])}
        kept = [row for key, row in first.items() if key not in seen]
        dropped["repeated"] += len(parts[name]) - len(kept)
        seen |= first.keys()
        parts[name] = sorted(kept, key=lambda row: digest_of(*row.sides))
    for i in (0, 1):
        _drop_near(parts, i, dropped)
    return parts, dropped


def _drop_near(parts: dict[str, list[TaskRow]], side: int, dropped: Counter[str]) -> None:
    train = [frozenset(words(row.sides[side])) for row in parts["train"]]
    for name in ("dev", "test"):
        near = near_duplicates(train, [frozenset(words(row.sides[side])) for row in parts[name]])
        dropped["held-out near a train row"] += len(near)
        parts[name] = [row for i, row in enumerate(parts[name]) if i not in near]


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
        if any(len(text & train[i]) >= jaccard * len(text | train[i]) for i in candidates):
            near.add(place)
    return near


class LeakCheck:
    """Finds held-out text inside other text: any 13 words in a row, or a whole held-out text of 8 to 12 words.

    Shorter held-out texts ("The file could not be opened.") are everyday language, and are not looked for.
    """

    def __init__(self, held: Iterable[str]) -> None:
        self._runs: defaultdict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
        for text in held:
            found = tuple(words(text))
            for start in range(max(1, len(found) - LEAK_WORDS + 1)):
                run = found[start : start + LEAK_WORDS]
                if len(run) >= WHOLE_TEXT_WORDS:
                    self._runs[run[:WHOLE_TEXT_WORDS]].add(run)

    def leaks(self, text: str) -> bool:
        """Whether ``text`` holds a run of words from a held-out text."""
        found = tuple(words(text))
        for start in range(len(found) - WHOLE_TEXT_WORDS + 1):
            runs = self._runs.get(found[start : start + WHOLE_TEXT_WORDS])
            if runs and any(found[start : start + len(run)] == run for run in runs):
                return True
        return False
