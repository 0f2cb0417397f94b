"""Anybody's table with one row per run, in CSV, TSV, Parquet or JSONL; its columns are declared, not guessed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from finescale.exchange.ask import given, plain
from finescale.exchange.disk import rows_of
from finescale.exchange.found import Found, Importer, Skipped, number

NAME = "run"


def runs(path: Path) -> Iterator[Found | Skipped]:
    """Every row; a column ``run`` names them, else their number in the file does.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    for row in rows_of(path):
        facts = {name: plain(value) for name, value in row.items() if given(value) and name != NAME}
        name = str(plain(row[NAME])) if NAME in row and given(row[NAME]) else ""
        scores = {key: ((0.0, one),) for key, value in facts.items() if (one := number(value)) is not None}
        flag = str(facts.get("flag", ""))
        yield Found(name, path, facts, {key: value for key, value in scores.items() if key != "loss"}, flag=flag)


IMPORTER = Importer("table", "tables with one row per run: CSV, TSV, Parquet or JSONL", ("loss",), runs, whole=True)
