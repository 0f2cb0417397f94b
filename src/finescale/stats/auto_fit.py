"""``law="auto"`` as fits: every curve's own path, a family for bases not seen, and intervals from rolling hold-outs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from finescale.stats.auto import REFUSES_BELOW, REFUSES_BEYOND, Path, Pool, Width
from finescale.stats.evidence import Evidence, evidence
from finescale.stats.family import Blend, Joint, Key, anchored, blend, fit_joint, key_columns, nearest
from finescale.stats.fits import GroupFit, Kind, Status, stream
from finescale.stats.groups import Group
from finescale.stats.laws import PAPER, RECTIFIED, RECTIFIED_MULTIPLICATIVE, Array
from finescale.stats.local import BELIEVER, FORECASTERS, Believed, Curve
from finescale.stats.priors import Belief, Priors, beliefs, words
from finescale.stats.solve import Mask
from finescale.stats.uncertainty import LENT, Level, Noise, lent, noise_of_repeats, pooled, scales, together

_REST = (
    ("level_pull", "how much faster higher curves fall"),
    ("slope_pull", "how far slopes regress to the common one"),
    ("noise", "standard deviation of log loss of a run"),
    ("drift", "error of a slope, per e-fold of examples"),
    ("doubt", "error per unit of disagreement between the forecasters"),
)
AUTO_SHAPES = RECTIFIED_MULTIPLICATIVE.shapes
"""What priors for ``auto`` are on: the shapes of its curves (``beta``, ``D0``) and of its families (``alpha``, …)."""
# Weights are shown as they are for this horizon: two doublings ahead.
_SHOWN = float(np.log(np.log(4.0)))


@dataclass
class Support:
    """The law that a task's groups support together; found out when it is asked for, since forecasts do not need it."""

    groups: list[Group]

    @cached_property
    def found(self) -> Evidence:
        return evidence(self.groups)


