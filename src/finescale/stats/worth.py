"""What more data would bring, and whether it is worth its price: from few runs, with every width said.

Halving: the hosted vendors advise to compare training on all of the data with training on half of it. Done with one run
each that is one number without a width; here it comes with the noise of runs (subset, start and order, by seed) and of
the test set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t

from finescale.stats.fits import Fits
from finescale.stats.laws import Array

MOST_REACH = 4.0
"""Times what was run, beyond which nothing is advised; forecasts are still shown."""


SEEDS = "seeds"
ENOUGH = 2
"""Degrees of freedom from which on a curve's own seeds are gone by."""


@dataclass(frozen=True)
class Noise:
    """Standard deviation of the log loss of one run, degrees of freedom behind it, and where it comes from."""

    sd: float
    freedom: int
    source: str


@dataclass(frozen=True)
class Halving:
    """What the last doubling brought, in nats per target token.

    Attributes:
        half, full: examples of the two sizes compared.
        gain: mean loss at ``half`` less mean loss at ``full``.
        low, high: interval of the gain, or NaN where nothing tells the noise.
        seeds: runs at each size.
        noise: of one run; None where there is but one run a size and too few sizes.
        test_sd: standard deviation of the gain from the test set's being a sample; NaN where it is not known.
    """

    half: int
    full: int
    gain: float
    low: float
    high: float
    seeds: int
    noise: Noise | None
    test_sd: float


def noise_of_runs(runs: pd.DataFrame, by: Sequence[str]) -> Noise | None:
    """Noise of a run, pooled over all groups.

    From seeds where a size was run more than once; else from how far runs lie off a straight line in log loss against
    log examples, where what is curved counts as noise.

    Args:
        runs: usable runs with ``examples``, ``loss`` and the columns of ``by``.
        by: what makes a curve.
    """
    left: list[Array] = []
    for _, cell in runs.groupby([*by, "examples"]):
        y = np.log(cell["loss"].to_numpy(dtype=float))
        left.append(y - y.mean())
    freedom = sum(len(one) - 1 for one in left)
    if freedom:
        return Noise(_pooled(left, freedom), freedom, f"{SEEDS} ({freedom} degrees of freedom)")
    left, freedom = [], 0
    for _, curve in runs.groupby(list(by)):
        x, y = (np.log(curve[name].to_numpy(dtype=float)) for name in ("examples", "loss"))
        if len(x) > 2:
            left.append(y - np.polyval(np.polyfit(x, y, 1), x))
            freedom += len(x) - 2
    if not freedom:
        return None
    return Noise(_pooled(left, freedom), freedom, f"distance from straight lines ({freedom} degrees of freedom)")


def noise_of_curve(own: Noise | None, pooled: Noise | None) -> Noise | None:
    """The noise to go by: a curve's own where seeds tell it, else that of all curves together."""
    return own if own is not None and own.source.startswith(SEEDS) and own.freedom >= ENOUGH else pooled


def _pooled(left: list[Array], freedom: int) -> float:
    return float(np.sqrt(sum(float(one @ one) for one in left) / freedom))


def halving(
    runs: pd.DataFrame, noise: Noise | None, test_sd: float = float("nan"), level: float = 0.9
) -> Halving | None:
    """Half against full on one curve: the largest size and the size nearest to half of it.

    The interval is Student's t of the runs' noise, to which the test set's is added where it is known.

    Args:
        runs: usable runs of one curve.
        noise: of a run.
        test_sd: of the gain, from the test set.
        level: probability that the interval holds the gain.
    """
    means = runs.groupby("examples")["loss"].agg(["mean", "count"])
    if len(means) < 2:
        return None
    sizes = means.index.to_numpy(dtype=float)
    full = sizes[-1]
    half = min(sizes[:-1], key=lambda size: abs(np.log(size / (full / 2))))
    gain = float(means["mean"][half] - means["mean"][full])
    width = float("nan")
    if noise is not None:
        parts = [means["mean"][size] ** 2 / means["count"][size] for size in (half, full)]
        own = noise.sd * np.sqrt(sum(parts))
        beside = 0.0 if np.isnan(test_sd) else test_sd
        width = float(np.hypot(t.ppf((1 + level) / 2, noise.freedom) * own, t.ppf((1 + level) / 2, 200) * beside))
    seeds = int(means["count"].loc[[half, full]].min())
    return Halving(int(half), int(full), gain, gain - width, gain + width, seeds, noise, test_sd)


@dataclass(frozen=True)
class More:
    """What a number of examples would bring over the most that were run.

    Attributes:
        examples: asked about; ``times`` as many as the data there are.
        median, low, high: forecast loss of a new run, nats per target token; NaN where it was refused.
        reach: times beyond what was run.
        gain, gain_low, gain_high: the fitted loss at the most examples run, less that of a new run there.
        usd: price of the examples that are not there yet; None where none was given.
        usd_per_nat: that price by the gain, at its median; infinite where the median gain is none.
        worth: probability that the gain is worth more than the price; None where it cannot be judged.
        refused: why there is no forecast or no advice; else empty.
    """

    examples: int
    times: float
    median: float
    low: float
    high: float
    reach: float
    gain: float
    gain_low: float
    gain_high: float
    usd: float | None
    usd_per_nat: float | None
    worth: float | None
    refused: str


