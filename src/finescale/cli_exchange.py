"""The verbs that bring other people's runs in and hand runs on to other tools: ``import`` and ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finescale import cli_engine, cli_stats
from finescale.cli_call import file_of, one_of, pair, pairs, source, table_place
from finescale.errors import Fault, InputError, collecting
from finescale.terminal import say

if TYPE_CHECKING:
    import pandas as pd

    from finescale.exchange.account import Imported


def _kinds() -> list[str]:
    from finescale.exchange.gather import names

    return names()


def _tools() -> list[str]:
    from finescale.exchange.hand_on import names

    return names()


Kind = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="what left the runs behind; `finescale list sources`",
        parser=one_of("source", _kinds),
    ),
]
Places = Annotated[
    list[Path],
    typer.Argument(metavar="PATH...", help="its folders or files; one may hold many runs", parser=source),
]
Out = Annotated[
    Path,
    typer.Option(
        "-o", "--out", metavar="PATH", help="the table to write: .csv, .parquet or .jsonl", parser=table_place
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="TEXT", help="a column that is the same for all runs: examples=1000", parser=pair("--set")
    ),
]
FromName = Annotated[
    str | None, typer.Option("--from-name", help=r"columns out of the runs' names: 'n(?P<examples>\d+)-s(?P<seed>\d+)'")
]
Facts = Annotated[
    Path | None,
    typer.Option(
        "--facts",
        metavar="PATH",
        help="a table with a column run, and others that are added",
        parser=file_of("a table of facts"),
    ),
]
Rename = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="TEXT", help="a setting that is a column: n_train=examples", parser=pair("--column")
    ),
]
Loss = Annotated[
    str | None, typer.Option("--loss", help="the score that is the loss; '1 - NAME' (or 100) where higher is better")
]
Step = Annotated[
    str | None, typer.Option("--step", help="column that numbers the lines of a run's log, of which one is taken")
]
Take = Annotated[
    str,
    typer.Option(
        "--take",
        metavar="TEXT",
        help="which of a run's evaluations: best (lowest) or last",
        parser=one_of("--take", lambda: ["best", "last"]),
    ),
]
Accept = Annotated[
    list[str] | None, typer.Option("--accept", help="a column that may be worked out where it is not written down")
]


def sources() -> dict[str, str]:
    """Kinds of sources that can be imported, and what each reads."""
    from finescale.exchange.gather import importer, names

    return {name: importer(name).summary for name in names()}


def import_(
    kind: Kind,
    paths: Places,
    to: Out,
    set_: Set = None,
    from_name: FromName = None,
    facts: Facts = None,
    column: Rename = None,
    loss: Loss = None,
    step: Step = None,
    take: Take = "best",
    accept: Accept = None,
    as_json: cli_stats.Json = False,
) -> None:
    """Read other people's runs into a table; say what was taken, skipped and not known, and which flag gives it."""
    from finescale.exchange.ask import Ask, check
    from finescale.exchange.gather import import_runs
    from finescale.exchange.tables import check_table, write_table

    with collecting() as faults:
        faults.tried(check_table, to, paths)
        values, columns = faults.tried(pairs, set_, "--set") or {}, faults.tried(pairs, column, "--column") or {}
        ask = Ask(values, from_name, facts, columns, loss, step, take, tuple(accept or ()))  # type: ignore[arg-type]
        faults.tried(check, ask)
    found = import_runs(kind, paths, ask)
    write_table(found.frame, to)
    if as_json:
        say({"table": str(to)} | found.to_dict())
        return
    say("\n".join([str(found), f"Written: {to}", *_next(found, to)]))


def _next(found: Imported, to: Path) -> list[str]:
    """Commands that go on from the table: a fit, and a forecast of ten times the most examples there are."""
    frame = found.runs.usable
    if not len(frame):
        return []
    by = [name for name in ("task", "method") if name in frame and frame[name].nunique() > 1]
    groups = "".join(f" --by {name}" for name in by)
    most = frame.sort_values("examples").iloc[-1]
    asked = ",".join([*(f"{name}={most[name]}" for name in by), f"examples={10 * most['examples']:.0f}"])
    return [
        f"Next: finescale fit {to}{groups}",
        f"      finescale forecast {to}{groups} --at {asked}",
    ]


Tool = Annotated[
    str,
    typer.Argument(
        metavar="TOOL", help="who takes the runs: table, mlflow, wandb or card", parser=one_of("export", _tools)
    ),
]
To = Annotated[str, typer.Option("--to", help="where: a file, a folder, or MLflow's tracking URI")]
Title = Annotated[str | None, typer.Option(help="name of the experiment, project or model; by default the source's")]


def export(
    tool: Tool,
    target: cli_engine.StudyOrFile,
    to: To,
    title: Title = None,
    column: cli_stats.Rename = None,
) -> None:
    """Hand the runs of a study or of a table on: to a table, to MLflow, to W&B (offline), to a model card."""
    from finescale.exchange.hand_on import check_runs, exporter

    writer = exporter(tool)
    with collecting() as faults:
        faults.tried(writer.check, to)
        frame = faults.tried(_runs, target, faults.tried(pairs, column, "--column") or {})
        if frame is not None:
            faults.tried(check_runs, frame)
    assert frame is not None, "a table without faults is read"
    say(f"Written: {writer.write(frame, title or target.resolve().stem, to)}")


def _runs(target: Path, columns: dict[str, str]) -> pd.DataFrame:
    from finescale.stats.runs import read_runs
    from finescale.study.lock import open_study

    if not target.is_dir():
        return read_runs(target, columns).frame
    if columns:
        raise InputError(Fault("--column", "is for a table of runs", "a study knows its own columns"))
    return open_study(target).table()
