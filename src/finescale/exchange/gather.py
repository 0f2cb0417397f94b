"""From what sources tell to a table of runs, and an account of it: what was taken, skipped, noticed and not known."""

from __future__ import annotations

import math
import pkgutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pandas as pd

from finescale.errors import Fault, InputError, near
from finescale.exchange import importers
from finescale.exchange.account import Imported, Unknown
from finescale.exchange.ask import ERROR, HIGHER, Ask, check, from_names, from_table, given, plain, typed
from finescale.exchange.curves import one_each
from finescale.exchange.found import Fact, Found, Importer, Skipped
from finescale.exchange.known import KEPT
from finescale.stats import units
from finescale.stats.logs import better_when_higher, better_when_lower
from finescale.stats.runs import CANONICAL, read_runs

LEAST = ("examples", "loss")
"""Columns without which nothing can be fitted."""
OWN = ("run", "flag")
OPTIONAL = ("task", "method", "base", "model_params", "pretrain_tokens", "pet_params", "seed", units.COLUMN)
"""Columns that are asked for by name where a source does not tell them."""


def names() -> list[str]:
    """Kinds of sources there are, by the names of their files."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(importers.__path__))


def importer(name: str) -> Importer:
    """The importer of a kind of source.

    Raises:
        InputError: there is none of that name.
    """
    if name not in names():
        raise InputError(Fault(f"source {name!r}", "is unknown", near(name, names())))
    found: Importer = import_module(f"{importers.__name__}.{name.replace('-', '_')}").IMPORTER
    return found


def import_runs(kind: str, paths: Sequence[str | Path], ask: Ask | None = None) -> Imported:
    """Read other people's runs into a table with canonical columns.

    Args:
        kind: what left them behind, one of ``names()``.
        paths: its folders or files; a folder may hold many runs.
        ask: what the sources do not tell; by default nothing is added.

    Raises:
        InputError: a path is not there or is no such source, no run is found, what was asked cannot be, or no run's
            number of examples or loss is known; says which flag gives what is missing.
    """
    source, ask = importer(kind), ask or Ask()
    check(ask)
    if not paths:
        raise InputError(Fault("paths", "are none", f"give {source.summary}"))
    runs, skipped = _read(source, [Path(path) for path in paths], ask)
    if not runs:
        raise InputError(*_no_runs(source, paths, skipped))
    rows, replaced = _rows(runs, source, ask)
    key = _loss(runs, rows, source, ask)
    used = [(run, row) for run, row in zip(runs, rows, strict=True) if "loss" in row or key is None or row.get("flag")]
    skipped += [
        Skipped(run.place, f"has no {key}: {_has(run)}")
        for run, row in zip(runs, rows, strict=True)
        if (run, row) not in used
    ]
    frame = _frame([row for _, row in used])
    unknown = _unknown([run for run, _ in used], frame, ask)
    _refuse_without(frame, [run for run, _ in used], unknown)
    notes = _counted([note for run, _ in used for note in run.notes]) | replaced
    return Imported(
        source=source.summary,
        runs=read_runs(frame),
        loss="" if key is None else f"{key}, {ask.take} of each run",
        skipped=tuple(skipped),
        notes=notes,
        unknown=tuple(unknown),
        varying=_varying([run for run, _ in used], source, ask),
    )


def _read(source: Importer, paths: list[Path], ask: Ask) -> tuple[list[Found], list[Skipped]]:
    """Every run once, however many of the paths lead to it, under a name of its own; and what was skipped.

    Raises:
        InputError: a path cannot be read, or rows are the lines of logs.
    """
    runs: dict[tuple[Path, int], Found] = {}
    skipped: dict[Path, Skipped] = {}
    for path in paths:
        count: Counter[Path] = Counter()  # several runs may lie in one file
        for one in source.read(path):
            place = one.place.resolve()
            if isinstance(one, Skipped):
                skipped[place if place.is_dir() else Path(f"{place}:{one.why}")] = one
                continue
            runs.setdefault((place, count[place]), one)
            count[place] += 1
    return _named(one_each(list(runs.values()), source.losses, ask)), list(skipped.values())


def _named(runs: list[Found]) -> list[Found]:
    """Runs by name: without one after file and place, and those called alike told apart by places, then numbers."""
    place = Counter[Path]()
    for index, run in enumerate(runs):
        runs[index] = run if run.run else replace(run, run=f"{run.place.stem}:{place[run.place]}")
        place[run.place] += 1
    times = Counter(run.run for run in runs)
    runs = [replace(run, run=f"{run.run} ({run.place})") if times[run.run] > 1 else run for run in runs]
    times, seen, named = Counter(run.run for run in runs), Counter[str](), []
    for run in runs:
        seen[run.run] += 1
        named.append(replace(run, run=f"{run.run} #{seen[run.run]}") if times[run.run] > 1 else run)
    return named


def _no_runs(source: Importer, paths: Sequence[str | Path], skipped: Sequence[Skipped]) -> list[Fault]:
    faults = [Fault(str(one.place), one.why, "mend it or leave it out") for one in skipped[:20]]
    return faults or [Fault(", ".join(map(str, paths[:3])), "holds no such run", f"give {source.summary}")]


def _rows(runs: list[Found], source: Importer, ask: Ask) -> tuple[list[dict[str, Fact]], dict[str, int]]:
    """A row for each run, without its loss; and how often the user's word replaced the source's."""
    _check_columns(runs, ask)
    rows: list[dict[str, Fact]] = []
    said = {column: value for column, text in ask.values.items() if (value := typed(column, text)) is not None}
    replaced: Counter[str] = Counter()
    told = zip(from_table(runs, ask.facts), from_names(runs, ask.pattern), strict=True)
    for run, (table, name) in zip(runs, told, strict=True):
        row = dict(run.facts)
        for theirs, ours in ask.columns.items():
            value = row.pop(theirs, run.config.get(theirs))
            if given(value):
                row[ours] = typed(ours, value) or value if isinstance(value, str) else plain(value)
        row |= {name: value for name, value in run.offers.items() if name in ask.accept and name not in row}
        for column, value in (said | name | table).items():
            if column in row and row[column] != value:
                replaced[f"{column}: what you gave took the place of what the source says"] += 1
            row[column] = value
        rows.append({name: value for name, value in row.items() if name != "flag"} | {"run": run.run})
        if flag := str(row.get("flag") or run.flag):
            rows[-1]["flag"] = flag
    return rows, dict(replaced)


def _check_columns(runs: list[Found], ask: Ask) -> None:
    known = {name for run in runs for name in (*run.facts, *run.config)}
    wrong = [name for name in ask.columns if name not in known]
    if wrong:
        raise InputError(
            *(Fault(f"--column {name}", "is nothing these runs tell", near(name, known)) for name in wrong)
        )
    offered = {name for run in runs for name in run.offers}
    if wrong := [name for name in ask.accept if name not in offered]:
        way = f"one of {', '.join(sorted(offered))}" if offered else "there is nothing to accept"
        raise InputError(*(Fault(f"--accept {name}", "cannot be worked out for any run", way) for name in wrong))


# ----------------------------------------------------------------------------------------------------------------- loss


def _loss(runs: list[Found], rows: list[dict[str, Fact]], source: Importer, ask: Ask) -> str | None:
    """Put each run's loss into its row, and its flag where it has none to have; returns which metric that is."""
    if ask.loss is None and any("loss" in row for row in rows):
        _say_unit(rows, next((units.unit_named(old) for old, new in ask.columns.items() if new == "loss"), ""), ask)
        return None
    metrics = {name for run in runs for name in run.scores}
    key = ask.loss or next((name for name in source.losses if name in metrics), None)
    if key is None:
        return None
    flipped = None if key in metrics else ERROR.fullmatch(key.strip())
    metric, top = (key, None) if flipped is None else (flipped["metric"], float(flipped["top"]))
    if metric not in metrics:
        raise InputError(Fault(f"--loss {metric}", "is no score of these runs", near(metric, metrics)))
    _check_direction(metric, top, [value for run in runs for _, value in run.scores.get(metric, ())])
    unit = key if top is not None else units.unit_named(metric) or (source.unit if metric in source.losses else "")
    _say_unit(rows, unit, ask, anew=ask.loss is not None)
    for run, row in zip(runs, rows, strict=True):
        values = [value if top is None else top - value for _, value in run.scores.get(metric, ())]
        finite = [value for value in values if math.isfinite(value)]
        if values and not math.isfinite(values[-1]):
            row.setdefault("flag", "diverged: its last evaluation is no number")
        if finite:
            row["loss"] = min(finite) if ask.take == "best" else finite[-1]
    return key


