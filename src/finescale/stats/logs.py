"""Tell the log of a run from a table of runs, and a score from a loss: both would be fitted without a word."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from finescale.core import FACTORS

STEPS = (
    "step",
    "global step",
    "train global step",
    "trainer global step",
    "training step",
    "iteration",
    "iter",
    "epoch",
)
"""Words, whatever parts them, under which trainers and trackers number the lines of a log."""
TOTALS = ("steps",)
"""Words for a run's steps in all, which number the lines of a log where nothing else differs between its rows."""
RUN_NAMES = ("run", "run_id", "run_name")
SETTINGS = ("task", "method", "base", "family", *FACTORS[:-1], "seed")
"""Columns besides ``examples`` that tell runs apart."""
LEAST_LINES = 3
"""Rising rows without a name that are taken for a log: two may be two runs."""

_HIGHER = re.compile(
    r"acc(uracy|uracies)?|f1|(sacre)?bleu|bleurt|elo|hits|margins?|ratings?|preferences?"
    r"|r2|mc[12]|mauc|rouge\w*|chrf|comet|meteor|bertscore|em|exact match|(win|solve|success|pass) ?rate"
    r"|pass|precision|recall|auc|auroc|mcc|matthews|pearson|spearman|kappa|rewards?|ndcg|mrr|iou|similarity|scores?|correct"
)
_LOWER = re.compile(r"loss(es)?|err(ors?)?|nll|perplexity|ppl|[wct]er|brier|distance|regret|bits|nats")


@dataclass(frozen=True)
class Log:
    """Rows that are the lines of one run's log: the column that numbers them, the run if it has a name, the places."""

    column: str
    run: str
    rows: tuple[int, ...]

    def way(self, renamed: Mapping[str, str]) -> str:
        """The flags of an import that take a row of each run, or say that each row is one."""
        column = shlex.quote(self.column)
        take = f"--step {column} takes one row of each run, the best or the --take last"
        if renamed.get(self.column) == "examples":
            return f"{take}; the steps of a run are not its examples, so leave --column {column}=examples out"
        others = {"epoch": "last_epoch", "steps": "total_steps"}
        last = others.get(_words(self.column), "last_step")
        return f"{take}; where each row is a run, --column {column}={last} says so"


def log_in(frame: pd.DataFrame, renamed: Mapping[str, str] | None = None) -> Log | None:
    """The first log in a table, or None where each row may be a run.

    A log is rows of one run that a column of ``STEPS`` numbers upwards. They are of one run where they share its name,
    or where they have the same settings and the same examples, or examples that only count the steps. A column of
    ``TOTALS`` does so at the same examples only: there more steps may go with more examples in runs, too.

    Args:
        frame: the table, with canonical names as far as it has them.
        renamed: names its columns had before; steps that were declared to be examples are a log's.
    """
    for theirs, ours in (renamed or {}).items():
        if _words(theirs) in STEPS and ours == "examples" and ours in frame:
            found = _rising(frame, ours, np.zeros(len(frame), dtype=int), named=False)
            return None if found is None else Log(theirs, found.run, found.rows)
    column = step_column(frame)
    if column is None:
        return None
    name = run_column(frame)
    return _rising(frame, column, parts(frame, column), named=name is not None)


def names_steps(name: str) -> bool:
    """Whether a column of this name may number the lines of a log (``_step``, ``train/global_step``)."""
    return _words(name) in (*STEPS, *TOTALS)


def _words(name: str) -> str:
    """A column's name as plain words: ``trainer/globalStep`` is ``trainer global step``."""
    return " ".join(re.findall(r"[a-z]+\d*", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold()))


def step_column(frame: pd.DataFrame) -> str | None:
    """The column that may number the lines of a log."""
    order = (*STEPS, *TOTALS)
    found = sorted(filter(names_steps, map(str, frame)), key=lambda name: order.index(_words(name)))
    return next((name for name in found if list(frame.columns).count(name) == 1 and frame[name].notna().any()), None)


def run_column(frame: pd.DataFrame) -> str | None:
    """The column that names runs, where every row has a name."""
    names = [name for name in map(str, frame) if name.casefold() in RUN_NAMES]
    return next((name for name in names if list(frame.columns).count(name) == 1 and frame[name].notna().all()), None)


def parts(frame: pd.DataFrame, column: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A number for each row, the same for rows that are of one run if ``column`` numbers its lines."""
    name = run_column(frame)
    keys = [name] if name is not None else [key for key in SETTINGS if list(frame.columns).count(key) == 1]
    codes = _codes(frame, keys)
    if name is None and "examples" in frame and (_words(column) in TOTALS or not _counts_steps(frame, column, codes)):
        codes = _codes(frame, [*keys, "examples"])
    return codes


def _codes(frame: pd.DataFrame, keys: list[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    if not keys:
        return np.zeros(len(frame), dtype=np.int64)
    return frame[keys].astype(str).groupby(keys, sort=False).ngroup().to_numpy().astype(np.int64)


def _members(codes: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[np.ndarray[tuple[int], np.dtype[np.intp]]]:
    """Rows of each part, in the order they stand."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def floats(column: pd.Series) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A column's numbers (N,); what is none, or beyond every float, is NaN."""
    return np.array([_float(cell) for cell in column], dtype=float)


def _float(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _counts_steps(frame: pd.DataFrame, column: str, codes: np.ndarray[tuple[int], np.dtype[np.int64]]) -> bool:
    """Whether examples are so many times the steps in every part, at even steps: rows that were seen so far."""
    if list(frame.columns).count("examples") != 1:
        return False
    step, seen = (floats(frame[name]) for name in (column, "examples"))
    told = False
    for rows in _members(codes):
        mine = rows[(step[rows] > 0) & (seen[rows] > 0)]
        if len(mine) <= LEAST_LINES:
            continue
        times, every = seen[mine] / step[mine], np.diff(step[mine])
        if not (np.allclose(times, times[0], rtol=1e-6) and np.allclose(every, every[0], rtol=1e-6)):
            return False
        told = True
    return told


def _rising(
    frame: pd.DataFrame, column: str, codes: np.ndarray[tuple[int], np.dtype[np.int64]], named: bool
) -> Log | None:
    """The first part whose rows rise in ``column``; without names every part of several rows has to.

    Runs without a name whose steps happen to differ are no log, since some of those would fall.
    """
    step = floats(frame[column])
    found: list[np.ndarray[tuple[int], np.dtype[np.intp]]] = []
    for members in _members(codes):
        rows = members[np.isfinite(step[members])]
        if len(rows) < 2:
            continue
        apart = np.diff(step[rows])
        rises = bool((apart > 0).all() or (apart < 0).all())  # trackers write the newest line first, too
        if not named and not rises:
            return None
        if rises or (named and len(np.unique(step[rows])) > 1):
            found.append(rows)
    first = next((rows for rows in found if named or len(rows) >= LEAST_LINES), None)
    if first is None:
        return None
    name = run_column(frame) if named else None
    return Log(column, "" if name is None else str(frame[name].iloc[first[0]]), tuple(first.tolist()))


def better_when_higher(name: str) -> bool:
    """Whether a score's name says that more of it is better (``eval_accuracy``, ``rougeL``, ``exact_match``)."""
    return _named(name, _HIGHER) and not _named(name, _LOWER)


def better_when_lower(name: str) -> bool:
    """Whether a score's name says that less of it is better (``eval_loss``, ``word_perplexity``)."""
    return _named(name, _LOWER)


def _named(name: str, known: re.Pattern[str]) -> bool:
    return re.search(rf"\b(?:{known.pattern})\d*\b", _words(name)) is not None
