"""``fit``: any law, any groups, shared parameters, held-out levels, intervals and a status for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finescale import registry
from finescale.core import FACTORS
from finescale.errors import Faults, collecting, near
from finescale.stats.auto_fit import AUTO_SHAPES, fit_auto
from finescale.stats.fits import HELD, Fits, GroupFit, Member, keyed, law_named
from finescale.stats.groups import (
    Cell,
    Codes,
    Group,
    PointFit,
    Redo,
    last_levels,
    log_slopes,
    noise_behind,
    predict,
    resolve_all,
    solve,
    solve_all,
)
from finescale.stats.laws import MULTIPLICATIVE, Array, Law
from finescale.stats.paper import STAGE_1, axes, stage_1
from finescale.stats.priors import Belief, Priors, beliefs, check, redrawn, solve_with, words
from finescale.stats.protocol import frozen
from finescale.stats.runs import Places, Runs, read_runs
from finescale.stats.solve import Objective, Solution
from finescale.stats.status import judge, too_few
from finescale.stats.uncertainty import Noise, Resamples, choose, lent, noise_of, resample, together
from finescale.stats.units import COLUMN, TOKENIZER, tokenizers_of, unit_of, units_of

OBJECTIVES = {
    "robust": Objective("log", None),
    "chinchilla": Objective("log", 1e-3),
    "paper": Objective("loss", 1e-3),
}
Names = str | Sequence[str] | None


def fit(
    runs: Runs | pd.DataFrame | str | Path,
    law: str = "auto",
    factor: Names = None,
    by: Names = (),
    share: Names = (),
    y: str = "loss",
    hold_out: dict[str, int] | None = None,
    seed: int = 0,
    draws: int = 400,
    objective: str = "robust",
    protocol: str | None = None,
    priors: Priors | None = None,
) -> Fits:
    """Fit a law to every group of a table of runs.

    Args:
        runs: a table of runs, or what ``read_runs`` takes.
        law: a registered law, or ``auto``, the forecaster that combines laws by how well they forecast.
        factor: the factors besides ``examples`` (``model_params``, ``pretrain_tokens``, ``pet_params``); None fits a
            curve in examples alone.
        by: columns whose values make groups; each group has its own fit.
        share: names of parameters common to all groups (of the same task, if ``task`` is in ``by``).
        y: the column that is fitted; positive. Of ``loss`` the column ``loss_unit`` says the unit.
        hold_out: number of largest levels of a factor kept out of the fit, as ``{"examples": 1}``.
        seed: seed of the resampling; the estimates do not depend on it.
        draws: resamples behind each interval.
        objective: ``robust`` (Huber on log residuals, turning linear at 1.345 robust standard deviations),
            ``chinchilla`` (Huber on log residuals, delta 1e-3) or ``paper`` (Huber on L, delta 1e-3; Eq. 2).
        protocol: ``paper`` fits the multiplicative law as the paper does: beta and E are shared by the group's
            model-size and pretraining-size runs, A and alpha belong to ``factor``; the objective is the paper's.
        priors: on shapes, as ``{"beta": (mean, standard deviation)}`` (for a size such as D0 the standard deviation is
            that of its logarithm), or other fits, as ``published("zhang2024")``:
            then the mean and spread of their groups that are like this one (the same method, where there are any).
            ``auto`` takes priors on ``beta``, ``D0`` and the ``alpha`` of each factor: they make one more forecaster of
            a curve, and enter the family's product laws. Stated in the fits' table, status and citations.

    Raises:
        InputError: unknown names, missing columns, empty groups; every fault is listed.
    """
    table = runs if isinstance(runs, Runs) else read_runs(runs)
    factors, by, share = names_of(factor), names_of(by), names_of(share)
    usable, left_out = _given(table, (*factors, y))
    _check(usable, table.places, law, factors, by, share, y, hold_out or {}, objective, draws)
    if protocol is None:  # the paper's takes runs along several axes and parts them itself
        _check_told(usable, factors, by)
    _check_priors(priors, law, factors, objective, protocol)
    _check_protocol(protocol, law, factors, share)
    groups = _groups(usable, (*factors, "examples"), by, y, hold_out or {})
    fits = Fits(law, factors, by, [], seed, y, left_out)
    fits.about = {"objective": objective, "hold_out": hold_out or {}, "share": list(share), "draws": draws}
    fits.about |= {"protocol": protocol, "notes": _mixed(usable, factors, by)}
    fits.about |= {"unit": unit_of(usable) if y == "loss" else ""}
    if protocol is not None:
        fits.groups = [_two_stage(group, factors[0], draws, seed) for group in groups]
    elif law == "auto":
        fits.groups = fit_auto(groups, draws, priors)
    else:
        fits.groups = fit_groups(law_named(law), groups, share, OBJECTIVES[objective], draws, seed, priors)
    return fits


def fit_groups(
    law: Law,
    groups: list[Group],
    share: tuple[str, ...],
    objective: Objective,
    draws: int,
    seed: int,
    priors: Priors | None = None,
) -> list[GroupFit]:
    """Fit one law to groups; those too small are reported as such and stay out of the sharing."""
    small = {id(group): too_few(law, group) for group in groups}
    able = [last_levels(law, group) for group in groups if small[id(group)] is None]
    cells = [Cell(law, part, share, objective) for part in _scopes(able, share)]
    points = solve_all(cells)
    if priors is not None:
        points = [
            solve_with(cell, point, [_believed(priors, law, group) for group in cell.groups])
            for cell, point in zip(cells, points, strict=True)
        ]
    noises = _noises(cells, points)
    rngs = [np.random.default_rng([seed, index]) for index in range(len(cells))]
    others = [lent(noises, index) for index in range(len(cells))]
    done: dict[str, GroupFit] = {}
    for one in _with_draws(cells, points, noises, others, draws, rngs):
        if priors is not None:
            one.diagnostics["priors"] = words(_believed(priors, law, one.group))
        done[one.group.label] = one
    nothing = np.zeros(draws)
    for group in groups:
        status = small[id(group)]
        if status is not None:
            how = {"runs": len(group.frame)}
            done[group.label] = GroupFit(group, law.name, [], status, nothing, nothing, nothing, how)
    return [done[group.label] for group in groups]


def _believed(priors: Priors, law: Law, group: Group) -> dict[str, Belief]:
    return beliefs(priors, law.shapes(group.factors[:-1]), group)


def names_of(names: Names) -> tuple[str, ...]:
    """Names given as one, several or none."""
    if names is None:
        return ()
    return (names,) if isinstance(names, str) else tuple(names)


# ------------------------------------------------------------------------------------------------------------- checking


def _given(table: Runs, names: tuple[str, ...]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows that give what this fit needs, and a sentence for each reason to leave others out."""
    frame, said = table.usable, [finding.sentence for finding in table.findings if finding.excludes]
    for name in names:
        if name in frame and frame[name].isna().any():
            rows = frame.index[frame[name].isna()]
            said.append(f"{len(rows)} of {len(table)} ({table.places(rows)}) do not give {name}")
            frame = frame.drop(rows)
    return frame, tuple(said)


