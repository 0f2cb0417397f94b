"""Data sets that might as well have been seen: seeds resampled per base, and deviations of whole curves on top.

Two things make a table of settings uncertain. Seeds: with enough of them they are resampled whole per base (a cluster
is a base and a seed, so the nested subsets of one seed stay together), spread so that the variance of a mean over few
seeds is not understated; with too few, noise is redrawn at the scale the residuals show. Bases and PET sizes: a whole
curve can lie above or below the law, which no number of seeds averages away; its scale comes from the spread of the
residuals' means per curve, and is itself uncertain (scaled inverse chi-square; Satterthwaite's split of variances).
Deviations are added to what was observed, never to a fitted law, so that no law is favoured when laws are compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from finescale.stats.laws import Array
from finescale.stats.slices import Rows, Settings

# Degrees of freedom of the seeds from which they are resampled rather than redrawn.
FEWEST_FREEDOM = 8


@dataclass(frozen=True)
class Spread:
    """Mean squares of log residuals within and between curves, their degrees of freedom, and settings per curve."""

    within: float
    within_freedom: float
    between: float
    between_freedom: float
    per_curve: float


def spread_of(residual: Array, curve: Rows, shapes: int, places: int) -> Spread:
    """Split the variance of log residuals (n,) of settings.

    Args:
        curve: code of each setting's curve.
        shapes: fitted parameters that describe curves in examples.
        places: fitted parameters that describe differences between curves.
    """
    codes = np.unique(curve)
    size = np.array([np.sum(curve == code) for code in codes])
    mean = np.array([residual[curve == code].mean() for code in codes])
    inner = residual - mean[np.searchsorted(codes, curve)]
    inner_freedom = max(len(residual) - len(codes) - shapes, 1)
    within = float(np.sum(inner**2) / inner_freedom)
    freedom = max(len(codes) - places, 1)
    between = float(np.sum(size * mean**2) / freedom)
    return Spread(within, inner_freedom, between, freedom, float(size.mean()))


def redraw(cell: Settings, spread: Spread, draws: int, rng: np.random.Generator) -> Array:
    """Losses (B, n) of the settings of ``cell``: observed ones with seeds resampled and curves shifted."""
    within = spread.within * spread.within_freedom / rng.chisquare(spread.within_freedom, draws)
    between = spread.between * spread.between_freedom / rng.chisquare(spread.between_freedom, draws)
    of_curve = np.sqrt(np.maximum(between - within, 0.0) / spread.per_curve)
    curve = cell.curve
    shift = (of_curve[:, None] * rng.standard_normal((draws, curve.max() + 1)))[:, curve]
    if seed_freedom(cell) >= FEWEST_FREEDOM:
        shift += _seeds(cell, draws, rng)
    else:
        shift += np.sqrt(within)[:, None] * rng.standard_normal((draws, len(curve)))
    return np.asarray(cell.frame["loss"].to_numpy(dtype=float) * np.exp(shift))


def seed_freedom(cell: Settings) -> int:
    """Seeds beyond the first, over all bases."""
    return int((cell.runs.groupby(["base", "pretrain_tokens"], dropna=False)["seed"].nunique() - 1).sum())


def _seeds(cell: Settings, draws: int, rng: np.random.Generator) -> Array:
    """Log deviations (B, n) of the mean over resampled seeds from the mean over all."""
    runs = cell.runs
    deviation = np.log(runs["loss"]) - np.log(runs.groupby("setting")["loss"].transform("mean"))
    out = np.zeros((draws, len(cell.frame)))
    for _, part in runs.assign(deviation=deviation).groupby(["base", "pretrain_tokens"], dropna=False):
        square = part.pivot_table(index="setting", columns="seed", values="deviation")
        S = square.shape[1]
        if S < 2:
            continue
        counts = rng.multinomial(S, np.full(S, 1 / S), draws).astype(float)
        value, seen = square.fillna(0.0).to_numpy(), square.notna().to_numpy().astype(float)
        mean = counts @ value.T / np.maximum(counts @ seen.T, 1.0)
        out[:, square.index.to_numpy()] = np.sqrt(S / (S - 1)) * mean
    return out


def scheme(cell: Settings) -> str:
    """How the intervals of a cell were made, in words."""
    freedom = seed_freedom(cell)
    seeds = "seeds resampled per base (clusters: base and seed)"
    if freedom < FEWEST_FREEDOM:
        seeds = f"noise redrawn at the scale of the residuals ({freedom} further seeds are too few to resample)"
    return f"{seeds}; whole curves shifted by the spread between curves"