@dataclass
class AutoFit(GroupFit):
    """A group's forecast paths by their other factors, the table's standardised errors (B,), and its family.

    A path is of means over seeds. ``run`` (B,) is what runs that differ in seed alone say of the noise of one, and
    ``base`` (B,) how far all runs of a seed lie off together; both 0 where nothing was run twice. Paths allow for what
    the seeds seen lie off in their mean.
    """

    support: Support = field(default_factory=lambda: Support([]))
    paths: dict[Key, Path] = field(default_factory=dict)
    unit: Array = field(default_factory=lambda: np.zeros(0))
    learnt: tuple[float, ...] = ()
    joint: Joint | None = None

    @property
    def fitted(self) -> bool:
        return bool(self.paths)

    def reach(self, frame: pd.DataFrame) -> Array:
        """As for a law, but in examples each row is measured by its own curve, a new base's by the nearest one."""
        above, below, worst = self._distances(frame)
        return np.maximum(worst, np.maximum(above, below))

    def refused(self, frame: pd.DataFrame) -> Mask:
        """Beyond what the forecaster is for: it looks upwards, and only so far."""
        above, below, worst = self._distances(frame)
        return np.asarray((np.maximum(above, worst) > REFUSES_BEYOND) | (below > REFUSES_BELOW))

    def _distances(self, frame: pd.DataFrame) -> tuple[Array, Array, Array]:
        """How many times rows (N,) lie above and below their curve's sizes, and beyond the other factors' support."""
        keys, known = key_columns(frame, self.group.factors), list(self.paths)
        own = {key: self.paths[known[nearest(known, key)]].support for key in set(keys)} if known else {}
        first, last = np.array([own.get(key, self.group.support["examples"]) for key in keys]).reshape(-1, 2).T
        asked, worst = frame["examples"].to_numpy(dtype=float), np.ones(len(frame))
        for name in self.group.factors[:-1]:
            (low, high), value = self.group.support[name], frame[name].to_numpy(dtype=float)
            worst = np.maximum(worst, np.maximum(value / high, low / value))
        return asked / last, first / asked, worst

    def citations(self) -> list[str]:
        laws = [one.law.source for one in self.joint.laws] if self.joint else []
        return [RECTIFIED, *laws, PAPER, *(f"{name}: {said}" for name, said in self._priors.items())]

    @property
    def _priors(self) -> dict[str, str]:
        return dict(self.diagnostics.get("priors", {}))

    @property
    def outcome(self) -> Status:
        if not self.fitted:
            return self.status
        said = f"{self.status.sentence} Best-supported law: {self.support.found.sentence}."
        if self._priors:
            said += f" With priors: {'; '.join(f'{name} {text}' for name, text in self._priors.items())}."
        return Status(self.status.name, said)

    def rows(self, level: float) -> list[list[Any]]:
        if not self.fitted:
            return []
        believer = [BELIEVER] if len(self.learnt) > len(FORECASTERS) + len(_REST) else []
        said = [
            (name, value, meaning)
            for (name, meaning), value in zip([*FORECASTERS.items(), *believer, *_REST], self.learnt, strict=True)
        ]
        nothing = float("nan")
        said += [(name, nothing, text) for name, text in self._priors.items()]
        said.append(("law", nothing, f"best-supported law: {self.support.found.named}"))
        return [["auto", 1.0, name, value, nothing, nothing, "", text, self.status.name] for name, value, text in said]

    def log_draws(self, frame: pd.DataFrame, kind: Kind, seed: int) -> Array:
        """Joint draws (B, N): one standardised error per draw and curve, so that a draw is a whole curve."""
        keys = key_columns(frame, self.group.factors)
        x = np.log(frame["examples"].to_numpy(dtype=float))
        out = np.empty((len(self.unit), len(frame)))
        for key in dict.fromkeys(keys):
            rows = np.array([k == key for k in keys])
            out[:, rows] = self._along(key, x[rows], self.unit_noise(frame[rows], seed) if kind == "run" else None)
        return out

    def _along(self, key: Key, x: Array, noise: Array | None) -> Array:
        known = self._known(key)
        own = stream(self.group.label, known or key)
        unit = _mirrored(self.unit, own)
        if known is not None:
            path, extra = self.paths[known], np.zeros((len(unit), 1))
            centre, scale = path.at(x)
        else:
            path, centre, scale, extra = self._new_base(key, x, own)
        curve_scale = np.sqrt(np.maximum(scale**2 - path.run**2, (0.5 * path.run) ** 2))
        draws = centre + unit[:, None] * curve_scale + extra
        if noise is not None:
            half = len(draws) // 2
            noise[len(draws) - half :] = -noise[:half][::-1]
            draws = draws + np.hypot(np.maximum(path.run, self.run), self.base)[:, None] * noise
        return np.asarray(draws)

    def _known(self, key: Key) -> Key | None:
        return next((k for k in self.paths if np.allclose(k, key, rtol=1e-9)), None)

    def own_path(self, frame: pd.DataFrame) -> tuple[Path, Array] | None:
        """The path of the curve that one row lies on, and its draws' standardised errors (B,); None for a new base."""
        known = self._known(key_columns(frame, self.group.factors)[0])
        return None if known is None else (self.paths[known], _mirrored(self.unit, stream(self.group.label, known)))

    def _new_base(self, key: Key, x: Array, rng: np.random.Generator) -> tuple[Path, Array, Array, Array]:
        keys = list(self.paths)
        near = keys[nearest(keys, key)]
        path = self.paths[near]
        centre, scale = path.at(x)
        if self.joint is None:
            return path, centre, scale, 0.1 * _student(3.0, len(self.unit), rng)[:, None]
        mixed, deviation, freedom = self.joint.new_base(key, near, x, centre)
        return path, mixed, scale, _student(freedom, len(self.unit), rng)[:, None] * deviation


def _mirrored(quantiles: Array, rng: np.random.Generator) -> Array:
    """Symmetric quantiles (B,) as draws in random order, each with its mirror image as far from the end.

    Sums of such draws are mirrored too, so that the median of a forecast is its centre and not off by chance.
    """
    half = len(quantiles) // 2
    first = rng.permutation(quantiles[len(quantiles) - half :]) * rng.choice([-1.0, 1.0], half)
    return np.concatenate([first, np.zeros(len(quantiles) % 2), -first[::-1]])


def _student(freedom: float, draws: int, rng: np.random.Generator) -> Array:
    """Draws (B,) of Student's t."""
    return _mirrored(t.ppf((np.arange(draws) + 0.5) / draws, freedom), rng)


