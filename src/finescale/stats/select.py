"""Which law forecasts best here? Held out by scale, per group and overall; "undecided" where the data cannot tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

from finescale import registry
from finescale.errors import Fault, InputError, collecting
from finescale.stats.fit import Names, fit, names_of
from finescale.stats.fits import Fits, law_named, laws_of
from finescale.stats.runs import Runs, read_runs

# Fewer held-out runs than this have no spread to judge a difference by.
_FEWEST_RUNS = 3
# Columns of ``Comparison.held_out`` and ``groups`` that are not the runs'.
_OWN = ("law", "inside", "along", "kept_out", "curve", "best", "verdict")
_BEYOND = ("law", "along", "kept_out", "curve", "examples", "reach")


@dataclass(frozen=True)
class Comparison:
    """Laws ranked by how well they forecast held-out larger scales.

    Attributes:
        overall: one row per factor held out (``along``) and law that forecasts along it, best first: ``along, law,
            error`` (mean relative error of the held-out runs that every one of them forecast), ``coverage`` (of 90 %
            intervals), ``forecasts`` (held-out runs forecast), ``behind`` (error minus the best law's, with its 90 %
            interval ``behind_low, behind_high`` by Student's t over curves) and ``curves``, how many those are.
        groups: the same errors per group and ``along``, with the best law and a verdict each.
        held_out: every forecast behind them.
        verdict: a sentence for each factor held out; laws that forecast nothing along one are named, not ranked, and so
            is how many runs some law refuses to forecast.
        beyond: those runs, one row per law: ``law, along, kept_out, curve, examples, reach``; no law is judged by them.
    """

    overall: pd.DataFrame
    groups: pd.DataFrame
    held_out: pd.DataFrame
    verdict: str
    beyond: pd.DataFrame

    def __str__(self) -> str:
        return f"{self.overall.to_string(index=False, float_format=lambda v: f'{v:.4g}')}\n{self.verdict}"


def compare(
    runs: Runs | pd.DataFrame | str | Path,
    laws: Names = None,
    factor: Names = None,
    by: Names = (),
    hold_out: dict[str, int] | None = None,
    y: str = "loss",
    seed: int = 0,
) -> Comparison:
    """Compare laws by forecasting scales kept out of their fits, one level at a time up to ``hold_out``.

    Args:
        laws: a name or names; by default every registered law that takes these factors, and ``auto``. A law of examples
            alone is fitted to each curve of a family separately. With one factor ``product`` is ``multiplicative``:
            left out.
        hold_out: number of largest levels per factor; by default two of ``examples``. Each of 1, 2, … levels is held
            out in turn and every held-out run is forecast.

    Raises:
        InputError: as ``fit``; ``hold_out`` is no count of levels per factor; or nothing could be held out.
    """
    table = runs if isinstance(runs, Runs) else read_runs(runs)
    factors, groups = names_of(factor), names_of(by)
    levels = {"examples": 2} if hold_out is None else hold_out
    _check_asked(levels, (*factors, *groups))
    chosen = list(names_of(laws) or _fitting(len(factors)))
    parts = [
        _held(table, law, factors, groups, (name, count), y, seed)
        for name, most in levels.items()
        for count in range(1, most + 1)
        for law in chosen
    ]
    known = [part for part in parts if len(part)]
    if not any(part["median"].notna().any() for part in known):
        raise InputError(Fault("hold_out", "leaves no law enough runs to forecast anything", "hold out fewer levels"))
    return _rank(pd.concat(known), groups, chosen)


def _check_asked(hold_out: dict[str, int], names: tuple[str, ...]) -> None:
    with collecting() as faults:
        for name in names:
            if name in _OWN:
                faults.add(f"column {name!r}", "has the name of a column of a comparison", "rename it")
        if not isinstance(hold_out, dict):
            faults.add("hold_out", f"{hold_out!r} is not a dict", "as {'examples': 1}")
            return
        for name, most in hold_out.items():
            if not isinstance(most, int | np.integer) or most < 1:
                faults.add(f"hold_out[{name!r}]", f"{most!r} is not a whole number from 1 up", "as {'examples': 1}")


def _fitting(count: int) -> list[str]:
    alone = ["power", "rectified", "loglog-line"] if count else []
    return [*dict.fromkeys([*laws_of(count), *alone, "auto"])]


def _held(
    table: Runs, law: str, factors: tuple[str, ...], by: tuple[str, ...], kept: tuple[str, int], y: str, seed: int
) -> pd.DataFrame:
    along, count = kept
    curve_law = law in registry.names("law") and law_named(law).factors[1] == 0
    # One curve says nothing of larger values of what it is drawn for.
    if curve_law and along in factors:
        return pd.DataFrame()
    groups, used = ((*by, *factors), ()) if curve_law else (by, factors)
    held = fit(table, law, used, groups, y=y, hold_out={along: count}, seed=seed, draws=100).held_out()
    if not len(held):
        return pd.DataFrame()
    return _named(held, law, (*by, *factors), along, f"{along}: {count}")


def _named(held: pd.DataFrame, law: str, names: tuple[str, ...], along: str, kept_out: str) -> pd.DataFrame:
    inside = (held["observed"] >= held["low"]) & (held["observed"] <= held["high"])
    return held.assign(law=law, inside=inside, along=along, kept_out=kept_out, curve=_curve(held, names))


def rank_tested(tested: dict[str, Fits]) -> tuple[pd.DataFrame, str]:
    """Rank laws that were fitted without the same runs, as ``compare`` does, by how well they forecast those.

    Args:
        tested: fits by name of their law, all with the same runs held out.

    Returns:
        One row per law, best first, as ``Comparison.overall`` (empty if there is no run that all of them forecast), and
        the verdict.
    """
    every = [(law, fits, fits.held_out()) for law, fits in tested.items()]
    parts = [
        _named(held, law, tuple(dict.fromkeys((*fits.by, *fits.factor))), "all", "all")
        for law, fits, held in every
        if len(held)
    ]
    if not parts:
        return pd.DataFrame(), "undecided: nothing was held out"
    held = pd.concat(parts, ignore_index=True)
    held = held[held["median"].notna()]
    if held.empty:
        return pd.DataFrame(), "undecided: no law could forecast what was held out"
    keys = [name for name in ("run", "examples", "seed") if name in held]
    ranked, verdict, _ = rank_held(held.assign(place=held[["curve", *keys]].astype(str).agg(" ".join, axis=1)))
    return ranked, verdict


def _curve(held: pd.DataFrame, names: tuple[str, ...]) -> pd.Series:
    known = [name for name in dict.fromkeys((*names, "base")) if name in held]
    return held[known].astype(str).agg(" ".join, axis=1) if known else pd.Series("all", index=held.index)


def _rank(held: pd.DataFrame, by: tuple[str, ...], laws: list[str]) -> Comparison:
    overall, groups, said = [], [], []
    refused = held["median"].isna()
    beyond, held = held.loc[refused, list(_BEYOND)].reset_index(drop=True), held[~refused].reset_index(drop=True)
    place = held["curve"] + " " + held["examples"].astype(str) + " " + held["kept_out"]
    for along, part in held.assign(place=place).groupby("along", sort=False):
        ranked, verdict, _ = rank_held(part)
        overall.append(ranked)
        missing = [law for law in laws if law not in set(part["law"])]
        unranked = f" (not ranked there, since they forecast nothing: {', '.join(missing)})" if missing else ""
        said.append((str(along), f"{verdict}{unranked}{_refused(beyond[beyond['along'] == along])}"))
        for key, own in part.groupby(list(by), dropna=False) if by else [((), part)]:
            named = dict(zip(by, key, strict=True))
            ranked, verdict, errors = rank_held(own)
            if len(ranked):
                groups.append({**named, "along": along, "best": ranked["law"].iloc[0], "verdict": verdict, **errors})
    verdict = said[0][1] if len(said) == 1 else "; ".join(f"along {along}, {words}" for along, words in said)
    return Comparison(pd.concat(overall, ignore_index=True), pd.DataFrame(groups), held, verdict, beyond)


def _refused(beyond: pd.DataFrame) -> str:
    """What was beyond a law's reach, in words; empty if nothing was."""
    if not len(beyond):
        return ""
    runs = beyond.drop_duplicates(["curve", "examples", "kept_out"])
    first = runs.iloc[0]
    where = f"{first['curve']} at {first['examples']:g} examples, {first['reach']:,.0f} times beyond what was seen"
    whose = ", ".join(beyond["law"].unique())
    return f" ({len(runs)} held-out run(s) beyond the reach of {whose} are not judged, the first {where})"


def rank_held(part: pd.DataFrame) -> tuple[pd.DataFrame, str, dict[str, float]]:
    """Laws ranked along one factor, the verdict, and the mean error of each.

    Only runs that every law forecast are compared; a law that could not be fitted everywhere would else look good.
    """
    wide = part.pivot_table(index=["curve", "place"], columns="law", values="relative_error").dropna()
    ranked = _overall(wide, part) if len(wide) else pd.DataFrame()
    errors = {str(law): float(value) for law, value in wide.mean().items()}
    return ranked, _verdict(ranked, len(wide)), errors


def _overall(wide: pd.DataFrame, held: pd.DataFrame) -> pd.DataFrame:
    error, along = wide.mean().sort_values(), str(held["along"].iloc[0])
    best = str(error.index[0])
    judged = held[pd.MultiIndex.from_frame(held[["curve", "place"]]).isin(wide.index)]
    # Forecasts of one curve err together: however many there are, it is curves that count.
    curves = wide.groupby(level="curve").mean()
    rows = []
    for law, value in zip(map(str, error.index), error, strict=True):
        inside = judged.loc[judged["law"] == law, "inside"]
        bounds = _between(curves[law] - curves[best])
        rows.append([along, law, value, float(inside.mean()), len(inside), value - error.iloc[0], *bounds, len(curves)])
    names = ["along", "law", "error", "coverage", "forecasts", "behind", "behind_low", "behind_high", "curves"]
    return pd.DataFrame(rows, columns=names)


def _between(gap: pd.Series) -> tuple[float, float]:
    """90 % interval of the mean of gaps, one a curve, by Student's t; NaN of a single curve, which has no spread."""
    if len(gap) < 2:
        return float("nan"), float("nan")
    width = float(t.ppf(0.95, len(gap) - 1)) * float(gap.std(ddof=1)) / np.sqrt(len(gap))
    return float(gap.mean()) - width, float(gap.mean()) + width


def _verdict(ranked: pd.DataFrame, runs: int) -> str:
    if runs < _FEWEST_RUNS:
        return f"undecided: {runs} held-out run(s) that every law forecast tell nothing; add sizes or curves"
    best, rest = ranked.iloc[0].to_dict(), ranked.iloc[1:]
    ties = rest.loc[~(rest["behind_low"] > 0), "law"].astype(str).tolist()
    if ties:
        said = f"{best['law']} errs least ({best['error']:.2%}), but the data cannot tell it from {', '.join(ties)}"
        if best["curves"] < 2:
            said += ": held-out runs of a single curve err together; compare over more bases, methods or tasks"
        return f"undecided: {said}"
    return f"{best['law']} forecasts best: {best['error']:.2%} mean relative error on held-out larger scales"
