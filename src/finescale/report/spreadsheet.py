"""Tables for spreadsheets: a text that a spreadsheet would take for a formula is marked as text."""

from __future__ import annotations

from typing import Any

import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell must not begin with (OWASP, "CSV injection")."""


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with an apostrophe before every text, heading or label that begins like a formula; numbers stay."""
    out = frame.copy()
    for name in frame:
        if not pd.api.types.is_numeric_dtype(frame[name]):
            out[name] = frame[name].map(_cell)
    return out.rename(columns=_cell)


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
