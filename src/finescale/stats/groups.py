"""Groups of runs, and the estimation problems over them: which parameters each group has, which it shares."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import nnls

from finescale.stats.laws import Array, Law
from finescale.stats.solve import Objective, Prior, Problem, Solution, refine, scan

Codes = npt.NDArray[np.int_]
# Grid of exponents: below 0.02 a curve is flat, above 1.4 it is a wall.
_EXPONENTS = (0.02, 0.05, 0.09, 0.14, 0.2, 0.27, 0.35, 0.45, 0.58, 0.75, 1.0, 1.4)
# Standard errors of a median absolute deviation per standard deviation; Huber's 95 % efficiency.
_MAD, _EFFICIENT = 1.4826, 1.345


@dataclass
class Group:
    """Runs of one group: its key, its factors (``examples`` last), rows to fit and rows held out; not changed later."""

    key: dict[str, Any]
    factors: tuple[str, ...]
    frame: pd.DataFrame
    held: pd.DataFrame
    y_name: str = "loss"

    @cached_property
    def z(self) -> Array:
        return log_factors(self.frame, self.factors)

    @cached_property
    def y(self) -> Array:
        return self.frame[self.y_name].to_numpy(dtype=float)

    def codes(self, names: list[str]) -> Codes:
        """Integer codes of the combinations of these columns (those that exist)."""
        present = [name for name in names if name in self.frame]
        if not present:
            return np.zeros(len(self.frame), dtype=int)
        return np.asarray(self.frame.groupby(present, dropna=False, sort=True).ngroup(), dtype=np.int_)

    @property
    def base_columns(self) -> list[str]:
        """What tells bases apart: their name, or else their size; and their pretraining."""
        named = "base" if "base" in self.frame else "model_params"
        return [name for name in (named, "pretrain_tokens") if name in self.frame]

    @cached_property
    def base(self) -> Codes:
        """Which base each run belongs to."""
        return self.codes(self.base_columns)

    def bases_of(self, frame: pd.DataFrame) -> tuple[Codes, Codes]:
        """Which base each row of ``frame`` belongs to, a number each, and whose number each run of this group has.

        Rows that do not say their base are bases of their own.
        """
        names = self.base_columns
        if not names or any(name not in frame for name in names):
            return np.arange(len(frame)), np.full(len(self.frame), -1)
        both = pd.concat([frame[names].reset_index(drop=True), self.frame[names]])
        codes = np.asarray(both.groupby(names, dropna=False, sort=False).ngroup(), dtype=np.int_)
        return codes[: len(frame)], codes[len(frame) :]

    @property
    def clusters(self) -> Codes:
        """What is resampled whole: bases, since seeds of one base share its quirks; seeds where there is one base."""
        base = self.base
        return base if base.any() else self.codes(["seed"])

    @cached_property
    def support(self) -> dict[str, tuple[float, float]]:
        return {name: (float(self.frame[name].min()), float(self.frame[name].max())) for name in self.factors}

    @property
    def label(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.key.items()) or "all runs"


def last_levels(law: Law, group: Group) -> Group:
    """The group with as many of its largest sizes as the law looks at."""
    if law.last is None:
        return group
    top = np.sort(group.frame["examples"].unique())[-law.last :]
    return Group(group.key, group.factors, group.frame[group.frame["examples"].isin(top)], group.held, group.y_name)


def log_factors(frame: pd.DataFrame, factors: tuple[str, ...]) -> Array:
    """Natural logarithms (N, K) of the factors."""
    return np.asarray(np.log(frame[list(factors)].to_numpy(dtype=float)))


@dataclass
class Cell:
    """Groups solved together, and where each group's parameters stand in the joint vector.

    ``shape_at[g]`` and ``coef_at[g]`` index the joint shapes and coefficients; a shared parameter has one place.
    """

    law: Law
    groups: list[Group]
    share: tuple[str, ...] = ()
    objective: Objective = field(default_factory=Objective)
    prior: Prior | None = None
    shape_at: list[Codes] = field(init=False)
    coef_at: list[Codes] = field(init=False)

    def __post_init__(self) -> None:
        others = self.groups[0].factors[:-1]
        self.shape_at = self._places([p.name for p in self.law.shapes(others)])
        self.coef_at = self._places([p.name for p in self.law.coefficients])

    def _places(self, names: list[str]) -> list[Codes]:
        shared = [name for name in names if name in self.share]
        places, following = [], len(shared)
        for _ in self.groups:
            own = {}
            for name in names:
                own[name] = shared.index(name) if name in shared else following
                following += name not in shared
            places.append(np.array([own[name] for name in names], dtype=int))
        return places

    @property
    def y(self) -> Array:
        return np.concatenate([group.y for group in self.groups])

    def joint_codes(self, name: str) -> Codes:
        """Codes of ``base`` or ``clusters`` over all groups; the same base in two groups has the same quirks."""
        joint = self.groups[0]
        if len(self.groups) > 1:
            frames = pd.concat([group.frame for group in self.groups])
            joint = Group({}, joint.factors, frames, frames)
        return joint.base if name == "base" else joint.clusters

    def problem(self) -> Problem:
        """The joint problem; with one group, the law itself."""
        shapes = self.law.shapes(self.groups[0].factors[:-1])
        P = 1 + max((int(at.max()) for at in self.shape_at if len(at)), default=-1)
        lower, upper = np.empty(P), np.empty(P)
        for at in self.shape_at:
            lower[at], upper[at] = [p.lower for p in shapes], [p.upper for p in shapes]
        known = (lower, upper, self.objective, self.prior)
        if len(self.groups) == 1:
            return Problem(self.law.columns, self.groups[0].z, *known, slopes=self.law.slopes)
        z = np.concatenate([self._marked(index, group.z) for index, group in enumerate(self.groups)])
        slopes = None if self.law.slopes is None else self._joint_slopes
        return Problem(self._joint_columns, z, *known, slopes=slopes, centre=self._centre())

    def _marked(self, index: int, z: Array) -> Array:
        """Log-factors with the number of their group in front, so that any rows of a joint problem can be asked for."""
        return np.column_stack([np.full(len(z), float(index)), z])

    def _centre(self) -> Array:
        """Where each joint coefficient's term is measured: the mean of the first group that has it."""
        M = 1 + max(int(at.max()) for at in self.coef_at)
        owner = [next(g for g, at in enumerate(self.coef_at) if m in at) for m in range(M)]
        return np.concatenate([self._marked(g, self.groups[g].z.mean(axis=0)[None]) for g in owner])

    def _joint_columns(self, z: Array, theta: Array) -> Array:
        M = 1 + max(int(at.max()) for at in self.coef_at)
        phi = np.zeros((len(theta), M, len(z)))
        for index, (shape_at, coef_at) in enumerate(zip(self.shape_at, self.coef_at, strict=True)):
            rows = np.flatnonzero(z[:, 0] == index)
            own = self.law.columns(z[rows, 1:], theta[:, shape_at])
            phi[:, coef_at[:, None], rows] = own.swapaxes(1, 2)
        return phi.swapaxes(1, 2)

    def _joint_slopes(self, z: Array, theta: Array, terms: Array) -> Array:
        assert self.law.slopes is not None
        moved = np.zeros((len(theta), theta.shape[1], len(z)))
        for index, (shape_at, coef_at) in enumerate(zip(self.shape_at, self.coef_at, strict=True)):
            rows = np.flatnonzero(z[:, 0] == index)
            own = self.law.slopes(z[rows, 1:], theta[:, shape_at], terms[:, rows[:, None], coef_at])
            moved[:, shape_at[:, None], rows] = own.swapaxes(1, 2)
        return moved.swapaxes(1, 2)


