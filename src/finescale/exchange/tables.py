"""Tables of runs on disk: CSV, Parquet or JSONL, written aside and renamed into place."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pandas as pd

from finescale.errors import Fault, InputError, near

WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    ".csv": lambda frame, path: frame.to_csv(path, index=False),
    ".parquet": lambda frame, path: frame.to_parquet(path, index=False),
    ".jsonl": lambda frame, path: _write_lines(frame, path),
}


def _write_lines(frame: pd.DataFrame, path: Path) -> None:
    """One JSON object a line, numbers in full; what is missing is null."""
    clean = frame.astype(object).where(frame.notna(), None)
    with path.open("w", encoding="utf-8") as out:
        for row in clean.to_dict("records"):
            cells = {str(name): getattr(value, "item", lambda value=value: value)() for name, value in row.items()}
            out.write(json.dumps(cells, ensure_ascii=False, allow_nan=False) + "\n")


def check_table(path: Path, sources: Sequence[Path] = (), option: str = "--out") -> None:
    """Refuse a place where no table can be written, before anything is read; ``option`` is what named it.

    Raises:
        InputError: another kind of file, a folder or in one that is not there, or one of the sources.
    """
    if path.suffix not in WRITERS:
        raise InputError(Fault(f"{option} {path}", "is no kind of table", near(path.suffix, WRITERS)))
    if not path.parent.is_dir():
        raise InputError(Fault(f"{option} {path}", "is in a folder that is not there", "make it first"))
    if path.is_dir():
        raise InputError(Fault(f"{option} {path}", "is a folder", f"name a file in it: runs{path.suffix}, say"))
    if path.resolve() in {source.resolve() for source in sources}:
        raise InputError(Fault(f"{option} {path}", "is what is read", "name another file"))


def write_table(frame: pd.DataFrame, path: Path, option: str = "--out") -> None:
    """Write a table, whole or not at all.

    Raises:
        InputError: it cannot be written there, or holds what such a file cannot; nothing is left.
    """
    check_table(path, option=option)
    aside = path.with_name(path.name + ".part")
    try:
        aside.unlink(missing_ok=True)  # a link of that name is not written through
        WRITERS[path.suffix](frame, aside)
        with aside.open("rb") as written:
            os.fsync(written.fileno())
        aside.replace(path)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(Fault(str(path), f"cannot be written: {error}", "name another file or kind")) from error
    finally:
        with suppress(OSError):  # there is none to take away
            aside.unlink()
