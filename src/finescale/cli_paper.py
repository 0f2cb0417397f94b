"""The verbs after the paper: ``tables`` and ``claims``, on a study or on anybody's table of runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finescale import cli_stats
from finescale.errors import Fault, InputError, Refused

if TYPE_CHECKING:
    import pandas as pd

    from finescale.stats.runs import Runs

Target = Annotated[Path, typer.Argument(metavar="STUDY|FILE", help="a study's folder, or anybody's table of runs")]
Probes = Annotated[Path | None, typer.Option("--probes", help="long table of probes beside a table of runs")]
Level = Annotated[float, typer.Option(help="probability that an interval holds")]
Draws = Annotated[int, typer.Option(help="refits behind every interval")]
Json = cli_stats.Json
OUT = Path("report") / "paper"


def tables(
    target: Target,
    to: Annotated[Path | None, typer.Option("--out", help="folder to write to; STUDY/report/paper by default")] = None,
    probes: Probes = None,
    column: cli_stats.Rename = None,
    level: Level = 0.9,
    draws: Draws = 200,
    seed: cli_stats.Seed = 0,
    as_json: Json = False,
) -> None:
    """Write the paper's tables and figures, each with its CSV, and say what could not be made and why."""
    import finescale as fs

    runs, probed, bases = _material(target, probes, column)
    folder = to or (target / OUT if target.is_dir() else target.parent / f"{target.stem}-paper")
    written = fs.tables(runs, folder, probed, bases, level, draws, seed)
    typer.echo(json.dumps(written.to_dict(), indent=1, ensure_ascii=False) if as_json else str(written))


def claims(
    target: Target,
    probes: Probes = None,
    column: cli_stats.Rename = None,
    level: Level = 0.9,
    draws: Draws = 200,
    seed: cli_stats.Seed = 0,
    as_json: Json = False,
) -> None:
    """Judge the paper's claims: each holds, fails or is undecided, with its statistic, interval, runs and rule."""
    import finescale as fs

    runs, probed, _ = _material(target, probes, column)
    judged = fs.claims(runs, probed, level, draws, seed)
    typer.echo(json.dumps(judged.to_dict(), indent=1, ensure_ascii=False) if as_json else str(judged))


def _material(
    target: Path, probes: Path | None, column: list[str] | None
) -> tuple[Runs, pd.DataFrame | None, pd.DataFrame | None]:
    """Runs, probes and bases of a study or of files."""
    from finescale.stats.runs import read_runs

    if not target.is_dir():
        table = read_runs(target, cli_stats._pairs(column, "--column"))
        return table, None if probes is None else read_frame(probes), None
    if probes is not None or column:
        raise InputError(Fault("--probes, --column", "are for a table of runs", "a study knows its own"))
    return _study(target)


def _study(folder: Path) -> tuple[Runs, pd.DataFrame, pd.DataFrame]:
    from finescale.stats.runs import read_runs
    from finescale.study.analyse import _bases
    from finescale.study.lock import open_study
    from finescale.study.table import probes

    study = open_study(folder)
    table = study.table()
    if not (table["flag"] == "").any():
        raise Refused(f"study {study.name!r} has no usable run yet: {len(table)} finished, all flagged or none at all")
    return read_runs(table), probes(study.store, study.plan), _bases(study)


def read_frame(path: Path) -> Any:
    """A long table from CSV or Parquet.

    Raises:
        InputError: the file is not there, cannot be read, or is of another kind.
    """
    import pandas as pd

    readers: dict[str, Any] = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    if path.suffix not in readers or not path.is_file():
        raise InputError(Fault(str(path), "is no CSV or Parquet file that exists", "give a table of probes"))
    try:
        return readers[path.suffix](path)
    except (ValueError, OSError) as error:
        raise InputError(Fault(str(path), f"cannot be read: {error}", f"check that it is {path.suffix[1:]}")) from error