def _mixed(frame: pd.DataFrame, factors: tuple[str, ...], by: tuple[str, ...]) -> list[str]:
    """A sentence for each column that tells runs apart which this fit takes for one: another task is no replicate."""
    said = []
    for name in ("task", "method", "base", "pet_params", "pet_size", "learning_rate", "epochs_asked"):
        told = [*by, *(name for name in (*factors, "examples") if name in frame)]
        if name in frame and name not in by and (frame.groupby(told, dropna=False)[name].nunique() > 1).any():
            what = f"{name} has {frame[name].nunique()} values that neither by nor factor tells apart"
            way = f"name {name} in by if they are not"
            if name == "learning_rate":
                way = "keep the best of each setting by its dev loss, or name it in by"
            said.append(f"{what}: their runs are taken as one curve; {way}")
    return said


def _check_told(frame: pd.DataFrame, factors: tuple[str, ...], by: tuple[str, ...]) -> None:
    """Runs of bases of several sizes, or pretrained for several times, are not on one curve in examples."""
    told = list(dict.fromkeys([*by, *factors]))
    with collecting() as faults:
        for name in ("model_params", "pretrain_tokens"):
            if name not in frame or name in told:
                continue
            levels = frame.groupby(told, dropna=False)[name].nunique() if told else pd.Series(frame[name].nunique())
            if (levels > 1).any():
                what = f"has {frame[name].nunique()} values that neither factor nor by tells apart: not one curve"
                way = f"fit a law in it (factor {name!r}, --factor {name}), or each apart (by {name!r}, --by {name})"
                faults.add(f"column {name!r}", what, way)


