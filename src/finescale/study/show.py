"""Progress of a running study: a live bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from finescale.study.run import Outcome, Show

SECONDS_BETWEEN_LINES = 10.0
MOST_SHOWN = 8
MOST_TOLD = 10


def duration(seconds: float | None) -> str:
    """A span of time in words short enough for a progress line."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def line(outcome: Outcome) -> str:
    """Where a study stands, in one line."""
    parts = [f"{len(outcome.done)} of {outcome.total} steps done", f"{len(outcome.running)} running"]
    parts += [f"{len(outcome.failed)} failed"] if outcome.failed else []
    parts += [f"{len(outcome.blocked)} blocked"] if outcome.blocked else []
    if not outcome.complete:
        parts.append(
            f"about {duration(outcome.seconds_left)} left" if outcome.seconds_left else "time left unknown yet"
        )
    return ", ".join(parts)


def details(standing: dict[str, Any]) -> Iterator[str]:
    """What a person wants to know of a study beyond the first line, a line each; nothing of what is as it should be."""
    for kind, counts in standing["kinds"].items():
        said = ", ".join(f"{count} {name}" for name, count in counts.items() if count and name not in ("total", "done"))
        if said:
            yield f"{kind} steps: {counts['done']} of {counts['total']} done, {said}"
    if standing["disk"]["needed"]:
        disk = standing["disk"]
        yield f"disk: the steps left may need {disk['needed'] / 1e9:.1f} GB; {disk['free'] / 1e9:.1f} GB are free"
    if standing["failures"]:
        yield "failed: " + ", ".join(f"{count} {kind}" for kind, count in sorted(standing["failures"].items()))
    for flag, count in standing["flagged"].items():
        yield f"{count} finished runs are flagged {flag} and left out of fits"
    for metric, why in standing["refused"].items():
        yield f"{metric} was refused: {why}"
    yield from _few([f"noticed: {finding}" for finding in standing["findings"]], "findings")
    if standing["conflicts"]:
        yield f"{standing['conflicts']} steps were made twice with different results: finescale check"


def failures(outcome: Outcome) -> Iterator[str]:
    """A line for each of the first failures, and how many more there are."""
    yield from _few([f"{id}: {why.kind}: {why.message}" for id, why in outcome.failed.items()], "failures")


def _few(lines: list[str], what: str) -> Iterator[str]:
    yield from lines[:MOST_TOLD]
    if len(lines) > MOST_TOLD:
        yield f"and {len(lines) - MOST_TOLD} more {what}; finescale status --json lists all"


@contextmanager
def showing(console: Console) -> Iterator[Show]:
    """Yield the function that shows an ``Outcome`` on this console."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda outcome: live.update(_picture(outcome), refresh=True)


class _Lines:
    """Prints a line every ten seconds, and each failure once, when it happens."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.next = 0.0
        self.said: set[str] = set()

    def __call__(self, outcome: Outcome) -> None:
        for id in outcome.failed.keys() - self.said:
            self.said.add(id)
            self.console.print(f"failed: {id}: {outcome.failed[id].message}", markup=False, highlight=False)
        if (now := time.monotonic()) >= self.next or outcome.complete:
            self.next = now + SECONDS_BETWEEN_LINES
            self.console.print(line(outcome), markup=False, highlight=False)


def _picture(outcome: Outcome) -> Group:
    whole = Table.grid(expand=True)
    whole.add_row(ProgressBar(total=outcome.total, completed=len(outcome.done) + sum(outcome.running.values())))
    running = Table.grid(padding=(0, 1))
    for id, fraction in list(outcome.running.items())[:MOST_SHOWN]:
        running.add_row(" ", ProgressBar(total=1.0, completed=fraction, width=12), Text(id.rpartition("-")[0]))
    failed = [Text(f"  failed: {id}: {why.message}", "red") for id, why in list(outcome.failed.items())[-3:]]
    return Group(whole, Text(line(outcome)), running, *failed)