def _say_unit(rows: list[dict[str, Fact]], unit: str, ask: Ask, anew: bool = False) -> None:
    """Write down the loss's unit: the user's word for it stays, and another loss's unit (``anew``) does not."""
    if units.COLUMN in ask.values:
        return
    for row in rows:
        if anew or unit:
            row.pop(units.COLUMN, None)
        if unit:
            row.setdefault(units.COLUMN, unit)


def _check_direction(metric: str, top: float | None, values: list[float]) -> None:
    """Refuse a score that is better when higher as a loss, and one in per cent taken from 1."""
    most = max((value for value in values if math.isfinite(value)), default=0.0)
    if top is None and better_when_higher(metric):
        way = f"--loss '{100 if most > 1 else 1} - {metric}' makes it an error"
        raise InputError(Fault(f"--loss {metric}", HIGHER, way))
    if top is not None and better_when_lower(metric):
        way = f"--loss {metric}, as it is better when lower"
        raise InputError(Fault(f"--loss {top:g} - {metric}", "would turn it upside down", way))
    if top is not None and most > top:
        way = f"--loss '100 - {metric}' if it is in per cent" if most <= 100 else "name a score that has such a top"
        raise InputError(Fault(f"--loss {top:g} - {metric}", f"would be below 0: it goes up to {most:g}", way))


