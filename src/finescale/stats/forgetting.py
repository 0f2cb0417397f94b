"""Off-task loss as a second target: the forgetting laws of the literature, fitted and compared out of sample.

Each law says what the loss on a probe becomes, given the untouched base's loss L0 on it. Ours follow

- Bethune et al. 2025 (arXiv 2502.06042) without injected pretraining data: ``L = c·L0 + A·D^b / N^a``, D examples and
  N parameters of the base;
- Kalajdzievski 2024 (arXiv 2401.05605), a power law in trained parameters and steps: ``L = c·L0 + A·T^a·S^b``; where
  a table has no steps, examples stand in for them;
- Kalajdzievski 2024, forgetting linear in the finetuning loss: ``L - L0 = s - k·L_ft``;
- the null: ``L = c·L0``, nothing but the base.

They are compared on the settings with most examples, which no fit has seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from finescale.stats.ability import student
from finescale.stats.laws import Array

FEWEST_ROWS, FEWEST_LEVELS = 6, 3
_EXPONENTS = np.concatenate([-np.geomspace(0.02, 1.5, 14)[::-1], [0.0], np.geomspace(0.02, 1.5, 14)])


@dataclass(frozen=True)
class Forgetting:
    """A law of off-task loss: its formula, source, and the logarithms of the two factors its power term takes."""

    name: str
    formula: str
    source: str
    factors: Callable[[pd.DataFrame], Array] | None


LAWS = (
    Forgetting(
        "size-and-data",
        "L = c·L0 + A·D^b·N^-a",
        "Bethune et al. 2025, arXiv 2502.06042, without injection",
        lambda frame: np.log(frame[["model_params", "examples"]].to_numpy(float)),
    ),
    Forgetting(
        "trained-and-steps",
        "L = c·L0 + A·T^a·S^b",
        "Kalajdzievski 2024, arXiv 2401.05605",
        lambda frame: np.log(frame[["pet_params", "steps" if "steps" in frame else "examples"]].to_numpy(float)),
    ),
    Forgetting("linear-in-loss", "L - L0 = s - k·L_ft", "Kalajdzievski 2024, arXiv 2401.05605", None),
    Forgetting("base-only", "L = c·L0", "the null: finetuning changes nothing but a factor", None),
)


def forgetting_laws(probes: pd.DataFrame, level: float = 0.9) -> pd.DataFrame:
    """Fit and compare the laws per task and probe of off-task loss, all methods together and each alone.

    Args:
        probes: what ``read_probes`` returns, with ``model_params, pet_params, examples`` and, if there, ``steps`` and
            ``loss`` (the finetuning loss).

    Returns:
        ``task, method`` (or ``all``), ``probe, law, formula, parameters`` (estimates in words), ``error`` (mean
        absolute, held-out settings, nats per token), ``gain, gain_low, gain_high`` (error of the null minus the law's),
        ``settings, held_out, answer, source``.
    """
    off = probes[probes["kind"].isin(("text", "task")) & (probes["metric"] == "nll")]
    rows: list[dict[str, Any]] = []
    for (task, probe), both in off.groupby(["task", "probe"]):
        parts = [("all", both), *both.groupby("method")] if both["method"].nunique() > 1 else [*both.groupby("method")]
        for method, part in parts:
            head = {"task": task, "method": method, "probe": probe}
            rows += [head | row for row in _compare(_settings(part), level)]
    return pd.DataFrame(rows)


def _settings(part: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds."""
    numbers = [name for name in ("model_params", "pet_params", "steps", "loss") if name in part]
    known = [name for name in numbers if part[name].notna().all()]
    keys = ["method", "base", "pretrain_tokens", "pet_size", "examples", "epochs_asked"]
    return part.groupby(keys, dropna=False)[[*known, "value", "zero_value"]].mean().reset_index()


def _compare(frame: pd.DataFrame, level: float) -> list[dict[str, Any]]:
    top = frame["examples"] == frame["examples"].max()
    fitted, held = frame[~top], frame[top]
    count: dict[str, Any] = {"settings": len(frame), "held_out": len(held)}
    if len(fitted) < FEWEST_ROWS or frame["examples"].nunique() < FEWEST_LEVELS:
        why = f"undecided: {len(fitted)} settings at {frame['examples'].nunique()} numbers of examples are too few"
        return [{"law": law.name, "formula": law.formula, "answer": why, "source": law.source} | count for law in LAWS]
    null = np.abs(_said(LAWS[-1], fitted, held)[0] - held["value"])
    rows = []
    for law in LAWS:
        head = {"law": law.name, "formula": law.formula, "source": law.source} | count
        if lacks := _lacks(law, frame):
            rows.append(head | {"answer": f"undecided: the probes' table lacks {lacks}"})
            continue
        said, parameters = _said(law, fitted, held)
        error = np.abs(said - held["value"])
        gain = (null - error).to_numpy()
        low, high = student(gain, level)
        head |= {"parameters": parameters, "error": float(error.mean()), "gain": float(gain.mean())}
        rows.append(head | {"gain_low": low, "gain_high": high, "answer": _answer(law, low, high)})
    return rows


def _lacks(law: Forgetting, frame: pd.DataFrame) -> str:
    needed = {"size-and-data": ["model_params"], "trained-and-steps": ["pet_params"], "linear-in-loss": ["loss"]}
    return ", ".join(name for name in needed.get(law.name, []) if name not in frame)


def _answer(law: Forgetting, low: float, high: float) -> str:
    if law is LAWS[-1]:
        return "the null"
    if not np.isfinite(low):
        return "undecided: one held-out setting gives no interval"
    return "beats the null" if low > 0 else "worse than the null" if high < 0 else "undecided"


def _said(law: Forgetting, fitted: pd.DataFrame, held: pd.DataFrame) -> tuple[Array, str]:
    """Predicted off-task loss of the held-out settings, and the estimates in words."""
    if law.name == "linear-in-loss":
        rise = (fitted["value"] - fitted["zero_value"]).to_numpy(float)
        slope, s = np.polyfit(fitted["loss"].to_numpy(float), rise, 1) if fitted["loss"].nunique() > 1 else (0.0, 0.0)
        said = held["zero_value"].to_numpy(float) + s + slope * held["loss"].to_numpy(float)
        return np.asarray(said), f"s {s:.4g}, k {-slope:.4g}"
    zero, y = fitted["zero_value"].to_numpy(float), fitted["value"].to_numpy(float)
    if law.factors is None:
        c = float(zero @ y / (zero @ zero))
        return np.asarray(c * held["zero_value"].to_numpy(float)), f"c {c:.4g}"
    z, middle = law.factors(fitted), law.factors(fitted).mean(axis=0)
    theta, coef = _power_term(z - middle, zero, y)
    said = coef[0] * held["zero_value"].to_numpy(float) + coef[1] * np.exp((law.factors(held) - middle) @ theta)
    a, b = (-theta[0], theta[1]) if law.name == "size-and-data" else theta
    A = coef[1] * np.exp(-middle @ theta)
    return np.asarray(said), f"c {coef[0]:.4g}, A {A:.3g}, a {a:.3g}, b {b:.3g}"


def _power_term(z: Array, zero: Array, y: Array) -> tuple[Array, Array]:
    """Least squares over a grid of both exponents, then a finer one around the best; coefficients are solved for."""
    best = np.zeros(2)
    step, coef = _EXPONENTS, np.zeros(2)
    for _ in range(3):
        grid = np.stack(np.meshgrid(best[0] + step, best[1] + step, indexing="ij"), axis=-1).reshape(-1, 2)
        grid = np.clip(grid, -2.0, 2.0)
        term = np.exp(grid @ z.T)
        cost, coefs = _two_columns(np.broadcast_to(zero, term.shape), term, y)
        pick = int(np.argmin(cost))
        best, coef, step = grid[pick], coefs[pick], step * 0.2
    return best, coef


def _two_columns(one: Array, two: Array, y: Array) -> tuple[Array, Array]:
    """Least squares of y (n,) on pairs of columns (G, n): cost (G,) and coefficients (G, 2)."""
    a, b, c = (np.sum(left * right, axis=1) for left, right in ((one, one), (one, two), (two, two)))
    d, e = one @ y, two @ y
    det = np.maximum(a * c - b * b, 1e-12 * a * c)
    coef = np.column_stack([(c * d - b * e) / det, (a * e - b * d) / det])
    cost = np.sum((y - coef[:, :1] * one - coef[:, 1:] * two) ** 2, axis=1)
    return cost, coef