def fit_auto(groups: list[Group], draws: int, priors: Priors | None = None) -> list[GroupFit]:
    """Fit the forecaster to groups; curves of one task (or of the whole table) are pooled."""
    scopes: dict[Any, list[Group]] = {}
    for group in groups:
        scopes.setdefault(group.key.get("task"), []).append(group)
    done: dict[str, GroupFit] = {}
    for scope in scopes.values():
        for fit in _fit_scope(scope, draws, priors):
            done[fit.group.label] = fit
    return [done[group.label] for group in groups]


def _fit_scope(groups: list[Group], draws: int, priors: Priors | None) -> list[GroupFit]:
    known = [{} if priors is None else beliefs(priors, AUTO_SHAPES(group.factors[:-1]), group) for group in groups]
    found = [
        (group, key, curve)
        for group, held in zip(groups, known, strict=True)
        for key, curve in _curves(group, _of_curve(held))
        if len(curve.x) >= 3
    ]
    pool = Pool([curve for _, _, curve in found]) if found else None
    fits: list[GroupFit] = []
    support = Support([group for group in groups if any(owner is group for owner, _, _ in found)])
    noises = _drawn_noise(groups, pool.width.noise if pool else 0.0, draws)
    for group, held, noise in zip(groups, known, noises, strict=True):
        mine = [(index, key) for index, (owner, key, _) in enumerate(found) if owner is group]
        fits.append(_fit_group(group, mine, pool, draws, support, held, noise))
    return fits


def _repeats(group: Group, smooth: float) -> Noise | None:
    """Noise of runs that differ in seed alone, per run and per seed; None where nothing was run twice.

    How far the means over seeds lie off smooth curves says something of a run's noise, too, and is worth what other
    groups are.
    """
    cells = group.codes(list(group.factors))
    count = np.bincount(cells)
    if count.max() < 2:
        return None
    seeds, curve = (group.codes(names) for names in (["seed"], list(group.factors[:-1])))
    if "seed" not in group.frame:
        seeds = np.arange(len(seeds))
    log_y, parts = np.log(group.y), [np.flatnonzero(curve == one) for one in np.unique(curve)]
    found = pooled(noise_of_repeats(log_y[rows], cells[rows], seeds[rows]) for rows in parts)
    within = found.within
    square = within.square + LENT * smooth**2 / float(np.mean(1 / count))
    return replace(found, within=replace(within, square=square, freedom=within.freedom + LENT))


def _drawn_noise(groups: list[Group], smooth: float, draws: int) -> list[tuple[Array, Array]]:
    """Noise of a run and of its seed (B,) each, for each group; ``smooth`` is the noise of the means over seeds."""
    every = [_repeats(group, smooth) for group in groups]
    known = [noise for noise in every if noise is not None]
    shared = together(known)
    known = known if shared else [_per_run(noise) for noise in known]
    found, nothing = iter(range(len(known))), np.zeros(draws)
    drawn = []
    for group, noise in zip(groups, every, strict=True):
        run = seed = nothing
        if noise is not None:
            index, rng = next(found), stream(group.label, "noise")
            run, seed = (_twinned(one) for one in scales(known[index], lent(known, index), draws, rng))
        drawn.append((run, seed if shared else nothing))
    return drawn


def _part(group: Group, key: Key) -> pd.DataFrame:
    return group.frame[[one == key for one in key_columns(group.frame, group.factors)]]


def _leaning(path: Path, runs: pd.DataFrame, seed: Array) -> Path:
    """A path as wide as the mean of so few seeds asks for, if a seed's runs lie off together by ``seed`` (B,)."""
    if not seed.any():
        return path
    both = np.abs(seed * stream("seeds", len(seed)).standard_normal(len(seed)))
    lean = float(np.quantile(both, 0.9)) / norm.ppf(0.95) / np.sqrt(max(runs["seed"].nunique(), 1))
    return replace(path, scale=np.hypot(path.scale, lean))


def _per_run(noise: Noise) -> Noise:
    """The same noise where seeds share nothing: all of it is of runs."""
    within, between = noise.within, noise.between
    whole = Level(within.square + between.square, within.freedom + between.freedom, 0.0)
    return replace(noise, within=whole, between=Level(0.0, 0.0, 1.0))


