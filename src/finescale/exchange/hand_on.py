"""Hand runs on to other tools: which exporters there are, and what each is given."""

from __future__ import annotations

import pkgutil
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pandas as pd

from finescale.core import FACTORS
from finescale.errors import Fault, InputError, Refused, near
from finescale.exchange import exporters
from finescale.exchange.ask import given, plain
from finescale.exchange.found import Fact
from finescale.exchange.gather import LEAST
from finescale.exchange.known import KEPT
from finescale.stats.runs import KEYS

SETTINGS = (*KEYS, *FACTORS, "seed", *KEPT)
"""Columns that say what a run is; every other number is a score of it."""


@dataclass(frozen=True)
class Exporter:
    """A place that runs are handed on to.

    Attributes:
        name: as ``finescale export NAME`` has it.
        summary: what it writes, in a few words.
        check: looks at a place before any run is read; raises ``InputError`` where nothing can be written to it.
        write: writes a table of runs under a title to a place, and says what it wrote; raises ``Refused`` where the
            tool is not installed and ``InputError`` where nothing can be written.
    """

    name: str
    summary: str
    check: Callable[[str], object]
    write: Callable[[pd.DataFrame, str, str], str]


@dataclass(frozen=True)
class Handed:
    """A run as trackers take it: what it is, what it scored, and why no fit should use it."""

    name: str
    settings: dict[str, Fact]
    scores: dict[str, float]
    words: dict[str, str]
    flag: str


def names() -> list[str]:
    """Exporters there are, by the names of their files."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(exporters.__path__))


def exporter(name: str) -> Exporter:
    """The exporter of a name.

    Raises:
        InputError: there is none.
    """
    if name not in names():
        raise InputError(Fault(f"export {name!r}", "is unknown", near(name, names())))
    found: Exporter = import_module(f"{exporters.__name__}.{name.replace('-', '_')}").EXPORTER
    return found


def handed(frame: pd.DataFrame) -> list[Handed]:
    """The rows of a table as trackers take them; cells that say nothing are left out."""
    runs = []
    for index, row in enumerate(frame.to_dict("records")):
        cells = {str(name): plain(value) for name, value in row.items() if given(value)}
        name = str(cells.pop("run", f"run-{index}"))
        flag = str(cells.pop("flag", ""))
        known = {column: value for column, value in cells.items() if column in SETTINGS}
        rest = {column: value for column, value in cells.items() if column not in SETTINGS}
        numbers = {c: float(v) for c, v in rest.items() if isinstance(v, int | float) and not isinstance(v, bool)}
        words = {column: str(value) for column, value in rest.items() if column not in numbers}
        runs.append(Handed(name, known, numbers, words, flag))
    return runs


def check_runs(frame: pd.DataFrame) -> None:
    """Refuse a table that tells of no run.

    Raises:
        InputError: it is empty or lacks a column that every run has.
    """
    missing = [Fault(f"column {name!r}", "is missing", "give a table of runs") for name in LEAST if name not in frame]
    if missing or not len(frame):
        raise InputError(*(missing or [Fault("table", "has no runs", "give at least one")]))


def check_place(to: str) -> Path:
    """The file or folder to write to.

    Raises:
        InputError: the folder it would be in is not there.
    """
    path = Path(to)
    if not path.parent.is_dir():
        raise InputError(Fault(to, "is in a folder that is not there", "make it first"))
    return path


def check_folder(to: str) -> Path:
    """The folder to write to.

    Raises:
        InputError: it is a file, or the folder it would be in is not there.
    """
    path = check_place(to)
    if path.exists() and not path.is_dir():
        raise InputError(Fault(to, "is a file", "name a folder"))
    return path


@contextmanager
def aside_of(folder: Path) -> Iterator[Path]:
    """A hidden folder beside one that is to be written; what is still in it at the end is thrown away.

    Raises:
        InputError: no folder can be made there.
    """
    try:
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.resolve().parent))
    except OSError as error:
        what = f"cannot be written to {folder.parent}: {error.strerror}"
        raise InputError(Fault(str(folder), what, "name another folder")) from error
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def lacking(tool: str, package: str) -> Refused:
    """That a tool is not installed, and how to have it."""
    return Refused(f"{tool} is not installed: pip install 'finescale[{package}]'")
