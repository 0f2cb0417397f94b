"""Read anybody's table of runs, and say what looks wrong in it without dropping anything silently."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finescale.core import FACTORS
from finescale.errors import Faults, collecting, near, nearest
from finescale.stats import units
from finescale.stats.load import load_frame
from finescale.stats.logs import better_when_higher, floats, log_in

# A table made of copies would say so thousands of times.
_MOST_COPIES = 20
KEYS = ("task", "method", "base", "family")
CANONICAL = (*KEYS, *FACTORS, "loss", "seed")
# Sizes as people write them: 1,000 and 160M and 1.4B.
_WRITTEN = re.compile(r"\s*(\d+(?:\.\d*)?|\d{1,3}(?:,\d{3})+)\s*([kmbgt]?)\s*", re.IGNORECASE)
_LETTERS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


@dataclass(frozen=True)
class Finding:
    """Something noticed in a table: its kind, the rows, a sentence, and whether they leave the fit.

    ``rows`` are positions in ``Runs.frame``, from 0; the sentence counts as the user sees them (``Places``).
    """

    kind: str
    rows: tuple[int, ...]
    sentence: str
    excludes: bool = False

    def __str__(self) -> str:
        return f"{self.kind}: {self.sentence}"


@dataclass(frozen=True)
class Places:
    """How rows are named in messages: lines of a text file as an editor counts them, else rows from 0, as pandas does.

    In a CSV file the header is line 1 and the first run line 2; in JSONL the first run is line 1. Blank lines and line
    breaks inside quotes are not counted.
    """

    word: str = "row"
    first: int = 0

    def __call__(self, rows: Iterable[int]) -> str:
        """``rows 3, 4, 9 and 2 more``."""
        every = list(rows)
        listed = ", ".join(str(int(row) + self.first) for row in every[:6])
        more = f" and {len(every) - 6} more" if len(every) > 6 else ""
        return f"{self.word}{'s' if len(every) > 1 else ''} {listed}{more}"


_PLACES = {".csv": Places("line", 2), ".tsv": Places("line", 2), ".jsonl": Places("line", 1)}


@dataclass(frozen=True)
class Runs:
    """A table with one row per run, and the findings about it.

    Attributes:
        frame: every row that was read, with canonical column names (see ``finescale.core``) and a fresh integer index.
        findings: what looks wrong; those with ``excludes`` name rows that no fit uses.
        places: how messages name rows.
    """

    frame: pd.DataFrame
    findings: tuple[Finding, ...]
    places: Places = Places()

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
            ``loss`` are required. ``loss_unit`` names the unit of the loss (``bits per byte``); a column renamed to
            ``loss`` whose name tells it sets it. Other columns are kept.

    Raises:
        InputError: the file cannot be read, a column is missing or not a number; every fault is listed.
    """
    frame = load_frame(source)
    _check_renames(frame, columns or {})
    frame = _with_unit(frame, columns or {}).rename(columns=columns or {}).reset_index(drop=True)
    places = Places() if isinstance(source, pd.DataFrame) else _PLACES.get(Path(source).suffix.lower(), Places())
    frame, written = _sizes(frame)
    with collecting() as faults:
        _check_columns(frame, places, faults)
        _check_log(frame, columns or {}, places, faults)
    numbers = {name: pd.to_numeric(frame[name]).astype(float) for name in (*FACTORS, "loss") if name in frame}
    frame = frame.assign(**numbers)
    return Runs(frame, (*written, *_findings(frame, places)), places)


def size(text: str) -> float:
    """A size as people write it: ``1000``, ``1,000``, ``1e3``, ``160M``, ``1.4B`` (k, M, B or G, T; either case).

    Raises:
        ValueError: it is none.
    """
    found = _WRITTEN.fullmatch(text)
    if found is None:
        try:
            return float(text)
        except ValueError:
            raise ValueError(f"{text!r} is no size, as 1000, 1e3 or 160M are") from None
    return float(Decimal(found[1].replace(",", "")) * int(_LETTERS[found[2].lower()]))


