"""The verbs that look after a study's runs: try failed ones again, check what is on disk, hand the table out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finescale import cli_own
from finescale.cli_call import table_place
from finescale.errors import Fault, InputError, collecting, near, nearest
from finescale.terminal import inert, out, say, told

if TYPE_CHECKING:
    from finescale.study.lock import Study
    from finescale.study.policy import Failure


TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".json", ".gz")
"""Endings of files, which no study's URL has."""


def study_at(wanted: str) -> Callable[[str], Path]:
    """A reader of a STUDY argument: a place that is there, or this machine's copy of the study at a URL, up to date.

    The reader raises ``InputError`` where there is nothing at the place, or no study at the URL.
    """

    def read(text: str) -> Path:
        from finescale.stats.paths import there
        from finescale.study.remote import is_url, mirror

        if is_url(text) and text.casefold().endswith(TABLES):
            raise InputError(Fault(text, "is the URL of a file, and a study is read from a URL alone", "download it"))
        return mirror(text) if is_url(text) else there(Path(text), wanted)

    return read


Folder = Annotated[
    Path,
    typer.Argument(
        metavar="STUDY",
        help="the study's folder or URL, which holds its study.toml",
        parser=study_at("a study's folder"),
    ),
]
StudyOrFile = Annotated[
    Path,
    typer.Argument(
        metavar="STUDY|FILE",
        help="a study's folder or URL, or anybody's table of runs",
        parser=study_at("a study's folder or a table of runs"),
    ),
]
Address = Annotated[str | None, typer.Option(help="the cluster to go to, for `--on ray`; by default one made here")]
Json = Annotated[bool, typer.Option("--json", help="print JSON instead of text")]
Classes = Annotated[list[str] | None, typer.Option("--class", help="only failures of this class; may be repeated")]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="RUN", help="this run alone, with what it needs; may be repeated"),
]
SHORT = {"oom": "memory"}
"""Other names of classes of failure."""


def refuse_what_cannot_run(folder: Path, backend: str, address: str | None, worth: float | None = None) -> None:
    """Refuse a study that cannot be carried out where it is to run; what is wrong with either is told together.

    Raises:
        InputError: the study file, the backend or ``worth`` is at fault.
        Refused: no machine there can hold its largest base.
    """
    from finescale.study import lock
    from finescale.study.config import read
    from finescale.study.run import memory_at

    with collecting() as faults:
        faults.tried(cli_own.check_worth, worth)
        spec, have = faults.tried(read, folder), faults.tried(memory_at, backend, address)
    assert spec is not None, "a study without faults has a spec"
    lock.refuse_what_cannot_run(spec, have)


def check_classes(classes: list[str] | None) -> None:
    """Refuse classes of failure that there are not.

    Raises:
        InputError: some are unknown; every one is listed.
    """
    from finescale.study.policy import CLASSES

    with collecting() as faults:
        for name in classes or ():
            if SHORT.get(name, name) not in CLASSES:
                faults.add(f"--class {name}", "is unknown", near(name, (*CLASSES, *SHORT)))


def chosen_failures(study: Study, classes: list[str] | None) -> dict[str, Failure]:
    """Failed steps of a study by id, of some classes or all.

    Raises:
        InputError: no step has failed that way.
    """
    from finescale.study.run import state

    classes = [SHORT.get(name, name) for name in classes or ()]
    failed = state(study).failed
    found = {id: failure for id, failure in failed.items() if not classes or failure.kind in classes}
    if not found:
        there = ", ".join(sorted({failure.kind for failure in failed.values()})) or "none"
        raise InputError(Fault(str(study.folder), "has no such failures", f"classes of those there are: {there}"))
    return found


def chosen_runs(study: Study, ids: list[str] | None) -> list[str] | None:
    """The ids of runs that were named; None if none was.

    Raises:
        InputError: the study plans no such run.
    """
    planned = [step.id for step in study.plan.of("run")]
    with collecting() as faults:
        for id in ids or ():
            if id not in planned:
                close = nearest(id, planned)
                hint = (
                    f"did you mean {close!r}?" if close else f"finescale table {study.folder} names those that are done"
                )
                faults.add(f"--only {id}", "is no run of this study", hint)
    return ids or None


def check(
    folder: Folder,
    mend: Annotated[
        bool, typer.Option(help="move what is damaged into damaged/, so that a run makes it again")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read every record again and name those that are damaged, made twice with different numbers, or left half-made.

    What lies beside a record (weights, sums per example, answers) is not read.
    """
    from finescale.core import fingerprint
    from finescale.study.lease import driven
    from finescale.study.lock import open_study
    from finescale.study.store import CONFLICTS, FOLDERS

    study = open_study(folder)
    digests, faults = study.store.read_all(study.plan)
    damaged = {fault.where for fault in faults}
    conflicts = folder / CONFLICTS
    twice = [json.loads(line) for line in conflicts.read_text().splitlines()] if conflicts.exists() else []
    parts = (
        []
        if driven(folder)
        else sorted(str(path) for name in FOLDERS.values() for path in (folder / name).glob("*.part"))
    )
    digest = None if faults else fingerprint(digests)
    if mend and damaged:
        steps = [step for step in study.plan.steps.values() if str(study.store.done(step)) in damaged]
        for place in study.store.put_aside(steps):
            told.print(f"moved to {place}", soft_wrap=True)
    if as_json:
        damaged_by = {fault.where: fault.what for fault in faults}
        said: dict[str, Any] = {"damaged": damaged_by, "conflicts": twice, "unfinished": parts}
        said |= {"digest": digest}
        say(said)
    else:
        for fault in faults:
            out.print(fault.what, soft_wrap=True)
        for conflict in twice:
            out.print(f"made twice with different results: {conflict}", soft_wrap=True)
        for part in parts:
            out.print(f"unfinished: {part}; the next run continues it", soft_wrap=True)
        told_of = f"{len(faults)} damaged, {len(twice)} conflicts, {len(parts)} unfinished"
        out.print(f"{len(digests) + len(faults)} records read (what lies beside them is not), {told_of}")
        if digest is not None:
            out.print(f"digest of what was found: {digest}")
    if (faults and not mend) or twice:
        raise typer.Exit(3)


def table(
    folder: Folder,
    probes: Annotated[bool, typer.Option("--probes", help="the long table of runs, probes and metrics")] = False,
    languages: Annotated[bool, typer.Option("--languages", help="one row per run and target language")] = False,
    rates: Annotated[bool, typer.Option("--rates", help="one row per trial of a learning-rate search")] = False,
    to: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="PATH",
            help="a .csv, .parquet or .jsonl file; by default CSV is printed",
            parser=table_place,
        ),
    ] = None,
) -> None:
    """Hand out a study's table: one row per finished run; or one of the further tables that the options name."""
    from finescale.exchange.tables import write_table
    from finescale.study import table as tables
    from finescale.study.languages import by_language
    from finescale.study.lock import open_study

    further = {"--probes": (probes, tables.probes), "--languages": (languages, by_language)}
    further |= {"--rates": (rates, tables.trials)}
    asked = [name for name, (wanted, _) in further.items() if wanted]
    with collecting() as faults:
        if len(asked) > 1:
            faults.add(", ".join(asked), f"are {len(asked)} tables", "ask for one of them")
        study = faults.tried(open_study, folder)
    assert study is not None, "a study without faults is open"
    made = further[asked[0]][1] if asked else tables.table
    frame = made(study.store, study.plan)
    if to is None:
        print(inert(frame.to_csv(index=False)), end="")
    else:
        write_table(frame, to)
