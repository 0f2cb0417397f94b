"""Which law the data support: the largest sizes are held out, every law forecasts them, and one is named or none.

``auto`` combines forecasters and needs no law to be true; this says what its own kind of evidence, forecasts of larger
sizes inside the data, tells about the form. A law is named only if it errs least and every rival is told from it: the
rival errs more by a paired t-test over curves (one-sided, 97.5 %), or it is the named law with something added that did
not help. Else the answer is "undecided".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import t

from finescale import registry
from finescale.stats.fits import law_named, laws_of
from finescale.stats.groups import Cell, Group, last_levels, predict, solve_all
from finescale.stats.laws import Array, Law
from finescale.stats.status import too_few

UNDECIDED = "undecided"
# A law of the list is the one before the colon with something added; what is added may not help, and then it is idle.
EXTENDS: dict[str, tuple[str, ...]] = {
    "constant": tuple(name for name in registry.names("law") if name != "constant"),
    "loglog-line": ("power", "rectified"),
    "power": ("rectified",),
    "multiplicative": ("rectified-multiplicative", "rectified-moving"),
    "product": ("rectified-multiplicative", "rectified-moving"),
    "rectified-multiplicative": ("rectified-moving",),
}
_LEVEL, _MOST_OUT, _FEWEST_LEFT, _MANY_SIZES = 0.975, 3, 4, 12
Place = tuple[int, int, int]
# Losses are not measured to better than a hundredth of a per cent.
_FLOOR = 1e-4


@dataclass(frozen=True)
class Evidence:
    """Errors of laws on sizes held out.

    Attributes:
        laws: names of the laws that could forecast every curve.
        error: root mean square error of log loss (U, J) per curve and law; a lone curve counts per number held out.
        named: the law that the errors support, or ``undecided``.
        sentence: the same with its evidence.
    """

    laws: tuple[str, ...]
    error: Array
    named: str
    sentence: str


def evidence(groups: list[Group]) -> Evidence:
    """Which of the registered laws of these factors the groups (of one task) support together."""
    count = len(groups[0].factors) - 1 if groups else 0
    laws = [law_named(name) for name in laws_of(count)]
    parts = {(at, out): part for at, group in enumerate(groups) for out, part in enumerate(_held(group), 1)}
    able = [law for law in laws if parts and all(too_few(law, part) is None for part in parts.values())]
    errors = {law.name: _errors(law, parts) for law in able}
    if len(errors) < 2:
        return Evidence(tuple(errors), np.zeros((0, len(errors))), UNDECIDED, f"{UNDECIDED}: too few sizes to hold out")
    error = _per_curve(list(errors.values()))
    return _judged(tuple(errors), error)


def _held(group: Group) -> Iterator[Group]:
    """The group with its largest size held out, its two largest, and its three, while four are left.

    Of a curve with many sizes as many times more are held out; replicates are averaged in log loss.
    """
    keys = [*dict.fromkeys([*group.base_columns, *group.factors])]
    logs = group.frame.assign(**{group.y_name: np.log(group.y)})
    frame = logs.groupby(keys, dropna=False, sort=True)[group.y_name].mean().reset_index()
    frame[group.y_name] = np.exp(frame[group.y_name])
    sizes = np.unique(frame["examples"])
    step = max(1, len(sizes) // _MANY_SIZES)
    for out in range(step, min(_MOST_OUT * step, len(sizes) - _FEWEST_LEFT) + 1, step):
        late = frame["examples"] > sizes[-out - 1]
        yield Group(group.key, group.factors, frame[~late], frame[late], group.y_name)


def _errors(law: Law, parts: dict[tuple[int, int], Group]) -> dict[Place, Array]:
    """Log errors of held-out runs by group, base and number of sizes held out."""
    cells = [Cell(law, [last_levels(law, part)]) for part in parts.values()]
    found: dict[Place, Array] = {}
    for (at, out), point, part in zip(parts, solve_all(cells, keep=2), parts.values(), strict=True):
        asked = Group(part.key, part.factors, part.held, part.held, part.y_name)
        said = predict(Cell(law, [asked]).problem(), point.theta, point.coef)
        miss, base = np.log(asked.y / said), asked.base
        for code in np.unique(base):
            found[at, int(code), out] = miss[base == code]
    return found


def _per_curve(errors: list[dict[Place, Array]]) -> Array:
    """Root mean square error (U, J) per curve; per number of sizes held out where there is one curve."""
    places = list(errors[0])
    lone = len({place[:2] for place in places}) == 1
    units = {place: place if lone else place[:2] for place in places}
    rows = []
    for unit in dict.fromkeys(units.values()):
        mine = [place for place in places if units[place] == unit]
        # Each number of sizes held out counts alike, so that the farthest does not drown the rest.
        rows.append([np.sqrt(np.mean([np.mean(one[place] ** 2) for place in mine]) + _FLOOR**2) for one in errors])
    return np.array(rows)


def _judged(laws: tuple[str, ...], error: Array) -> Evidence:
    mean = np.log(error).mean(axis=0)
    best = int(np.argmin(mean))
    open_ones = [
        laws[rival]
        for rival in np.argsort(mean)
        if rival != best and laws[rival] not in EXTENDS.get(laws[best], ()) and not _worse(error, int(rival), best)
    ]
    typical = f"{np.exp(mean[best]):.2%} on held-out sizes of {len(error)} curves"
    if open_ones:
        said = f"{laws[best]} errs least ({typical}), but {', '.join(open_ones)} cannot be told from it"
        return Evidence(laws, error, UNDECIDED, f"{UNDECIDED}: {said}")
    return Evidence(laws, error, laws[best], f"{laws[best]} ({typical})")


def _worse(error: Array, rival: int, best: int) -> bool:
    """Whether a rival errs more than the best, by a one-sided paired t-test of log errors over curves."""
    gap = np.log(error[:, rival]) - np.log(error[:, best])
    if len(gap) < 2:
        return False
    spread = max(float(gap.std(ddof=1)), 1e-9) / np.sqrt(len(gap))
    return bool(gap.mean() / spread > t.ppf(_LEVEL, len(gap) - 1))
