"""Which law forecasts best here? Held out by scale, per group and overall; "undecided" where the data cannot tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from finescale import registry
from finescale.errors import Fault, InputError
from finescale.stats.fit import Names, fit
from finescale.stats.fits import law_named
from finescale.stats.runs import Runs, read_runs

# Fewer held-out runs than this have no spread to judge a difference by.
_FEWEST_RUNS = 3


@dataclass(frozen=True)
class Comparison:
    """Laws ranked by how well they forecast held-out larger scales.

    Attributes:
        overall: one row per law, best first: ``law, error`` (mean relative error of held-out runs), ``coverage`` (of
            90 % intervals), ``forecasts`` (held-out runs forecast), ``behind`` (error minus the best law's, with its
            90 % interval ``behind_low, behind_high`` by resampling curves).
        groups: the same errors per group, with the best law and a verdict per group.
        held_out: every forecast behind them.
        verdict: a sentence.
    """

    overall: pd.DataFrame
    groups: pd.DataFrame
    held_out: pd.DataFrame
    verdict: str

    def __str__(self) -> str:
        return f"{self.overall.to_string(index=False, float_format=lambda v: f'{v:.4g}')}\n{self.verdict}"


def compare(
    runs: Runs | pd.DataFrame | str | Path,
    laws: Sequence[str] | None = None,
    factor: Names = None,
    by: Names = (),
    hold_out: dict[str, int] | None = None,
    y: str = "loss",
    seed: int = 0,
) -> Comparison:
    """Compare laws by forecasting scales kept out of their fits, one level at a time up to ``hold_out``.

    Args:
        laws: names; by default every registered law that takes these factors, and ``auto``. A law of examples alone is
            fitted to each curve of a family separately. With one factor ``product`` is ``multiplicative``: left out.
        hold_out: number of largest levels per factor; by default two of ``examples``. Each of 1, 2, … levels is held
            out in turn and every held-out run is forecast.

    Raises:
        InputError: as ``fit``; or nothing could be held out.
    """
    table = runs if isinstance(runs, Runs) else read_runs(runs)
    factors = (factor,) if isinstance(factor, str) else tuple(factor or ())
    groups = (by,) if isinstance(by, str) else tuple(by or ())
    laws = list(laws or _fitting(len(factors)))
    parts = []
    for name, most in (hold_out or {"examples": 2}).items():
        for count in range(1, most + 1):
            parts += [_held(table, law, factors, groups, {name: count}, y, seed) for law in laws]
    held = pd.concat([part for part in parts if len(part)]) if any(map(len, parts)) else pd.DataFrame()
    if not len(held):
        raise InputError(Fault("hold_out", "leaves no law enough runs to forecast anything", "hold out fewer levels"))
    return _rank(held, groups, seed)


def _fitting(count: int) -> list[str]:
    # With one factor the product is the multiplicative law under another name.
    taken = [
        name
        for name in registry.names("law")
        if law_named(name).factors[0] <= count <= law_named(name).factors[1] and (name != "product" or count > 1)
    ]
    alone = ["power", "rectified", "loglog-line"] if count else []
    return [*dict.fromkeys([*taken, *alone, "auto"])]


def _held(
    table: Runs, law: str, factors: tuple[str, ...], by: tuple[str, ...], hold_out: dict[str, int], y: str, seed: int
) -> pd.DataFrame:
    curve_law = law != "auto" and law_named(law).factors[1] == 0
    if curve_law and set(hold_out) - {"examples"}:
        return pd.DataFrame()
    groups, used = ((*by, *factors), ()) if curve_law else (by, factors)
    held = fit(table, law, used, groups, y=y, hold_out=hold_out, seed=seed, draws=100).held_out()
    if not len(held):
        return pd.DataFrame()
    inside = (held["observed"] >= held["low"]) & (held["observed"] <= held["high"])
    what = ", ".join(f"{name}: {count}" for name, count in hold_out.items())
    return held.assign(law=law, inside=inside, kept_out=what, curve=_curve(held, (*by, *factors)))


def _curve(held: pd.DataFrame, names: tuple[str, ...]) -> pd.Series:
    known = [name for name in (*names, "base") if name in held]
    return held[known].astype(str).agg(" ".join, axis=1) if known else pd.Series("all", index=held.index)


def _rank(held: pd.DataFrame, by: tuple[str, ...], seed: int) -> Comparison:
    counts = held.groupby("law")["relative_error"].size()
    # Only runs that every law forecast are compared; a law that could not be fitted everywhere would else look good.
    point = held.assign(place=held["curve"] + " " + held["examples"].astype(str) + " " + held["kept_out"])
    wide = point.pivot_table(index=["curve", "place"], columns="law", values="relative_error").dropna()
    overall = _overall(wide, held, counts, seed)
    rows = []
    for key, part in point.groupby(list(by)) if by else [((), point)]:
        square = part.pivot_table(index=["curve", "place"], columns="law", values="relative_error").dropna()
        if len(square):
            ranked = _overall(square, part, part.groupby("law").size(), seed)
            errors = {str(law): float(value) for law, value in square.mean().items()}
            named = dict(zip(by, key, strict=True))
            rows.append({**named, "best": ranked["law"].iloc[0], "verdict": _verdict(ranked, len(square)), **errors})
    return Comparison(overall, pd.DataFrame(rows), held.reset_index(drop=True), _verdict(overall, len(wide)))


def _overall(wide: pd.DataFrame, held: pd.DataFrame, counts: pd.Series, seed: int) -> pd.DataFrame:
    error = wide.mean().sort_values()
    best = str(error.index[0])
    rng = np.random.default_rng(seed)
    # Forecasts of one curve err together; with fewer than three curves there is nothing better than its runs.
    curves = wide.groupby(level="curve").mean() if wide.index.get_level_values("curve").nunique() >= 3 else wide
    picks = rng.integers(0, len(curves), (500, len(curves)))
    rows = []
    for law, value in zip(map(str, error.index), error, strict=True):
        gap = (curves[law] - curves[best]).to_numpy()
        low, high = np.quantile(gap[picks].mean(axis=1), [0.05, 0.95])
        covered = float(held.loc[held["law"] == law, "inside"].mean())
        rows.append([law, value, covered, int(counts[law]), value - error.iloc[0], low, high])
    names = ["law", "error", "coverage", "forecasts", "behind", "behind_low", "behind_high"]
    return pd.DataFrame(rows, columns=names)


def _verdict(ranked: pd.DataFrame, runs: int) -> str:
    best = ranked.iloc[0].to_dict()
    if runs < _FEWEST_RUNS:
        return f"undecided: {runs} held-out run(s) that every law forecast tell nothing; add sizes or curves"
    rest = ranked.iloc[1:]
    ties = rest.loc[rest["behind_low"] <= 0, "law"].astype(str).tolist()
    if ties:
        said = f"{best['law']} errs least ({best['error']:.2%}), but the data cannot tell it from {', '.join(ties)}"
        return f"undecided: {said}"
    return f"{best['law']} forecasts best: {best['error']:.2%} mean relative error on held-out larger scales"