def _sizes(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """The frame with sizes that are written with letters or commas as numbers, and a finding for each such column."""
    said = []
    for name in FACTORS:
        if list(frame.columns).count(name) != 1 or pd.api.types.is_numeric_dtype(frame[name]):
            continue
        cells = frame[name].map(_size_or_cell)
        changed = frame.index[frame[name].map(lambda cell: isinstance(cell, str) and not _is_number(cell))]
        changed = changed[[isinstance(cells[row], float) for row in changed]]
        frame = frame.assign(**{name: cells})
        if len(changed):
            first = f"{frame[name][changed[0]]:,.15g}"
            said.append(
                Finding("written size", tuple(changed), f"{name}: sizes are read as numbers, the first as {first}")
            )
    return frame, said


def _size_or_cell(cell: Any) -> Any:
    try:
        return size(cell) if isinstance(cell, str) else cell
    except ValueError:
        return cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_renames(frame: pd.DataFrame, columns: dict[str, str]) -> None:
    with collecting() as faults:
        for old, new in columns.items():
            if old not in frame:
                faults.add(f"columns[{old!r}]", "is not in the table", near(old, map(str, frame.columns)))
            elif new in frame and new != old and new not in columns:
                faults.add(f"columns[{old!r}]", f"{new!r} is in the table already", "rename that column too")
            elif new == "loss" and better_when_higher(old):
                way = f"finescale import table FILE --loss '1 - {old}' makes it an error, '100 - {old}' one in per cent"
                faults.add(f"columns[{old!r}]", "is better when higher, and a loss is better when lower", way)


def _with_unit(frame: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """The table with the unit that the new loss's own name tells, in the place of what was said of another loss."""
    theirs = next((old for old, new in columns.items() if new == "loss" and old != "loss"), None)
    unit = "" if theirs is None else units.unit_named(theirs)
    if theirs is None or (not unit and "loss" not in frame):
        return frame
    return frame.assign(**{units.COLUMN: unit or None})


def _check_log(frame: pd.DataFrame, columns: dict[str, str], places: Places, faults: Faults) -> None:
    log = log_in(frame, columns)
    if log is not None:
        whose = f"run {log.run!r}" if log.run else "one run"
        what = f"counts upwards within {whose} ({places(log.rows)}): a log of training, not runs of different sizes"
        faults.add(f"column {log.column!r}", what, f"finescale import table FILE {log.way(columns)}")


def _check_columns(frame: pd.DataFrame, places: Places, faults: Faults) -> None:
    names = list(map(str, frame.columns))
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        faults.add(f"column {name!r}", f"is there {names.count(name)} times", "keep one")
    for name in ("examples", "loss"):
        if name not in frame:
            close = nearest(name, names)
            like, theirs = (f"is it {close!r}? ", close) if close is not None else ("", "THEIRS")
            way = f"say which one it is: columns={{{theirs!r}: {name!r}}}, or --column {theirs}={name}"
            way += f" on the command line; the table has {', '.join(names)}"
            faults.add(f"column {name!r}", "is missing", like + way)
    for name in (*FACTORS, "loss"):
        if names.count(name) == 1:
            numbers = pd.to_numeric(frame[name], errors="coerce")
            wrong = frame.index[numbers.isna() & frame[name].notna()]
            if len(wrong):
                what, first = f"is not a number in {places(wrong)}", f"first: {frame[name][wrong[0]]!r}"
                faults.add(f"column {name!r}", what, first + _spelling(str(frame[name][wrong[0]])))
    _check_thousands(frame, places, faults)
    for name in (*KEYS, "seed", "flag"):
        if names.count(name) == 1 and not (plain := frame[name].map(_is_scalar).astype(bool)).all():
            where = places(frame.index[~plain])
            faults.add(f"column {name!r}", f"is a list or a table in {where}", "give one word or number a cell")
    if not len(frame):
        faults.add("table", "has no rows", "give at least one run")


def _spelling(text: str) -> str:
    """How a number should have been written that is written as in other languages; nothing for other words."""
    if re.fullmatch(r"\s*\d{1,3}(?:[.\s\u00a0\u202f'’]\d{3})+\s*", text):
        return "; thousands are written 1024 or 1,024"
    if text.strip().endswith("%"):
        return "; numbers are written without %"
    return "; decimals are written with a point" if re.fullmatch(r"\s*\d+,\d+\s*", text) else ""


def _check_thousands(frame: pd.DataFrame, places: Places, faults: Faults) -> None:
    """Examples of up to three decimals: 1.024 is a thousand and some in much of Europe, and one here."""
    if list(frame.columns).count("examples") != 1:
        return
    numbers = floats(frame["examples"])
    parts = np.isfinite(numbers) & (numbers % 1 != 0) & (np.abs(numbers) < 1e6)
    parts &= np.isclose(np.round(1000 * numbers), 1000 * numbers, rtol=1e-12, atol=0)
    rows = frame.index[parts]
    if len(rows):
        what = f"is {frame['examples'][rows[0]]} in {places(rows)}, and examples are whole"
        faults.add("column 'examples'", what, "thousands are written 1024 or 1,024, not with a point")


def _is_scalar(cell: Any) -> bool:
    return not isinstance(cell, list | dict | np.ndarray)


# ------------------------------------------------------------------------------------------------------------- findings


def _findings(frame: pd.DataFrame, places: Places) -> Iterator[Finding]:
    yield from _unusable(frame, places)
    yield from _missing(frame, places)
    yield from _units(frame, places)
    good = frame[np.isfinite(frame["loss"]) & (frame["loss"] > 0) & (frame["examples"] > 0)]
    good = good[np.isfinite(good["examples"])]
    yield from _duplicates(good, places)
    yield from _curve_findings(good)
    yield from _copies(good)


def _unusable(frame: pd.DataFrame, places: Places) -> Iterator[Finding]:
    factors = frame[[name for name in FACTORS if name in frame]]
    # A factor that is not given (no PET size under full finetuning) leaves only the fits that need it.
    infinite = np.isinf(factors).any(axis=1)
    masks = {
        "not finite": ~np.isfinite(frame[["examples", "loss"]]).all(axis=1) | infinite,
        "loss not positive": frame["loss"] <= 0,
        "size 0": frame["examples"] == 0,
        "negative factor": (factors < 0).any(axis=1),
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
            what = f"{len(rows)} of {len(frame)} ({places(rows)}) kept out of fits: {why}"
            yield Finding(kind, tuple(rows), what, True)


def _missing(frame: pd.DataFrame, places: Places) -> Iterator[Finding]:
    """Columns that say something of some runs only."""
    for name in (*KEYS, *FACTORS[:-1], "seed"):
        if name in frame and frame[name].isna().any() and not frame[name].isna().all():
            rows = frame.index[frame[name].isna()]
            if name in FACTORS:
                use = f"fits that need {name} leave them out"
            else:
                use = f"they are taken as a {name} of their own"
            yield Finding("missing value", tuple(rows), f"{name} is not given in {places(rows)}: {use}")


def _units(frame: pd.DataFrame, places: Places) -> Iterator[Finding]:
    for name, least in (("model_params", 1e3), ("pretrain_tokens", 1e4)):
        if name in frame:
            rows = frame.index[(frame[name] > 0) & (frame[name] < least)]
            if len(rows):
                what = f"{name} below {least:g} in {places(rows)}: is it in millions or billions?"
                yield Finding("unit", tuple(rows), what)
    for name in FACTORS[:-1]:
        if name in frame and len(rows := frame.index[frame[name] == 0]):
            what = f"{name} is 0 in {places(rows)}: a fit of {name} refuses them, since a law has no value there"
            yield Finding("size 0", tuple(rows), what)
    for name in FACTORS:
        if name in frame:
            good = frame[name][(frame[name] > 0) & np.isfinite(frame[name])]
            if len(good) and good.max() > 1e8 * good.min():
                yield Finding("unit", (), f"{name} spans more than eight decades: are two units mixed?")
    rows = frame.index[frame["loss"] > 20]
    if len(rows) and not units.units_of(frame):
        what = f"loss above 20 in {places(rows)}: is it a perplexity? A law wants nats per token"
        yield Finding("unit", tuple(rows), what)


def curve_columns(frame: pd.DataFrame) -> list[str]:
    """Columns that tell one curve in ``examples`` from another."""
    return [name for name in (*KEYS, "model_params", "pretrain_tokens", "pet_params", "seed") if name in frame]


def _duplicates(frame: pd.DataFrame, places: Places) -> Iterator[Finding]:
    keys = [*curve_columns(frame), "examples"]
    one = [*keys, "loss"]
    twice = frame[frame.duplicated(one, keep=False)]
    copies = twice.index[twice.duplicated(one) & _one_run(twice)]
    if len(copies):
        what = f"{places(copies)} repeat a run that is there already: kept out of fits, since a run counts once"
        yield Finding("repeated run", tuple(copies), what, True)
    rest = twice.drop(copies)
    alike = rest.index[rest.duplicated(one, keep=False)]
    if len(alike):
        what = f"{places(alike)} repeat another row and count as runs of their own: drop copies, or give each its seed"
        yield Finding("duplicate", tuple(alike), what)
    if "seed" in frame:
        clash = frame[frame.duplicated(keys, keep=False) & ~frame.duplicated(one, keep=False)].index
        if len(clash):
            yield Finding("conflict", tuple(clash), f"{places(clash)} are the same run with different losses")


def _one_run(twice: pd.DataFrame) -> pd.Series:
    """Which rows (N,) are the run that the row they equal is.

    All of such a row is the same, and it gives its seed or a loss of six digits or more, which chance does not repeat.
    Rows that differ elsewhere may be two settings with one outcome, as epochs that early stopping cut off.
    """
    same = twice.astype(str).duplicated(keep=False)
    long = twice["loss"].map(lambda loss: float(f"{loss:.5g}") != loss).astype(bool)
    return same & (long | twice["seed"].notna() if "seed" in twice else long)


@dataclass(frozen=True)
class _Levels:
    """Mean loss per curve and size, curve by curve and size by size: (N,) each; ``pair[i]`` says i and i+1 are one."""

    curve: np.ndarray
    n: np.ndarray
    loss: np.ndarray
    pair: np.ndarray

    @classmethod
    def of(cls, frame: pd.DataFrame, curve: np.ndarray) -> _Levels:
        level = frame.groupby([curve, frame["examples"]], sort=True)["loss"].mean()
        codes, n = (np.asarray(level.index.get_level_values(i)) for i in (0, 1))
        return cls(codes, n.astype(float), level.to_numpy(dtype=float), np.diff(codes) == 0)


def _curve_findings(frame: pd.DataFrame) -> Iterator[Finding]:
    """Repeated values, rises and straight lines, in the order of the curves."""
    if not len(frame):
        return
    keys = curve_columns(frame)
    curve = np.zeros(len(frame), dtype=int)
    if keys:
        curve = frame.groupby(keys, dropna=False, sort=True).ngroup().to_numpy()
    level = _Levels.of(frame, curve)
    step, rise = np.diff(level.loss), np.diff(np.log(level.loss))
    same = level.pair & np.isclose(step, 0.0, atol=1e-9)
    up = level.pair & (rise > 0) & ~same
    line = _straight(level)
    members = np.split(np.argsort(curve, kind="stable"), np.cumsum(np.bincount(curve))[:-1])
    told = {key: frame[key].to_numpy(dtype=object) for key in keys}
    for code in np.unique(level.curve[[*np.flatnonzero(same | up), *line]]):
        part = members[code]
        name = _label({key: values[part[0]] for key, values in told.items()})
        here = level.curve[:-1] == code
        for kind, mask, says in (("repeated value", same, "is the same at"), ("rise", up, "rises between")):
            at = np.flatnonzero(mask & here)
            if len(at):
                first, second = level.n[at[0]], level.n[at[0] + 1]
                what = f"{name}: the loss {says} {first:g} and {second:g} examples"
                what += f", and {len(at) - 1} times more" if len(at) > 1 else ""
                yield Finding(kind, _at(frame, part, level.n[at + 1]), what)
        own = line[level.curve[line] == code]
        if len(own):
            what = f"{len(own)} points up to {level.n[own[-1]]:g} lie on a line in log examples: made by hand?"
            yield Finding("straight line", _at(frame, part, level.n[own]), f"{name}: {what}")


def _label(told: dict[str, Any]) -> str:
    """A curve's name: its words, or else its numbers."""
    words = [str(value) for name, value in told.items() if name in (*KEYS, "seed")]
    return " ".join(words or [f"{name}={value:g}" for name, value in told.items()]) or "the table, taken as one curve"


def _straight(level: _Levels) -> np.ndarray:
    """Places of four or more points on a falling straight line: three slopes equal to 1e-4, which noise does not do."""
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(level.pair, np.diff(level.loss) / np.diff(np.log(level.n)), np.nan)
    near = np.abs(np.diff(slope)) < 1e-4 * np.abs(slope[1:])
    equal = np.flatnonzero(near & (np.abs(slope[1:]) > 1e-3))
    starts = equal[np.isin(equal + 1, equal)]
    return np.unique(starts[:, None] + np.arange(4)).astype(int)


def _copies(frame: pd.DataFrame) -> Iterator[Finding]:
    """The same value to many digits at the same size in two different curves."""
    decimals = (frame["loss"] * 1e10 % 1e8).round()
    # Losses rounded to six digits or fewer share decimals by chance.
    long = (decimals % 1e4 != 0) & (decimals % 1e4 != 9999)
    place = pd.DataFrame({"examples": frame["examples"], "decimals": decimals})[long]
    twice = place[place.duplicated(keep=False)]
    keys = curve_columns(frame)
    if not len(twice) or not keys:
        return
    for rows in list(twice.groupby(["examples", "decimals"]).groups.values())[:_MOST_COPIES]:
        part = frame.loc[rows]
        if len(part[keys].drop_duplicates()) > 1:
            column = next((name for name in ("base", *keys) if name in keys and part[name].nunique() > 1), keys[0])
            where = " and ".join(map(str, part[column].tolist()[:2]))
            what = f"{where} share their decimals at {part['examples'].iloc[0]:g} examples: copied?"
            yield Finding("shared decimals", tuple(part.index), what)


def _at(frame: pd.DataFrame, places: np.ndarray, n: np.ndarray) -> tuple[int, ...]:
    """Rows among ``places`` of a frame that have one of these sizes."""
    sizes = frame["examples"].to_numpy()[places]
    return tuple(frame.index.to_numpy()[places[np.isin(sizes, n)]].tolist())