NOTHING = dict.fromkeys(("median", "low", "high", "reach", "gain", "gain_low", "gain_high"), float("nan"))
"""What is said where there is no forecast."""


def more(
    fits: Fits,
    at: pd.DataFrame,
    have: int,
    times: Sequence[float],
    level: float = 0.9,
    usd_per_1000: float | None = None,
    usd_per_nat: float | None = None,
    noise: Noise | None = None,
) -> list[More]:
    """Forecasts of a curve at several times the examples there are, their gain and their price.

    Args:
        fits: of the runs.
        at: one row, the curve, with ``examples`` the most that were run.
        have: examples there are, labelled already.
        times: of ``have``.
        level: of the intervals.
        usd_per_1000: price of labels.
        usd_per_nat: what a nat per target token is worth, if that was said.
        noise: of a run; where it is more than the fit's own, forecasts are as wide as it says.
    """
    label = fits.find(**{name: at[name].iloc[0] for name in fits.by})
    asked = [round(have * factor) for factor in times]
    if not label.fitted:
        prices = [_price(n, have, usd_per_1000) for n in asked]
        return [
            More(n, f, **NOTHING, usd=usd, usd_per_nat=None, worth=None, refused=str(label.status))
            for n, f, usd in zip(asked, times, prices, strict=True)
        ]
    frame = pd.concat([at, *(at.assign(examples=n) for n in asked)], ignore_index=True)
    # A draw of ``auto`` is off by one standardised error all along its curve, so that a difference of two of its points
    # would look surer than it is: what a new run may come to is held against the level that was fitted.
    runs, reach = fits.draws(frame, "run"), fits.reach(frame)
    own = np.hypot(label.run, label.base) if label.diagnostics.get("noise_of_seed") else label.run
    runs = runs * _unseen(noise, float(np.median(own)), runs.shape, fits.seed)
    now = float(fits.forecast(at, level, kind="curve")["median"].iloc[0])
    found = []
    for place, (n, factor) in enumerate(zip(asked, times, strict=True), start=1):
        gain, far = now - runs[:, place], reach[place] > MOST_REACH
        low, middle, high = np.quantile(gain, [(1 - level) / 2, 0.5, (1 + level) / 2])
        usd = _price(n, have, usd_per_1000)
        judged = usd is not None and usd_per_nat is not None and not far
        worth = float((gain * usd_per_nat > usd).mean()) if judged and usd is not None and usd_per_nat else None
        each = None if usd is None or far else usd / middle if middle > 0 else float("inf")
        why = f"no advice {reach[place]:.3g} times beyond what was run: {MOST_REACH:g} is the most" if far else ""
        values = {"gain": float(middle), "gain_low": float(low), "gain_high": float(high), "reach": float(reach[place])}
        values |= {"median": now - float(middle), "low": now - float(high), "high": now - float(low)}
        found.append(More(n, factor, **values, usd=usd, usd_per_nat=each, worth=worth, refused=why))
    return found


def _unseen(noise: Noise | None, fitted: float, shape: tuple[int, ...], seed: int) -> Array:
    """Factors (B, N) that give draws the noise of runs which the fit, that sees means alone, does not know of."""
    if noise is None or noise.sd <= fitted:
        return np.ones(shape)
    drawn = np.random.default_rng([seed, 11]).standard_t(noise.freedom, shape)
    return np.asarray(np.exp(np.sqrt(noise.sd**2 - fitted**2) * drawn))


def _price(examples: int, have: int, usd_per_1000: float | None) -> float | None:
    return None if usd_per_1000 is None else max(0, examples - have) / 1000 * usd_per_1000


@dataclass(frozen=True)
class Next:
    """A run worth making: where, its cost in seconds, and by how much it would narrow what is asked.

    ``narrows`` is the share by which the variance of the forecast at ``target`` examples falls.
    """

    curve: Mapping[str, str]
    examples: int
    seconds: float
    narrows: float


def next_run(
    curves: Sequence[tuple[Mapping[str, str], Array]],
    target: int,
    choices: Sequence[int],
    seconds: Sequence[Sequence[float]],
) -> Next:
    """The run that tells most per second about how the curves compare at ``target`` examples.

    Each curve is read as a straight line in log loss against log examples, with noise of one size: then a new run's
    worth is known before it is made (V-optimal design; Fedorov 1972).

    Args:
        curves: what each is, and the examples of its runs (n,).
        target: examples the question is about.
        choices: sizes that could be run next.
        seconds: of each curve at each choice.
    """
    before = [_variance(sizes, target) for _, sizes in curves]
    found = []
    for (what, sizes), own, costs in zip(curves, before, seconds, strict=True):
        for size, cost in zip(choices, costs, strict=True):
            falls = own - _variance(np.append(sizes, size), target)
            found.append(Next(what, size, cost, falls / sum(before)))
    return max(found, key=lambda one: one.narrows / one.seconds)


def _variance(sizes: Array, target: int) -> float:
    """Variance of a line's value at ``target``, in units of the noise, from runs at these sizes (n,)."""
    x = np.log(np.asarray(sizes, dtype=float))
    spread = float(((x - x.mean()) ** 2).sum())
    ahead = float(np.log(target)) - float(x.mean())
    return 1 / len(x) + (ahead**2 / spread if spread else float("inf"))
