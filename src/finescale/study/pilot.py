"""What a pilot answers: what more data would bring by each method, what it is worth, which run to make next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from finescale.errors import Refused
from finescale.stats.advise import name_of
from finescale.stats.fit import fit
from finescale.stats.fits import Fits
from finescale.stats.worth import (
    Halving,
    More,
    Next,
    Noise,
    halving,
    more,
    next_run,
    noise_of_curve,
    noise_of_runs,
)
from finescale.study.analyse import labelled, note_on
from finescale.study.lock import Study
from finescale.study.show import duration
from finescale.study.store import FOLDERS

TIMES = (2.0, 10.0)
BY = ["task", "base", "method"]
ROWS = "rows.parquet"


@dataclass(frozen=True)
class Outlook:
    """One method on one base.

    Attributes:
        curve: its task, base and method, and ``name`` in words.
        have: labelled examples that can be trained on.
        most: the most examples that were run.
        loss: mean there, nats per target token; ``untouched``: of the base before.
        halving: half against full; None with one size alone.
        more: at all there are, where not all were run, and at twice and ten times that.
    """

    curve: dict[str, str]
    have: int
    most: int
    loss: float
    untouched: float
    halving: Halving | None
    more: tuple[More, ...]


@dataclass(frozen=True)
class Answer:
    """What the pilot says: each curve's outlook, which is best at twice the data, and the next run worth making.

    ``silent`` are methods of which no run learned anything, ``noise`` is pooled over all curves, ``best`` a sentence.
    """

    question: str
    note: str
    level: float
    outlooks: tuple[Outlook, ...]
    silent: tuple[str, ...]
    noise: Noise | None
    best: str
    next: Next | None
    usd_per_nat: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not known is null."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    def __str__(self) -> str:
        return "\n".join(self.sentences())

    def sentences(self) -> Iterator[str]:
        """The answer, a line each."""
        yield from (line for line in (self.question, self.note) if line)
        for one in self.outlooks:
            yield from self._outlook(one)
        yield from (f"{name}: no run learned anything, so nothing is said of it." for name in self.silent)
        if self.best:
            yield self.best
        if self.next is not None:
            yield _next_sentence(self.next, self.outlooks)

    def _outlook(self, one: Outlook) -> Iterator[str]:
        name = one.curve["name"]
        head = f"{name[0].upper()}{name[1:]}: {one.loss:.3f} nats per target token with {one.most:,} examples"
        yield f"{head} (untouched: {one.untouched:.3f})"
        if one.halving is not None:
            yield f"  half against full: {self._halved(one.halving)}"
        for asked in one.more:
            yield f"  {_which(asked, one)}: {self._more(asked, one)}"

    def _halved(self, found: Halving) -> str:
        head = f"{found.full:,} examples are {found.gain:.3f} better than {found.half:,}"
        if np.isnan(found.low) or found.noise is None:
            return f"{head}; how sure that is cannot be said: one run a size and too few sizes. Add seeds."
        where = f"a run's noise is {100 * found.noise.sd:.2g} % by {found.noise.source}"
        test = "" if np.isnan(found.test_sd) else f", the test set's {found.test_sd:.3f} nats"
        return f"{head} ({found.low:.3f} to {found.high:.3f}, {self.level:.0%} interval; {where}{test})"

    def _more(self, asked: More, one: Outlook) -> str:
        if np.isnan(asked.median):
            return f"no forecast. {asked.refused}"
        interval = f"{asked.low:.3f} to {asked.high:.3f}, {self.level:.0%} interval of a new run"
        said = f"forecast {asked.median:.3f} ({interval}, {asked.reach:.3g} times beyond what was run)"
        said += f", {asked.gain:.3f} better than now ({asked.gain_low:.3f} to {asked.gain_high:.3f})"
        if asked.refused:
            return f"{said}; {asked.refused}"
        return said + self._priced(asked)

    def _priced(self, asked: More) -> str:
        if not asked.usd:
            return "" if asked.usd is None else "; these are labelled already"
        if asked.worth is None:
            each = "more than any gain" if asked.usd_per_nat == float("inf") else f"{asked.usd_per_nat:,.2f} USD a nat"
            return f"; labels {asked.usd:,.2f} USD, {each} (--worth says what a nat is worth to you)"
        verdict = (
            "worth it" if asked.worth >= self.level else "not worth it" if asked.worth <= 1 - self.level else "open"
        )
        return f"; labels {asked.usd:,.2f} USD: {verdict}, worth more than that with probability {asked.worth:.2f}"


def pilot(study: Study, usd_per_nat: float | None = None) -> Answer:
    """Answer from the records a study has now.

    Args:
        study: an open study; it need not be complete.
        usd_per_nat: what a nat per target token is worth, where that was said.

    Raises:
        Refused: no run is finished, or none is usable.
    """
    runs = labelled(study)
    usable, level = runs[runs["flag"] == ""], study.spec.fit.level
    if usable.empty:
        raise Refused(f"study {study.name!r} has no usable run yet: {len(runs)} finished, all flagged or none at all")
    fits = fit(usable, law="auto", by=BY, seed=study.spec.fit.seed)
    noise = noise_of_runs(usable, BY)
    outlooks = tuple(_outlook(study, part, fits, noise, usd_per_nat) for _, part in usable.groupby(BY, sort=False))
    learned = {tuple(row) for row in usable[BY].to_numpy().tolist()}
    silent = [row for row in runs[BY].drop_duplicates().to_dict("records") if tuple(row.values()) not in learned]
    return Answer(
        question=study.spec.question,
        note=note_on(study, runs),
        level=level,
        outlooks=outlooks,
        silent=tuple(name_of(pd.Series(row)) for row in silent),
        noise=noise,
        best=_best(outlooks),
        next=_next(study, usable, outlooks),
        usd_per_nat=usd_per_nat,
    )


def _outlook(study: Study, part: pd.DataFrame, fits: Fits, noise: Noise | None, usd_per_nat: float | None) -> Outlook:
    first, level = part.iloc[0], study.spec.fit.level
    most = int(part["examples"].max())
    have = max(most, _labelled_examples(study, str(first["task"])))
    at = part[part["examples"] == most].iloc[[0]]
    times = (*([1.0] if have > most else []), *TIMES)
    price = study.spec.budget.usd_per_1000_examples
    noise = noise_of_curve(noise_of_runs(part, BY), noise)
    name = name_of(first) + (f" ({first['task']})" if len(study.spec.finetune.tasks) > 1 else "")
    return Outlook(
        curve={key: str(first[key]) for key in BY} | {"name": name},
        have=have,
        most=most,
        loss=float(part.loc[part["examples"] == most, "loss"].mean()),
        untouched=float(first["zero_loss"]),
        halving=halving(part, noise, _test_sd(study, part), level),
        more=tuple(more(fits, at, have, times, level, price, usd_per_nat, noise)),
    )


def _labelled_examples(study: Study, task: str) -> int:
    """Examples of a task that can be trained on; 0 where its record does not say."""
    step = study.plan.of("data")[0]
    tasks = study.store.record(step).get("tasks", {}) if study.store.arrived(step) else {}
    facts = tasks.get(task, {})
    return int(facts.get("train", {}).get("kept", 0))


def _test_sd(study: Study, part: pd.DataFrame) -> float:
    """Standard deviation of half against full from the test set's being a sample, over its examples, seeds averaged."""
    found = halving(part, None)
    if found is None:
        return float("nan")
    sums: list[Any] = []
    for size in (found.half, found.full):
        places = [study.folder / FOLDERS["run"] / run / ROWS for run in part.loc[part["examples"] == size, "run"]]
        if not all(place.exists() for place in places):
            return float("nan")
        frames = [pd.read_parquet(place) for place in places]
        sums.append((np.mean([frame["nats"] for frame in frames], axis=0), frames[0]["tokens"].to_numpy(float)))
    (half, tokens), (full, _) = sums
    gain = (half - full).sum() / tokens.sum()
    left = half - full - gain * tokens
    return float(np.sqrt(len(left) / max(1, len(left) - 1) * (left @ left)) / tokens.sum())


