"""The verbs on one's own data: a pilot proposed from a file of examples, and what its runs take."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from finescale import cli_stats
from finescale.errors import Fault, InputError, collecting
from finescale.terminal import out, say, told

if TYPE_CHECKING:
    from finescale.study.estimate import Estimate
    from finescale.study.lock import Study

Listed = Annotated[
    str | None, typer.Option("--models", help="hub ids at a revision, folders or packages, by commas; needed")
]
Methods = Annotated[str | None, typer.Option("--methods", help="by commas; by default as many as a pilot holds")]
Data = Annotated[Path | None, typer.Option("--data", help="JSONL, an example a line; needed")]
Template = Annotated[str | None, typer.Option(help="prompt with {fields}, where no layout is recognised")]
Target = Annotated[str | None, typer.Option(help="field that holds the target, with --template")]
Price = Annotated[float | None, typer.Option(help="USD for 1000 labelled examples")]
Hourly = Annotated[float | None, typer.Option(help="USD for an hour of one worker")]
Chat = Annotated[
    bool | None,
    typer.Option(
        "--chat/--no-chat", help="the models' own chat template; by default for conversations, if they have one"
    ),
]
Worth = Annotated[float | None, typer.Option(help="USD that one nat per target token is worth to you")]
Json = cli_stats.Json


def init(
    folder: Annotated[Path, typer.Argument(metavar="NAME", help="folder to make")],
    data: Data = None,
    models: Listed = None,
    methods: Methods = None,
    dev: Annotated[Path | None, typer.Option(help="JSONL of its own to choose checkpoints by")] = None,
    test: Annotated[Path | None, typer.Option(help="JSONL of its own to judge by")] = None,
    template: Template = None,
    target: Target = None,
    price: Price = None,
    hourly: Hourly = None,
    chat: Chat = None,
    as_json: Json = False,
) -> None:
    """Look at a file of examples and write a commented study.toml for a pilot of 4 to 12 runs."""
    from finescale.study.propose import Wanted, propose

    data = data or Path()  # told as missing with all else that is
    wanted = Wanted(data, listed(models), listed(methods), dev, test, template, target, price, hourly, chat)
    found = propose(folder, wanted, told_line)
    seen = [*found.seen.sentences(), *([found.reading] if found.reading else [])]
    if as_json:
        design = vars(found.design) | {"runs": found.design.runs}
        said = {"folder": str(folder), "seen": seen, "design": design, "plan": found.plan.to_dict()}
        say(said)
        return
    out.print("\n".join([f"What {data.name} holds", *(f"  {line}" for line in seen)]), soft_wrap=True)
    out.print(f"The pilot: {found.design.runs} runs", soft_wrap=True)
    cost = str(found.plan).partition("\nThe design")[0]  # what the design can tell is asked of a whole study
    out.print("\n".join(f"  {line}" for line in cost.splitlines()), soft_wrap=True)
    out.print(
        "  at least: workers that start and models that load come on top; finescale estimate measures it",
        soft_wrap=True,
    )
    out.print(f"Written: {folder / 'study.toml'}. Next: finescale pilot {folder}", soft_wrap=True)


def estimate(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[STUDY]", help="a study's folder; or else --model and --data")
    ] = None,
    model: Annotated[str | None, typer.Option(help="models, as `finescale init` takes them")] = None,
    data: Annotated[Path | None, typer.Option(help="JSONL, an example a line")] = None,
    methods: Annotated[str | None, typer.Option("--method", help="by commas")] = None,
    template: Template = None,
    target: Target = None,
    hourly: Hourly = None,
    as_json: Json = False,
) -> None:
    """Say what runs take here: memory by part, time from twenty real steps of each kind, price."""
    from finescale.stats.paths import there
    from finescale.study.estimate import estimate as reckon
    from finescale.study.lock import read_study
    from finescale.study.propose import Wanted, propose

    given = {"--model": model, "--data": data}
    if folder is not None:
        beside = {**given, "--method": methods, "--template": template, "--target": target, "--hourly": hourly}
        with collecting() as faults:
            for name in (name for name, value in beside.items() if value is not None):
                faults.add(name, "stands beside a study, which says it itself", "leave it")
            faults.tried(there, folder, "a study's folder")
        _print_estimate(reckon(read_study(folder, told_line), told_line), as_json)
        return
    if missing := [name for name, value in given.items() if value is None]:
        raise InputError(*(Fault(name, "is missing", "or name a study's folder") for name in missing))
    assert data is not None
    with TemporaryDirectory(prefix="finescale-") as aside:
        wanted = Wanted(data, listed(model), listed(methods), None, None, template, target, None, hourly)
        made = propose(Path(aside) / "study", wanted, told_line).folder
        _print_estimate(reckon(read_study(made, told_line), told_line), as_json)


def _print_estimate(found: Estimate, as_json: bool) -> None:
    from finescale.study.show import duration

    if as_json:
        say(found.to_dict())
        return
    parts = list(found.cells[0].memory)
    table = Table(title="Memory of a run, MiB: by estimate, and the most the probe held")
    for name in ("base", "method", *parts, "all", "probe"):
        table.add_column(name, justify="left" if name in ("base", "method") else "right")
    for cell in found.cells:
        sizes = [*(cell.memory[part] for part in parts), cell.bytes, cell.peak or 0]
        table.add_row(cell.base, cell.method, *(f"{size / 2**20:,.0f}" for size in sizes))
    out.print(table)
    table = Table(title="MiB by tokens of every example")
    lengths = sorted({length for cell in found.cells for length in cell.by_length})
    for name in ("base", "method", *map(str, lengths)):
        table.add_column(name, justify="left" if name in ("base", "method") else "right")
    for cell in found.cells:
        told_of = (cell.by_length.get(length) for length in lengths)
        table.add_row(cell.base, cell.method, *("" if size is None else f"{size / 2**20:,.0f}" for size in told_of))
    out.print(table)
    table = Table(title="Time of a run that does not stop early, by the steps timed here")
    for name in ("base", "method", "examples", "a step", "a run", "runs", "together"):
        table.add_column(name, justify="left" if name in ("base", "method") else "right")
    for cell in found.cells:
        for place, (examples, seconds) in enumerate(cell.seconds.items()):
            head = (cell.base, cell.method) if not place else ("", "")
            told_of_run = (f"{examples:,}", f"{cell.step[0]:.3g} s", duration(seconds), str(cell.runs))
            table.add_row(*head, *told_of_run, duration(cell.runs * seconds))
    out.print(table)
    said = ", ".join(f"{name} {duration(seconds)}" for name, seconds in found.seconds.items() if seconds)
    price = "" if found.usd is None else f"; {found.usd:,.2f} USD"
    out.print(f"{duration(found.total)} of one worker ({said}), {found.workers} at a time{price}", soft_wrap=True)


def check_worth(worth: float | None) -> None:
    """Refuse what a nat cannot be worth.

    Raises:
        InputError: it is no number above 0.
    """
    if worth is not None and not 0 < worth < float("inf"):
        raise InputError(Fault("--worth", f"{worth:g} is no price", "give USD above 0, or leave it out"))


def print_answer(study: Study, worth: float | None, as_json: bool) -> None:
    """Print what a pilot says; leave with 3 where nothing can be forecast."""
    from finescale.study.pilot import pilot

    found = pilot(study, worth)
    if as_json:
        say(found.to_dict())
    else:
        out.print(str(found), soft_wrap=True)
    if all(math.isnan(asked.median) for one in found.outlooks for asked in one.more):
        raise typer.Exit(3)


def listed(given: str | None) -> tuple[str, ...]:
    """Names given by commas."""
    return tuple(name.strip() for name in (given or "").split(",") if name.strip())


def told_line(line: str) -> None:
    """Say something on standard error."""
    told.print(line, soft_wrap=True)
