"""How sure is a fit? Resamples of the data, the noise of a new run, and what each kind of interval means.

Clusters are bases (and their seeds): runs of one base share its quirks, so rows are not independent. With enough
clusters they are resampled whole. With few (four bases, one seed) that would take away the very factor that is fitted;
then losses are redrawn around the fit with two levels of noise, one per base and one per run, whose scales are
themselves uncertain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from finescale.stats.laws import Array

Scheme = Literal["cluster", "two-level", "residual"]
WORDS: dict[str, str] = {
    "cluster": "clusters (base and seed) resampled whole",
    "two-level": "losses redrawn around the fit with noise per base and per run (too few clusters to resample)",
    "residual": "losses redrawn around the fit with noise per run (too few clusters to resample)",
}
FEWEST_CLUSTERS = 12
# Degrees of freedom lent to one group's noise by all groups of the same table.
LENT = 3.0


@dataclass(frozen=True)
class Noise:
    """Noise of log loss per run and per base (standard deviations), and the degrees of freedom behind the first."""

    run: float
    base: float
    freedom: float


@dataclass(frozen=True)
class Resamples:
    """Losses (B, N), weights (B, N) and the drawn scales of noise (B,) per run and per base."""

    y: Array
    weights: Array
    run: Array
    base: Array


def noise_of(residual: Array, base: npt.NDArray[np.int_], parameters: int, on_base: int) -> Noise:
    """Split the variance of log residuals (N,) into a part per run and a part per base.

    Args:
        residual: log observed minus log fitted.
        base: code of each run's base; all equal if bases are not known.
        parameters: number of fitted parameters.
        on_base: how many of them describe differences between bases.
    """
    n, codes = len(residual), np.unique(base)
    freedom = max(n - parameters, 0)
    if freedom == 0:
        return Noise(0.0, 0.0, 0.0)
    K = len(codes)
    if K < 3 or n <= 2 * K:
        return Noise(float(np.sqrt(np.sum(residual**2) / freedom)), 0.0, float(freedom))
    size = np.array([np.sum(base == code) for code in codes])
    mean = np.array([np.mean(residual[base == code]) for code in codes])
    within = residual - mean[np.searchsorted(codes, base)]
    inner = max(n - K - (parameters - on_base), 1)
    run = np.sum(within**2) / inner
    between = np.sum(size * mean**2) / max(K - on_base, 1)
    return Noise(float(np.sqrt(run)), float(np.sqrt(max(0.0, (between - run) / np.mean(size)))), float(inner))


def pooled(noises: list[Noise]) -> float:
    """Variance per run over all groups of a table, each weighted by its degrees of freedom."""
    freedom = sum(noise.freedom for noise in noises)
    return sum(noise.run**2 * noise.freedom for noise in noises) / freedom if freedom else 0.0


def choose(clusters: npt.NDArray[np.int_], base: npt.NDArray[np.int_]) -> Scheme:
    """The resampling scheme that this many clusters and bases allow."""
    if len(np.unique(clusters)) >= FEWEST_CLUSTERS:
        return "cluster"
    return "two-level" if len(np.unique(base)) >= 3 else "residual"


def scales(noise: Noise, shared: float, draws: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draws of the noise per run and per base: scaled inverse chi-square, some degrees lent by the whole table."""
    freedom = noise.freedom + LENT
    variance = (noise.freedom * noise.run**2 + LENT * shared) / freedom
    spread = np.sqrt(freedom / rng.chisquare(freedom, draws))
    return np.sqrt(variance) * spread, noise.base * spread


def resample(
    scheme: Scheme,
    y: Array,
    fitted: Array,
    clusters: npt.NDArray[np.int_],
    base: npt.NDArray[np.int_],
    noise: Noise,
    shared: float,
    draws: int,
    rng: np.random.Generator,
) -> Resamples:
    """Make ``draws`` data sets that might as well have been seen; see the head of this file for the schemes."""
    run, per_base = scales(noise, shared, draws, rng)
    N = len(y)
    if scheme == "cluster":
        codes, inverse = np.unique(clusters, return_inverse=True)
        counts = rng.multinomial(len(codes), np.full(len(codes), 1 / len(codes)), draws)
        return Resamples(np.tile(y, (draws, 1)), counts[:, inverse].astype(float), run, per_base)
    shift = run[:, None] * rng.standard_normal((draws, N))
    if scheme == "two-level":
        codes, inverse = np.unique(base, return_inverse=True)
        shift += (per_base[:, None] * rng.standard_normal((draws, len(codes))))[:, inverse]
    return Resamples(fitted * np.exp(shift), np.ones((draws, N)), run, per_base)
