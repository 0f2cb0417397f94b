"""The paper's two-stage protocol: beta and E shared over its factors, then A and alpha per factor.

Stage 1 fits model-size data and pretraining-size data of a group together, with one beta and one E and an A and alpha
each (at that optimum the A and alpha of stage 2 are already theirs). PET size stays out of stage 1 because its axis is
nearly flat; stage 2 freezes beta and E and fits its A and alpha. Source: Zhang et al. 2024, section 4 and Eq. 2.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from finescale.errors import Fault, InputError
from finescale.stats.groups import Cell, Group, PointFit, grid_of
from finescale.stats.laws import MULTIPLICATIVE, Array
from finescale.stats.solve import Objective, refine, scan

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


def stage_2(cell: Cell, point: PointFit, group: Group, factor: str) -> tuple[Group, Array, Array]:
    """A and alpha of PET size with beta and E frozen: its runs, the shapes (2,) and the coefficients (2,)."""
    part = axes(group, factor)[0]
    beta, E = float(point.theta[cell.shape_at[0][1]]), float(point.coef[cell.coef_at[0][1]])
    alone = Cell(MULTIPLICATIVE, [part], (), PAPER_OBJECTIVE).problem()

    def without_floor(z: Array, theta: Array) -> Array:
        return MULTIPLICATIVE.columns(z, theta)[..., :1]

    lower, upper = np.array([alone.lower[0], beta]), np.array([alone.upper[0], beta])
    problem = replace(alone, columns=without_floor, offset=E, lower=lower, upper=upper)
    grid = grid_of(MULTIPLICATIVE, part.factors, part.z)
    grid = np.column_stack([np.append(np.unique(grid[:, 0]), 0.0), np.full(len(np.unique(grid[:, 0])) + 1, beta)])
    y, w = part.y[None], np.ones((1, len(part.y)))
    theta, coef = scan(problem, grid, y, w)
    done = refine(problem, y, w, theta[:, 0], coef[:, 0], delta=1e-3, iterations=150)
    return part, done.theta[0], np.append(done.coef[0], E)
