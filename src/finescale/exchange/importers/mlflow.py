"""MLflow's runs: a file store (``mlruns``), a database (``mlflow.db``), or the table that ``search_runs`` gives."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from finescale.errors import Fault, InputError
from finescale.exchange.ask import given, plain, typed
from finescale.exchange.disk import Unreadable, folders, rows_of, text_of, yaml_of
from finescale.exchange.found import Fact, Found, Importer, Scores, Skipped, number
from finescale.exchange.history import gaps
from finescale.exchange.known import KEPT, adapter, base, settings
from finescale.stats.paths import there
from finescale.stats.runs import CANONICAL

LOSSES = ("eval_loss", "loss", "test_loss", "val_loss", "validation_loss", "eval/loss")
META, NAME = "meta.yaml", "mlflow.runName"
STATUS = {"1": "RUNNING", "2": "SCHEDULED", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}
LAST_ONLY = "MLflow's table holds the last value of each metric: whether an earlier one was better is not known"


def runs(path: Path) -> Iterator[Found | Skipped]:
    """Every run of a file store at or under a folder, of a database, or every row of a table.

    Raises:
        InputError: there is no such file or folder, or the table cannot be read.
    """
    if there(path, "a store or a table of MLflow").is_dir():
        return _store(path)
    return _database(path) if path.suffix in (".db", ".sqlite", ".sqlite3") else _rows(path)


def _store(root: Path) -> Iterator[Found | Skipped]:
    for folder in folders(root):
        if not (folder / META).is_file() or not (folder / "metrics").is_dir():
            continue
        try:
            meta = yaml_of(text_of(folder / META))
            params, tags = (_texts(folder / name) for name in ("params", "tags"))
            scores, wrong = _histories(folder / "metrics")
        except Unreadable as error:
            yield Skipped(folder, str(error))
            continue
        if meta.get("lifecycle_stage") == "deleted":
            yield Skipped(folder, "was deleted in MLflow")
            continue
        status = STATUS.get(str(meta.get("status")), str(meta.get("status")))
        name = str(tags.get(NAME) or meta.get("run_name") or folder.name)
        found = _run(name, folder, params | _own(tags), scores, status)
        yield replace(found, notes=(*wrong, *_gaps(scores)))


def _database(path: Path) -> Iterator[Found | Skipped]:
    """Runs of an SQLite store, MLflow's default since its third version; it is opened for reading only."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as base:
            rows = base.execute(
                "select run_uuid, name, status, lifecycle_stage from runs order by start_time"
            ).fetchall()
            parts = {name: _pairs(base, name) for name in ("params", "tags")}
            values = base.execute("select run_uuid, key, step, value, is_nan from metrics order by step, timestamp")
            scores: dict[str, dict[str, list[tuple[float, float]]]] = {}
            for run, key, step, value, is_nan in values:
                point = (number(step) or 0.0, math.nan if is_nan or (one := number(value)) is None else one)
                scores.setdefault(str(run), {}).setdefault(str(key), []).append(point)
    except sqlite3.Error as error:
        raise InputError(Fault(str(path), f"is no store of MLflow: {error}", "give mlruns or mlflow.db")) from error
    for run, name, status, stage in rows:
        params, tags = (parts[kind].get(str(run), {}) for kind in ("params", "tags"))
        history: Scores = {key: tuple(points) for key, points in scores.get(str(run), {}).items()}
        if stage == "deleted":
            yield Skipped(path / str(run), "was deleted in MLflow")
            continue
        found = _run(str(tags.get(NAME) or name or run), path, params | _own(tags), history, str(status))
        yield replace(found, notes=_gaps(history))


def _pairs(base: sqlite3.Connection, table: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for run, key, value in base.execute(f"select run_uuid, key, value from {table}"):
        found.setdefault(str(run), {})[str(key)] = str(value)
    return found


def _gaps(scores: Scores) -> tuple[str, ...]:
    """What is missing from the history of the metric that is the loss."""
    end = max((points[-1][0] for points in scores.values()), default=0.0)
    key = next((key for key in LOSSES if key in scores), None)
    missing = "" if key is None else gaps([step for step, _ in scores[key]], end)
    return (f"the history {missing}",) if missing else ()


def _own(tags: dict[str, str]) -> dict[str, str]:
    """Tags that users gave; MLflow's own say nothing of the run."""
    return {name: value for name, value in tags.items() if not name.startswith("mlflow.")}


def _texts(folder: Path) -> dict[str, str]:
    """A file for each name, with its value; a name with ``/`` is in a folder."""
    files = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []
    return {file.relative_to(folder).as_posix(): text_of(file).rstrip("\n") for file in files}


def _histories(folder: Path) -> tuple[Scores, list[str]]:
    """Metrics: a line for each value, ``time value step``; what was cut off is said."""
    found: Scores = {}
    wrong = []
    for name, text in _texts(folder).items():
        points = []
        for line in text.splitlines():
            words = [number(word) for word in line.split()[:3]]
            if len(words) != 3 or None in words:
                wrong.append("a metric's file is damaged: what could be read was taken")
                continue
            points.append((words[2] or 0.0, words[1] if words[1] is not None else 0.0))
        if points:
            found[name] = tuple(sorted(points, key=lambda point: point[0]))
    return found, list(dict.fromkeys(wrong))


def _rows(path: Path) -> Iterator[Found | Skipped]:
    for index, row in enumerate(rows_of(path)):
        cells = {name: plain(value) for name, value in row.items() if given(value)}
        parts: dict[str, dict[str, Any]] = {"params": {}, "metrics": {}, "tags": {}}
        for name, value in cells.items():
            kind, dot, rest = name.partition(".")
            if dot and kind in parts:
                parts[kind][rest] = value
        scores: Scores = {
            key: ((0.0, one),) for key, value in parts["metrics"].items() if (one := number(value)) is not None
        }
        if not scores and not parts["params"]:
            yield Skipped(path, f"row {index} has neither params. nor metrics. as search_runs gives them")
            continue
        name = str(parts["tags"].get(NAME) or cells.get("run_id") or f"{path.stem}:{index}")
        config = parts["params"] | _own(parts["tags"])
        found = _run(name, path, config, scores, str(cells.get("status", "FINISHED")))
        yield replace(found, notes=(LAST_ONLY,))


def _run(name: str, place: Path, config: dict[str, Any], scores: Scores, status: str) -> Found:
    """Parameters with canonical names are columns; what a trainer's arguments tell is too; the rest is there to ask."""
    facts: dict[str, Fact] = base(config.get("model_name_or_path") or config.get("_name_or_path"))
    facts |= adapter(config) | settings(config)
    own = {
        name: typed(name, str(value))
        for name, value in config.items()
        if name in (*CANONICAL, *KEPT) and name != "loss"
    }
    facts |= {name: value for name, value in own.items() if value is not None}
    flag = str(config.get("flag") or "") or ("" if status == "FINISHED" else f"MLflow calls it {status}")
    return Found(name, place, facts, scores, config, flag=flag)


IMPORTER = Importer("mlflow", "MLflow's mlruns folder, its mlflow.db, or a table that search_runs gave", LOSSES, runs)
