"""Solve a law for many problems at once: a scan by variable projection, then a robust refinement.

For fixed shapes the relative residual ``1 - phi c / y`` is linear in the coefficients, so a grid of shapes times a
batch of resamples reduces to a few matrix products (variable projection; Golub & Pereyra 2003). The best cell then
goes to Levenberg–Marquardt on the Huber loss with the coefficients eliminated from each step by a Schur complement,
so that factors need no centring.

Shape suffixes: B problems, G grid cells, N runs, P shapes, M coefficients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt

from finescale.stats.laws import Array

Columns = Callable[[Array, Array], Array]
Mask = npt.NDArray[np.bool_]
_TINY = 1e-300
_TAIL = 0.3
# Problems times runs refined together: their Jacobians stay in the processor's cache.
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
    """A Gaussian prior on the shapes: its mean (P,) and its weight (P,), in units of the objective."""

    mean: Array
    weight: Array


@dataclass(frozen=True)
class Problem:
    """What is solved: ``columns`` of a law over log-factors ``z`` (N, K), within bounds of the shapes (P,).

    ``offset`` is a constant added to the prediction (a frozen E).
    """

    columns: Columns
    z: Array
    lower: Array
    upper: Array
    objective: Objective = Objective()
    prior: Prior | None = None
    offset: float = 0.0

    def predict(self, phi: Array, coef: Array) -> Array:
        """Loss (B, N) from columns (B, N, M) and coefficients (B, M); never below 1e-300."""
        return np.asarray(np.maximum(np.einsum("bnm,bm->bn", phi, coef) + self.offset, _TINY))


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
        value = -np.sum(g * c, axis=-1) + _penalty(problem.prior, grid)
        order = np.argsort(value, axis=1, kind="stable")[:, :keep]
        theta[part], coef[part] = grid[order], np.take_along_axis(c, order[..., None], axis=1)
    return theta, coef


def _penalty(prior: Prior | None, theta: Array) -> Array:
    if prior is None:
        return np.zeros(len(theta))
    return np.asarray(np.sum(prior.weight * (theta - prior.mean) ** 2, axis=-1))


# --------------------------------------------------------------------------------------------------------------- refine


def refine(
    problem: Problem, y: Array, weights: Array, theta: Array, coef: Array, delta: float, iterations: int = 60
) -> Solution:
    """Levenberg–Marquardt on the Huber loss from given starts, all problems at once.

    Args:
        y: losses (B, N).
        weights: multiplicities (B, N).
        theta: starting shapes (B, P).
        coef: starting coefficients (B, M).
        delta: where Huber's loss turns linear.
    """
    chunk = max(1, _CACHED // y.shape[1])
    if len(y) > chunk:
        parts = [slice(at, at + chunk) for at in range(0, len(y), chunk)]
        each = [refine(problem, y[p], weights[p], theta[p], coef[p], delta, iterations) for p in parts]
        return Solution(*(np.concatenate([getattr(one, f.name) for one in each]) for f in fields(Solution)))
    theta, coef = np.clip(theta, problem.lower, problem.upper), coef.copy()
    value = _value(problem, y, weights, theta, coef, delta)
    gradient = np.zeros(len(y))
    damping = np.full(len(y), 1e-3)
    live = np.arange(len(y))
    for _ in range(iterations):
        if not len(live):
            break
        step = _step(problem, y[live], weights[live], theta[live], coef[live], delta, damping[live])
        new_theta, new_coef, gradient[live] = step
        trial = _value(problem, y[live], weights[live], new_theta, new_coef, delta)
        better = trial < value[live]
        gain = np.where(better, value[live] - trial, 0.0)
        done = (better & (gain <= 1e-7 * value[live])) | (damping[live] > 1e7) | (value[live] < 1e-24)
        won = live[better]
        theta[won], coef[won], value[won] = new_theta[better], new_coef[better], trial[better]
        damping[live] = np.where(better, np.maximum(damping[live] / 5, 1e-12), damping[live] * 7)
        live = live[~done]
    return Solution(theta, coef, value, gradient)


def _value(problem: Problem, y: Array, weights: Array, theta: Array, coef: Array, delta: float) -> Array:
    predicted = problem.predict(problem.columns(problem.z, theta), coef)
    loss = huber(problem.objective.residual(y, predicted), np.asarray(delta))
    total = np.sum(weights * loss, axis=1) + 0.5 * _penalty(problem.prior, theta)
    return np.asarray(np.where(np.isfinite(total), total, np.inf))


def _derivatives(problem: Problem, theta: Array, coef: Array, predicted_columns: Array) -> Array:
    """Derivatives (B, N, P) of the prediction by the shapes: differences of the law's one function."""
    slopes = np.empty((*predicted_columns.shape[:2], theta.shape[1]))
    for p in range(theta.shape[1]):
        step = np.zeros(theta.shape[1])
        step[p] = 1e-7
        up = problem.columns(problem.z, theta + step)
        slopes[..., p] = np.einsum("bnm,bm->bn", up - predicted_columns, coef) / 1e-7
    return slopes


