"""An index of a study's records, so that a large table need not read each: made from them, never trusted over them.

``index/records.parquet`` has a row per finished step and ``index/probes.parquet`` one per run, probe and metric;
``index/manifest.json``, written last, holds their digests. A row stands for its record as long as the record's file has
the size and the times it was read with; what is new, changed or gone is settled with the records themselves. An index
that is missing, damaged or of another layout is made anew, so the folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from finescale.errors import StudyError
from finescale.study.plan import Plan, Step
from finescale.study.store import FOLDERS, Store, aside_of, read_json, write_json

FOLDER = "index"
MANIFEST = "manifest.json"
INDEX_LAYOUT = 1
RECORDS, PROBES = "records.parquet", "probes.parquet"
STAMPS = ("size", "mtime_ns", "ctime_ns")
COUNTS = (
    *("model_params", "total_params", "pretrain_tokens", "pet_params", "train_tokens", "test_tokens"),
    *("unique_examples", "steps", "best_step", "peak_memory_bytes"),
)
MEASURES = ("learning_rate", "epochs", "dev_loss", "seconds", "cpu_seconds", "evaluate_seconds", "flops")
WORDS = ("id", "kind", "flag", "refused")
SCORE, ZERO = "score:", "zero:"
"""Columns ``score:METRIC:value``, ``…:low`` and ``…:high`` of a run on its own task, ``zero:METRIC`` of its base."""
MOST = 1e300
"""No number of a record is larger; NaN and infinities are none."""
PROBE_FIELDS = ("value", "low", "high", "zero_value")
_RECORDS = pa.schema(
    [(name, pa.string()) for name in WORDS]
    + [(name, pa.int64()) for name in (*STAMPS, *COUNTS)]
    + [(name, pa.float64()) for name in MEASURES]
)
_PROBES = pa.schema(
    [(name, pa.string()) for name in ("id", "probe", "metric")] + [(name, pa.float64()) for name in PROBE_FIELDS]
)


@dataclass(frozen=True)
class Index:
    """What the table needs of the finished steps of one plan.

    Attributes:
        records: a row per finished step, in the plan's order; columns as at the head of this file. What a record lacks
            is missing.
        probes: a row per run, probe and metric, by the run's ``id``; None unless asked for.
    """

    records: pa.Table
    probes: pa.Table | None = None

    def of(self, kind: str) -> pd.DataFrame:
        """Rows of the finished steps of a kind, by id."""
        rows = self.records.filter(pc.equal(self.records["kind"], kind))
        frame: pd.DataFrame = rows.to_pandas().set_index("id")
        return frame


def fresh(store: Store, plan: Plan, probes: bool = False) -> Index:
    """The index of a plan's finished steps, brought up to date with the records and kept for the next time.

    Where the folder cannot be written the index is simply not kept.

    Raises:
        StudyError: a record that has to be read is damaged.
    """
    finished = store.finished(plan)
    steps = [step for step in plan.steps.values() if step.id in finished]
    ids, stamps = [step.id for step in steps], _stamps(store, steps)
    old = _load(store.folder, RECORDS, _RECORDS)
    known = _known(old, ids, stamps)
    old_probes = _load(store.folder, PROBES, _PROBES) if probes or not known.all() else _PROBES.empty_table()
    if old is None or old_probes is None:
        old, old_probes, known = _RECORDS.empty_table(), _PROBES.empty_table(), np.zeros(len(ids), dtype=bool)
    if not known.all():
        new = [(steps[i], stamps[i]) for i in np.flatnonzero(~known)]
        old, old_probes = _merged(old, old_probes, store, new)
        _keep(store.folder, old, old_probes)
    if not ids:
        return Index(_RECORDS.empty_table(), _PROBES.empty_table() if probes else None)
    order = pd.Index(old["id"].to_pandas()).get_indexer(pd.Index(ids, dtype=object))
    return Index(old.take(pa.array(order, pa.int64())), old_probes if probes else None)


def _stamps(store: Store, steps: Iterable[Step]) -> np.ndarray:
    """Size and times of each step's record, shape (steps, 3); -1 where it cannot be looked at."""
    roots = {kind: store.folder / name for kind, name in FOLDERS.items()}
    found = []
    for step in steps:
        try:
            seen = os.lstat(f"{roots[step.kind]}/{step.id}/record.json")
            found.append((seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns))
        except OSError:
            found.append((-1, -1, -1))
    return np.array(found, dtype=np.int64).reshape(-1, len(STAMPS))


def _known(old: pa.Table | None, ids: list[str], stamps: np.ndarray) -> np.ndarray:
    """Which of the records are in the index as they are on disk."""
    if old is None or not len(old) or not ids:
        return np.zeros(len(ids), dtype=bool)
    place = pd.Index(old["id"].to_pandas()).get_indexer(pd.Index(ids, dtype=object))
    there = np.column_stack([old[name].to_numpy() for name in STAMPS])
    same: np.ndarray = (place >= 0) & (there[place] == stamps).all(axis=1) & (stamps[:, 0] >= 0)
    return same