def _check(
    frame: pd.DataFrame,
    places: Places,
    law: str,
    factors: tuple[str, ...],
    by: tuple[str, ...],
    share: tuple[str, ...],
    y: str,
    hold_out: dict[str, int],
    objective: str,
    draws: int,
) -> None:
    with collecting() as faults:
        others = [name for name in FACTORS if name != "examples"]
        for name in factors:
            if name not in others:
                faults.add(f"factor {name!r}", "is not a factor", near(name, others))
        for name in (*factors, *by, y):
            if name not in frame:
                faults.add(f"column {name!r}", "is not in the table of runs", near(name, map(str, frame.columns)))
        for name in by:
            if name in ("examples", y):
                faults.add(f"by {name!r}", "is what a law is fitted to", "a group needs runs that differ in it")
        if not isinstance(hold_out, dict):
            faults.add("hold_out", f"{hold_out!r} is not a dict", "as {'examples': 1}")
            hold_out = {}
        for name in HELD if any(hold_out.values()) else ():
            if name in frame and name != y:
                faults.add(f"column {name!r}", "has the name of a forecast of what is held out", "rename it")
        for name, count in hold_out.items():
            if name not in (*factors, "examples"):
                faults.add(f"hold_out[{name!r}]", "is not a factor of this fit", near(name, (*factors, "examples")))
            elif not isinstance(count, int | np.integer) or count < 0:
                what = f"{count!r} is not a whole number from 0 up"
                faults.add(f"hold_out[{name!r}]", what, "give the number of largest levels to keep out")
        if draws < 1:
            faults.add("draws", f"{draws} is too few for an interval", "400 is usual")
        for name in dict.fromkeys(name for name in (*factors, *by) if (*factors, *by).count(name) > 1):
            faults.add(f"{name!r}", "is named twice among factor and by", "name it once")
        if objective not in OBJECTIVES:
            faults.add(f"objective {objective!r}", "is unknown", near(objective, OBJECTIVES))
        elif law == "auto" and objective != "robust":
            faults.add("objective", "has no meaning for law='auto'", "leave it out")
        if not len(frame):
            faults.add("runs", "none is usable for this fit", "see read_runs(...).findings")
        _check_values(frame, places, (*factors, "examples", y), faults)
        _check_units(frame, by, y, faults)
        _check_law(law, factors, share, faults)


def _check_units(frame: pd.DataFrame, by: tuple[str, ...], y: str, faults: Faults) -> None:
    """Losses in different units are not on one curve."""
    if y == "loss" and COLUMN not in by and len(units := units_of(frame)) > 1:
        way = f"fit them apart (by {COLUMN!r}), or bring them into one unit"
        faults.add(f"column {COLUMN!r}", f"has {' and '.join(units[:4])} in one fit", way)
    if y == "loss" and TOKENIZER not in by and len(words := tokenizers_of(frame)) > 1:
        what = f"names {len(words)} tokenizers, and losses per token of one are not those of another"
        way = (
            f"fit bits per byte (--column loss=nats --column bits_per_byte=loss), or fit them apart (by {TOKENIZER!r})"
        )
        faults.add(f"column {TOKENIZER!r}", what, way)


def _check_values(frame: pd.DataFrame, places: Places, names: Iterable[str], faults: Faults) -> None:
    for name in names:
        if name in frame:
            value = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float)
            wrong = frame.index[~(np.isfinite(value) & (value > 0))]
            if len(wrong):
                what = f"is not a positive number in {len(wrong)} of {len(frame)} ({places(wrong)})"
                faults.add(f"column {name!r}", what, "drop or mend them")


def _check_law(name: str, factors: tuple[str, ...], share: tuple[str, ...], faults: Faults) -> None:
    if name == "auto":
        if share:
            faults.add("share", "has no meaning for law='auto'", "curves of one task inform each other already")
        return
    if name not in registry.names("law"):
        faults.add(f"law {name!r}", "is unknown", near(name, [*registry.names("law"), "auto"]))
        return
    law = law_named(name)
    fewest, most = law.factors
    if not fewest <= len(factors) <= most:
        fitting = [n for n in registry.names("law") if law_named(n).takes(len(factors))]
        wanted = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        faults.add(
            f"law {name!r}", f"takes {wanted} factors besides examples, not {len(factors)}", "try " + ", ".join(fitting)
        )
        return
    known = [p.name for p in law.parameters(factors)]
    for parameter in share:
        if parameter not in known:
            faults.add(f"share {parameter!r}", f"is no parameter of {name}", near(parameter, known))


