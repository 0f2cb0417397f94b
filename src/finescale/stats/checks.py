"""How well fits do on runs that are there: residuals of the curve, and how often intervals held what was kept out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import binom

from finescale.stats.fits import Fits, keyed
from finescale.stats.laws import Array

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def fitted_losses(fits: Fits, runs: pd.DataFrame) -> Array:
    """The curve's median at each run (N,), in the unit of the losses; NaN where nothing was fitted or is answered.

    Args:
        fits: any fits, held-out runs or not.
        runs: a table of runs with the factors and the ``by`` columns.
    """
    names = [*fits.by, *fits.factors]
    able = np.isfinite(runs[list(fits.factors)].to_numpy(dtype=float)).all(axis=1)
    able &= (runs[list(fits.factors)] > 0).all(axis=1).to_numpy()
    fitted = {tuple(fit.group.key[name] for name in fits.by) for fit in fits.groups if fit.fitted}
    keys = zip(*(keyed(runs[name]) for name in fits.by), strict=True) if fits.by else [()] * len(runs)
    able &= np.array([key in fitted for key in keys], dtype=bool)
    # Runs that differ in seed alone lie at one place of the curve.
    places = runs.loc[able, names].drop_duplicates().reset_index(drop=True)
    if not len(places):
        return np.full(len(runs), np.nan)
    said = fits.answers(places)
    places["_fitted"] = np.nan
    if said.any():
        places.loc[said, "_fitted"] = np.median(fits.draws(places[said], "curve"), axis=0)
    return runs[names].merge(places, on=names, how="left")["_fitted"].where(able).to_numpy(dtype=float)


def calibration(fits: Fits, levels: Sequence[float] = LEVELS, spread: float = 0.9) -> pd.DataFrame:
    """How often central intervals of a new run held the loss of the runs that were kept out of the fit.

    Args:
        levels: nominal coverages.
        spread: probability that ``low`` to ``high`` holds the actual coverage if the nominal one is right.

    Returns:
        ``level, inside`` (runs), ``runs, actual, low, high`` a row per level. ``low`` and ``high`` are those of the
        binomial distribution, for runs that are independent; runs of one base share what is particular to it and
        spread wider. Empty if nothing was kept out.
    """
    held = fits.held_out()
    near = held[held["median"].notna()] if len(held) else held
    if near.empty:
        return pd.DataFrame(columns=["level", "inside", "runs", "actual", "low", "high"])
    draws, seen, count = fits.draws(near, "run"), near["observed"].to_numpy(dtype=float), len(near)
    rows = []
    for level in levels:
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        inside = int(((seen >= low) & (seen <= high)).sum())
        least, most = (
            float(binom.ppf(chance, count, level)) / count for chance in ((1 - spread) / 2, (1 + spread) / 2)
        )
        rows.append([level, inside, count, inside / count, least, most])
    return pd.DataFrame(rows, columns=["level", "inside", "runs", "actual", "low", "high"])