def _merged(
    old: pa.Table, old_probes: pa.Table, store: Store, new: list[tuple[Step, np.ndarray]]
) -> tuple[pa.Table, pa.Table]:
    """Both tables with these steps read from their records, in place of what was known of them."""
    rows: list[dict[str, Any]] = []
    long: list[dict[str, Any]] = []
    for step, stamp in new:
        record = store.record(step)
        where = f"{store.done(step)}/record.json"
        rows.append(_row(step, record, where) | dict(zip(STAMPS, stamp.tolist(), strict=True)))
        long += _probe_rows(step, record, where)
    read = pa.array([step.id for step, _ in new], pa.string())
    both = [_without(old, read), pa.Table.from_pylist(rows, schema=_schema(rows))]
    probes = [_without(old_probes, read), pa.Table.from_pylist(long, schema=_PROBES)]
    return pa.concat_tables(both, promote_options="default"), pa.concat_tables(probes)


def _without(table: pa.Table, ids: pa.Array) -> pa.Table:
    return table.filter(pc.invert(pc.is_in(table["id"], value_set=ids)))


def _schema(rows: list[dict[str, Any]]) -> pa.Schema:
    scored = sorted({name for row in rows for name in row if name.startswith((SCORE, ZERO))})
    return pa.schema([*_RECORDS, *(pa.field(name, pa.float64()) for name in scored)])


# ----------------------------------------------------------------------------------------------------------- one record


def _row(step: Step, record: dict[str, Any], where: str) -> dict[str, Any]:
    row: dict[str, Any] = {name: _number(record.get(name), where, name) for name in MEASURES}
    row |= {name: _whole(record.get(name), where, name) for name in COUNTS}
    row |= {"id": step.id, "kind": step.kind, "flag": _word(record.get("flag"), where, "flag")}
    if refused := _table(record.get("refused", {}), where, "refused"):
        row["refused"] = json.dumps(refused, ensure_ascii=False)
    for metric, score in _scores(record, "scores", where):
        row |= {f"{SCORE}{metric}:{name}": score[name] for name in ("value", "low", "high")}
    return row | {f"{ZERO}{metric}": score["value"] for metric, score in _scores(record, "zero_scores", where)}


def _probe_rows(step: Step, record: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    for probe, found in _table(record.get("probes", {}), where, "probes").items():
        place = f"{where}: probes.{probe}"
        zero = dict(_scores(_table(found, where, f"probes.{probe}"), "zero_scores", place))
        for metric, score in _scores(found, "scores", place):
            untouched = zero.get(metric, {}).get("value")
            yield {"id": step.id, "probe": probe, "metric": metric, "zero_value": untouched} | score


def _scores(record: dict[str, Any], key: str, where: str) -> Iterator[tuple[str, dict[str, float | None]]]:
    """Metric, value and interval of each score that a record lists under a key."""
    listed = record.get(key, [])
    if not isinstance(listed, list):
        raise _wrong(where, key, "a list of scores")
    for score in listed:
        metric = _word(_table(score, where, key).get("metric"), where, f"{key}.metric")
        if metric is None:
            raise _wrong(where, f"{key}.metric", "the name of a metric")
        yield metric, {name: _number(score.get(name), where, f"{key}.{name}") for name in ("value", "low", "high")}


def _number(value: Any, where: str, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MOST:
        raise _wrong(where, name, "a number")
    return float(value)


def _whole(value: Any, where: str, name: str) -> int | None:
    number = _number(value, where, name)
    if number is not None and (value != int(value) or abs(value) >= 2**63):
        raise _wrong(where, name, "a whole number")
    return None if number is None else int(value)


def _word(value: Any, where: str, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise _wrong(where, name, "a word")
    return value


def _table(value: Any, where: str, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, name, "a table")
    return value


def _wrong(where: str, name: str, wanted: str) -> StudyError:
    return StudyError(f"{where}: {name} is not {wanted}; delete the folder it is in and run the study again")


# -------------------------------------------------------------------------------------------------------------- on disk


def _load(folder: Path, name: str, schema: pa.Schema) -> pa.Table | None:
    """A file of the index, or None where it cannot stand for anything."""
    try:
        manifest = read_json(folder / FOLDER / MANIFEST)
        content = (folder / FOLDER / name).read_bytes()
        digests = manifest.get("digests")
        wanted = digests.get(name) if isinstance(digests, dict) else None
        if manifest.get("layout") != INDEX_LAYOUT or hashlib.sha256(content).hexdigest() != wanted:
            return None
        table = pq.read_table(pa.BufferReader(content))
    except (StudyError, OSError, pa.ArrowException):
        return None
    beyond = [field for field in table.schema if field.name not in schema.names]
    fits = all(field in table.schema for field in schema)
    scored = all(field.type == pa.float64() and field.name.startswith((SCORE, ZERO)) for field in beyond)
    return table if fits and scored else None


def _keep(folder: Path, records: pa.Table, probes: pa.Table) -> None:
    """Write the index, its manifest last; it is only a help, so what cannot be written is left unwritten."""
    home = folder / FOLDER
    if home.is_symlink():
        return
    try:
        home.mkdir(exist_ok=True)
        digests = {name: write(home / name, table) for name, table in ((RECORDS, records), (PROBES, probes))}
        write_json(home / MANIFEST, {"layout": INDEX_LAYOUT, "digests": digests}, durable=False)
    except OSError:
        for name in (RECORDS, PROBES, MANIFEST):
            with suppress(OSError):
                (home / f"{name}.tmp").unlink(missing_ok=True)


def write(path: Path, table: pa.Table) -> str:
    """Write a table aside and rename it into place; its digest."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    content = buffer.getvalue().to_pybytes()
    aside = aside_of(path)
    aside.write_bytes(content)
    aside.replace(path)
    return hashlib.sha256(content).hexdigest()
