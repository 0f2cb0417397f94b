"""The outcome of a fit as a sentence with a next step."""

from __future__ import annotations

import numpy as np

from finescale.stats.fits import Member, Status, natural
from finescale.stats.groups import Group
from finescale.stats.laws import Law

# An exponent is unidentified when its 90 % interval is wider than this and than 1.5 times its estimate.
_WIDE = 0.15


def too_few(law: Law, group: Group) -> Status | None:
    """``TooFew`` if the group cannot carry the law, else None."""
    need = len(law.parameters(group.factors[:-1]))
    have = len(group.frame)
    if law.last:
        sizes = group.frame["examples"].nunique()
        return None if sizes >= 2 else Status("TooFew", f"{have} runs at {sizes} size; a line needs 2. Add sizes.")
    if have <= need:
        return Status(
            "TooFew",
            f"{have} runs for {need} parameters of the law {law.name}. Add runs at other sizes, or fit a simpler law.",
        )
    if law.name == "constant":
        return None
    for name in group.factors:
        distinct = group.frame[name].nunique()
        fewest = 3 if name == "examples" else 2
        if distinct < fewest:
            step = f"Add sizes of {name}, or leave it out of the factors."
            return Status("TooFew", f"{distinct} distinct {name}; the law {law.name} needs {fewest}. {step}")
    return None


def judge(group: Group, member: Member, explained: float) -> Status:
    """Status of a fitted group.

    Args:
        explained: share of the variance of log loss that the law explains beyond a constant.
    """
    if member.law.name != "constant" and (explained < 0.5 or _rises(group)):
        why = f"the law {member.law.name} explains {max(explained, 0):.0%} of the variance of log loss"
        why = "the loss rises with examples" if _rises(group) else why
        return Status("NotALaw", f"{why}. Check the rates and whether the runs learned, or fit law='constant'.")
    bound, loose = _at_bound(member), _loose(group, member)
    decades = ", ".join(f"{name} {np.log10(high / low):.1f}" for name, (low, high) in group.support.items())
    if bound:
        return Status(
            "AtBound",
            f"{' and '.join(bound)} at a bound: the data (decades: {decades}) do not determine it. Forecast near the "
            "data only; widen the range, or share the parameter across groups.",
        )
    if loose:
        return Status(
            "Unidentified",
            f"{' and '.join(loose)}: the data (decades: {decades}) leave it open. Read the other parameters as "
            "conditional on it; widen the range, add seeds, or share it across groups.",
        )
    return Status("Converged", "every parameter is determined by the data. Next: forecast, or compare laws.")


def undetermined(group: Group, member: Member) -> set[str]:
    """Names of the parameters that lie at a bound, or that the data leave open."""
    return {said.split(" ")[0] for said in (*_at_bound(member), *_loose(group, member))}


def _rises(group: Group) -> bool:
    x, y = np.log(group.frame["examples"]), np.log(group.frame[group.y_name])
    if len(group.factors) > 1 or x.nunique() < 3 or y.nunique() < 2:
        return False
    return bool(np.corrcoef(x, y)[0, 1] > 0)


def _at_bound(member: Member) -> list[str]:
    found = []
    for p, value in zip(member.law.shapes(member.factors[:-1]), member.theta, strict=True):
        if value <= p.lower + 1e-6 or value >= p.upper - 1e-6:
            found.append(f"{p.name} = {float(natural(p, value)):.3g}")
    for p, value in zip(member.law.coefficients, member.coef, strict=True):
        if value <= 0:
            found.append(f"{p.name} = 0")
    return found


def _loose(group: Group, member: Member) -> list[str]:
    found = []
    low, high = np.quantile(member.draws_theta, [0.05, 0.95], axis=0) if len(member.theta) else (np.empty(0),) * 2
    for i, p in enumerate(member.law.shapes(member.factors[:-1])):
        width = high[i] - low[i]
        wide = width > np.log(1e3) if p.log else width > _WIDE and width > 1.5 * abs(member.theta[i])
        if wide:
            found.append(f"{p.name} ({float(natural(p, low[i])):.3g} to {float(natural(p, high[i])):.3g})")
    floor = float(group.y.min())
    for j, p in enumerate(member.law.coefficients):
        if p.name != "E" or len(member.coef) == 1:
            continue
        first, last = np.quantile(member.draws_coef[:, j], [0.05, 0.95])
        if last - first > 0.5 * floor or first <= 0:
            found.append(f"E ({first:.3g} to {last:.3g} nats/token, smallest loss seen {floor:.3g})")
    return found
