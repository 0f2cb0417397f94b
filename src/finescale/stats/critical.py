"""Critical data size: how many examples until one method overtakes another, with its spread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from finescale.errors import Fault, InputError, near
from finescale.stats.fits import Fits, GroupFit, check_level
from finescale.stats.laws import Array
from finescale.stats.solve import Mask

_POINTS = 200
_AT_ONCE = 16
"""Places whose draws are made together; more take more memory."""


def critical_size(
    fits: Fits,
    a: str,
    b: str,
    at: pd.DataFrame | dict[str, Any] | None = None,
    within: tuple[float, float] | None = None,
    between: str = "method",
    level: float = 0.9,
) -> pd.DataFrame:
    """Number of examples at which ``a`` and ``b`` have the same expected loss.

    Args:
        fits: fits whose ``by`` contains ``between``.
        a, b: two values of ``between``.
        at: the other factors and ``by`` columns; one row, or a frame of several.
        within: range of examples looked at; by default what both were seen over (or, without an overlap, all of it).
        level: width of the interval.

    Returns:
        One row per row of ``at`` with its columns and ``a, b, from, to`` (the range), ``share`` (of draws that cross
        in it), ``low, median, high`` (examples, over all draws: 0 is below the range, infinity beyond it),
        ``better_below, better_above`` (which method is better at the two ends, by most draws), ``sure_below,
        sure_above`` (share of draws that say so), ``several`` (share of draws that cross more than once), ``H, gamma,
        closed_form`` (Zhang et al. 2024, Eq. 3; NaN unless both laws are products with the same E), ``outcome``
        (``overtakes``, ``none`` or ``undecided``) and ``verdict``, the same as a sentence, which says ``if at all``
        of a method that overtakes in fewer draws than ``level``.

    Raises:
        InputError: ``between`` makes no groups, a group is unknown, or a factor is missing.
    """
    if between not in fits.by:
        raise InputError(Fault(f"between {between!r}", "makes no groups in these fits", near(between, fits.by)))
    check_level(level)
    if within is not None and not 0 < within[0] < within[1] < float("inf"):
        raise InputError(Fault("within", f"{within} is not a range of examples", "give (smallest, largest)"))
    rows = pd.DataFrame([{}]) if at is None else pd.DataFrame([at]) if isinstance(at, dict) else at
    places = [_place(fits, a, b, dict(row), within, between) for row in rows.to_dict("records")]
    gaps = _gaps(fits, a, b, places, between)
    found = [_one(a, b, place, gap, level) for place, gap in zip(places, gaps, strict=True)]
    return pd.DataFrame(found, index=rows.index)


@dataclass(frozen=True)
class _Place:
    """Where two groups are compared: what was asked, the two fits, and the numbers of examples looked at."""

    asked: dict[Any, Any]
    first: GroupFit
    second: GroupFit
    grid: Array


def _place(
    fits: Fits, a: str, b: str, asked: dict[Any, Any], within: tuple[float, float] | None, between: str
) -> _Place:
    key = {name: asked[name] for name in fits.by if name in asked}
    first, second = fits.find(**{**key, between: a}), fits.find(**{**key, between: b})
    return _Place(asked, first, second, np.geomspace(*(within or _overlap(first, second)), _POINTS))


def _one(a: str, b: str, place: _Place, gap: Array, level: float) -> dict[str, Any]:
    grid = place.grid
    low, high = float(grid[0]), float(grid[-1])
    share, low_median_high = located(crossing_of(np.log(grid), gap), level)
    several = float((_changes(gap).sum(axis=1) > 1).mean())
    below, above = float((gap[:, 0] < 0).mean()), float((gap[:, -1] < 0).mean())
    result = {
        **place.asked,
        "a": a,
        "b": b,
        "from": low,
        "to": high,
        "share": share,
        **dict(zip(("low", "median", "high"), map(float, low_median_high), strict=True)),
        "better_below": a if below >= 0.5 else b,
        "better_above": a if above >= 0.5 else b,
        "sure_below": max(below, 1 - below),
        "sure_above": max(above, 1 - above),
        "several": several,
        **_closed_form(place.first, place.second, place.asked),
    }
    outcome = _outcome(result, level)
    return {**result, "outcome": outcome, "verdict": _verdict(result, outcome, level)}


def _overlap(first: GroupFit, second: GroupFit) -> tuple[float, float]:
    one, two = first.group.support["examples"], second.group.support["examples"]
    low, high = max(one[0], two[0]), min(one[1], two[1])
    return (low, high) if low < high else (min(one[0], two[0]), max(one[1], two[1]))


def _gaps(fits: Fits, a: str, b: str, places: list[_Place], between: str) -> Iterator[Array]:
    """Loss of ``a`` minus loss of ``b`` at each place (B, points), jointly drawn."""
    for start in range(0, len(places), _AT_ONCE):
        some = places[start : start + _AT_ONCE]
        grids = np.concatenate([place.grid for place in some])
        frame = pd.DataFrame([place.asked for place in some])
        frame = frame.loc[frame.index.repeat(_POINTS)].reset_index(drop=True)
        asked = [frame.assign(examples=grids).assign(**{between: name}) for name in (a, b)]
        one, two = (fits.draws(each, "curve") for each in asked)
        yield from np.split(one - two, len(some), axis=1)


def located(crossing: Array, level: float) -> tuple[float, Array]:
    """Share of draws that cross inside what was looked at, and low, median and high over all draws (NaN if none does).

    Draws that do not cross count as below or beyond: leaving them out would end every interval where the look ended.
    """
    share = float((np.isfinite(crossing) & (crossing > 0)).mean())
    chances = [(1 - level) / 2, 0.5, (1 + level) / 2]
    found = np.quantile(crossing, chances, method="inverted_cdf") if share > 0 else np.full(3, np.nan)
    return share, np.asarray(found)


def crossing_of(x: Array, gap: Array) -> Array:
    """Examples (B,) at which each row of ``gap`` (B, points at log examples ``x``) first changes its sign.

    A row that does not has its crossing below what was looked at (0) if it already goes the way in which most rows end,
    and beyond it (infinity) if it does not.
    """
    change = _changes(gap)
    at, rows = np.argmax(change, axis=1), np.arange(len(gap))
    left, right = gap[rows, at], gap[rows, at + 1]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        zero = np.exp(x[at] + (x[at + 1] - x[at]) * left / (left - right))
    ends = gap[:, -1] < 0
    already = ends == (ends.mean() >= 0.5)
    return np.asarray(np.where(change.any(axis=1), zero, np.where(already, 0.0, np.inf)))


def _changes(gap: Array) -> Mask:
    """Where (B, points - 1) a row changes its sign between one point and the next."""
    return np.asarray(np.signbit(gap[:, 1:]) != np.signbit(gap[:, :-1]))


@dataclass(frozen=True)
class _Product:
    alphas: Array
    beta: float
    A: float
    E: float


def _as_product(fit: GroupFit) -> _Product | None:
    if len(fit.members) != 1 or fit.members[0].law.name not in ("power", "multiplicative", "product"):
        return None
    member = fit.members[0]
    return _Product(member.theta[:-1], float(member.theta[-1]), float(member.coef[0]), float(member.coef[1]))


def _closed_form(first: GroupFit, second: GroupFit, place: dict[Any, Any]) -> dict[str, float]:
    one, two = _as_product(first), _as_product(second)
    nothing = {"H": np.nan, "gamma": np.nan, "closed_form": np.nan}
    if one is None or two is None or min(one.A, two.A) <= 0 or one.beta == two.beta:
        return nothing
    if not np.isclose(one.E, two.E, rtol=1e-9):
        return nothing
    log_h, gammas = eq3(one.A, two.A, one.beta, two.beta, one.alphas, two.alphas)
    names = first.members[0].factors[:-1]
    log_size = log_h + float(sum(g * np.log(place[name]) for g, name in zip(gammas, names, strict=True)))
    gamma = float(gammas[0]) if len(gammas) == 1 else np.nan
    with np.errstate(over="ignore"):
        return {"H": float(np.exp(log_h)), "gamma": gamma, "closed_form": float(np.exp(log_size))}


def eq3(A1: float, A2: float, beta1: float, beta2: float, alpha1: Array, alpha2: Array) -> tuple[float, Array]:
    """``D_c = H · X^gamma``: log H and gamma per factor (Zhang et al. 2024, Eq. 3)."""
    return float((np.log(A1) - np.log(A2)) / (beta1 - beta2)), np.asarray((alpha2 - alpha1) / (beta1 - beta2))


def _outcome(found: dict[str, Any], level: float) -> str:
    """What most draws say: one overtakes the other, one is better throughout, or it is open."""
    changes, sure = found["better_below"] != found["better_above"], min(found["sure_below"], found["sure_above"])
    if found["share"] >= 0.5 and changes:
        return "overtakes"
    return "none" if found["share"] < 0.5 and not changes and sure >= level else "undecided"


def _verdict(found: dict[str, Any], outcome: str, level: float) -> str:
    a, b, share = found["a"], found["b"], found["share"]
    sure = min(found["sure_below"], found["sure_above"])
    span = f"{found['from']:,.0f} to {found['to']:,.0f} examples"
    if outcome == "overtakes":
        other = b if found["better_above"] == a else a
        low = f"{found['low']:,.0f}" if found["low"] > 0 else f"below {found['from']:,.0f}"
        high = f"{found['high']:,.0f}" if np.isfinite(found["high"]) else f"beyond {found['to']:,.0f}"
        doubt = "" if min(share, sure) >= level else ", if at all"
        return (
            f"{found['better_above']} overtakes {other} at {found['median']:,.0f} examples{doubt} "
            f"({level:.0%} interval {low} to {high}; {share:.0%} of draws cross inside {span})."
        )
    if outcome == "none":
        worse = b if found["better_below"] == a else a
        said = f"{found['better_below']} beats {worse} throughout in {sure:.0%} of draws"
        return f"no crossing inside the range ({span}): {said}."
    return f"undecided: {share:.0%} of draws cross inside {span}; more seeds or a wider range would tell."
