"""Profile intervals: how much worse does a fit get when one parameter is held at a value and the rest refitted?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import chi2

from finescale.errors import Fault, InputError, near
from finescale.stats.fits import Fits, GroupFit, Member, check_level, natural
from finescale.stats.groups import Cell
from finescale.stats.laws import Array
from finescale.stats.solve import Problem, refine

_POINTS = 41


def profile(fits: Fits, parameter: str, level: float = 0.9, **key: Any) -> pd.DataFrame:
    """Profile of one shape, or of E, of one group's law, by its runs alone: priors do not enter.

    Args:
        parameter: ``alpha``, ``beta``, … or ``E``.
        level: of the interval that ``inside`` marks, by the likelihood ratio of log residuals.
        key: the group's ``by`` values.

    Returns:
        ``value, deviance, inside``: the deviance is n·log of the ratio of residual sums of squares to the best fit's.

    Raises:
        InputError: no such group or parameter, the group's law has none (``auto``), it shares some with others (as
            under ``protocol="paper"``), or it was published without runs.
    """
    check_level(level)
    fit = fits.find(**key)
    member = fit.member
    _check_alone(fits, fit)
    shapes = [p.name for p in member.law.shapes(member.factors[:-1])]
    known = [*shapes, *(p.name for p in member.law.coefficients if p.name == "E")]
    if parameter not in known:
        raise InputError(Fault(f"parameter {parameter!r}", "cannot be profiled", near(parameter, known)))
    if parameter == "E":
        values, sums = _profile_floor(fit, member)
    else:
        values, sums = _profile_shape(fit, member, shapes.index(parameter))
    best = min(float(np.sum((np.log(fit.group.y) - member.log_point(fit.group.z)) ** 2)), float(sums.min()))
    deviance = len(fit.group.y) * np.log(sums / best)
    return pd.DataFrame({"value": values, "deviance": deviance, "inside": deviance <= chi2.ppf(level, 1)})


def _check_alone(fits: Fits, fit: GroupFit) -> None:
    """The rest is refitted on this group's runs, but runs of other groups decide shared parameters too."""
    where = f"group {fit.group.label}"
    if not np.all(np.isfinite(fit.group.y)):
        raise InputError(Fault(where, "was published without its runs, which a profile needs", "read table()"))
    if fits.about.get("protocol"):
        what = f"was fitted by protocol={fits.about['protocol']!r}: beta and E belong to runs along other factors too"
        raise InputError(Fault(where, what, "fit without protocol, or read the intervals of table()"))
    if fit.diagnostics.get("priors"):
        what = "was fitted with priors: a profile of the runs alone would not be of this fit"
        raise InputError(Fault(where, what, "fit without priors, or read the intervals of table()"))
    shared = fits.about.get("share") or []
    task = fit.group.key.get("task")
    others = [one for one in fits.groups if one is not fit and one.fitted and one.group.key.get("task") == task]
    if shared and others:
        what = f"shares {', '.join(shared)} with {len(others)} more: shared parameters have no profile of one group"
        raise InputError(Fault(where, what, "fit without share, or read the intervals of table()"))


def _profile_shape(fit: GroupFit, member: Member, index: int) -> tuple[Array, Array]:
    p = member.law.shapes(member.factors[:-1])[index]
    spread = max(4 * float(np.std(member.draws_theta[:, index])), 1e-3)
    grid = np.clip(np.linspace(-spread, spread, _POINTS) + member.theta[index], p.lower, p.upper)
    problem = Cell(member.law, [fit.group]).problem()
    sums = []
    for value in grid:
        lower, upper, theta = problem.lower.copy(), problem.upper.copy(), member.theta.copy()
        lower[index] = upper[index] = theta[index] = value
        sums.append(_sum_of_squares(replace(problem, lower=lower, upper=upper), fit, theta, member.coef))
    return np.asarray(natural(p, grid)), np.array(sums)


def _profile_floor(fit: GroupFit, member: Member) -> tuple[Array, Array]:
    at = [p.name for p in member.law.coefficients].index("E")
    spread = max(4 * float(np.std(member.draws_coef[:, at])), 1e-3)
    grid = member.coef[at] + np.linspace(-spread, spread, _POINTS)
    grid = np.unique(np.clip(grid, 0.0, 0.999 * float(fit.group.y.min())))
    others = [j for j in range(len(member.coef)) if j != at]
    problem = Cell(member.law, [fit.group]).problem()

    def without_floor(z: Array, theta: Array) -> Array:
        return member.law.columns(z, theta)[..., others]

    sums = [
        _sum_of_squares(replace(problem, columns=without_floor, offset=value), fit, member.theta, member.coef[others])
        for value in grid
    ]
    return grid, np.array(sums)


def _sum_of_squares(problem: Problem, fit: GroupFit, theta: Array, coef: Array) -> float:
    y = fit.group.y[None]
    done = refine(problem, y, np.ones_like(y), theta[None], coef[None], delta=1e3, iterations=100)
    return max(2 * float(done.objective[0]), 1e-300)
