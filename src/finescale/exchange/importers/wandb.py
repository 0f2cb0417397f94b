"""W&B's runs: the table of runs its pages and its documented snippet export, and the folders of offline runs."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finescale.errors import Fault, InputError
from finescale.exchange.ask import given, typed
from finescale.exchange.disk import Unreadable, folders, rows_of
from finescale.exchange.found import Fact, Found, Importer, Scores, Skipped, number, whole_number
from finescale.exchange.history import gaps
from finescale.exchange.known import KEPT, adapter, base, settings
from finescale.exchange.offline import NOT_FINITE, read_offline
from finescale.stats.paths import there
from finescale.stats.runs import CANONICAL

LOSSES = ("eval/loss", "eval_loss", "loss", "test/loss", "test_loss", "val/loss", "val_loss", "validation/loss")
DONE = ("finished", "")
LAST_ONLY = "a summary holds the last value of each metric: whether an earlier one was better is not known"
HISTORY = "is a history, not a table of runs: it has columns with __MIN and __MAX, so that it was sampled or smoothed"


def runs(path: Path) -> Iterator[Found | Skipped]:
    """Every row of an exported table, or every offline run at or under a folder.

    Raises:
        InputError: there is no such file or folder, or the table is one of W&B's histories, which are sampled.
    """
    return _rows(path) if there(path, "a table or folder of W&B").is_file() else _offline(path)


def _offline(root: Path) -> Iterator[Found | Skipped]:
    for folder in folders(root):
        for path in sorted(folder.glob("run-*.wandb")):
            try:
                run = read_offline(path)
            except Unreadable as error:
                yield Skipped(path, str(error))
                continue
            state = "finished" if run.exit == 0 else "crashed" if run.exit is None else "failed"
            scores: Scores = {key: tuple(points) for key, points in run.history.items()}
            notes = ["the run's file is damaged: what could be read was taken"] if run.cut else []
            end = max((points[-1][0] for points in scores.values()), default=0.0)
            every = (gaps([step for step, _ in scores[key]], end) for key in LOSSES if key in scores)
            notes += [f"the history {missing}" for missing in every if missing]
            name = run.name or str(run.config.get("run_name") or folder.name)
            yield _run(name, path, run.config, scores, state, tuple(notes))


def _rows(path: Path) -> Iterator[Found | Skipped]:
    rows = rows_of(path)
    if any(name.endswith(("__MIN", "__MAX")) for row in rows[:1] for name in row):
        raise InputError(Fault(str(path), HISTORY, "export the table of runs, or use api.runs()"))
    for index, row in enumerate(rows):
        cells = {name: value for name, value in row.items() if isinstance(value, dict) or given(value)}
        name = str(cells.get("Name") or cells.get("name") or "")
        state = str(cells.get("State") or cells.get("state") or "")
        try:
            nested = [_mapping(cells[part]) for part in ("config", "summary") if part in cells]
        except Unreadable as error:
            yield Skipped(path, f"row {index} ({name}) {error}")
            continue
        whole = len(nested) == 2
        config, summary = nested if whole else (cells, cells)
        name = name or (f"{path.stem}:{index}" if whole else "")
        step = number(summary.get("train/global_step", summary.get("_step"))) or 0.0
        scores: Scores = {key: ((step, one),) for key, value in summary.items() if (one := _score(value)) is not None}
        yield _run(name, path, config, scores, state, (LAST_ONLY,))


def _mapping(cell: Any) -> dict[str, Any]:
    """A run's config or summary in one cell: JSON, or as Python prints a mapping.

    Raises:
        Unreadable: it is neither.
    """
    if isinstance(cell, dict):
        return cell
    text = str(cell)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError) as error:
            raise Unreadable("has a config or summary that is no mapping of plain values") from error
    if not isinstance(value, dict):
        raise Unreadable("has a config or summary that is no mapping")
    return {str(name): item for name, item in value.items()}


def _run(name: str, place: Path, config: dict[str, Any], scores: Scores, state: str, notes: tuple[str, ...]) -> Found:
    """Settings with canonical names are columns; what a trainer's arguments tell is too; the rest is there to ask."""
    peft = config.get("peft_config")
    peft = next(iter(peft.values()), {}) if isinstance(peft, dict) else {}
    prefix = "peft_config.default."
    flat = {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}
    facts: dict[str, Fact] = base(config.get("model_name_or_path") or config.get("_name_or_path"))
    facts |= adapter(peft if isinstance(peft, dict) and peft else flat) | settings(config)
    own = {key: typed(key, str(value)) for key, value in config.items() if key in (*CANONICAL, *KEPT) and given(value)}
    facts |= {key: value for key, value in own.items() if value is not None and key != "loss"}
    if (total := whole_number(config.get("model/num_parameters"))) is not None:
        facts["total_params"] = total
    flag = str(config.get("flag") or "") if given(config.get("flag")) else ""
    flag = flag or ("" if state.lower() in DONE else f"W&B calls it {state[:20]}")
    plain = {key: value for key, value in config.items() if not isinstance(value, dict | list)}
    return Found(name, place, facts, scores, plain, notes=notes, flag=flag)


def _score(value: Any) -> float | None:
    """A number, or W&B's words for one that is none (``"NaN"``, ``"Infinity"``)."""
    return number(value) if not isinstance(value, str) or value in NOT_FINITE else None


IMPORTER = Importer("wandb", "W&B's exported table of runs, or a folder of offline runs", LOSSES, runs)