def _step(
    problem: Problem, y: Array, weights: Array, theta: Array, coef: Array, delta: float, damping: Array
) -> tuple[Array, Array, Array]:
    """One damped step for every problem; coefficients are eliminated, bounds are active sets."""
    phi = problem.columns(problem.z, theta)
    predicted = problem.predict(phi, coef)
    residual = problem.objective.residual(y, predicted)
    inside = np.maximum(np.abs(residual), _TINY)
    pull = weights * np.minimum(1.0, delta / inside)
    J = np.concatenate([_derivatives(problem, theta, coef, phi), phi], axis=-1)
    if problem.objective.on == "log":
        J /= predicted[..., None]
    size = np.sqrt(np.maximum(np.einsum("bni,bni->bi", J, J), _TINY))
    J /= size[:, None, :]
    g = np.einsum("bni,bn->bi", J, pull * residual)
    # Between Newton's weight of a linear tail (0) and reweighting's (delta/r): safe as the first, fast as the second.
    bend = weights * np.where(inside <= delta, 1.0, _TAIL * delta / inside)
    H = np.matmul((J * bend[..., None]).transpose(0, 2, 1), J)
    _add_prior(problem.prior, theta, size, H, g)
    fixed = _fixed(problem, theta, coef, g)
    g, H = np.where(fixed, 0.0, g), np.where(fixed[:, :, None] | fixed[:, None, :], 0.0, H)
    index = np.arange(H.shape[1])
    H[:, index, index] += np.where(fixed, 1.0, 1e-13)
    move = _eliminate(H, g, theta.shape[1], damping) / size / (1 + damping[:, None])
    P = theta.shape[1]
    new_theta = np.clip(theta + move[:, :P], problem.lower, problem.upper)
    return new_theta, np.maximum(coef + move[:, P:], 0.0), np.max(np.abs(g), axis=1)


def _add_prior(prior: Prior | None, theta: Array, size: Array, H: Array, g: Array) -> None:
    if prior is None:
        return
    P = theta.shape[1]
    index = np.arange(P)
    g[:, :P] -= prior.weight * (theta - prior.mean) / size[:, :P]
    H[:, index, index] += prior.weight / size[:, :P] ** 2


def _fixed(problem: Problem, theta: Array, coef: Array, g: Array) -> Mask:
    """Parameters that sit on a bound and are pushed against it (``g`` points downhill)."""
    P = theta.shape[1]
    low = (theta <= problem.lower) & (g[:, :P] <= 0)
    high = (theta >= problem.upper) & (g[:, :P] >= 0)
    return np.concatenate([low | high, (coef <= 0) & (g[:, P:] <= 0)], axis=1)


def _eliminate(H: Array, g: Array, P: int, damping: Array) -> Array:
    """Solve ``H x = g`` with damping on the shapes only, after the coefficients have been projected out."""
    Hcc, Hct = H[:, P:, P:], H[:, P:, :P]
    both = np.linalg.solve(Hcc, np.concatenate([Hct, g[:, P:, None]], axis=-1))
    if P == 0:
        return np.asarray(both[..., 0])
    S = H[:, :P, :P] - np.matmul(Hct.transpose(0, 2, 1), both[..., :P])
    index = np.arange(P)
    S[:, index, index] = np.maximum(S[:, index, index], 1e-13) * (1 + damping[:, None])
    right = g[:, :P] - np.einsum("bmp,bm->bp", both[..., :P], g[:, P:])
    dt = np.linalg.solve(S, right[..., None])[..., 0]
    dc = both[..., P] - np.einsum("bmp,bp->bm", both[..., :P], dt)
    return np.concatenate([dt, dc], axis=1)
