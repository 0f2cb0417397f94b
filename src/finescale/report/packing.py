"""Numbers as the page carries them: no digit that neither a pixel nor a number shown needs, and nothing twice."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from finescale.stats.laws import Array

REPEATED = 3
"""How often a value stands in a column, in the mean, from which on its levels are told apart."""
NOTHING = 65_535
"""Among shares: nothing is said there."""


def columnar(table: pd.DataFrame) -> dict[str, list[Any]]:
    """A frame as ``columns``, ``levels`` and ``rows``.

    A column whose values mostly repeat has each value once, as a level; its cells are the places of levels. Other
    columns have None for levels and their cells as they are.
    """
    columns = [_levels(table.iloc[:, place].tolist()) for place in range(table.shape[1])]
    rows = zip(*(cells for _, cells in columns), strict=True)
    return {"columns": list(table), "levels": [levels for levels, _ in columns], "rows": [list(row) for row in rows]}


def _levels(values: list[Any]) -> tuple[list[Any] | None, list[Any]]:
    keys = [repr(value) for value in values]  # 1, 1.0, True and "1" are different values
    levels = dict(zip(keys, values, strict=True))
    if REPEATED * len(levels) > len(values):
        return None, values
    place = {key: at for at, key in enumerate(levels)}
    return list(levels.values()), [place[key] for key in keys]


def six_digits(values: Iterable[float]) -> list[float]:
    """Values to six digits, more than a screen can show."""
    return [float(f"{value:.6g}") for value in values]


def packed(values: Array) -> str:
    """An array, row by row, as base64 of little-endian floats after a letter that says how many bytes each has.

    ``4`` where single precision holds every value as it is (``finescale.stats.whatif.single``), else ``8``.
    """
    with np.errstate(over="ignore"):
        short = values.astype("<f4")
    exact = np.array_equal(short, values, equal_nan=True)
    return f"{'4' if exact else '8'}{_base64(short if exact else values.astype('<f8'))}"


def packed_shares(shares: Array) -> str:
    """Shares of one to four decimals, row by row, as base64 of little-endian 16-bit integers; NaN is ``NOTHING``."""
    return _base64(np.where(np.isnan(shares), NOTHING, np.round(1e4 * shares)).astype("<u2"))


def _base64(values: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
