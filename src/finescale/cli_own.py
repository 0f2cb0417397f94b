"""The verbs on one's own data: a pilot proposed from a file of examples, and what its runs take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from finescale import cli_stats

out, told = Console(highlight=False, markup=False), Console(stderr=True, highlight=False, markup=False)
Listed = Annotated[str, typer.Option("--models", help="hub ids at a revision, folders or packages, by commas")]
Methods = Annotated[str | None, typer.Option("--methods", help="by commas; by default as many as a pilot holds")]
Data = Annotated[Path, typer.Option("--data", help="JSONL, an example a line")]
Template = Annotated[str | None, typer.Option(help="prompt with {fields}, where no layout is recognised")]
Target = Annotated[str | None, typer.Option(help="field that holds the target, with --template")]
Price = Annotated[float | None, typer.Option(help="USD for 1000 labelled examples")]
Hourly = Annotated[float | None, typer.Option(help="USD for an hour of one worker")]
Json = cli_stats.Json


def init(
    folder: Annotated[Path, typer.Argument(metavar="NAME", help="folder to make")],
    data: Data,
    models: Listed,
    methods: Methods = None,
    dev: Annotated[Path | None, typer.Option(help="JSONL of its own to choose checkpoints by")] = None,
    test: Annotated[Path | None, typer.Option(help="JSONL of its own to judge by")] = None,
    template: Template = None,
    target: Target = None,
    price: Price = None,
    hourly: Hourly = None,
    as_json: Json = False,
) -> None:
    """Look at a file of examples and write a commented study.toml for a pilot of 4 to 12 runs."""
    from finescale.study.propose import Wanted, propose

    wanted = Wanted(data, listed(models), listed(methods), dev, test, template, target, price, hourly)
    found = propose(folder, wanted, told_line)
    if as_json:
        design = vars(found.design) | {"runs": found.design.runs}
        said = {"folder": str(folder), "seen": found.seen.sentences(), "design": design, "plan": found.plan.to_dict()}
        print(json.dumps(said, indent=1, ensure_ascii=False, default=str))
        return
    out.print("\n".join([f"What {data.name} holds", *(f"  {line}" for line in found.seen.sentences())]), soft_wrap=True)
    out.print(f"The pilot: {found.design.runs} runs", soft_wrap=True)
    out.print("\n".join(f"  {line}" for line in str(found.plan).splitlines()), soft_wrap=True)
    out.print(f"Written: {folder / 'study.toml'}. Next: finescale pilot {folder}", soft_wrap=True)


def listed(given: str | None) -> tuple[str, ...]:
    """Names given by commas."""
    return tuple(name.strip() for name in (given or "").split(",") if name.strip())


def told_line(line: str) -> None:
    """Say something on standard error."""
    told.print(line, soft_wrap=True)