def _has(run: Found) -> str:
    return "it has " + ", ".join(sorted(run.scores)[:8]) if run.scores else "no evaluation was written down"


# ---------------------------------------------------------------------------------------------------------- the account


def _frame(rows: list[dict[str, Fact]]) -> pd.DataFrame:
    columns = {name for row in rows for name in row} - {*CANONICAL, *OWN}
    known = {name for row in rows for name in row}
    first = [name for name in CANONICAL if name in known]
    order = [*first, *(name for name in KEPT if name in columns), *sorted(columns - set(KEPT))]
    return pd.DataFrame(rows, columns=[*order, "run", *(["flag"] if "flag" in known else [])])


def _unknown(runs: list[Found], frame: pd.DataFrame, ask: Ask) -> list[Unknown]:
    """Canonical columns that some runs lack, with the flags that give them."""
    found = []
    for column in (*LEAST, *OPTIONAL):
        missing = frame[column].isna() if column in frame else pd.Series(True, index=frame.index)
        if not missing.any():
            continue
        lacking = [run for run, gone in zip(runs, missing, strict=True) if gone]
        offered = sum(column in run.offers for run in lacking)
        told = {name for run in lacking for name in (*run.facts, *run.config, *run.scores)} - {column}
        like = min((name for name in told if name.casefold() == column), default="")
        lack = tuple(run.run for run in lacking)
        found.append(Unknown(column, lack, len(runs), offered, _scores(lacking), like))
    return found


def _scores(runs: list[Found]) -> tuple[str, ...]:
    return tuple(sorted({name for run in runs for name in run.scores}))


def _refuse_without(frame: pd.DataFrame, runs: list[Found], unknown: list[Unknown]) -> None:
    whole = [one for one in unknown if one.column in LEAST and len(one.runs) == len(frame)]
    if whole:
        raise InputError(*(Fault(one.column, one.what, one.way) for one in whole))


def _counted(notes: Iterable[str]) -> dict[str, int]:
    return dict(Counter(notes))


def _varying(runs: list[Found], source: Importer, ask: Ask) -> tuple[str, ...]:
    """Settings that differ between the runs and are no column yet: what the table may lack."""
    if source.whole:
        return ()
    values: dict[str, set[str]] = {}
    for run in runs:
        for name, value in run.config.items():
            if given(value):
                values.setdefault(name, set()).add(str(value))
    return tuple(sorted(name for name, found in values.items() if len(found) > 1 and name not in ask.columns))
