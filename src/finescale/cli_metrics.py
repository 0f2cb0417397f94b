"""Verbs on metrics: ``metrics list`` and ``metrics install``. Each is one call on the API."""

from __future__ import annotations

from typing import Annotated

import typer

from finescale.terminal import say, told

app = typer.Typer(no_args_is_help=True, help="Which metrics can be computed here, and installing those that cannot.")


@app.command("list")
def listed(as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False) -> None:
    """Say of each metric whether it is ready, or what it needs."""
    from finescale import registry

    found = {name: registry.get("metric", name) for name in registry.names("metric")}
    rows = [
        {"metric": name, "unit": metric.unit, "state": (metric.needs() if metric.decoded else "") or "ready"}
        for name, metric in found.items()
    ]
    if as_json:
        say(rows)
        return
    widths = [max(len(row[key]) for row in rows) for key in ("metric", "unit")]
    for row in rows:
        say(f"{row['metric']:{widths[0]}}  {row['unit']:{widths[1]}}  {row['state']}")


@app.command()
def install(
    name: Annotated[str, typer.Argument(help="bleurt or comet")],
    checkpoint: Annotated[
        str | None, typer.Option(help="folder with the weights, or their name on the Hugging Face hub")
    ] = None,
) -> None:
    """Make a learned metric's own environment, and fetch its weights."""
    from finescale.lab.metrics.outside import find

    outside = find(name)
    outside.install(checkpoint, lambda words: told.print(words, soft_wrap=True))
    say(f"{name} is ready: {outside.home}")
