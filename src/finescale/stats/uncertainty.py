"""How sure is a fit? Resamples of the data, the noise of a new run, and what each kind of interval means.

Clusters are bases (and, within one base, seeds): runs of one base share its quirks, so rows are not independent. With
enough clusters they are resampled whole. With few (four bases, one seed) that would take away the very factor that is
fitted; then losses are redrawn around the fit with two levels of noise, one per base and one per run.

Both scales are themselves uncertain, and that of the bases much more so: four bases that carry an exponent leave two
degrees of freedom for their noise. Each draw therefore takes its own scales, from generalised pivotal quantities
(Weerahandi 1993, Generalized confidence intervals, doi 10.1080/01621459.1993.10476355): every sum of squares is divided
by a draw of its chi-square, and the two variances follow. So few bases widen an interval and never narrow it.

Where there is one base, its seeds take the place of bases once an F test says that the runs of a seed lie off together:
a seed draws one nested subset, order and start for all sizes, so that seeds are what counts, however many the sizes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import f

from finescale.stats.laws import Array

Scheme = Literal["cluster", "two-level", "residual"]
WORDS: dict[str, str] = {
    "cluster": "clusters (base and seed) resampled whole",
    "two-level": "losses redrawn around the fit with noise per base and per run (too few clusters to resample)",
    "seeds": "losses redrawn around the fit with noise per seed and per run (the runs of a seed lie off together)",
    "residual": "losses redrawn around the fit with noise per run (too few clusters to resample)",
    "auto": "errors of forecasts of larger sizes inside the data",
}
FEWEST_CLUSTERS = 30
# Degrees of freedom lent to one group's noise by the other groups of the same table.
LENT = 3.0
# Below half a degree of freedom bases say nothing; their noise is then taken to be like that of runs, give or take.
_ASSUMED = 3.0
# Runs of a seed are taken to lie off together when they would by chance in fewer tables than this.
_CHANCE = 0.1


@dataclass(frozen=True)
class Level:
    """One sum of squares: ``square`` over ``freedom`` is on average ``run^2 + share * base^2``."""

    square: float
    freedom: float
    share: float


@dataclass(frozen=True)
class Noise:
    """Noise of log loss per run and per base (standard deviations), and the sums of squares behind them.

    ``of_seed``: a seed takes the place of a base.
    """

    run: float
    base: float
    within: Level
    between: Level
    of_seed: bool = False


@dataclass(frozen=True)
class Resamples:
    """Losses (B, N), weights (B, N) and the drawn scales of noise (B,) per run and per base."""

    y: Array
    weights: Array
    run: Array
    base: Array


def noise_of(residual: Array, base: npt.NDArray[np.int_], slopes: Array) -> Noise:
    """Split the variance of log residuals (N,) into a part per run and a part per base.

    The sums of squares within and between bases are set equal to what they would be on average for this design: the
    fit takes degrees of freedom from both, each parameter from where its slopes vary (Henderson's third method).

    Args:
        residual: log observed minus log fitted.
        base: code of each run's base; all equal if bases are not known.
        slopes: derivatives (N, Q) of log loss by the fitted parameters.
    """
    codes, at = np.unique(base, return_inverse=True)
    fitted = _column_space(slopes)
    taken = np.zeros((len(codes), fitted.shape[1]))
    np.add.at(taken, at, fitted)
    return _parted(residual, at, taken)


def _parted(residual: Array, at: npt.NDArray[np.int_], taken: Array) -> Noise:
    """Noise from log residuals (N,), the number of each one's base, and what the fit takes of each base (K, rank)."""
    N, (K, rank) = len(residual), taken.shape
    size = np.bincount(at, minlength=K)
    mean = np.bincount(at, residual, minlength=K) / size
    own = np.sum(taken**2, axis=1)
    between = float(K - np.sum(own / size))
    within = N - rank - between
    if within < 0.5:
        # Every base has its own runs' worth of parameters: only the whole can be judged.
        return _split(Level(float(np.sum(residual**2)), max(float(N - rank), 0.0), 0.0), Level(0.0, 0.0, 1.0))
    crossed = np.sum((taken @ (taken.T @ taken)) * taken, axis=1)
    seen_between = float(np.sum(size - 2 * own + crossed / size))
    seen_within = max(float(N - np.sum(own)) - seen_between, 0.0)
    inner = Level(float(np.sum((residual - mean[at]) ** 2)), within, seen_within / within)
    outer = Level(float(np.sum(size * mean**2)), between, seen_between / between if between > 1e-9 else 1.0)
    return _split(inner, outer)


def noise_of_repeats(log_loss: Array, cell: npt.NDArray[np.int_], seed: npt.NDArray[np.int_]) -> Noise:
    """Noise of runs (N,) about the means of those that differ in seed alone, per run and per seed.

    Args:
        cell: code of the runs that differ in seed alone.
        seed: code of each run's seed.
    """
    again = np.bincount(cell)[cell] > 1
    if not again.any():
        return _split(Level(0.0, 0.0, 0.0), Level(0.0, 0.0, 1.0))
    log_loss, cell = log_loss[again], np.unique(cell[again], return_inverse=True)[1]
    codes, at = np.unique(seed[again], return_inverse=True)
    size = np.bincount(cell)
    left = log_loss - (np.bincount(cell, log_loss) / size)[cell]
    if len(codes) == len(at):
        return _split(Level(float(np.sum(left**2)), float(len(left) - len(size)), 0.0), Level(0.0, 0.0, 1.0))
    taken = np.zeros((len(codes), len(size)))
    np.add.at(taken, (at, cell), 1 / np.sqrt(size[cell]))
    return _parted(left, at, taken)


def together(noises: Iterable[Noise]) -> bool:
    """Whether the runs of a base (or seed) lie off together: an F test over all of these, of one scale or nearly so."""
    able = [noise for noise in noises if noise.within.freedom >= 1 and noise.between.freedom >= 0.5]
    inner, outer = (_pooled([getattr(noise, level) for noise in able], np.inf) for level in ("within", "between"))
    if not able or outer.square <= 0:
        return False
    ratio = (outer.square / outer.freedom) / max(inner.square / inner.freedom, 1e-300)
    return bool(f.sf(ratio, outer.freedom, inner.freedom) < _CHANCE)


def pooled(noises: Iterable[Noise]) -> Noise:
    """Noise of several curves as of one."""
    every = list(noises)
    return _split(*(_pooled([getattr(noise, level) for noise in every], np.inf) for level in ("within", "between")))


def _column_space(slopes: Array) -> Array:
    """An orthonormal basis (N, rank) of what the parameters can move."""
    scaled = slopes / np.maximum(np.abs(slopes).max(axis=0), 1e-300)
    left, values, _ = np.linalg.svd(scaled, full_matrices=False)
    return np.asarray(left[:, values > 1e-9 * values[:1]])


def _split(within: Level, between: Level) -> Noise:
    squares = [level.square / level.freedom if level.freedom >= 0.5 else np.nan for level in (within, between)]
    run, base = _variances(np.array(squares[:1]), np.array(squares[1:]), within.share, between.share)
    return Noise(float(np.sqrt(run[0])), float(np.sqrt(base[0])), within, between)


def _variances(within: Array, between: Array, inner: float, outer: float) -> tuple[Array, Array]:
    """Variances per run and per base from mean squares (B,); not known is 0."""
    base = np.maximum(np.nan_to_num(between - within) / max(outer - inner, 1e-9), 0.0)
    run = np.nan_to_num(within) - inner * base
    return np.where(run > 0, run, np.nan_to_num(within)), base


def lent(noises: list[Noise], index: int) -> Noise | None:
    """Noise of the other groups of a table pooled, worth at most 3 degrees of freedom at each level; None if alone."""
    alike = [noise for at, noise in enumerate(noises) if at != index and noise.of_seed == noises[index].of_seed]
    others = [noise for noise in alike if noise.within.freedom > 0]
    if not others:
        return None
    return _split(*(_pooled([getattr(noise, level) for noise in others], LENT) for level in ("within", "between")))


def _pooled(levels: list[Level], most: float) -> Level:
    """Levels as one, worth at most so many degrees of freedom."""
    freedom = sum(level.freedom for level in levels)
    if freedom < 0.5:
        return Level(0.0, 0.0, 1.0)
    share = sum(level.share * level.freedom for level in levels) / freedom
    worth = min(most, freedom)
    return Level(sum(level.square for level in levels) / freedom * worth, worth, share)


def choose(clusters: npt.NDArray[np.int_], base: npt.NDArray[np.int_]) -> Scheme:
    """The resampling scheme that this many clusters and bases allow."""
    if len(np.unique(clusters)) >= FEWEST_CLUSTERS:
        return "cluster"
    return "two-level" if len(np.unique(base)) >= 2 else "residual"


def scales(noise: Noise, others: Noise | None, draws: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draws (B,) of the noise per run and per base (standard deviations); see the head of this file."""
    within, between = noise.within, noise.between
    if others is not None:
        within, between = _joined(within, others.within), _joined(between, others.between)
    if within.freedom < 0.5:
        return np.zeros(draws), np.zeros(draws)
    inner = within.square / _chi_square(within.freedom, draws, rng)
    if between.freedom < 0.5:
        run, base = _variances(inner, inner, within.share, between.share)
        return np.sqrt(run), np.sqrt(run * _ASSUMED / rng.chisquare(_ASSUMED, draws))
    outer = between.square / _chi_square(between.freedom, draws, rng)
    run, base = _variances(inner, outer, within.share, between.share)
    return np.sqrt(run), np.sqrt(base)


def _joined(own: Level, others: Level) -> Level:
    freedom = own.freedom + others.freedom
    if freedom < 0.5:
        return own
    share = (own.share * own.freedom + others.share * others.freedom) / freedom
    return Level(own.square + others.square, freedom, share)


def _chi_square(freedom: float, draws: int, rng: np.random.Generator) -> Array:
    return np.asarray(rng.chisquare(max(freedom, 1.0), draws)) * freedom / max(freedom, 1.0)


def resample(
    scheme: Scheme,
    y: Array,
    fitted: Array,
    clusters: npt.NDArray[np.int_],
    base: npt.NDArray[np.int_],
    noise: Noise,
    others: Noise | None,
    draws: int,
    rng: np.random.Generator,
) -> Resamples:
    """Make ``draws`` data sets that might as well have been seen; see the head of this file for the schemes.

    ``others`` is the noise that the other groups of the table lend.
    """
    run, per_base = scales(noise, others, draws, rng)
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