# ------------------------------------------------------------------------------------------------------------ point fit


@dataclass
class PointFit:
    """The best solution, where Huber's loss turns linear, and how many starts ended there."""

    theta: Array
    coef: Array
    objective: float
    gradient: float
    delta: float
    starts: int
    agreeing: int
    tops: Solution


def grid_of(law: Law, factors: tuple[str, ...], z: Array, coarse: bool = False) -> Array:
    """Shapes (G, P) from which a search starts; finer where there are few of them."""
    shapes = law.shapes(factors[:-1])
    if not shapes:
        return np.zeros((1, 0))
    room = {1: 40, 2: 14, 3: 8, 4: 5, 5: 4}[len(shapes)]
    room = min(room, 5 if len(shapes) < 3 else 3) if coarse else room
    axes = []
    for shape in shapes:
        if shape.start == "exponent":
            axis = np.exp(np.interp(np.linspace(0, 1, room), np.linspace(0, 1, 12), np.log(_EXPONENTS)))
            axis = np.concatenate([-axis[room // 2 :: -2], axis]) if shape.lower < 0 and room > 5 else axis
        elif shape.start == "place":
            axis = np.linspace(z[:, -1].min() - 1.0, z[:, -1].max() + 1.0, room)
        elif shape.start == "offset":
            axis = np.linspace(-1.0, z[:, -1].max(), room)
        else:
            axis = np.linspace(-0.5, 0.5, min(room, 3))
        axes.append(axis)
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(shapes))


def alike(cells: list[Cell]) -> list[list[int]]:
    """Indices of cells that are one problem with different losses, so that they can be solved in one go."""
    batches: dict[object, list[int]] = {}
    for index, cell in enumerate(cells):
        z = cell.groups[0].z
        same = (cell.law.name, cell.objective, z.shape, z.tobytes())
        batches.setdefault(same if len(cell.groups) == 1 and cell.prior is None else index, []).append(index)
    return list(batches.values())


def starts_of(cell: Cell, problem: Problem, y: Array, keep: int) -> tuple[Array, Array]:
    """Starting shapes (C, S, P) and coefficients (C, S, M) for cells like this one with losses ``y`` (C, N)."""
    if len(cell.groups) == 1:
        grid = grid_of(cell.law, cell.groups[0].factors, problem.z)
        return scan(problem, grid, y, np.ones_like(y), keep=keep)
    theta, coef = _joint_starts(cell, problem, y[0])
    return theta[None], coef[None]


def _joint_starts(cell: Cell, problem: Problem, y: Array) -> tuple[Array, Array]:
    """Each group's own fit, with its shared shapes for all; and those with the median of the shared shapes."""
    group = cell.groups[0]
    alone = solve_all([Cell(cell.law, [one], (), cell.objective) for one in cell.groups])
    theta = np.empty((len(alone) + 1, len(problem.lower)))
    for at, fit in zip(cell.shape_at, alone, strict=True):
        theta[:, at] = fit.theta
    stack = np.array([fit.theta for fit in alone])
    shared = cell.shape_at[0] < len([s for s in cell.law.shapes(group.factors[:-1]) if s.name in cell.share])
    places = cell.shape_at[0][shared]
    theta[:-1, places], theta[-1, places] = stack[:, shared], np.median(stack[:, shared], axis=0)
    return theta, np.array([_linear(problem, y, one) for one in theta])


def _linear(problem: Problem, y: Array, theta: Array) -> Array:
    phi = problem.columns(problem.z, theta[None])[0] / y[:, None]
    size = np.maximum(np.abs(phi).max(axis=0), 1e-300)
    return np.asarray(nnls(phi / size, np.ones(len(phi)))[0] / size)


def solve(cell: Cell, keep: int = 4) -> PointFit:
    """Fit a cell: scan, refine the best starts, set Huber's turn from the residuals, refine again."""
    return solve_all([cell], keep)[0]


def solve_all(cells: list[Cell], keep: int = 4) -> list[PointFit]:
    """Fit every cell as ``solve`` does, those over the same runs in one go."""
    done: dict[int, PointFit] = {}
    for batch in alike(cells):
        done.update(zip(batch, _solve_alike([cells[index] for index in batch], keep), strict=True))
    return [done[index] for index in range(len(cells))]


def _solve_alike(cells: list[Cell], keep: int) -> list[PointFit]:
    problem, y = cells[0].problem(), np.stack([cell.y for cell in cells])
    theta, coef = starts_of(cells[0], problem, y, keep)
    C, S = theta.shape[:2]
    Y, W = np.repeat(y, S, axis=0), np.ones((C * S, y.shape[1]))
    theta, coef = theta.reshape(C * S, theta.shape[2]), coef.reshape(C * S, coef.shape[2])
    delta = np.full(C, cells[0].objective.delta or 0.05)
    if cells[0].objective.delta is None:
        first = refine(problem, Y, W, theta, coef, delta=0.05, iterations=30, enough=1e-6)
        theta, coef = first.theta, first.coef
        best = np.arange(C) * S + first.objective.reshape(C, S).argmin(axis=1)
        fitted = problem.predict(problem.columns(problem.z, theta[best]), coef[best])
        residual = problem.objective.residual(y, fitted)
        delta = np.array([turn(one, theta.shape[1] + coef.shape[1]) for one in residual])
    tops = refine(problem, Y, W, theta, coef, np.repeat(delta, S), iterations=80)
    return [_point(tops.take(list(range(c * S, (c + 1) * S))), float(delta[c])) for c in range(C)]


def _point(tops: Solution, delta: float) -> PointFit:
    best = tops.best()
    close = tops.objective <= tops.objective[best] * (1 + 1e-4) + 1e-15
    ends = float(tops.objective[best]), float(tops.gradient[best])
    return PointFit(tops.theta[best], tops.coef[best], *ends, delta, len(close), int(close.sum()), tops)


def turn(residual: Array, parameters: int) -> float:
    """Where Huber's loss turns linear: 1.345 robust standard deviations, so that clean data lose 5 % efficiency."""
    n = len(residual)
    robust = _MAD * float(np.median(np.abs(residual))) * np.sqrt(n / max(n - parameters, 1))
    plain = float(np.sqrt(np.sum(residual**2) / max(n - parameters, 1)))
    return float(max(_EFFICIENT * max(robust, 0.3 * plain), 1e-6))


def log_slopes(problem: Problem, theta: Array, coef: Array) -> Array:
    """Derivatives (N, P + M) of log loss by shapes and coefficients at the problem's runs."""
    phi = problem.columns(problem.z, theta[None])
    share = phi / problem.predict(phi, coef[None])[..., None]
    return np.concatenate([problem.moves(problem.z, theta[None], share * coef)[0], share[0]], axis=1)


def noise_behind(delta: float) -> float:
    """The robust standard deviation that ``turn`` made this delta of."""
    return delta / _EFFICIENT


def predict(problem: Problem, theta: Array, coef: Array) -> Array:
    """Loss (N,) predicted at the problem's runs."""
    return np.asarray(problem.predict(problem.columns(problem.z, theta[None]), coef[None])[0])


@dataclass(frozen=True)
class Redo:
    """Resamples of a cell to be refitted: losses (B, N), weights (B, N), and a prior with a mean for each, if any."""

    cell: Cell
    point: PointFit
    y: Array
    weights: Array
    prior: Prior | None = None


def resolve(cell: Cell, point: PointFit, y: Array, weights: Array) -> Solution:
    """Refit many resamples (B, N) at once, each from the better of the point fit's ends and a coarse grid."""
    return resolve_all([Redo(cell, point, y, weights)])[0]


def resolve_all(asked: list[Redo]) -> list[Solution]:
    """Refit the resamples of every cell as ``resolve`` does, those of cells over the same runs in one go."""
    done: dict[int, Solution] = {}
    for batch in alike([one.cell for one in asked]):
        redone = _resolve_alike([asked[index] for index in batch])
        ends = np.cumsum([0, *(len(asked[index].y) for index in batch)])
        for index, start, end in zip(batch, ends, ends[1:], strict=False):
            done[index] = redone.take(list(range(start, end)))
    return [done[index] for index in range(len(asked))]


def _resolve_alike(asked: list[Redo]) -> Solution:
    cell = asked[0].cell
    problem = cell.problem() if asked[0].prior is None else replace(cell.problem(), prior=asked[0].prior)
    y, weights = (np.concatenate([getattr(one, name) for one in asked]) for name in ("y", "weights"))
    delta = np.concatenate([np.full(len(one.y), one.point.delta) for one in asked])
    if len(cell.groups) > 1 or not len(problem.lower):
        ends = [(one.point.theta, one.point.coef, len(one.y)) for one in asked]
        theta, coef = (np.concatenate([np.tile(end[i], (end[2], 1)) for end in ends]) for i in (0, 1))
    else:
        coarse = grid_of(cell.law, cell.groups[0].factors, problem.z, coarse=True)
        grid = np.clip(np.concatenate([*(one.point.tops.theta for one in asked), coarse]), problem.lower, problem.upper)
        tops, tops_coef = scan(problem, grid, y, weights)
        theta, coef = tops[:, 0], tops_coef[:, 0]
    # A gain of 1e-7 of the objective is 1e-5 of a unit of deviance for a hundred runs: nothing beside the resampling.
    return refine(problem, y, weights, theta, coef, delta, iterations=60, enough=1e-7)
