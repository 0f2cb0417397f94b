"""What a forecast is asked about: values that a law can take, and nothing that a fit would pass over in silence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from finescale.core import FACTORS
from finescale.errors import Faults, near
from finescale.stats.groups import Group


def check_positive(frame: pd.DataFrame, name: str, faults: Faults) -> None:
    """A factor's values are positive and finite."""
    value = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float)
    wrong = np.flatnonzero(~(np.isfinite(value) & (value > 0)))
    if len(wrong):
        rows = ", ".join(str(frame.index[row]) for row in wrong[:6])
        faults.add(f"column {name!r}", f"is not a positive finite number in rows {rows}", "a law has no value there")


def check_names(named: Iterable[str], used: Sequence[str], groups: Sequence[Group], faults: Faults) -> None:
    """Names of one run that is asked about; ``used`` are those of groups and factors."""
    for name in named:
        same = name in (*FACTORS, "base", "family") and any(name in group.frame for group in groups)
        if name not in used and not same:
            faults.add(f"{name!r}", "plays no part in these fits", near(name, used))


def check_constant(
    frame: pd.DataFrame, used: Sequence[str], where: np.ndarray[Any, Any], groups: Sequence[Group], faults: Faults
) -> None:
    """A factor that a fit leaves out is what it was in the runs: a forecast elsewhere would speak of those runs.

    ``where`` is the index (N,) of the group of each row of ``frame``, -1 for none.
    """
    for name in (name for name in FACTORS if name in frame and name not in used):
        given = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float)
        for index in np.unique(where[where >= 0]).astype(int):
            group = groups[index]
            if name not in group.frame:
                continue
            seen = pd.to_numeric(group.frame[name], errors="coerce").dropna().unique()
            value = given[(where == index) & np.isfinite(given)]
            if len(seen) == 1 and not np.allclose(value, seen[0], rtol=1e-6):
                whose = f"the runs of {group.label} have" if group.key else "all runs have"
                other = value[~np.isclose(value, seen[0], rtol=1e-6)][0]
                way = f"fit a law in it: factor {name!r}, or --factor {name}"
                faults.add(f"column {name!r}", f"is {other:g}, and {whose} {seen[0]:g}", way)
