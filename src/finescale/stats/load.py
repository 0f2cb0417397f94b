"""Tables on disk, whatever their columns: CSV, TSV, Parquet or JSONL; what is none of them is named."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from finescale import kinds
from finescale.errors import Fault, InputError, near
from finescale.stats.paths import file_there


def _read_text(path: Path, mark: str = ",") -> pd.DataFrame:
    """A table of text, columns named without the blanks around their names.

    Raises:
        InputError: cells are apart by another mark.
        ValueError: rows have more cells than the header has names, which pandas would take for names of rows.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # cells that no column has; empty ones at the end pass
        try:
            frame: pd.DataFrame = pd.read_csv(path, sep=mark, index_col=False)
        except pd.errors.ParserWarning:
            _check_separator(path, pd.read_csv(path, sep=mark))
            what = f"rows have more cells than the header has names; is {mark!r} written within numbers?"
            raise ValueError(what) from None
    return frame.rename(columns=lambda name: name.strip() if isinstance(name, str) else name)


def _read_lines(path: Path) -> pd.DataFrame:
    """A table of JSON, an object a line."""
    if (other := kinds.no_lines(path)) is not None:
        raise InputError(Fault(str(path), *other))
    return pd.read_json(path, lines=True, precise_float=True, encoding="utf-8-sig")


_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": _read_text,
    ".tsv": lambda path: _read_text(path, "\t"),
    ".parquet": pd.read_parquet,
    ".jsonl": _read_lines,
}


def load_frame(source: str | Path | pd.DataFrame) -> pd.DataFrame:
    """The table as it stands, whatever its columns: CSV, TSV, Parquet or JSONL.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    if isinstance(source, pd.DataFrame):
        return source.copy()
    if not isinstance(source, str | Path):
        what = f"is a {type(source).__name__}, not a table of runs"
        raise InputError(Fault("runs", what, "give a file, a pandas DataFrame or what read_runs returned"))
    path = file_there(Path(source))
    kind = path.suffix.lower()
    if kind != ".parquet" and (other := _opened(path)) is not None:
        raise InputError(Fault(str(path), *other))
    if kind not in _READERS:
        what = f"cannot read {path.suffix or 'a file without a suffix'}"
        raise InputError(Fault(str(path), what, near(kind, _READERS)))
    try:
        frame = _READERS[kind](path)
    except InputError:
        raise
    except Exception as error:  # parsers meet a damaged file with whatever they stumble on first
        what = f"cannot be read: {type(error).__name__}: {' '.join(str(error).split())}"
        way = kinds.UTF8 if isinstance(error, UnicodeDecodeError) else f"check that it is {kind[1:]}"
        raise InputError(Fault(str(path), what, way)) from error
    _check_separator(path, frame)
    return frame


def _opened(path: Path) -> tuple[str, str] | None:
    """What a file is that is no text, and the way out."""
    try:
        return kinds.no_text(path)
    except OSError as error:
        raise InputError(Fault(str(path), f"cannot be read: {error.strerror}", "see that you may")) from error


def _check_separator(path: Path, frame: pd.DataFrame) -> None:
    """Refuse a CSV file whose columns were not told apart, as spreadsheets in much of Europe write it."""
    head = str(frame.columns[0]) if len(frame.columns) else ""
    mark = next((mark for mark in (";", "\t", "|") if head.count(mark)), "")
    if path.suffix.lower() == ".csv" and mark and len(frame.columns) <= 2:
        what = f"has columns apart by {mark!r}, not by commas: {head[:60]!r}"
        read = f"pandas.read_csv({path.name!r}, sep={mark!r}, decimal=',')"
        way = f"save it with commas, or in Python: {read}.to_csv('runs.csv', index=False)"
        raise InputError(Fault(str(path), what, way))
