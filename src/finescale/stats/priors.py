"""Labelled priors on exponents: numbers given by hand, or what a published law says about cells like this one.

A prior is Gaussian in a shape as it is searched (an exponent itself, the logarithm of a size). It enters the objective
with the weight that makes it worth as much as data of the same precision, so it needs an objective in units of noise.
Each draw behind an interval has its own prior mean, redrawn like the data, around the fit or around itself: else a
parameter that only the prior determines would look certain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from finescale.errors import Faults, near
from finescale.stats.fits import Fits, natural
from finescale.stats.groups import Cell, Group, PointFit, noise_behind, solve
from finescale.stats.laws import Array, Parameter
from finescale.stats.solve import Prior

Priors = Fits | Mapping[str, tuple[float, float]]
# Fewer published cells than this do not show how cells differ; a half of the value is then allowed for.
_CELLS, _SHARE = 3, 0.5


@dataclass(frozen=True)
class Belief:
    """What is believed of one shape, as it is searched: mean, standard deviation, whose belief, whether a logarithm."""

    mean: float
    spread: float
    label: str
    log: bool = False

    def __str__(self) -> str:
        value = f"{np.exp(self.mean):.3g}, log" if self.log else f"{self.mean:.3g}"
        return f"prior {value} ± {self.spread:.2g} ({self.label})"


def check(
    priors: Priors | None,
    law: str,
    shapes: tuple[Parameter, ...],
    factors: tuple[str, ...],
    objective: str,
    faults: Faults,
) -> None:
    """Collect what is wrong with priors for a law with these shapes."""
    if priors is None:
        return
    if objective != "robust":
        faults.add("priors", f"have no weight under objective={objective!r}", "use objective='robust'")
    known = [p.name for p in shapes]
    if isinstance(priors, Fits):
        other = sorted({member.factors[:-1] for fit in priors.groups for member in fit.members} - {(), factors})
        if other and factors:
            what = f"are of {', '.join(other[0])}, and this fit is of {', '.join(factors)}"
            faults.add("priors", what, "take those of the same factors, as published(…, factor=…), or give numbers")
        if not set(known) & {name for names in _estimates(priors) for name in names}:
            faults.add("priors", "name no shape of this law", f"it has {', '.join(known) or 'none'}")
        return
    shape = {p.name: p for p in shapes}
    for name, given in priors.items():
        where = f"priors[{name!r}]"
        if name not in known:
            faults.add(where, f"is no shape of {law}", near(name, known))
        elif not _is_prior(given, positive=shape[name].log):
            faults.add(where, f"{given!r} is not (mean, standard deviation > 0)", "both finite numbers")
        elif not shape[name].lower <= _searched(shape[name], given[0]) <= shape[name].upper:
            low, high = (natural(shape[name], np.array(end)) for end in (shape[name].lower, shape[name].upper))
            faults.add(where, f"{given[0]:g} lies outside what {law} allows", f"from {low:g} to {high:g}")


def _is_prior(given: object, positive: bool) -> bool:
    if not isinstance(given, tuple | list) or len(given) != 2:
        return False
    if not all(isinstance(value, int | float | np.number) and np.isfinite(value) for value in given):
        return False
    return bool(given[1] > 0 and (given[0] > 0 or not positive))


def beliefs(priors: Priors, shapes: tuple[Parameter, ...], group: Group) -> dict[str, Belief]:
    """What is believed of these shapes of this group's law, by name."""
    if not isinstance(priors, Fits):
        given = {p: priors[p.name] for p in shapes if p.name in priors}
        return {p.name: Belief(_searched(p, mean), spread, "given", p.log) for p, (mean, spread) in given.items()}
    cells = _like(priors, group)
    label = str(priors.about.get("library", f"{priors.law} fits"))
    found = {}
    for p in shapes:
        values = np.array([cell[p.name] for cell in cells if p.name in cell])
        if len(values):
            mean = float(values.mean())
            spread = float(values.std(ddof=1)) if len(values) >= _CELLS else _SHARE * abs(mean)
            found[p.name] = Belief(mean, max(spread, 1e-3), f"{label}, {len(values)} cells", p.log)
    return found


def _searched(p: Parameter, value: float) -> float:
    return float(np.log(value)) if p.log else value


def _estimates(priors: Fits) -> list[dict[str, float]]:
    """Shapes as they are searched, per fitted group."""
    found = []
    for fit in priors.groups:
        for member in fit.members[:1]:
            names = [p.name for p in member.law.shapes(member.factors[:-1])]
            found.append(dict(zip(names, map(float, member.theta), strict=True)))
    return found


def _like(priors: Fits, group: Group) -> list[dict[str, float]]:
    """Published cells of the same method, task, … where there are any, else all."""
    fitted = [fit.group.key for fit in priors.groups if fit.members]
    cells = _estimates(priors)
    for name, value in group.key.items():
        kept = [at for at, key in enumerate(fitted) if key.get(name) == value]
        if kept:
            cells, fitted = [cells[at] for at in kept], [fitted[at] for at in kept]
    return cells


def prior_of(cell: Cell, held: list[dict[str, Belief]], noise: float) -> Prior:
    """Priors of a cell's joint shapes, weighted for residuals with this noise of log loss."""
    P = 1 + max((int(at.max()) for at in cell.shape_at if len(at)), default=-1)
    mean, weight = np.zeros(P), np.zeros(P)
    for at, group, known in zip(cell.shape_at, cell.groups, held, strict=True):
        for place, p in zip(at, cell.law.shapes(group.factors[:-1]), strict=True):
            if p.name in known:
                mean[place], weight[place] = known[p.name].mean, noise**2 / known[p.name].spread ** 2
    return Prior(mean, weight)


def solve_with(cell: Cell, point: PointFit, held: list[dict[str, Belief]]) -> PointFit:
    """Fit a cell again with priors, weighed by the noise of its fit without them."""
    cell.prior = prior_of(cell, held, noise_behind(point.delta))
    return solve(cell)


def redrawn(prior: Prior, centre: Array, noise: float, draws: int, rng: np.random.Generator) -> Prior:
    """The same prior with a mean of its own for each draw (B, P), around ``centre`` (P,)."""
    spread: Array = np.where(prior.weight > 0, noise / np.sqrt(np.maximum(prior.weight, 1e-300)), 0.0)
    return Prior(centre + spread * rng.standard_normal((draws, len(spread))), prior.weight)


def words(known: dict[str, Belief]) -> dict[str, str]:
    """How each prior is stated in a table."""
    return {name: str(one) for name, one in known.items()}
