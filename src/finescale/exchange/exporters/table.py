"""A table of runs as CSV, Parquet or JSONL."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from finescale.exchange.hand_on import Exporter
from finescale.exchange.tables import check_table, write_table


def write(frame: pd.DataFrame, title: str, to: str) -> str:
    """Write the table as it is.

    Raises:
        InputError: it cannot be written there.
    """
    write_table(frame, Path(to), "--to")
    return f"{len(frame)} runs in {to}"


def check(to: str) -> None:
    """A file of a kind that can be written, in a folder that is there.

    Raises:
        InputError: it is neither.
    """
    check_table(Path(to), option="--to")


EXPORTER = Exporter("table", "a table: .csv, .parquet or .jsonl", check, write)
