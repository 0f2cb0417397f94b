"""Solve a law for many problems at once: a scan by variable projection, then a robust refinement.

For fixed shapes the relative residual ``1 - phi c / y`` is linear in the coefficients, so a grid of shapes times a
batch of resamples reduces to a few matrix products (variable projection; Golub & Pereyra 2003). The best cell then
goes to damped Newton steps on the Huber loss. They are taken in the shapes and in the heights of the terms at the
centre of the data, not in the coefficients, which are heights at one parameter and one example: there a step in an
exponent and its coefficient follows a bent valley and is cut short again and again.

Shape suffixes: B problems, G grid cells, N runs, P shapes, M coefficients, Q = P + M.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt

from finescale.stats.laws import Array

Columns = Callable[[Array, Array], Array]
Slopes = Callable[[Array, Array, Array], Array]
Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int_]
_TINY = 1e-300
# Problems times runs worked on together: what is computed for them stays in the processor's cache.
_CACHED = 12_000


@dataclass(frozen=True)
class Objective:
    """Sum of Huber losses of the residuals of log L (``on="log"``) or of L itself (``on="loss"``)."""

    on: Literal["log", "loss"] = "log"
    delta: float | None = None

    def residual(self, y: Array, predicted: Array) -> Array:
        return np.log(y) - np.log(predicted) if self.on == "log" else y - predicted


@dataclass(frozen=True)
class Prior:
    """A Gaussian prior on the shapes: its mean (P,), or one per problem (B, P), and its weight (P,)."""

    mean: Array
    weight: Array


@dataclass(frozen=True)
class Problem:
    """What is solved: ``columns`` of a law over log-factors ``z`` (N, K), within bounds of the shapes (P,).

    ``offset`` is a constant added to the prediction (a frozen E). ``slopes`` are the law's, if it has any. ``centre``
    (M, K) says where each coefficient's term is measured; by default at the mean of ``z``.
    """

    columns: Columns
    z: Array
    lower: Array
    upper: Array
    objective: Objective = Objective()
    prior: Prior | None = None
    offset: float = 0.0
    slopes: Slopes | None = None
    centre: Array | None = None

    def of(self, rows: Codes | slice) -> Problem:
        """The same for some of the problems; only a prior's mean may differ between them."""
        if self.prior is None or self.prior.mean.ndim == 1:
            return self
        return replace(self, prior=Prior(self.prior.mean[rows], self.prior.weight))

    def predict(self, phi: Array, coef: Array) -> Array:
        """Loss (B, N) from columns (B, N, M) and coefficients (B, M); never below 1e-300."""
        total = np.matmul(coef[:, None, :], phi.swapaxes(1, 2))[:, 0]
        return np.asarray(np.maximum(total + self.offset if self.offset else total, _TINY))

    def moves(self, z: Array, theta: Array, terms: Array) -> Array:
        """How terms (B, N, M) at log-factors ``z`` (N, K) move with the shapes: (B, N, P)."""
        if self.slopes is not None:
            return self.slopes(z, theta, terms)
        phi = self.columns(z, theta)
        moved = np.empty((*phi.shape[:2], theta.shape[1]))
        for p, step in enumerate(1e-7 * np.eye(theta.shape[1])):
            ratio = self.columns(z, theta + step) / np.maximum(phi, _TINY)
            moved[..., p] = np.sum(terms * np.where(phi > 0, ratio - 1, 0.0), axis=-1) / 1e-7
        return moved

    def heights(self, theta: Array, slopes: bool = False) -> tuple[Array, Array]:
        """Columns at their centres (B, M) and, if asked for, how their logarithms move with the shapes (B, M, P)."""
        assert self.centre is not None
        M = len(self.centre)
        level = np.einsum("bmm->bm", self.columns(self.centre, theta))
        one = np.broadcast_to(np.eye(M), (len(theta), M, M))
        moved = self.moves(self.centre, theta, one) if slopes else np.empty(0)
        return np.maximum(level, _TINY), moved


@dataclass
class Solution:
    """Shapes (B, P), coefficients (B, M), objective (B,), the scaled gradient's largest entry (B,)."""

    theta: Array
    coef: Array
    objective: Array
    gradient: Array

    def best(self) -> int:
        return int(np.argmin(self.objective))

    def take(self, index: Array | list[int]) -> Solution:
        return Solution(self.theta[index], self.coef[index], self.objective[index], self.gradient[index])


