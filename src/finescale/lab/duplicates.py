"""Examples that stand in two splits, and held-out targets that stand in the pretraining text.

A held-out example is never lost to one in training: what repeats it is taken out of training, and counted.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

from finescale.lab.corpora.split import LeakCheck, near_duplicates, runs_of, shingles
from finescale.lab.tasks import Rendered

LEAST_WORDS = 8
"""Shorter texts are everyday language or labels: they are compared as a whole, prompts only."""
CHUNK = 100_000


class Held:
    """Held-out examples, against which others are compared.

    Words that stand in more than half of a language's prompts are its instruction, in more than half of its targets
    their form; neither is compared.
    """

    def __init__(self, held: Sequence[Rendered], every: Sequence[Rendered]) -> None:
        languages = {row.language for row in every}
        own = {language: [row for row in every if row.language == language] for language in languages}
        self._form = {language: [_usual(side) for side in _sides(rows)] for language, rows in own.items()}
        self._prompts = {" ".join(one.prompt.split()) for one in held}
        self._targets = {_whole(one.target) for one in held} - {""}
        self._sides = self._compared(held)

    def repeated_in(self, rows: Sequence[Rendered]) -> tuple[set[int], set[int]]:
        """Places of rows that repeat a held-out one exactly, and of those that nearly do (word-Jaccard >= 0.8)."""
        exact = {
            i
            for i, row in enumerate(rows)
            if " ".join(row.prompt.split()) in self._prompts or _whole(row.target) in self._targets
        }
        near: set[int] = set()
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            for held, side in zip(self._sides, self._compared(part), strict=True):
                near |= {start + i for i in near_duplicates(held, side)}
        return exact, near - exact

    def _compared(self, rows: Sequence[Rendered]) -> list[list[frozenset[str]]]:
        """What is compared of each row's prompt and target: nothing of a short text."""
        found: list[list[frozenset[str]]] = []
        for place, side in enumerate(_sides(rows)):
            words = (shingles(text) - self._form[row.language][place] for row, text in zip(rows, side, strict=True))
            found.append([own if len(own) >= LEAST_WORDS else frozenset() for own in words])
        return found


def _usual(texts: Sequence[str]) -> set[str]:
    seen = Counter(word for text in texts for word in shingles(text))
    return {word for word, count in seen.items() if 2 * count > len(texts)}


def _sides(rows: Sequence[Rendered]) -> tuple[list[str], list[str]]:
    return [row.prompt for row in rows], [row.target for row in rows]


def _whole(target: str) -> str:
    """A target that is long enough to be no label, in one spelling of white space; else nothing."""
    return " ".join(target.split()) if len(shingles(target)) >= LEAST_WORDS else ""


def apart(splits: dict[str, list[Rendered]]) -> tuple[dict[str, list[Rendered]], dict[str, int]]:
    """Splits that share no example: dev without what test has, train without what either has.

    Returns:
        The splits, and counts: removed as exact or near duplicates, and left in train though they repeat each other.
    """
    counts = {"exact across splits": 0, "near across splits": 0}
    kept = {"test": splits["test"]}
    every = [row for split in splits.values() for row in split]
    for split in ("dev", "train"):
        rows = splits[split]
        held = Held([row for other in kept.values() for row in other], every)
        exact, near = held.repeated_in(rows)
        counts["exact across splits"] += len(exact)
        counts["near across splits"] += len(near)
        kept[split] = [row for i, row in enumerate(rows) if i not in exact and i not in near]
    counts["within train"] = len(kept["train"]) - len(set(kept["train"]))
    return {split: kept[split] for split in splits}, counts


def overlaps(targets: dict[str, list[str]], texts: Iterable[str]) -> dict[str, int]:
    """Held-out targets, by task, that share 13 words in a row with ``texts`` (a target of 8 to 12 words: all of them).

    Texts are read once, for all tasks.
    """
    check = LeakCheck(itertools.chain.from_iterable(targets.values()))
    found = {run for text in texts for run in check.runs_in(text)}
    return {name: sum(not found.isdisjoint(runs_of(target)) for target in own) for name, own in targets.items()}