def _check_protocol(protocol: str | None, law: str, factors: tuple[str, ...], share: tuple[str, ...]) -> None:
    if protocol is None:
        return
    with collecting() as faults:
        if protocol != "paper":
            faults.add(f"protocol {protocol!r}", "is unknown", near(protocol, ["paper"]))
        if law != "multiplicative" or len(factors) != 1:
            faults.add(
                "protocol 'paper'", f"not for law={law!r} with {len(factors)} factors", "multiplicative, one factor"
            )
        if share:
            faults.add("share", "is decided by the protocol (beta and E)", "leave it out")


def _check_priors(
    priors: Priors | None, law: str, factors: tuple[str, ...], objective: str, protocol: str | None
) -> None:
    with collecting() as faults:
        if priors is not None and protocol is not None:
            faults.add("priors", "have no meaning under a protocol", "leave one of the two out")
            return
        shapes = AUTO_SHAPES(factors) if law == "auto" else law_named(law).shapes(factors)
        check(priors, law, shapes, factors, objective, faults)


# ------------------------------------------------------------------------------------------------------------- grouping


def _groups(
    frame: pd.DataFrame, factors: tuple[str, ...], by: tuple[str, ...], y: str, hold_out: dict[str, int]
) -> list[Group]:
    frame = frame.assign(**{name: keyed(frame[name]) for name in by})
    parts = frame.groupby(list(by), sort=True) if by else [((), frame)]
    groups = []
    for key, part in parts:
        held = held_rows(part, hold_out)
        named = dict(zip(by, key, strict=True))
        groups.append(Group(named, factors, part[~held], part[held], y))
    return groups


def held_rows(frame: pd.DataFrame, hold_out: dict[str, int]) -> pd.Series:
    """Rows at one of the largest levels of any factor named."""
    out = pd.Series(False, index=frame.index)
    for name, count in hold_out.items():
        if count:
            out |= frame[name].isin(np.sort(frame[name].unique())[-count:])
    return out


def _scopes(groups: list[Group], share: tuple[str, ...]) -> list[list[Group]]:
    """Groups solved together: each alone, or all of one task if parameters are shared."""
    if not share:
        return [[group] for group in groups]
    scopes: dict[Any, list[Group]] = {}
    for group in groups:
        scopes.setdefault(group.key.get("task"), []).append(group)
    return list(scopes.values())


# ---------------------------------------------------------------------------------------------------------- uncertainty


def _residual(cell: Cell, point: PointFit) -> tuple[Array, Array]:
    fitted = predict(cell.problem(), point.theta, point.coef)
    return np.log(cell.y) - np.log(fitted), fitted


def _noise(cell: Cell, point: PointFit, shares: Codes) -> Noise:
    slopes = log_slopes(cell.problem(), point.theta, point.coef)
    return noise_of(_residual(cell, point)[0], shares, slopes)


def _noises(cells: list[Cell], points: list[PointFit]) -> list[Noise]:
    """Noise of each cell per base; per seed where there is one base and the runs of a seed lie off together."""
    noises = [_noise(cell, point, cell.joint_codes("base")) for cell, point in zip(cells, points, strict=True)]
    seeds = {
        index: replace(_noise(cell, points[index], codes), of_seed=True)
        for index, cell in enumerate(cells)
        if not cell.joint_codes("base").any() and (codes := cell.joint_codes("clusters")).any()
    }
    return [seeds.get(index, noise) for index, noise in enumerate(noises)] if together(seeds.values()) else noises


def _with_draws(
    cells: list[Cell],
    points: list[PointFit],
    noises: list[Noise],
    others: list[Noise | None],
    draws: int,
    rngs: list[np.random.Generator],
) -> list[GroupFit]:
    """Fits of all groups of all cells with their draws; the refits of all cells are made together."""
    plans = [
        _resamples(cell, point, noise, lender, draws, rng)
        for cell, point, noise, lender, rng in zip(cells, points, noises, others, rngs, strict=True)
    ]
    redone = resolve_all([redo for redo, _, _ in plans])
    return [
        _group_fit(redo.cell, index, redo.point, solution, made, dict(how))
        for (redo, made, how), solution in zip(plans, redone, strict=True)
        for index in range(len(redo.cell.groups))
    ]


