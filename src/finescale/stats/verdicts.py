"""From pieces of evidence to a verdict: holds, fails or undecided, with the rule and what it does about many tests.

A piece of evidence is a statistic with an interval, and a claim says where the statistic must lie. A piece *holds* if
its whole interval lies there, *fails* if none of it does, else it is *undecided*. Pieces are combined in one of three
ways. ``all``: the claim is about every piece; it holds if all do (an intersection-union test, which needs no
correction: Berger 1982) and fails if one fails at a level corrected for their number (Bonferroni). ``any``: the same
with the parts exchanged. ``mean``: the claim is about the mean of the pieces, which has an interval of its own.
A piece can also be *void*: it was measured where the claim has no subject. It is shown, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from finescale.stats.laws import Array

Word = Literal["holds", "fails", "undecided"]
Way = Literal["all", "any", "mean"]
Interval = Callable[[float], tuple[float, float]]
# Below so many draws in a tail, the tail is taken from a normal distribution.
_TAIL_DRAWS = 5


@dataclass(frozen=True)
class Region:
    """Where a claim says its statistic lies: between ``low`` and ``high``, or (``outside``) not between them."""

    low: float = 0.0
    high: float = np.inf
    outside: bool = False

    def judge(self, low: float, high: float) -> Word:
        """The verdict on an interval; one that is not known decides nothing."""
        if not (np.isfinite(low) and np.isfinite(high)):
            return "undecided"
        inside = self.low < low and high < self.high
        beyond = high < self.low or low > self.high
        if self.outside:
            inside, beyond = beyond, inside
        return "holds" if inside else "fails" if beyond else "undecided"


@dataclass(frozen=True)
class Piece:
    """A statistic with its interval and the runs behind it.

    Attributes:
        where: of what it is (task, method, factor …).
        void: why the claim has no subject here, in a sentence; empty if it has.
    """

    where: dict[str, str]
    statistic: float
    interval: Interval
    runs: tuple[str, ...]
    draws: Array | None = None
    void: str = ""


def of_draws(where: dict[str, str], values: Array, runs: Iterable[str]) -> Piece:
    """A piece from an estimate (entry 0) and its draws."""
    draws = np.asarray(values[1:], dtype=float)
    return Piece(where, float(values[0]), lambda level: quantiles(draws, level), tuple(runs), np.asarray(values))


def of_means(where: dict[str, str], means: Array, runs: Iterable[str], void: str = "") -> Piece:
    """A piece from the means of independent clusters, by Student's t; fewer than two clusters have no interval."""
    middle, K = float(np.mean(means)), len(means)

    def interval(level: float) -> tuple[float, float]:
        if K < 2:
            return np.nan, np.nan
        reach = float(stats.t.ppf((1 + level) / 2, K - 1) * np.std(means, ddof=1) / np.sqrt(K))
        return middle - reach, middle + reach

    return Piece(where, middle, interval, tuple(runs), void=void)


def quantiles(draws: Array, level: float) -> tuple[float, float]:
    """An interval from draws; a tail with too few of them is that of a normal distribution as wide as the draws."""
    draws = draws[np.isfinite(draws)]
    tail = (1 - level) / 2
    if len(draws) < 2 * _TAIL_DRAWS:
        return np.nan, np.nan
    if tail * len(draws) >= _TAIL_DRAWS:
        return float(np.quantile(draws, tail)), float(np.quantile(draws, 1 - tail))
    safe = _TAIL_DRAWS / len(draws)
    low, middle, high = np.quantile(draws, [safe, 0.5, 1 - safe])
    stretch = stats.norm.ppf(tail) / stats.norm.ppf(safe)
    return float(middle - stretch * (middle - low)), float(middle + stretch * (high - middle))


@dataclass(frozen=True)
class Finding:
    """A verdict for a task (or all of them) with the statistic that decides it."""

    task: str
    verdict: Word
    statistic: float
    low: float
    high: float
    pieces: int
    runs: tuple[str, ...]
    sentence: str


