"""The paper's two-stage protocol over slices, for the multiplicative and the additive law, with joint draws.

Stage 1 fits the model-size and the pretraining-size slice of a task and method together: one beta and one E, and an
A and alpha (additive: and B) each. Stage 2 freezes beta and E and fits those of every factor, PET size included; for
the factors of stage 1 that changes nothing, as they are at their optimum already. Huber's loss of L itself with
delta 1e-3. Source: Zhang et al. 2024, section 4, Eqs. 1 and 2. The paper gives no intervals; draws here are refits of
data sets that might as well have been seen (``finescale.stats.redraw``), the same for every factor and both laws.

Shape suffixes: B draws, n settings, M coefficients without E.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from finescale.stats.groups import Cell, Group, PointFit, resolve, solve
from finescale.stats.laws import ADDITIVE, MULTIPLICATIVE, Array, Law
from finescale.stats.paper import PAPER_OBJECTIVE, SHARED, STAGE_1
from finescale.stats.redraw import Spread, redraw, spread_of
from finescale.stats.slices import Rows, Settings
from finescale.stats.solve import huber, nonnegative

DRAWS = 200
_DELTA = 1e-3
_AT_BOUND = 1e-6


@dataclass(frozen=True)
class Along:
    """Parameters of one factor: alpha () or (B,), and coefficients without E (M,) or (B, M)."""

    alpha: Array
    coef: Array


@dataclass(frozen=True)
class Fitted:
    """A law fitted to a task and method by the protocol; every array has the estimate first and then the B draws.

    Attributes:
        beta, E: (1 + B,), shared by all factors.
        along: per factor alpha (1 + B,) and coefficients (1 + B, M).
        point: how the search for the estimates of stage 1 ended.
    """

    law: Law
    beta: Array
    E: Array
    along: dict[str, Along]
    point: PointFit

    def predict(self, factor: str, size: Array, examples: Array) -> Array:
        """Loss (1 + B, n) at sizes of the factor and numbers of examples (n,)."""
        one = self.along[factor]
        z = np.log(np.column_stack([size, examples]).astype(float))
        phi = self.law.columns(z, np.column_stack([one.alpha, self.beta]))
        return np.asarray(np.einsum("bnm,bm->bn", phi, np.column_stack([one.coef, self.E])))

    def parameters(self) -> pd.DataFrame:
        """Draws as columns ``beta, E, alpha:factor, A:factor`` (additive: ``B:factor``); row 0 is the estimate."""
        columns = {"beta": self.beta, "E": self.E}
        for factor, one in self.along.items():
            columns[f"alpha:{factor}"] = one.alpha
            columns |= {f"{name}:{factor}": one.coef[:, i] for i, name in enumerate("AB"[: one.coef.shape[1]])}
        return pd.DataFrame(columns)

    def at_bound(self, column: str) -> str:
        """The bound that the estimate in a column of ``parameters`` sits at, in words; empty if it sits at none."""
        name, _, factor = column.partition(":")
        known = self.law.parameters((factor or next(iter(self.along)),))
        one = next(p for p in known if p.name == name)
        value = float(self.parameters()[column].iloc[0])
        if value <= one.lower + _AT_BOUND:
            return f"lower bound {one.lower:g}"
        return f"upper bound {one.upper:g}" if value >= one.upper - _AT_BOUND else ""


def fit_cell(cell: Settings, law: Law, losses: Array, held: bool, known: PointFit | None = None) -> Fitted | str:
    """Fit a law to the slices of one task and method.

    Args:
        losses: (1 + B, n), row 0 as observed, the others redrawn.
        held: whether the held-out settings of each slice stay out of its fit.
        known: the search's end for these settings, if it was made before.

    Returns:
        The fit, or why there is none.
    """
    rows = {name: part.fitted if held else part.rows for name, part in cell.slices.items()}
    first = [name for name in STAGE_1 if name in rows]
    if not first:
        return "stage 1 needs runs along model size or pretraining size"
    need = 2 + sum(len(law.coefficients) for _ in first)
    have = sum(len(rows[name]) for name in first)
    if have < need:
        return f"{have} settings for {need} parameters of the {law.name} law"
    fitted = _stage_1(cell, law, {name: rows[name] for name in first}, losses, known)
    for name in rows.keys() - set(first):
        if len(rows[name]) < len(law.coefficients) + 1:
            return f"{len(rows[name])} settings along {name} are too few"
        z = _z(cell, name, rows[name])
        fitted.along[name] = frozen(law, z, losses[:, rows[name]], fitted.beta, fitted.E)
    return fitted


def _z(cell: Settings, factor: str, rows: Rows) -> Array:
    frame = cell.part(factor).loc[rows]
    return np.asarray(np.log(frame[[factor, "examples"]].to_numpy(dtype=float)))


def _stage_1(cell: Settings, law: Law, rows: dict[str, Rows], losses: Array, known: PointFit | None) -> Fitted:
    groups = [
        Group({}, (name, "examples"), cell.part(name).loc[own], cell.frame.iloc[:0]) for name, own in rows.items()
    ]
    joint = Cell(law, groups, SHARED if len(groups) > 1 else (), PAPER_OBJECTIVE)
    point = known or solve(joint)
    theta, coef = point.theta[None], point.coef[None]
    if len(losses) > 1:
        y = losses[1:][:, np.concatenate(list(rows.values()))]
        redone = resolve(joint, point, y, np.ones_like(y))
        theta, coef = np.vstack([theta, redone.theta]), np.vstack([coef, redone.coef])
    at, linear = joint.shape_at, joint.coef_at
    along = {name: Along(theta[:, at[i][0]], coef[:, linear[i][:-1]]) for i, name in enumerate(rows)}
    return Fitted(law, theta[:, at[0][1]], coef[:, linear[0][-1]], along, point)


# ---------------------------------------------------------------------------------------------------------- stage 2


def frozen(law: Law, z: Array, y: Array, beta: Array, E: Array) -> Along:
    """Fit alpha and the coefficients along one factor with beta and E given per draw.

    Args:
        z: log factor and log examples (n, 2).
        y: losses (B, n).
        beta, E: (B,).
    """
    target = y - E[:, None]
    alpha, coef = _scan(law, z, target, beta)
    for delta in (3e-2, 5e-3, _DELTA):
        alpha, coef = _descend(law, z, target, beta, alpha, coef, delta)
    return Along(alpha, coef)


def _columns(law: Law, z: Array, alpha: Array, beta: Array) -> Array:
    return law.columns(z, np.column_stack([alpha, beta]))[..., :-1]


def _scan(law: Law, z: Array, target: Array, beta: Array) -> tuple[Array, Array]:
    """Best of a grid of alphas by least squares."""
    best = np.full(len(target), np.inf)
    alpha, coef = np.zeros(len(target)), np.zeros((len(target), len(law.coefficients) - 1))
    size = np.geomspace(0.003, 2.0, 16)
    for value in np.concatenate([-size[size < 0.9], [0.0], size]):
        phi = _columns(law, z, np.full(len(target), value), beta)
        H, g = np.einsum("bni,bnj->bij", phi, phi), np.einsum("bni,bn->bi", phi, target)
        c = nonnegative(H, g)
        cost = np.sum((target - np.einsum("bnm,bm->bn", phi, c)) ** 2, axis=1)
        better = cost < best
        best[better], alpha[better], coef[better] = cost[better], value, c[better]
    return alpha, coef


def _descend(
    law: Law, z: Array, target: Array, beta: Array, alpha: Array, coef: Array, delta: float, rounds: int = 30
) -> tuple[Array, Array]:
    """Levenberg–Marquardt on the Huber loss over alpha and the coefficients, all draws at once."""

    def cost(alpha: Array, coef: Array) -> tuple[Array, Array, Array]:
        phi = _columns(law, z, alpha, beta)
        r = target - np.einsum("bnm,bm->bn", phi, coef)
        return np.sum(huber(r, np.asarray(delta)), axis=1), r, phi

    damping = np.full(len(target), 1e-3)
    value, r, phi = cost(alpha, coef)
    for _ in range(rounds):
        step = (_columns(law, z, alpha + 1e-6, beta) - phi) / 1e-6
        J = np.concatenate([np.einsum("bnm,bm->bn", step, coef)[..., None], phi], axis=-1)
        scale = np.maximum(np.sqrt(np.einsum("bni,bni->bi", J, J)), 1e-300)
        J = J / scale[:, None]
        w = np.minimum(1.0, delta / np.maximum(np.abs(r), 1e-300))
        H = np.einsum("bni,bn,bnj->bij", J, w, J) + np.eye(J.shape[2]) * (1e-10 + damping[:, None, None] * w.mean())
        move = np.linalg.solve(H, np.einsum("bni,bn->bi", J, w * r)[..., None])[..., 0] / scale
        new_alpha, new_coef = np.clip(alpha + move[:, 0], -1.0, 3.0), np.maximum(coef + move[:, 1:], 0.0)
        new, new_r, new_phi = cost(new_alpha, new_coef)
        won = new < value
        alpha, coef = np.where(won, new_alpha, alpha), np.where(won[:, None], new_coef, coef)
        r, phi = np.where(won[:, None], new_r, r), np.where(won[:, None, None], new_phi, phi)
        value, damping = np.where(won, new, value), np.where(won, damping / 5, np.minimum(damping * 6, 1e8))
    return alpha, coef


# ----------------------------------------------------------------------------------------------------- a whole study


@dataclass(frozen=True)
class Protocol:
    """What the protocol makes of one task and method.

    Attributes:
        losses: (1 + B, n): observed, then redrawn, losses of the cell's settings.
        whole: the multiplicative law on all settings; a sentence if there is none.
        kept: by law's name, the fit without the held-out settings; a sentence if there is none.
    """

    cell: Settings
    losses: Array
    whole: Fitted | str
    kept: dict[str, Fitted | str]

    def deviation(self, law: str, factor: str, held: bool) -> Array | None:
        """Mean absolute deviation (1 + B,) in nats of fitted (or held-out) settings along a factor; None: no such."""
        fitted, one = self.kept[law], self.cell.slices.get(factor)
        if isinstance(fitted, str) or one is None or not one.held.any():
            return None
        rows = one.rows[one.held == held]
        part = self.cell.part(factor).loc[rows]
        said = fitted.predict(factor, part[factor].to_numpy(), part["examples"].to_numpy())
        return np.asarray(np.abs(said - self.losses[:, rows]).mean(axis=1))

    def gain(self, factor: str) -> Array | None:
        """Held-out deviation, additive minus multiplicative (1 + B,); above 0 the multiplicative law is better.

        Noise on top of noise draws two errors together, so the draws tell the spread and the estimate the place.
        """
        errors = [self.deviation(law, factor, held=True) for law in ("additive", "multiplicative")]
        if errors[0] is None or errors[1] is None:
            return None
        gap = errors[0] - errors[1]
        return np.append(gap[0], gap[1:] + gap[0] - np.median(gap[1:]))


LAWS = (MULTIPLICATIVE, ADDITIVE)


def protocol(cell: Settings, draws: int = DRAWS, seed: int = 0) -> Protocol:
    """Carry out the two-stage protocol for one task and method, with ``draws`` refits behind every interval."""
    rng = np.random.default_rng([seed, *cell.label.encode()])
    observed = cell.frame["loss"].to_numpy(dtype=float)[None]
    first = fit_cell(cell, MULTIPLICATIVE, observed, held=False)
    if isinstance(first, str):
        return Protocol(cell, observed, first, {law.name: first for law in LAWS})
    losses = np.vstack([observed, redraw(cell, residual_spread(cell, first), draws, rng)])
    whole = fit_cell(cell, MULTIPLICATIVE, losses, held=False, known=first.point)
    kept = {law.name: fit_cell(cell, law, losses, held=True) for law in LAWS}
    return Protocol(cell, losses, whole, kept)


def residual_spread(cell: Settings, fitted: Fitted) -> Spread:
    """Spread of log residuals about the fitted law over all slices."""
    residual: list[Array] = []
    curve: list[Rows] = []
    code = cell.curve
    for factor, one in cell.slices.items():
        part = cell.part(factor)
        said = fitted.predict(factor, part[factor].to_numpy(), part["examples"].to_numpy())[0]
        residual.append(np.log(part["loss"].to_numpy()) - np.log(np.maximum(said, 1e-12)))
        # A curve that two slices share counts once per slice: each slice has parameters of its own for it.
        curve.append(code[one.rows] + len(curve) * 10_000)
    return spread_of(np.concatenate(residual), np.concatenate(curve), 1, 2 * len(cell.slices) + 1)
