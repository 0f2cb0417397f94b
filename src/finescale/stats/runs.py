"""Read anybody's table of runs, and say what looks wrong in it without dropping anything silently."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finescale.core import FACTORS
from finescale.errors import Fault, Faults, InputError, collecting, near

KEYS = ("task", "method", "base", "family")
CANONICAL = (*KEYS, *FACTORS, "loss", "seed")
_READERS: dict[str, Any] = {
    ".csv": pd.read_csv,
    ".tsv": lambda path: pd.read_csv(path, sep="\t"),
    ".parquet": pd.read_parquet,
    ".jsonl": lambda path: pd.read_json(path, lines=True),
}


@dataclass(frozen=True)
class Finding:
    """Something noticed in a table: its kind, the rows (index labels), a sentence, and whether they leave the fit."""

    kind: str
    rows: tuple[int, ...]
    sentence: str
    excludes: bool = False

    def __str__(self) -> str:
        return f"{self.kind}: {self.sentence}"


@dataclass(frozen=True)
class Runs:
    """A table with one row per run, and the findings about it.

    Attributes:
        frame: every row that was read, with canonical column names (see ``finescale.core``) and a fresh integer index.
        findings: what looks wrong; those with ``excludes`` name rows that no fit uses.
    """

    frame: pd.DataFrame
    findings: tuple[Finding, ...]

    @property
    def usable(self) -> pd.DataFrame:
        """The rows a fit may use."""
        out = {row for finding in self.findings if finding.excludes for row in finding.rows}
        return self.frame[~self.frame.index.isin(out)]

    def __len__(self) -> int:
        return len(self.frame)

    def __str__(self) -> str:
        head = f"{len(self.frame)} runs, {len(self.usable)} usable; columns {', '.join(map(str, self.frame.columns))}"
        return "\n".join([head, *(f"  {finding}" for finding in self.findings)])


def read_runs(source: str | Path | pd.DataFrame, columns: dict[str, str] | None = None) -> Runs:
    """Read a table of runs: CSV, TSV, Parquet, JSONL or a DataFrame, one row per run.

    Args:
        source: a file or a frame.
        columns: renames, ``{"name in the table": "canonical name"}``; canonical names are ``task, method, base,
            family, model_params, pretrain_tokens, pet_params, examples, loss, seed``, of which ``examples`` and
            ``loss`` (nats per target token) are required. Other columns are kept.

    Raises:
        InputError: the file cannot be read, a column is missing or not a number; every fault is listed.
    """
    frame = _load(source)
    _check_renames(frame, columns or {})
    frame = frame.rename(columns=columns or {}).reset_index(drop=True)
    with collecting() as faults:
        _check_columns(frame, faults)
    frame = frame.assign(**{name: frame[name].astype(float) for name in (*FACTORS, "loss") if name in frame})
    return Runs(frame, tuple(_findings(frame)))


def _load(source: str | Path | pd.DataFrame) -> pd.DataFrame:
    if isinstance(source, pd.DataFrame):
        return source.copy()
    path = Path(source)
    if path.suffix not in _READERS:
        raise InputError(
            Fault(str(path), f"cannot read {path.suffix or 'a file without a suffix'}", near(path.suffix, _READERS))
        )
    if not path.is_file():
        raise InputError(Fault(str(path), "no such file", "give the path of a table of runs"))
    try:
        frame: pd.DataFrame = _READERS[path.suffix](path)
    except (ValueError, OSError) as error:
        raise InputError(Fault(str(path), f"cannot be read: {error}", f"check that it is {path.suffix[1:]}")) from error
    return frame


def _check_renames(frame: pd.DataFrame, columns: dict[str, str]) -> None:
    with collecting() as faults:
        for old, new in columns.items():
            if old not in frame:
                faults.add(f"columns[{old!r}]", "is not in the table", near(old, map(str, frame.columns)))
            elif new in frame and new != old and new not in columns:
                faults.add(f"columns[{old!r}]", f"{new!r} is in the table already", "rename that column too")


def _check_columns(frame: pd.DataFrame, faults: Faults) -> None:
    for name in ("examples", "loss"):
        if name not in frame:
            faults.add(
                f"column {name!r}",
                "is missing",
                f"name it with columns={{...: {name!r}}}; the table has {', '.join(map(str, frame.columns))}",
            )
    for name in (*FACTORS, "loss"):
        if name in frame:
            numbers = pd.to_numeric(frame[name], errors="coerce")
            wrong = frame.index[numbers.isna() & frame[name].notna()]
            if len(wrong):
                faults.add(
                    f"column {name!r}", f"is not a number in rows {_rows(wrong)}", f"first: {frame[name][wrong[0]]!r}"
                )
    if not len(frame):
        faults.add("table", "has no rows", "give at least one run")


def _rows(index: pd.Index | list[int]) -> str:
    listed = [str(row) for row in index[:6]]
    return ", ".join(listed) + (f" and {len(index) - 6} more" if len(index) > 6 else "")


# ------------------------------------------------------------------------------------------------------------- findings


def _findings(frame: pd.DataFrame) -> Iterator[Finding]:
    yield from _unusable(frame)
    yield from _units(frame)
    good = frame[np.isfinite(frame["loss"]) & (frame["loss"] > 0) & (frame["examples"] > 0)]
    yield from _duplicates(good)
    for label, curve in curves(good):
        yield from _curve_findings(label, curve)
    yield from _copies(good)


def _unusable(frame: pd.DataFrame) -> Iterator[Finding]:
    present = [name for name in (*FACTORS, "loss") if name in frame]
    masks = {
        "not finite": ~np.isfinite(frame[present]).all(axis=1),
        "loss not positive": frame["loss"] <= 0,
        "size 0": frame["examples"] == 0,
        "negative factor": (frame[[name for name in present if name != "loss"]] < 0).any(axis=1),
    }
    if "flag" in frame:
        masks["flagged"] = frame["flag"].fillna("").astype(str) != ""
    words = {
        "size 0": "the untouched base is not on the curve",
        "flagged": "the run diverged or did not learn",
    }
    for kind, mask in masks.items():
        rows = frame[mask].index
        if len(rows):
            why = words.get(kind, "a law needs positive finite numbers")
            yield Finding(kind, tuple(rows), f"{len(rows)} rows ({_rows(rows)}) are kept out of fits: {why}", True)


def _units(frame: pd.DataFrame) -> Iterator[Finding]:
    for name, least in (("model_params", 1e3), ("pretrain_tokens", 1e4)):
        if name in frame:
            rows = frame.index[(frame[name] > 0) & (frame[name] < least)]
            if len(rows):
                yield Finding(
                    "unit", tuple(rows), f"{name} below {least:g} in rows {_rows(rows)}: is it in millions or billions?"
                )
    for name in FACTORS:
        if name in frame and frame[name].gt(0).any() and frame[name].max() > 1e8 * frame[name][frame[name] > 0].min():
            yield Finding("unit", (), f"{name} spans more than eight decades: are two units mixed?")
    rows = frame.index[frame["loss"] > 20]
    if len(rows):
        yield Finding(
            "unit", tuple(rows), f"loss above 20 in rows {_rows(rows)}: is it a perplexity? A law wants nats per token"
        )


def curve_columns(frame: pd.DataFrame) -> list[str]:
    """Columns that tell one curve in ``examples`` from another."""
    return [name for name in (*KEYS, "model_params", "pretrain_tokens", "pet_params", "seed") if name in frame]


def curves(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every curve in ``examples`` with a readable name, sorted by ``examples``."""
    keys = curve_columns(frame)
    if not keys:
        yield "the only curve", frame.sort_values("examples", kind="stable")
        return
    for key, part in frame.groupby(keys, dropna=False, sort=True):
        label = " ".join(str(value) for name, value in zip(keys, key, strict=True) if name in (*KEYS, "seed"))
        yield label or str(key), part.sort_values("examples", kind="stable")