@dataclass(frozen=True)
class Claim:
    """A claim judged.

    Attributes:
        name, words: its short name, and the claim in a sentence.
        statistic: what is measured, with its unit.
        rule: how the verdict is reached, in a sentence.
        overall: the verdict over all tasks.
        tasks: one verdict per task.
        evidence: every piece: its ``where`` columns, ``statistic, low, high, verdict, runs`` (their number), ``void``.
        needs: runs that would decide it, if it is undecided.
    """

    name: str
    words: str
    statistic: str
    rule: str
    overall: Finding
    tasks: list[Finding]
    evidence: pd.DataFrame
    needs: str

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values; the runs by their ids."""
        return {
            **{key: getattr(self, key) for key in ("name", "words", "statistic", "rule", "needs")},
            "overall": _plain(self.overall),
            "tasks": [_plain(one) for one in self.tasks],
            "evidence": [
                {str(key): _number(value) for key, value in row.items()} for row in self.evidence.to_dict("records")
            ],
        }


@dataclass(frozen=True)
class Rule:
    """A claim before it is judged: its words, where its statistic must lie, and how pieces are combined."""

    name: str
    words: str
    statistic: str
    region: Region
    way: Way
    needs: str
    over: str = "pieces"
    across_tasks: bool = field(default=False)

    def sentence(self, level: float) -> str:
        """The rule by which the verdict is reached."""
        inside, none = ("outside", "inside") if self.region.outside else ("inside", "outside")
        if np.isinf(self.region.high):
            place = f"above {self.region.low:g}", f"below {self.region.low:g}"
        else:
            span = f"({self.region.low:.3g}, {self.region.high:.3g})"
            place = f"{inside} {span}", f"{none} {span}"
        each = {
            "mean": f"the {level:.0%} interval of the mean over {self.over} is",
            "all": f"for all {self.over} the {level:.0%} interval is",
            "any": f"for any of the {self.over} the interval ({level:.0%}, Bonferroni-corrected for their number) is",
        }[self.way]
        other = {
            "mean": "it is",
            "all": "for any it is, Bonferroni-corrected for their number,",
            "any": f"for all it is ({level:.0%})",
        }[self.way]
        return f"holds if {each} entirely {place[0]}; fails if {other} entirely {place[1]}; undecided otherwise"


def judge(rule: Rule, pieces: Sequence[Piece], level: float) -> Claim:
    """Judge a claim per task and overall."""
    tasks = list(dict.fromkeys(piece.where["task"] for piece in pieces))
    found = [_combine(rule, [p for p in pieces if p.where["task"] == task], level, task) for task in tasks]
    overall = _combine(rule, pieces, level, "overall")
    rows = []
    for piece in pieces:
        low, high = piece.interval(level)
        verdict = "undecided" if piece.void else rule.region.judge(low, high)
        rows.append({**piece.where, "statistic": piece.statistic, "low": low, "high": high, "verdict": verdict})
        rows[-1] |= {"runs": len(piece.runs), "void": piece.void}
    needs = rule.needs if overall.verdict == "undecided" else ""
    shown = [] if rule.across_tasks else found
    return Claim(rule.name, rule.words, rule.statistic, rule.sentence(level), overall, shown, pd.DataFrame(rows), needs)


def _combine(rule: Rule, pieces: Sequence[Piece], level: float, task: str) -> Finding:
    runs = tuple(dict.fromkeys(run for piece in pieces for run in piece.runs))
    if not pieces:
        said = "no runs in this table speak about it"
        return Finding(task, "undecided", np.nan, np.nan, np.nan, 0, runs, said)
    reasons = list(dict.fromkeys(piece.void for piece in pieces if piece.void))
    void = "".join(reasons[:1]) + (f" ({len(reasons) - 1} like it in the evidence)" if len(reasons) > 1 else "")
    live = [piece for piece in pieces if not piece.void]
    if not live:
        deciding = _deciding(rule, pieces, level)
        return Finding(task, "undecided", deciding.statistic, *deciding.interval(level), len(pieces), runs, void)
    found = (_mean if rule.way == "mean" else _each)(rule, live, level, task, runs)
    if not void:
        return found
    return replace(found, sentence=f"{found.sentence}; {len(pieces) - len(live)} not judged: {void}")


def _each(rule: Rule, pieces: Sequence[Piece], level: float, task: str, runs: tuple[str, ...]) -> Finding:
    strict = 1 - (1 - level) / len(pieces)
    need, other = (level, strict) if rule.way == "all" else (strict, level)
    holding = [rule.region.judge(*piece.interval(need)) == "holds" for piece in pieces]
    failing = [rule.region.judge(*piece.interval(other)) == "fails" for piece in pieces]
    many, few = (all, any) if rule.way == "all" else (any, all)
    verdict: Word = "holds" if many(holding) else "fails" if few(failing) else "undecided"
    at = need if verdict == "holds" else other if verdict == "fails" else level
    decided = (
        failing
        if (rule.way, verdict) == ("all", "fails")
        else holding
        if (rule.way, verdict) == ("any", "holds")
        else ()
    )
    deciding = _deciding(
        rule, [piece for piece, did in zip(pieces, decided, strict=True) if did] if decided else pieces, at
    )
    low, high = deciding.interval(at)
    about = ", ".join(str(value) for key, value in deciding.where.items() if key != "task" or task == "overall")
    which = "the weakest" if rule.way == "all" else "the strongest"
    said = f"{sum(holding)} of {len(pieces)} hold, {sum(failing)} fail; {which} is {about}"
    return Finding(task, verdict, deciding.statistic, low, high, len(pieces), runs, said)


def _deciding(rule: Rule, pieces: Sequence[Piece], level: float) -> Piece:
    """The piece with the least (``any``: the most) room between its interval and the edge of the region."""

    def room(piece: Piece) -> float:
        low, high = piece.interval(level)
        if not (np.isfinite(low) and np.isfinite(high)):
            return -np.inf
        region = rule.region
        return (
            max(low - region.high, region.low - high) if region.outside else min(low - region.low, region.high - high)
        )

    return min(pieces, key=room) if rule.way == "all" else max(pieces, key=room)


def _mean(rule: Rule, pieces: Sequence[Piece], level: float, task: str, runs: tuple[str, ...]) -> Finding:
    known = [piece.draws for piece in pieces if piece.draws is not None]
    B = min(len(draws) for draws in known)
    mean = np.mean([draws[:B] for draws in known], axis=0)
    low, high = quantiles(mean[1:], level)
    better = sum(piece.statistic > rule.region.low for piece in pieces)
    said = f"{better} of {len(pieces)} {rule.over} lie on the claim's side"
    return Finding(task, rule.region.judge(low, high), float(mean[0]), low, high, len(pieces), runs, said)


def _plain(finding: Finding) -> dict[str, Any]:
    return {key: _number(value) for key, value in vars(finding).items()} | {"runs": list(finding.runs)}


def _number(value: Any) -> Any:
    """A plain value; what is not a finite number is null."""
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
