"""The nouns of importing: a run as a source tells of it, what was skipped, and an importer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Fact = str | int | float | bool
Scores = dict[str, tuple[tuple[float, float], ...]]


@dataclass(frozen=True)
class Found:
    """A run as far as its source tells of it.

    Attributes:
        run: what it is called; words that tell its settings may stand here (``--from-name``). Empty for a row of a
            table that names no runs: it is called after the file and its place in it.
        place: the file or folder it was read from.
        facts: columns of the table, by canonical names and others worth keeping.
        scores: by metric, (step, value) in the order of training; what is no number is NaN.
        config: everything else the source wrote down, by its own names; ``--column THEIRS=OURS`` takes from here.
        offers: what is not written down but follows from what is; ``--accept`` takes it.
        notes: what a reader must know of the run; the same words for every run they are true of.
        flag: why no fit should use it; empty where there is no reason.
    """

    run: str
    place: Path
    facts: dict[str, Fact]
    scores: Scores
    config: dict[str, Any] = field(default_factory=dict)
    offers: dict[str, Fact] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    flag: str = ""


@dataclass(frozen=True)
class Skipped:
    """Something that looked like a run and was not taken, and why."""

    place: Path
    why: str


@dataclass(frozen=True)
class Importer:
    """A kind of source.

    Attributes:
        name: as ``finescale import NAME`` has it.
        summary: what it reads, in a few words.
        losses: metrics that are a test loss, the likeliest first; empty where the source has none.
        read: the runs under one path; raises ``InputError`` where the path is no such source.
        whole: every column is kept, not only those known by name.
        unit: what those losses are in; nothing where that depends on who logged them.
    """

    name: str
    summary: str
    losses: tuple[str, ...]
    read: Callable[[Path], Iterator[Found | Skipped]]
    whole: bool = False
    unit: str = ""


def number(value: Any) -> float | None:
    """A finite or infinite number, or NaN; None for what is none (words, lists, integers beyond every float)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def whole_number(value: Any) -> int | None:
    """A positive whole number, or None."""
    found = number(value)
    return int(found) if found is not None and math.isfinite(found) and found > 0 and found == int(found) else None
