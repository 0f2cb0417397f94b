"""Stage 1 of the paper's protocol over the runs of a group: which of them lie along which axis, and what they share.

Model-size data and pretraining-size data are fitted together, with one beta and one E and an A and alpha each (at that
optimum the A and alpha of stage 2 are already theirs). PET size stays out of stage 1 because its axis is nearly flat.
Source: Zhang et al. 2024, section 4 and Eq. 2.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from finescale.errors import Fault, InputError
from finescale.stats.groups import Cell, Group
from finescale.stats.laws import MULTIPLICATIVE
from finescale.stats.solve import Objective

SHARED = ("beta", "E")
STAGE_1 = ("model_params", "pretrain_tokens")
PAPER_OBJECTIVE = Objective("loss", 1e-3)


def axes(group: Group, factor: str) -> list[Group]:
    """The group's runs along each axis of stage 1 (and along ``factor``, first), the other factors at one value.

    Raises:
        InputError: no other axis varies, so there is nothing to share.
    """
    varying = [name for name in (*STAGE_1, "pet_params") if name in group.frame and group.frame[name].nunique() > 1]
    wanted = [factor, *(name for name in varying if name in STAGE_1 and name != factor)]
    if len(wanted) < 2:
        what = f"only {factor} varies; the paper's protocol shares beta and E over model and pretraining size"
        raise InputError(Fault(f"group {group.label}", what, "fit without protocol, or add runs along the other axis"))
    return [
        Group(group.key, (name, "examples"), _along(group.frame, name, varying), group.held, group.y_name)
        for name in wanted
    ]


def _along(frame: pd.DataFrame, name: str, varying: list[str]) -> pd.DataFrame:
    """Rows along one axis: the other factors at the combination with the most levels of this one."""
    others = [other for other in varying if other != name]
    if not others:
        return frame
    best = frame.groupby(others)[name].nunique().idxmax()
    wanted = best if isinstance(best, tuple) else (best,)
    keep = np.all([frame[other].to_numpy() == value for other, value in zip(others, wanted, strict=True)], axis=0)
    return frame[keep]


def stage_1(group: Group, factor: str) -> Cell:
    """The cell of stage 1; the wanted factor is its first group unless it is PET size."""
    parts = axes(group, factor)
    return Cell(MULTIPLICATIVE, parts if factor in STAGE_1 else parts[1:], SHARED, PAPER_OBJECTIVE)