def _best(outlooks: tuple[Outlook, ...]) -> str:
    """Which forecast is lowest at twice the data, and whether the next is clear of it; nothing where there is no choice
    or no forecast."""
    twice = [(one, asked) for one in outlooks for asked in one.more if asked.times == TIMES[0]]
    known = sorted((pair for pair in twice if not np.isnan(pair[1].median)), key=lambda pair: pair[1].median)
    if len(known) < 2 or len({one.curve["task"] for one, _ in known}) > 1:
        return ""
    (first, best), (second, other) = known[:2]
    clear = "their intervals do not overlap" if best.high < other.low else "their intervals overlap"
    behind = f"{second.curve['name']} is {other.median - best.median:.3f} behind"
    far = f"; {best.refused}" if best.refused else ""
    return f"At twice the data the forecast of {first.curve['name']} is lowest; {behind}, and {clear}{far}."


def _next(study: Study, usable: pd.DataFrame, outlooks: tuple[Outlook, ...]) -> Next | None:
    """The next run that tells most per second of the best two at twice the data."""
    able = [one for one in outlooks if usable.loc[_rows_of(usable, one), "examples"].nunique() > 1]
    if not able:
        return None
    best = sorted(able, key=_promise)[:2]
    parts = [usable[_rows_of(usable, one)] for one in best]
    sizes = sorted({*usable["examples"].astype(int), *(min(one.have, 2 * one.most) for one in best)})
    seconds = [_seconds(study, part, sizes) for part in parts]
    curves = [(dict(one.curve), part["examples"].to_numpy(float)) for one, part in zip(best, parts, strict=True)]
    return next_run(curves, round(TIMES[0] * best[0].have), sizes, seconds)


