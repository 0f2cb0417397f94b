"""The paper's tables from anybody's runs: Tables 2, 4, 5, 6 and 7, and those it should have had.

Every function returns a frame with estimates and intervals, or a sentence that says why there is no such table.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from finescale.stats.ability import ability_table
from finescale.stats.claims import ORDER, Claims, Evidence
from finescale.stats.correlate import correlations
from finescale.stats.critical import crossing_of, eq3, located
from finescale.stats.forgetting import forgetting_laws
from finescale.stats.laws import Array
from finescale.stats.protocol import Fitted
from finescale.stats.quality import metric_laws
from finescale.stats.redraw import scheme
from finescale.stats.slices import each_slice, slice_table
from finescale.stats.verdicts import quantiles

Made = pd.DataFrame | str


def paper_tables(evidence: Evidence, judged: Claims, level: float) -> dict[str, Made]:
    """Every table by the name of its file."""
    held, unmeasured = held_out(evidence, level), "no run along a factor has a generation metric"
    return {
        "table-1-slices": slice_table(evidence.cells).assign(
            intervals=lambda frame: [
                scheme(evidence.fits[task, method].cell)
                for task, method in zip(frame["task"], frame["method"], strict=True)
            ]
        ),
        "table-2-held-out-by-factor": by_factor(evidence, level),
        "table-4-parameters": parameters(evidence, level),
        "table-5-critical-sizes": critical_sizes(evidence, level),
        "table-6-held-out": held,
        "table-7-correlations": _or(correlations(evidence.cells, level, seed=evidence.seed), unmeasured),
        "metric-laws": _or(metric_laws(evidence.cells, level, evidence.seed), unmeasured),
        "abilities": "no probes were evaluated" if evidence.probes is None else ability_table(evidence.probes, level),
        "forgetting-laws": _forgetting(evidence, level),
        "claims": judged.table,
    }


def _or(frame: pd.DataFrame, why: str) -> Made:
    return frame if len(frame) else why


def _forgetting(evidence: Evidence, level: float) -> Made:
    if evidence.probes is None:
        return "no probes were evaluated"
    return _or(forgetting_laws(evidence.probes, level), "no probe measures off-task loss (text:LANG or task:NAME)")


# ----------------------------------------------------------------------------------------------- tables 2 and 6


def held_out(evidence: Evidence, level: float) -> Made:
    """Table 6: mean absolute deviation of both laws per task, factor and method, and their paired difference.

    Columns ``fitted_*`` are over settings the laws saw, ``held_out_*`` over those they did not, in nats per token;
    ``difference`` is multiplicative minus additive (below 0: multiplicative is better).
    """
    rows = [
        {"task": cell.task, "factor": factor, "method": cell.method} | row
        for cell, factor in each_slice(evidence.cells)
        if (row := _deviations(evidence, cell.task, cell.method, factor, level))
    ]
    return _or(pd.DataFrame(rows), "no slice has a level to hold out, or no law could be fitted")


def _deviations(evidence: Evidence, task: str, method: str, factor: str, level: float) -> dict[str, Any]:
    one = evidence.fits[task, method]
    errors = {law: [one.deviation(law, factor, held) for held in (False, True)] for law in one.kept}
    if any(part is None for pair in errors.values() for part in pair):
        return {}
    row: dict[str, Any] = {}
    for law, (fitted, held) in errors.items():
        assert fitted is not None
        assert held is not None
        row |= {f"fitted_{law}": fitted[0], f"held_out_{law}": held[0]}
    gain = one.gain(factor)
    assert gain is not None
    low, high = quantiles(-gain[1:], level)
    count = {"settings": len(one.cell.slices[factor].rows), "held_out": int(one.cell.slices[factor].held.sum())}
    return row | {"difference": -gain[0], "low": low, "high": high} | count


def by_factor(evidence: Evidence, level: float) -> Made:
    """Table 2: held-out deviation averaged over methods, per task and factor, and over everything (``all``)."""
    table = held_out(evidence, level)
    if isinstance(table, str):
        return table
    rows = []
    keys = [("all", "all"), *dict.fromkeys(zip(table["task"], table["factor"], strict=True))]
    for task, factor in keys:
        part = table if task == "all" else table[(table["task"] == task) & (table["factor"] == factor)]
        keyed = zip(part["task"], part["method"], part["factor"], strict=True)
        gains = [evidence.fits[one, method].gain(axis) for one, method, axis in keyed]
        mean = -np.mean([gain for gain in gains if gain is not None], axis=0)
        low, high = quantiles(mean[1:], level)
        errors = {name: part[name].mean() for name in ("held_out_multiplicative", "held_out_additive")}
        better = {"multiplicative_better_in": int((part["difference"] < 0).sum()), "cells": len(part)}
        rows.append(
            {"task": task, "factor": factor} | errors | {"difference": mean[0], "low": low, "high": high} | better
        )
    return pd.DataFrame(rows)


# ----------------------------------------------------------------------------------------------- tables 4 and 5


def parameters(evidence: Evidence, level: float) -> Made:
    """Table 4: A and alpha per factor, beta and E, with intervals; fitted as the paper does and on every setting.

    ``fitted_on`` is ``without held-out levels`` (the paper's) or ``all settings`` (what the claims are judged on).
    ``at_bound`` names the bound that an estimate sits at: the data do not determine such a parameter.
    """
    rows = []
    for (task, method), one in evidence.fits.items():
        for words, fitted in (("without held-out levels", one.kept["multiplicative"]), ("all settings", one.whole)):
            if isinstance(fitted, str):
                continue
            values = fitted.parameters()
            for name in map(str, values):
                low, high = quantiles(values[name].to_numpy()[1:], level)
                parameter, _, factor = name.partition(":")
                head = {"task": task, "method": method, "fitted_on": words, "parameter": parameter, "factor": factor}
                estimate = {"estimate": values[name][0], "low": low, "high": high}
                rows.append(head | estimate | {"at_bound": fitted.at_bound(name)})
    return _or(pd.DataFrame(rows), "no task and method could be fitted: see the missing slices in table-1-slices")


def critical_sizes(evidence: Evidence, level: float) -> Made:
    """Table 5: H and gamma of Eq. 3 (which supposes equal E), and where the fitted curves themselves cross.

    One row per task, factor, pair of methods and size of that factor: ``H, gamma`` with intervals, ``eq3`` the examples
    they give at that size; ``crossing`` is the median number of examples over all draws, looked for between a tenth of
    the fewest and ten times the most examples seen by either (0: below that, infinity: beyond it), ``share`` how many
    cross there. ``mark`` is † where the betas'
    difference is not determined (nor are H and gamma, which divide by it), ‡ where ``eq3`` or the crossing lies beyond
    the examples both methods were seen with; ``why`` says which.
    """
    rows = []
    for factor in ("model_params", "pretrain_tokens"):
        for task in evidence.tasks:
            for a, b in combinations(list(dict.fromkeys((*ORDER, *_methods(evidence, task)))), 2):
                rows += list(_critical(evidence, task, factor, a, b, level))
    return _or(pd.DataFrame(rows), "no two methods of a task were fitted along model or pretraining size")


def _methods(evidence: Evidence, task: str) -> list[str]:
    return [cell.method for cell in evidence.cells if cell.task == task]


def _critical(evidence: Evidence, task: str, factor: str, a: str, b: str, level: float) -> Iterator[dict[str, Any]]:
    one, two = evidence.whole(task, a), evidence.whole(task, b)
    if one is None or two is None or factor not in one.along or factor not in two.along:
        return
    parts = [evidence.fits[task, method].cell.part(factor) for method in (a, b)]
    lows, highs = ([float(getattr(part["examples"], end)()) for part in parts] for end in ("min", "max"))
    log_h, closed = _closed(one, two, factor, level)
    for size in sorted(set(parts[0][factor]) & set(parts[1][factor])):
        at = crossing(one, two, factor, float(size), (min(lows) / 10, max(highs) * 10))
        share, (low, middle, high) = located(at[1:], level)
        found = {"crossing": middle, "crossing_low": low, "crossing_high": high}
        with np.errstate(over="ignore"):
            eq3_size = float(np.exp(log_h + closed["gamma"] * np.log(size)))
        marks = _marks(one.beta - two.beta, eq3_size, found["crossing"], (max(lows), min(highs)), level)
        head = {"task": task, "factor": factor, "a": a, "b": b, "size": size}
        yield head | closed | {"eq3": eq3_size} | found | {"share": share, **marks}


def _marks(gap: Array, eq3_size: float, crossing: float, seen: tuple[float, float], level: float) -> dict[str, str]:
    """What a reader of Table 5 must know of a row: ``mark`` and, in words, ``why``."""
    low, high = quantiles(gap[1:], level)
    why = [f"the betas differ by {low:.3g} to {high:.3g}"] if not (low > 0 or high < 0) else []
    mark = "†" if why else ""
    places = {"Eq. 3": eq3_size, "the curves' crossing": crossing}
    far = [f"{name} at {_examples(size)}" for name, size in places.items() if not _within(size, seen)]
    if far:
        mark += "‡"
        why.append(f"{' and '.join(far)}, both methods seen with {seen[0]:g} to {seen[1]:g}")
    return {"mark": mark, "why": "; ".join(why)}


def _examples(size: float) -> str:
    """So many examples; 0 and infinity lie beyond what was looked at."""
    if 0 < size < np.inf:
        return f"{size:.3g} examples"
    return "fewer than looked at" if size == 0 else "more than looked at"


def _within(size: float, seen: tuple[float, float]) -> bool:
    """Whether a size lies in what was seen; one that is not known does not lie beyond it."""
    return bool(np.isnan(size) or seen[0] <= size <= seen[1])


def _closed(one: Fitted, two: Fitted, factor: str, level: float) -> tuple[float, dict[str, float]]:
    """log H, and H and gamma of Eq. 3 with intervals; a wide one says that the betas cannot be told apart."""
    first, second = one.along[factor], two.along[factor]
    found = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for i in range(len(one.beta)):
            A, B = np.log(first.coef[i, 0]), np.log(second.coef[i, 0])
            slope = one.beta[i] - two.beta[i]
            found.append(((A - B) / slope, (second.alpha[i] - first.alpha[i]) / slope))
    log_h, gamma = np.array(found).T
    point, points = eq3(
        first.coef[0, 0], second.coef[0, 0], one.beta[0], two.beta[0], first.alpha[:1], second.alpha[:1]
    )
    h_low, h_high = quantiles(log_h[1:], level)
    g_low, g_high = quantiles(gamma[1:], level)
    with np.errstate(over="ignore"):
        H = {"H": float(np.exp(point)), "H_low": float(np.exp(h_low)), "H_high": float(np.exp(h_high))}
    return point, H | {"gamma": float(points[0]), "gamma_low": g_low, "gamma_high": g_high}


def crossing(one: Fitted, two: Fitted, factor: str, size: float, span: tuple[float, float]) -> Array:
    """Examples (1 + B,) where two methods' curves first cross within a range; 0 is below it, infinity beyond it."""
    grid = np.geomspace(*span, 120)
    sizes = np.full(len(grid), size)
    return crossing_of(np.log(grid), one.predict(factor, sizes, grid) - two.predict(factor, sizes, grid))
