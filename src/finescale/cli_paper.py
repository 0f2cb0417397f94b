"""The verbs after the paper: ``tables`` and ``claims``, on a study or on anybody's table of runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finescale import cli_engine, cli_stats
from finescale.cli_call import file_of, folder_place, pairs
from finescale.errors import Fault, InputError, Refused, collecting
from finescale.terminal import say, told

if TYPE_CHECKING:
    import pandas as pd

    from finescale.stats.runs import Runs

Probes = Annotated[
    Path | None,
    typer.Option(
        "--probes",
        metavar="PATH",
        help="long table of probes beside a table of runs",
        parser=file_of("a table of probes"),
    ),
]
Level = Annotated[float, typer.Option(min=0.5, max=1, help="probability that an interval holds")]
Draws = Annotated[int, typer.Option(min=20, help="refits behind every interval")]
Json = cli_stats.Json
OUT = Path("report") / "paper"


def tables(
    target: cli_engine.StudyOrFile,
    to: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="PATH", help="folder to write to; STUDY/report/paper by default", parser=folder_place
        ),
    ] = None,
    probes: Probes = None,
    column: cli_stats.Rename = None,
    level: Level = 0.9,
    draws: Draws = 200,
    seed: cli_stats.Seed = 0,
    as_json: Json = False,
) -> None:
    """Write the paper's tables and figures, each with its CSV, and say what could not be made and why."""
    import finescale as fs
    from finescale.stats.claims import check_asked
    from finescale.study.links import refuse_links

    check_asked(level, draws)  # before a large study is read
    if target.is_dir():
        refuse_links(target)
    found = _material(target, probes, column)
    folder = to or (target / OUT if target.is_dir() else target.parent / f"{target.stem}-paper")
    asked = {"level": level, "draws": draws, "seed": seed, "note": found.note, "tell": _tell}
    made = fs.tables(found.runs, folder, found.probes, found.bases, **asked)
    say(made.to_dict() if as_json else made)


def claims(
    target: cli_engine.StudyOrFile,
    probes: Probes = None,
    column: cli_stats.Rename = None,
    level: Level = 0.9,
    draws: Draws = 200,
    seed: cli_stats.Seed = 0,
    as_json: Json = False,
) -> None:
    """Judge the paper's claims: each holds, fails or is undecided, with its statistic, interval, runs and rule."""
    import finescale as fs
    from finescale.stats.claims import check_asked

    check_asked(level, draws)  # before a large study is read
    found = _material(target, probes, column)
    judged = fs.claims(found.runs, found.probes, level, draws, seed, found.note, _tell)
    say(judged.to_dict() if as_json else judged)


def _tell(line: str) -> None:
    told.print(line, soft_wrap=True)


@dataclass(frozen=True)
class Material:
    """What both verbs read: runs, probes and bases, and what a reader must know of the runs as a whole."""

    runs: Runs
    probes: pd.DataFrame | None = None
    bases: pd.DataFrame | None = None
    note: str = ""


def _material(target: Path, probes: Path | None, column: list[str] | None) -> Material:
    """What there is to read of a study or of files; what a reader must know is told at once."""
    from finescale.stats.runs import read_runs

    if not target.is_dir():
        with collecting() as faults:
            table = faults.tried(read_runs, target, faults.tried(pairs, column, "--column"))
            told = None if probes is None else faults.tried(read_frame, probes)
        assert table is not None, "a table without faults is read"
        return Material(table, told)
    if probes is not None or column:
        raise InputError(Fault("--probes, --column", "are for a table of runs", "a study knows its own"))
    found = _study(target)
    if found.note:
        _tell(found.note)
    return found


def _study(folder: Path) -> Material:
    from finescale.stats.runs import read_runs
    from finescale.study.analyse import bases, note_on
    from finescale.study.lock import open_study
    from finescale.study.table import probes

    study = open_study(folder)
    table = study.table()
    if not (table["flag"] == "").any():
        raise Refused(f"study {study.name!r} has no usable run yet: {len(table)} finished, all flagged or none at all")
    return Material(read_runs(table), probes(study.store, study.plan), bases(study), note_on(study, table))


def read_frame(path: Path) -> pd.DataFrame:
    """A long table from CSV or Parquet.

    Raises:
        InputError: the file is not there, cannot be read, or is of another kind.
    """
    import pandas as pd

    from finescale.errors import near
    from finescale.stats.paths import file_there

    readers: dict[str, Any] = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    if file_there(path, "a table of probes").suffix not in readers:
        raise InputError(Fault(str(path), "is neither CSV nor Parquet", near(path.suffix, readers)))
    try:
        frame: pd.DataFrame = readers[path.suffix](path)
    except (ValueError, OSError) as error:
        raise InputError(Fault(str(path), f"cannot be read: {error}", f"check that it is {path.suffix[1:]}")) from error
    return frame
