"""Tables in which the lines of a run's log stand as rows: refused as runs, or made into one run each where asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from finescale.errors import Fault, InputError, near
from finescale.exchange.ask import Ask, given
from finescale.exchange.found import Fact, Found, Scores, number
from finescale.exchange.history import gaps
from finescale.stats.logs import log_in, names_steps, parts
from finescale.stats.runs import CANONICAL

SETTING = frozenset(CANONICAL) - {"loss"}


def one_each(runs: Sequence[Found], losses: Sequence[str], ask: Ask) -> list[Found]:
    """Runs as they are where no file holds a log; with ``ask.step``, the rows of each log as one run with a history.

    Args:
        runs: as a source told them; rows without a name are not named yet.
        losses: metrics that may be the loss, whose gaps are said.
        ask: what the user said.

    Raises:
        InputError: a file's rows are the lines of logs, or ``ask.step`` is no column of any.
    """
    files: dict[Path, list[Found]] = {}
    for run in runs:
        files.setdefault(run.place, []).append(run)
    if ask.step is None:
        faults = [fault for path, rows in files.items() if (fault := _fault(path, rows, ask)) is not None]
        if faults:
            raise InputError(*faults)
        return list(runs)
    frames = {path: _frame(rows, ask, (ask.step,)) for path, rows in files.items()}
    if not any(ask.step in frame for frame in frames.values()):
        known = {name for rows in files.values() for run in rows for name in (*run.facts, *run.config, *run.scores)}
        raise InputError(Fault(f"--step {ask.step}", "is no column of these runs", near(ask.step, known)))
    kept: list[Found] = []
    for path, rows in files.items():
        kept += _joined(rows, frames[path], ask.step, losses, ask) if ask.step in frames[path] else rows
    return kept


def _fault(path: Path, rows: Sequence[Found], ask: Ask) -> Fault | None:
    """That the rows of a file are a log."""
    log = log_in(_frame(rows, ask, ()), ask.columns) if len(rows) > 1 else None
    if log is None:
        return None
    whose = f"run {log.run!r}" if log.run else "one run"
    what = f"column {log.column!r} counts upwards within {whose} (rows {_some(log.rows)}): a log of training, not runs"
    return Fault(str(path), what, log.way(ask.columns))


def _some(rows: tuple[int, ...]) -> str:
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return ", ".join(map(str, rows[:3])) + more


def _frame(rows: Sequence[Found], ask: Ask, more: Sequence[str]) -> pd.DataFrame:
    """What may tell runs apart and lines of logs, a row for each, by canonical names."""
    told = []
    for run in rows:
        whole = {name: points[-1][1] for name, points in run.scores.items()} | run.config | run.facts
        cells = {ask.columns.get(name, name): value for name, value in whole.items() if given(value)}
        wanted = {n: v for n, v in cells.items() if n in CANONICAL or n in more or names_steps(n)}
        told.append(wanted | ({"run": run.run} if run.run else {}))
    return pd.DataFrame(told)


def _joined(rows: Sequence[Found], frame: pd.DataFrame, step: str, losses: Sequence[str], ask: Ask) -> list[Found]:
    """A run for each part of the rows that is one run's log."""
    of: dict[int, list[Found]] = {}
    for code, run in zip(parts(frame, step).tolist(), rows, strict=True):
        of.setdefault(code, []).append(run)
    return [_one(lines, step, losses, ask) for lines in of.values()]


def _one(lines: list[Found], step: str, losses: Sequence[str], ask: Ask) -> Found:
    """One run of the lines of its log: settings that all lines share, scores by step, the flag of the last step."""
    told = [(number(_whole(line).get(step, line.config.get(step))) or 0.0, line) for line in lines]
    _, last = max(told, key=lambda one: one[0])  # trackers write the newest line first, too
    scores: dict[str, list[tuple[float, float]]] = {}
    for at, line in told:
        for name, value in _whole(line).items():
            one = None if isinstance(value, str) or name in SETTING or name == step else number(value)
            if one is not None:
                scores.setdefault(name, []).append((at, one))
    history: Scores = {name: tuple(sorted(points)) for name, points in scores.items()}
    facts = _shared([line.facts for line in lines], (step, "loss", "flag"))
    key = next((name for name in (ask.loss, *losses) if name in history), None)
    missing = gaps([at for at, _ in history[key]]) if key is not None else ""
    notes = {note: None for line in lines for note in line.notes}
    notes |= {f"its log by {step} is taken as one run": None} if len(lines) > 1 else {}
    notes |= {f"the history {missing}": None} if missing else {}
    config = _shared([line.config for line in lines], (step,))
    return Found(last.run, last.place, facts, history, config, notes=tuple(notes), flag=last.flag)


def _whole(line: Found) -> dict[str, Fact]:
    """What a line says: its scores, and its settings where both have a name."""
    return {name: points[-1][1] for name, points in line.scores.items()} | line.facts


def _shared(told: Sequence[Mapping[str, Fact]], without: Sequence[str]) -> dict[str, Fact]:
    """What all say alike."""
    first = told[0]
    return {
        name: value
        for name, value in first.items()
        if name not in without and all(name in one and one[name] == value for one in told)
    }