def _twinned(scale: Array) -> Array:
    """Drawn scales (B,) of which a draw and its mirror image have one, so that a forecast's median stays its centre."""
    half = len(scale) // 2
    return np.concatenate([scale[: len(scale) - half], scale[:half][::-1]])


def _of_curve(held: dict[str, Belief]) -> Believed | None:
    """What is believed of a curve alone; None if nothing is."""
    beta, onset = ((held[name].mean, held[name].spread) if name in held else None for name in ("beta", "D0"))
    return Believed(beta, onset) if beta or onset else None


def _curves(group: Group, believed: Believed | None) -> list[tuple[Key, Curve]]:
    if len(group.factors) == 1:
        return [((), Curve.of(group.frame["examples"].to_numpy(dtype=float), group.y, believed))]
    parts = group.frame.groupby(list(group.factors[:-1]), sort=True)
    return [
        (
            key_columns(part, group.factors)[0],
            Curve.of(part["examples"].to_numpy(), part[group.y_name].to_numpy(), believed),
        )
        for _, part in parts
    ]


def _fit_group(
    group: Group,
    mine: list[tuple[int, Key]],
    pool: Pool | None,
    draws: int,
    support: Support,
    held: dict[str, Belief],
    noise: tuple[Array, Array],
) -> GroupFit:
    nothing = np.zeros(draws)
    if not mine or pool is None:
        status = Status("TooFew", "no curve with 3 sizes of examples. Add sizes.")
        return AutoFit(group, "auto", [], status, nothing, nothing, nothing, {"runs": len(group.frame)})
    width = pool.width
    unit = np.quantile(width.unit, (np.arange(draws) + 0.5) / draws)
    paths = {key: pool.path(index) for index, key in mine}
    joint = fit_joint(group, held)
    mix = Blend()
    if joint is not None:
        mix = blend(group, {key: pool.curves[index] for index, key in mine}, held)
        paths = {
            key: _blended(paths[key], pool.curves[index], pool.end_level(index), key, joint, mix) for index, key in mine
        }
    paths = {key: _leaning(path, _part(group, key), noise[1]) for key, path in paths.items()}
    how = {
        "runs": len(group.frame),
        "scheme": "auto",
        "noise_of_seed": bool(noise[1].any()),
        "pooled_curves": len(pool.curves),
        "rolling_forecasts": pool.rolling,
        "noise_run": width.noise,
        "family_weight": mix.weight,
        "priors": words(held),
    }
    values = (*_shown(pool, [index for index, _ in mine]), width.noise, width.drift, width.doubt)
    status = _status(width, pool)
    return AutoFit(group, "auto", [], status, *noise, nothing, how, support, paths, unit, values, joint)


def _shown(pool: Pool, indices: list[int]) -> list[float]:
    """Weights and corrections two doublings ahead, the mean over a group's curves."""
    each = []
    for index in indices:
        weights = pool.weights(pool.curves[index])
        both = np.concatenate([weights.q, weights.pull], axis=1)
        each.append([np.interp(_SHOWN, weights.knots, column) for column in both.T])
    return [float(value) for value in np.mean(each, axis=0)]


def _blended(path: Path, curve: Curve, level: float, key: Key, joint: Joint, mix: Blend) -> Path:
    """A path whose continuation is partly the family's law."""
    beyond = path.x > curve.x[-1]
    centre, scale = path.centre.copy(), path.scale.copy()
    law = anchored(joint, key, path.x[beyond], float(curve.x[-1]), level)
    centre[beyond] = (1 - mix.weight) * centre[beyond] + mix.weight * law
    scale[beyond] = np.maximum(mix.shrink * scale[beyond], path.run)
    return Path(path.x, centre, scale, path.run)


def _status(width: Width, pool: Pool) -> Status:
    if not pool.rolling:
        return Status("Unidentified", "curves are too short to hold a size out: intervals are a guess. Add sizes.")
    doubling = float(np.sqrt(width.noise**2 + width.drift**2 * 0.5))
    far = float(np.exp(pool.seen.horizon.max()))
    return Status(
        "Converged",
        f"checked on {pool.rolling} forecasts of larger sizes inside the data, up to {far:.3g} times beyond what each "
        f"had seen and no further; typical error one doubling ahead {100 * doubling:.1f} %. Next: forecast, or compare "
        "laws.",
    )
