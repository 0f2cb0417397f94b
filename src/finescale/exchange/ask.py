"""What the user adds to what a source tells: values, patterns of names, a table of facts, which score is the loss."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from finescale.core import FACTORS
from finescale.errors import Fault, Faults, InputError, collecting, near
from finescale.exchange.found import Fact, Found, number
from finescale.stats.load import load_frame
from finescale.stats.logs import better_when_higher
from finescale.stats.runs import CANONICAL, size

NUMBERS = frozenset({*FACTORS, "loss", "seed"})
ERROR = re.compile(r"(?P<top>100|1)\s*-\s*(?P<metric>\S.*)")
HIGHER = "is better when higher, and a loss is better when lower"
Take = Literal["best", "last"]


@dataclass(frozen=True)
class Ask:
    """What an import is told besides where to look.

    Attributes:
        values: columns that are the same for all runs (``--set``).
        pattern: a regular expression; its named groups, found in a run's name, are columns (``--from-name``).
        facts: a table with a column ``run`` and others that are columns of those runs (``--facts``).
        columns: ``{their name: ours}``, of what a source wrote down under other names (``--column``).
        loss: the metric that is the loss, or ``1 - METRIC`` (``100 - METRIC`` in per cent) for one that is better when
            higher (``--loss``).
        step: the column that numbers the lines of runs' logs; the rows of a run become one (``--step``).
        take: which of a run's evaluations is its loss: the lowest or the last.
        accept: columns that may be worked out where they are not written down (``--accept``).
    """

    values: Mapping[str, str] = field(default_factory=dict)
    pattern: str | None = None
    facts: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    loss: str | None = None
    step: str | None = None
    take: Take = "best"
    accept: Sequence[str] = ()


def typed(column: str, text: str) -> Fact | None:
    """A value as a column has it: a number if it can be one, whole if it is; None if it is empty."""
    text = text.strip()
    found = numeric(text) if column in NUMBERS else number(text)
    if found is None:
        return text or None
    return int(found) if found == found and abs(found) < 2**53 and found == int(found) else found


def numeric(text: str) -> float | None:
    """A number as people write one (``1000``, ``20_000``, ``160M``), or None."""
    try:
        return size(text.replace("_", ""))
    except ValueError:
        return None


def check(ask: Ask) -> None:
    """Refuse what cannot be meant, before anything is read.

    Raises:
        InputError: with every fault.
    """
    with collecting() as faults:
        for column, text in ask.values.items():
            if column not in CANONICAL and column.lower() in CANONICAL:
                faults.add(f"--set {column}", "is no column", near(column, CANONICAL))
            elif column in NUMBERS and ((value := numeric(text)) is None or not math.isfinite(value)):
                faults.add(f"--set {column}={text}", "is not a number", f"as in --set {column}=1000")
        if ask.pattern is not None:
            _check_pattern(ask.pattern, faults)
        if ask.take not in ("best", "last"):
            faults.add(f"--take {ask.take}", "is unknown", near(ask.take, ("best", "last")))
        for theirs, ours in ask.columns.items():
            if ours == "loss" and better_when_higher(theirs):
                way = f"in its place --loss '1 - {theirs}', or '100 - {theirs}' in per cent"
                faults.add(f"--column {theirs}=loss", HIGHER, way)
        twice = [ours for ours in set(ask.columns.values()) if list(ask.columns.values()).count(ours) > 1]
        for ours in sorted(twice):
            faults.add(f"--column …={ours}", "is given twice", "name one source for each column")


def _check_pattern(pattern: str, faults: Faults) -> None:
    where = f"--from-name {pattern!r}"
    try:
        groups = re.compile(pattern).groupindex
    except (re.error, RecursionError, OverflowError) as error:
        faults.add(where, f"is no regular expression: {error}", r"as in 'n(?P<examples>\d+)'")
        return
    if not groups:
        faults.add(where, "has no named group", r"name the column that it finds: 'n(?P<examples>\d+)'")


def from_names(runs: Sequence[Found], pattern: str | None) -> list[dict[str, Fact]]:
    """What the pattern finds in each run's name.

    Raises:
        InputError: it finds nothing in any name, or words where a number belongs.
    """
    if pattern is None:
        return [{} for _ in runs]
    found = [match.groupdict() if (match := re.search(pattern, run.run)) else {} for run in runs]
    if not any(found):
        names = ", ".join(repr(run.run) for run in runs[:3])
        raise InputError(Fault(f"--from-name {pattern!r}", "is found in no run's name", f"names are as {names}"))
    with collecting() as faults:
        for run, groups in zip(runs, found, strict=True):
            for column, text in groups.items():
                if text is not None and column in NUMBERS and numeric(text) is None:
                    faults.add(
                        f"run {run.run!r}", f"{column} would be {text!r}, which is no number", "mend --from-name"
                    )
    return [
        {column: value for column, text in groups.items() if text and (value := typed(column, text)) is not None}
        for groups in found
    ]


def from_table(runs: Sequence[Found], path: Path | None) -> list[dict[str, Fact]]:
    """What a table of facts says of each run.

    Raises:
        InputError: it cannot be read, has no column ``run``, names a run twice, or names none of these runs.
    """
    if path is None:
        return [{} for _ in runs]
    frame = load_frame(path)
    if "run" not in frame:
        columns = ", ".join(map(str, frame.columns))
        raise InputError(Fault(str(path), "has no column 'run'", f"it has {columns}; runs are named as in the table"))
    names = frame["run"].astype(str)
    with collecting() as faults:
        for name in names[names.duplicated()].unique()[:20]:
            faults.add(str(path), f"names run {name!r} twice", "keep one row a run")
        known = {run.run for run in runs}
        if not known & set(names):
            faults.add(str(path), "names none of these runs", f"they are as {', '.join(map(repr, sorted(known)[:3]))}")
    rows = dict(zip(names, frame.drop(columns="run").to_dict("records"), strict=True))
    return [{str(c): plain(v) for c, v in rows.get(run.run, {}).items() if given(v)} for run in runs]


def given(value: object) -> bool:
    """Whether a cell of a table says something."""
    if isinstance(value, str):
        return value != ""
    return pd.api.types.is_scalar(value) and not bool(pd.isna(pd.Series([value], dtype=object)).iloc[0])


def plain(value: object) -> Fact:
    """A cell as Python's own word, number or truth."""
    if isinstance(value, str | bool):
        return value
    item = getattr(value, "item", None)
    found = item() if item is not None else value
    return found if isinstance(found, int | float | bool) else str(found)