def _duplicates(frame: pd.DataFrame) -> Iterator[Finding]:
    keys = [*curve_columns(frame), "examples"]
    twice = frame.index[frame.duplicated([*keys, "loss"], keep=False)]
    if len(twice):
        yield Finding("duplicate", tuple(twice), f"{len(twice)} rows ({_rows(twice)}) repeat another row entirely")
    if "seed" in frame:
        clash = frame[frame.duplicated(keys, keep=False) & ~frame.duplicated([*keys, "loss"], keep=False)].index
        if len(clash):
            yield Finding("conflict", tuple(clash), f"rows {_rows(clash)} are the same run with different losses")


def _curve_findings(label: str, curve: pd.DataFrame) -> Iterator[Finding]:
    level = curve.groupby("examples")["loss"].mean()
    n, loss = level.index.to_numpy(dtype=float), level.to_numpy(dtype=float)
    if len(loss) < 2:
        return
    same = np.flatnonzero(np.isclose(np.diff(loss), 0.0, atol=1e-9))
    if len(same):
        yield Finding(
            "repeated value",
            _at(curve, n, same + 1),
            f"{label}: the loss is the same at two sizes, {n[same[0]]:g} and {n[same[0] + 1]:g}",
        )
    up = np.flatnonzero(np.diff(np.log(loss)) > 0)
    if len(up):
        yield Finding(
            "rise", _at(curve, n, up + 1), f"{label}: the loss rises from {n[up[0]]:g} to {n[up[0] + 1]:g} examples"
        )
    straight = _straight(np.log(n), loss)
    if len(straight):
        yield Finding(
            "straight line",
            _at(curve, n, straight),
            f"{label}: {len(straight)} points up to {n[straight[-1]]:g} lie on a line in log examples: made by hand?",
        )


def _straight(x: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Four or more points on a falling straight line: three slopes equal to 1e-4, which noise does not do."""
    slope = np.diff(loss) / np.diff(x)
    equal = np.flatnonzero((np.abs(np.diff(slope)) < 1e-4 * np.abs(slope[1:])) & (np.abs(slope[1:]) > 1e-3))
    keep = [i for i in equal if i + 1 in equal]
    return np.unique([j for i in keep for j in range(i, i + 4)]).astype(int)


def _copies(frame: pd.DataFrame) -> Iterator[Finding]:
    """The same value to many digits at the same size in two different curves."""
    digits = frame[(frame["loss"] * 1e7 % 1e3 > 1) & (frame["loss"] * 1e7 % 1e3 < 999)]
    decimals = (digits["loss"] * 1e10 % 1e8).round()
    place = pd.DataFrame({"examples": digits["examples"], "decimals": decimals})
    twice = place[place.duplicated(keep=False)]
    for rows in twice.groupby(["examples", "decimals"]).groups.values():
        part = digits.loc[rows]
        keys = curve_columns(part)
        names = part[keys].drop_duplicates() if keys else part.iloc[:1]
        if len(names) > 1:
            where = " and ".join(names["base" if "base" in names else keys[0]].astype(str).tolist()[:2])
            yield Finding(
                "shared decimals",
                tuple(part.index),
                f"{where} share their decimals at {part['examples'].iloc[0]:g} examples: copied?",
            )


def _at(curve: pd.DataFrame, n: np.ndarray, which: np.ndarray) -> tuple[int, ...]:
    return tuple(int(row) for row in curve.index[curve["examples"].isin(n[which])])
