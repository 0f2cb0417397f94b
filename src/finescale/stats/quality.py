"""Do generation metrics follow a law of scale too? Often the honest answer is no.

A metric that rises to a top (BLEU to 100) is fitted as what is missing to the top, with the multiplicative law. It
*follows* a law if the law forecasts the settings held out (the largest number of examples) better than the mean of what
was fitted does, with an interval; else it does not, or nobody can tell. A law with a parameter at a bound is not
determined by the data, so nothing is said to follow it, however well it forecasts. Isik et al. 2024 (arXiv 2402.04177)
show that BLEU need not follow while cross-entropy does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from finescale.stats.ability import student
from finescale.stats.correlate import metrics_of
from finescale.stats.fit import fit
from finescale.stats.fits import Fits
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
        {"task": cell.task, "method": cell.method, "factor": factor, "metric": metric}
        | _law(cell, factor, metric, level, seed)
        for cell, factor in each_slice(cells)
        for metric in metrics_of(cell.runs)
    ]
    return pd.DataFrame(rows)


def _law(cell: Settings, factor: str, metric: str, level: float, seed: int) -> dict[str, Any]:
    part = cell.part(factor)
    means = cell.runs.groupby("setting")[metric].mean()
    part = part.assign(missing=TOPS.get(metric, 100.0) - means.reindex(part.index))
    part = part[np.isfinite(part["missing"])]
    head: dict[str, Any] = {"settings": len(part), "held_out": 0}
    if not part["missing"].gt(0).all():
        return head | {"answer": UNDECIDED, "why": f"{metric} is above its top of {TOPS.get(metric, 100.0):g}"}
    if part["examples"].nunique() < 4:
        return head | {"answer": UNDECIDED, "why": "four numbers of examples are needed, one of them to hold out"}
    fits = fit(
        Runs(part.reset_index(drop=True), ()),
        "multiplicative",
        factor,
        y="missing",
        hold_out={"examples": 1},
        seed=seed,
        draws=_DRAWS,
    )
    status = fits.groups[0].status
    if not fits.groups[0].fitted:
        return head | {"answer": UNDECIDED, "why": status.sentence}
    return head | _answer(fits, level)


def _answer(fits: Fits, level: float) -> dict[str, Any]:
    one, held = fits.groups[0], fits.held_out()
    own = held["error"].abs().to_numpy()
    mean = np.abs(held["observed"].to_numpy() - one.group.y.mean())
    low, high = student(mean - own, level)
    table = fits.table(level).set_index("parameter")
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