def _promise(one: Outlook) -> float:
    """Forecast loss at twice the data, or the loss seen where there is no forecast."""
    said = next(asked.median for asked in one.more if asked.times == TIMES[0])
    return one.loss if np.isnan(said) else said


def _rows_of(usable: pd.DataFrame, one: Outlook) -> Any:
    return (usable[BY] == [one.curve[name] for name in BY]).all(axis=1)


def _seconds(study: Study, part: pd.DataFrame, sizes: list[int]) -> list[float]:
    """Seconds of a run of a curve at each size, by the steps its runs took."""
    recipe = study.spec.recipe(str(part["method"].iloc[0]).partition("-")[0])
    per_step = part["seconds"].sum() / part["examples"].map(lambda size: recipe.steps(int(size))).sum()
    return [float(per_step * recipe.steps(size)) for size in sizes]


def _which(asked: More, one: Outlook) -> str:
    if asked.times == 1:
        return f"all {asked.examples:,} examples there are"
    words = {2.0: "twice", 10.0: "ten times"}[asked.times]
    return f"{words} the data ({asked.examples:,} examples, {asked.examples - one.have:,} of them new)"


def _next_sentence(found: Next, outlooks: tuple[Outlook, ...]) -> str:
    most = max(one.most for one in outlooks)
    how = "one more seed" if found.examples <= most else "a size further up"
    return (
        f"The next run that tells most for its time: {found.curve['name']} with {found.examples:,} examples ({how}; "
        f"about {duration(found.seconds)}). It would take {100 * found.narrows:.0f} % off the variance of the "
        "comparison at twice the data, if log loss is straight in log examples."
    )


def _plain(value: Any) -> Any:
    """Values that JSON has; a number that is not finite is null."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