def huber(residual: Array, delta: Array) -> Array:
    """Huber's loss: quadratic up to ``delta``, linear beyond."""
    size = np.abs(residual)
    return np.where(size <= delta, 0.5 * residual**2, delta * (size - 0.5 * delta))


# ------------------------------------------------------------------------------------------- non-negative least squares


def nonnegative(H: Array, g: Array) -> Array:
    """Minimise ``c H c / 2 - g c`` over ``c >= 0`` for a stack of small systems, by trying every active set.

    Args:
        H: Gram matrices (..., M, M).
        g: right-hand sides (..., M).
    """
    M = g.shape[-1]
    scale = np.sqrt(np.maximum(np.einsum("...ii->...i", H), _TINY))
    H, g = H / (scale[..., :, None] * scale[..., None, :]), g / scale
    c = _solve_subset(H, g, tuple(range(M)))
    bad = ~np.all(c >= 0, axis=-1)
    if bad.any():
        c[bad] = _best_subset(H[bad], g[bad])
    return np.asarray(c / scale)


def _best_subset(H: Array, g: Array) -> Array:
    M = g.shape[-1]
    best = np.zeros_like(g)
    value = np.zeros(g.shape[:-1])
    for size in range(1, M):
        for subset in combinations(range(M), size):
            c = _solve_subset(H, g, subset)
            gain = np.where(np.all(c >= 0, axis=-1), np.sum(g * c, axis=-1), -1.0)
            better = gain > value
            best[better], value[better] = c[better], gain[better]
    return best


def _solve_subset(H: Array, g: Array, subset: tuple[int, ...]) -> Array:
    """Solve the unconstrained system over a subset of coefficients; a ridge of 1e-12 keeps equal columns solvable."""
    c = np.zeros_like(g)
    pick = list(subset)
    if len(pick) == 1:
        c[..., pick[0]] = g[..., pick[0]]
    elif len(pick) == 2:
        i, j = pick
        off = H[..., i, j] * (1 - 1e-12)
        c[..., i], c[..., j] = _two(off, g[..., i], g[..., j])
    else:
        block = H[..., pick, :][..., :, pick] + 1e-12 * np.eye(len(pick))
        c[..., pick] = np.linalg.solve(block, g[..., pick, None])[..., 0]
    return c


def _two(off: Array, first: Array, second: Array) -> tuple[Array, Array]:
    det = np.maximum(1.0 - off**2, 1e-14)
    return (first - off * second) / det, (second - off * first) / det


# ----------------------------------------------------------------------------------------------------------------- scan


