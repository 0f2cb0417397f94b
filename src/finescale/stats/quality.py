"""Do generation metrics follow a law of scale too? Often the honest answer is no.

A metric that rises to a top (BLEU to 100) is fitted as what is missing to the top, with the multiplicative law. It
*follows* a law if the law forecasts the settings held out (the largest number of examples) better than the mean of what
was fitted does, with an interval; else it does not, or nobody can tell. A law with a parameter at a bound is not
determined by the data, so nothing is said to follow it, however well it forecasts. Isik et al. 2024 (arXiv 2402.04177)
show that BLEU need not follow while cross-entropy does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from finescale.stats.ability import student
from finescale.stats.correlate import metrics_of
from finescale.stats.fit import fit
from finescale.stats.fits import GroupFit
from finescale.stats.groups import log_factors
from finescale.stats.runs import Runs
from finescale.stats.slices import Settings, each_slice

TOPS = {"bleurt": 1.0, "comet": 1.0}
"""Where a metric ends; 100 unless named here."""
FOLLOWS, FOLLOWS_NOT, UNDECIDED = "follows a law", "does not follow a law", "undecided"
_DRAWS = 100


def metric_laws(cells: list[Settings], level: float = 0.9, seed: int = 0) -> pd.DataFrame:
    """Fit the multiplicative law to every generation metric along every factor.

    Returns:
        ``task, method, factor, metric, answer, alpha, beta`` with intervals, ``error`` and ``mean_error`` (mean
        absolute held-out error of the law and of the mean, in the metric's unit), ``settings, held_out, why``.
    """
    rows = [
        {"task": cell.task, "method": cell.method, "factor": factor, "metric": metric} | row
        for cell, factor in each_slice(cells)
        for metric, row in _laws(cell, factor, level, seed)
    ]
    return pd.DataFrame(rows)


def _laws(cell: Settings, factor: str, level: float, seed: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The answer for every metric; those that can be fitted are fitted together, which is quicker."""
    parts, metrics = [], metrics_of(cell.runs)
    for metric in metrics:
        part = _missing(cell, factor, metric)
        why = _unfit(part, metric)
        if why:
            yield metric, {"settings": len(part), "held_out": 0, "answer": UNDECIDED, "why": why}
        else:
            parts.append(part)
    if not parts:
        return
    runs = Runs(pd.concat(parts, ignore_index=True), ())
    fits = fit(runs, "multiplicative", factor, "metric", y="missing", hold_out={"examples": 1}, seed=seed, draws=_DRAWS)
    table = fits.table(level)
    for one in fits.groups:
        metric = one.group.key["metric"]
        head = {"settings": len(one.group.frame) + len(one.group.held), "held_out": 0}
        if one.fitted:
            found = _answer(one, table[table["metric"] == metric], level)
        else:
            found = {"answer": UNDECIDED, "why": one.status.sentence}
        yield metric, head | found


def _missing(cell: Settings, factor: str, metric: str) -> pd.DataFrame:
    """Settings of a slice with what a metric lacks to its top, as means over seeds; those without one left out."""
    part = cell.part(factor)
    means = cell.runs.groupby("setting")[metric].mean()
    part = part.assign(metric=metric, missing=TOPS.get(metric, 100.0) - means.reindex(part.index))
    found: pd.DataFrame = part[np.isfinite(part["missing"])]
    return found


def _unfit(part: pd.DataFrame, metric: str) -> str:
    """Why no law can be fitted to a metric; empty if one can."""
    if not part["missing"].gt(0).all():
        return f"{metric} is above its top of {TOPS.get(metric, 100.0):g}"
    return "four numbers of examples are needed, one of them to hold out" if part["examples"].nunique() < 4 else ""


def _answer(one: GroupFit, table: pd.DataFrame, level: float) -> dict[str, Any]:
    held = one.group.held
    observed, law = held["missing"].to_numpy(dtype=float), one.members[0]
    own = np.abs(np.exp(law.log_point(log_factors(held, law.factors))) - observed)
    mean = np.abs(observed - one.group.y.mean())
    low, high = student(mean - own, level)
    table = table.set_index("parameter")
    found = {"error": float(own.mean()), "mean_error": float(mean.mean()), "held_out": len(held)}
    for name in ("alpha", "beta"):
        found |= {name: table["estimate"][name], f"{name}_low": table["low"][name], f"{name}_high": table["high"][name]}
    said = f"the law errs by {own.mean():.3g} on held-out settings, the mean by {mean.mean():.3g}"
    if one.status.name == "NotALaw":
        return found | {"answer": FOLLOWS_NOT, "why": one.status.sentence}
    if one.status.name == "AtBound":
        return found | {"answer": UNDECIDED, "why": f"{said}; {one.status.sentence}"}
    if not np.isfinite(low):
        return found | {"answer": UNDECIDED, "why": f"{said}; one held-out setting gives no interval"}
    answer = FOLLOWS if low > 0 else FOLLOWS_NOT if high < 0 else UNDECIDED
    return found | {"answer": answer, "why": f"{said}; difference {low:.3g} to {high:.3g} ({level:.0%})"}