def _resamples(
    cell: Cell, point: PointFit, noise: Noise, others: Noise | None, draws: int, rng: np.random.Generator
) -> tuple[Redo, Resamples, dict[str, Any]]:
    fitted = _residual(cell, point)[1]
    clusters = cell.joint_codes("clusters")
    base = clusters if noise.of_seed else cell.joint_codes("base")
    scheme = choose(clusters, base)
    made = resample(scheme, cell.y, fitted, clusters, base, noise, others, draws, rng)
    prior = cell.prior
    if prior is not None:
        # Losses redrawn around the fit would be pulled to the prior a second time if its mean were not redrawn so too.
        centre = prior.mean if scheme == "cluster" else point.theta
        prior = redrawn(prior, centre, noise_behind(point.delta), draws, rng)
    said = "seeds" if noise.of_seed and scheme == "two-level" else scheme
    how = {"scheme": said, "noise_run": noise.run, "noise_base": noise.base, "noise_of_seed": noise.of_seed}
    return Redo(cell, point, made.y, made.weights, prior), made, how


def _two_stage(group: Group, factor: str, draws: int, seed: int) -> GroupFit:
    """The paper's protocol for one group; stage 2 fits PET size with the beta and E of each draw of stage 1."""
    cell = stage_1(group, factor)
    for part in cell.groups:
        short = too_few(MULTIPLICATIVE, part)
        if short is not None:
            nothing = np.zeros(draws)
            return GroupFit(group, "multiplicative", [], short, nothing, nothing, nothing, {"runs": len(group.frame)})
    point = solve(cell)
    rng = np.random.default_rng([seed, 0])
    first = _with_draws([cell], [point], _noises([cell], [point]), [None], draws, [rng])[0]
    if factor in STAGE_1:
        return first
    ours = _stage_2(axes(group, factor)[0], first, rng)
    how = {**first.diagnostics, "runs": len(ours[0].frame), "stage": 2}
    return GroupFit(ours[0], "multiplicative", [ours[1]], first.status, first.run, first.base, first.strain, how)


def _stage_2(part: Group, first: GroupFit, rng: np.random.Generator) -> tuple[Group, Member]:
    """A and alpha along one more axis, with beta and E of stage 1 frozen: its estimate and each of its draws."""
    known = first.members[0]
    one = frozen(MULTIPLICATIVE, part.z, part.y[None], known.theta[1:], known.coef[1:])
    theta, coef = np.array([one.alpha[0], known.theta[1]]), np.array([one.coef[0, 0], known.coef[1]])
    member = Member(MULTIPLICATIVE, part.factors, theta, coef, theta[None], coef[None], np.ones(1))
    noise = first.run[:, None] * rng.normal(size=(len(first.run), len(part.y)))
    drawn = np.exp(member.log_point(part.z) + noise)
    many = frozen(MULTIPLICATIVE, part.z, drawn, known.draws_theta[:, 1], known.draws_coef[:, 1])
    return part, replace(
        member,
        draws_theta=np.column_stack([many.alpha, known.draws_theta[:, 1]]),
        draws_coef=np.column_stack([many.coef[:, 0], known.draws_coef[:, 1]]),
        weight=known.weight,
    )


def _group_fit(
    cell: Cell, index: int, point: PointFit, redone: Solution, made: Resamples, how: dict[str, Any]
) -> GroupFit:
    group, shape_at, coef_at = cell.groups[index], cell.shape_at[index], cell.coef_at[index]
    member = Member(
        cell.law,
        group.factors,
        point.theta[shape_at],
        point.coef[coef_at],
        redone.theta[:, shape_at],
        redone.coef[:, coef_at],
        np.ones(len(redone.theta)),
    )
    log_y = np.log(group.y)
    left = np.sum((log_y - member.log_point(group.z)) ** 2)
    explained = 1 - float(left / max(np.sum((log_y - log_y.mean()) ** 2), 1e-300))
    how |= {
        "runs": len(group.frame),
        "objective": point.objective,
        "gradient": point.gradient,
        "huber_delta": point.delta,
        "starts": point.starts,
        "agreeing_starts": point.agreeing,
        "explained": explained,
    }
    status = judge(group, member, explained)
    return GroupFit(group, cell.law.name, [member], status, made.run, made.base, np.zeros(len(made.run)), how)