def scan(problem: Problem, grid: Array, y: Array, weights: Array, keep: int = 1) -> tuple[Array, Array]:
    """Best ``keep`` grid cells for every problem by weighted relative least squares.

    Args:
        grid: shapes to try (G, P).
        y: losses (B, N).
        weights: multiplicities (B, N); 0 leaves a run out.

    Returns:
        Shapes (B, keep, P) and their coefficients (B, keep, M), best first.
    """
    phi = problem.columns(problem.z, grid)
    G, N, M = phi.shape
    pair = np.einsum("gni,gnj->ngij", phi, phi).reshape(N, -1)
    keep = min(keep, G)
    theta, coef = np.empty((len(y), keep, grid.shape[1])), np.empty((len(y), keep, M))
    chunk = max(1, 2_000_000 // (G * M * M))
    for start in range(0, len(y), chunk):
        part = slice(start, start + chunk)
        inverse = weights[part] / y[part]
        H = ((inverse / y[part]) @ pair).reshape(-1, G, M, M)
        g = ((inverse * (1 - problem.offset / y[part])) @ phi.transpose(1, 0, 2).reshape(N, -1)).reshape(-1, G, M)
        c = nonnegative(H, g)
        value = -np.sum(g * c, axis=-1) + _penalty(problem.of(part).prior, grid[None])
        order = np.argsort(value, axis=1, kind="stable")[:, :keep]
        theta[part], coef[part] = grid[order], np.take_along_axis(c, order[..., None], axis=1)
    return theta, coef


def _penalty(prior: Prior | None, theta: Array) -> Array:
    if prior is None:
        return np.zeros(theta.shape[:-1])
    mean = prior.mean[:, None] if theta.ndim > prior.mean.ndim > 1 else prior.mean
    return np.asarray(np.sum(prior.weight * (theta - mean) ** 2, axis=-1))


# --------------------------------------------------------------------------------------------------------------- refine


@dataclass
class _Local:
    """What a step needs at a point: value (B,), descent (B, Q), curvature (B, Q, Q) of the core and of the tails.

    The core are residuals within delta. Tails are linear there and have no curvature; theirs is the one reweighting
    (delta/|r|) would give them, which makes any step safe and slow.
    """

    value: Array
    descent: Array
    core: Array
    tail: Array

    def put(self, rows: Codes, other: _Local, which: Mask) -> None:
        for f in fields(_Local):
            getattr(self, f.name)[rows] = getattr(other, f.name)[which]


def refine(
    problem: Problem,
    y: Array,
    weights: Array,
    theta: Array,
    coef: Array,
    delta: float | Array,
    iterations: int = 60,
    enough: float = 1e-9,
) -> Solution:
    """Damped Newton steps on the Huber loss from given starts, all problems at once.

    Args:
        y: losses (B, N).
        weights: multiplicities (B, N).
        theta: starting shapes (B, P).
        coef: starting coefficients (B, M).
        delta: where Huber's loss turns linear; one for all, or one per problem (B,).
        iterations: most steps; Newton's need about ten, the rest are for valleys without a bottom.
        enough: a step is the last one if it promises less than this share of the objective.
    """
    if problem.centre is None:
        problem = replace(problem, centre=np.tile(problem.z.mean(axis=0), (coef.shape[1], 1)))
    target = np.log(y) if problem.objective.on == "log" else y
    delta = np.broadcast_to(np.asarray(delta, dtype=float), len(y))
    with np.errstate(over="ignore", invalid="ignore"):
        return _descend(problem, target, weights, theta, coef, delta, iterations, enough)


def _descend(
    problem: Problem,
    target: Array,
    weights: Array,
    theta: Array,
    coef: Array,
    delta: Array,
    iterations: int,
    enough: float,
) -> Solution:
    """The steps; a trial that leaves the numbers there are has an infinite value and is not taken."""
    theta, coef = np.clip(theta, problem.lower, problem.upper), coef.copy()
    here = _local(problem, target, weights, theta, coef, delta)
    B = len(theta)
    gradient, damping, tails = np.zeros(B), np.full(B, 1e-6), np.full(B, 0.3)
    live = np.arange(B)
    for _ in range(iterations):
        new_theta, new_coef, promised, gradient[live] = _step(problem, here, live, theta, coef, damping, tails)
        there = _local(problem.of(live), target[live], weights[live], new_theta, new_coef, delta[live])
        gain = here.value[live] - there.value
        better = gain > 0
        won = live[better]
        theta[won], coef[won] = new_theta[better], new_coef[better]
        here.put(won, there, better)
        kept, missed = gain > 0.5 * promised, gain < 0.25 * promised
        tails[live] = np.clip(np.where(kept, tails[live] / 4, np.where(missed, tails[live] * 4, tails[live])), 1e-3, 1)
        stuck = ~better & (tails[live] >= 1)
        damping[live] = np.where(better, np.maximum(damping[live] / 5, 1e-12), damping[live])
        damping[live] = np.where(stuck, np.maximum(damping[live], 1e-3) * 7, damping[live])
        done = (promised <= enough * here.value[live]) | (damping[live] > 1e7) | (here.value[live] < 1e-24)
        live = live[~done]
        if not len(live):
            break
    return Solution(theta, coef, here.value, gradient)


def _local(problem: Problem, target: Array, weights: Array, theta: Array, coef: Array, delta: Array) -> _Local:
    """Value, descent and curvature of every problem, a cacheful of problems at a time; prior included."""
    Q = theta.shape[1] + coef.shape[1]
    found = _Local(np.empty(len(theta)), np.empty((len(theta), Q)), *np.empty((2, len(theta), Q, Q)))
    chunk = max(1, _CACHED // target.shape[1])
    for start in range(0, len(theta), chunk):
        at = slice(start, start + chunk)
        parts = _sums(problem, target[at], weights[at], theta[at], coef[at], delta[at, None])
        found.value[at], found.descent[at], found.core[at], found.tail[at] = parts
    prior = problem.prior
    if prior is not None:
        index = np.arange(theta.shape[1])
        found.value += 0.5 * _penalty(prior, theta)
        found.descent[:, index] -= prior.weight * (theta - prior.mean)
        found.core[:, index, index] += prior.weight
    found.value[~np.isfinite(found.value)] = np.inf
    return found


def _sums(
    problem: Problem, target: Array, weights: Array, theta: Array, coef: Array, delta: Array
) -> tuple[Array, Array, Array, Array]:
    phi = problem.columns(problem.z, theta)
    predicted = problem.predict(phi, coef)
    log = problem.objective.on == "log"
    residual = target - (np.log(predicted) if log else predicted)
    P = theta.shape[1]
    J = np.empty((len(theta), P + phi.shape[2], target.shape[1]))
    np.divide(phi.swapaxes(1, 2), predicted[:, None] if log else 1.0, out=J[:, P:])
    terms = J[:, P:] * coef[:, :, None]
    J[:, :P] = problem.moves(problem.z, theta, terms.swapaxes(1, 2)).swapaxes(1, 2)
    psi = np.clip(residual, -delta, delta)
    pull = weights * psi
    inside = weights * (psi == residual)
    outside = (weights - inside) * (delta / np.maximum(np.abs(residual), delta))
    value = np.einsum("bn,bn->b", pull, residual - 0.5 * psi)
    across = J.swapaxes(1, 2)
    core, tail = (np.matmul(J * bend[:, None], across) for bend in (inside, outside))
    return value, np.matmul(J, pull[..., None])[..., 0], core, tail


def _step(
    problem: Problem, here: _Local, live: Codes, theta: Array, coef: Array, damping: Array, tails: Array
) -> tuple[Array, Array, Array, Array]:
    """One damped step for every live problem: shapes, coefficients, the decrease promised, the scaled gradient.

    Bounds are active sets.
    """
    theta, coef, damping = theta[live], coef[live], damping[live]
    P = theta.shape[1]
    level, moved = problem.heights(theta, slopes=True)
    turn = _to_heights(coef, level, moved)
    back = turn.swapaxes(1, 2)
    g = np.matmul(back, here.descent[live][..., None])[..., 0]
    full = here.core[live] + here.tail[live]
    bent = full - (1 - tails[live])[:, None, None] * here.tail[live]
    scale = np.sqrt(np.maximum(np.einsum("bii->bi", np.matmul(back, np.matmul(full, turn))), _TINY))
    g = g / scale
    H = np.matmul(back, np.matmul(bent, turn)) / (scale[:, :, None] * scale[:, None, :])
    fixed = _fixed(problem, theta, coef, g)
    g, H = np.where(fixed, 0.0, g), np.where(fixed[:, :, None] | fixed[:, None, :], 0.0, H)
    index = np.arange(H.shape[1])
    H[:, index, index] += np.where(fixed, 1.0, damping[:, None] + 1e-13)
    x = np.linalg.solve(H, g[..., None])[..., 0]
    move = x / scale
    new_theta = np.clip(theta + move[:, :P], problem.lower, problem.upper)
    new_coef = np.maximum(coef * level + move[:, P:], 0.0) / problem.heights(new_theta)[0]
    return new_theta, new_coef, 0.5 * np.einsum("bi,bi->b", x, g), np.max(np.abs(g), axis=1)


def _to_heights(coef: Array, level: Array, moved: Array) -> Array:
    """Derivatives (B, Q, Q) of shapes and coefficients by shapes and heights; a coefficient is height over level."""
    B, M, P = moved.shape
    turn = np.zeros((B, P + M, P + M))
    index = np.arange(P + M)
    turn[:, index[:P], index[:P]] = 1.0
    turn[:, index[P:], index[P:]] = 1 / level
    turn[:, P:, :P] = -coef[:, :, None] * moved
    return turn


def _fixed(problem: Problem, theta: Array, coef: Array, g: Array) -> Mask:
    """Parameters that sit on a bound and are pushed against it (``g`` points downhill)."""
    P = theta.shape[1]
    low = (theta <= problem.lower) & (g[:, :P] <= 0)
    high = (theta >= problem.upper) & (g[:, :P] >= 0)
    return np.concatenate([low | high, (coef <= 0) & (g[:, P:] <= 0)], axis=1)
