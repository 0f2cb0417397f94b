"""Anybody's table of runs, analysed as a study's: what a study would know besides is missing, and stays so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from finescale.core import FACTORS
from finescale.errors import Fault, InputError, near
from finescale.stats.fits import HELD, law_named
from finescale.stats.runs import Runs
from finescale.stats.slices import AXES
from finescale.study.analyse import (
    Analysis,
    advice,
    fit_runs,
    must_be_fitted,
    named_by_size,
    varying,
)
from finescale.study.compare import crossings
from finescale.study.lock import versions
from finescale.study.table import TRIALS

ALL = "all runs"
NUMBERS = ("pet_size", "learning_rate", "zero_loss", "loss_low", "loss_high", "bits_per_byte", "epochs", "best_step")
MORE_NUMBERS = ("seconds", "total_params", "epochs_asked")
TAKEN = (*HELD, "method_label", "base_label", "held_out", "drawn", "residual", "fitted_loss")
"""Names of columns that forecasts and the page add; a table's own are renamed."""
FEWEST_LEVELS = 4
"""With fewer levels of a factor the largest is not held out unless it is asked for: three must remain."""


def analyse_table(
    runs: Runs,
    name: str,
    law: str = "auto",
    factor: str | None = None,
    hold_out: dict[str, int] | None = None,
    level: float = 0.9,
    seed: int = 0,
) -> Analysis:
    """Fit and answer from a table of runs alone.

    Args:
        runs: what ``read_runs`` made of the table. Runs that say no task, method or base have one of each.
        name: name of the file, as the page shows it.
        law: a registered law, or ``auto``.
        factor: the factor besides ``examples``; by default ``model_params``, or another one that varies.
        hold_out: number of largest levels of a factor kept out of the fit that is tested; by default one of each
            factor that has ``FEWEST_LEVELS`` or more.
        level: coverage of intervals.
        seed: seed of the resampling.

    Raises:
        InputError: no usable run, or an option that does not fit the table.
        Refused: nothing could be fitted.
    """
    if not len(runs.usable):
        raise InputError(Fault(name, "has no usable run", "; ".join(map(str, runs.findings))))
    _check(law, factor, hold_out or {})
    shown = _labelled(_shown(runs, name), runs)
    chosen = varying(shown, factor)
    if factor is not None and chosen != factor:
        raise InputError(Fault(f"factor {factor!r}", "does not vary enough in this table to be fitted"))
    if chosen != "pet_params":
        sizes = shown.groupby("method")["pet_size"].nunique()
        shown = named_by_size(shown, [str(one) for one in sizes.index[sizes > 1]])
    table = Runs(shown, runs.findings, runs.places)
    held = _held(shown, chosen) if hold_out is None else hold_out
    final, tested = (fit_runs(shown, law, chosen, kept, seed, table) for kept in ({}, held))
    found = Analysis(
        name=name,
        question="",
        runs=shown.reset_index(drop=True),
        fits=tested,
        final=final,
        others={},
        crossings=crossings(final, shown, level),
        advice=list(advice(final, shown, level)),
        provenance={},
        bases=pd.DataFrame(),
        rates=pd.DataFrame(columns=TRIALS),
        cost={},
        versions=versions(),
        level=level,
        table=name,
    )
    must_be_fitted(found)
    return found


def _check(law: str, factor: str | None, hold_out: dict[str, int]) -> None:
    """Names, before anything is fitted; every fault is listed."""
    faults = []
    if factor is not None and factor not in AXES:
        faults.append(Fault(f"factor {factor!r}", "is not a factor", near(factor, AXES)))
    faults += [
        Fault(f"hold_out {one!r}", "is not a factor of this fit", near(one, (*AXES, "examples")))
        for one in hold_out
        if one not in (*AXES, "examples")
    ]
    if faults:
        raise InputError(*faults)
    if law != "auto":
        law_named(law)


def _shown(runs: Runs, name: str) -> pd.DataFrame:
    """The runs on their curves, with every column that the page reads; what nobody said is missing."""
    frame: pd.DataFrame = runs.frame[np.isfinite(runs.frame["examples"]) & (runs.frame["examples"] > 0)]
    frame = frame.rename(columns={column: f"{column} (given)" for column in TAKEN})
    frame = frame.assign(**{column: np.nan for column in FACTORS if column not in frame})
    if (frame["examples"] % 1 == 0).all():
        frame["examples"] = frame["examples"].astype(int)
    for column in (*NUMBERS, *MORE_NUMBERS):
        if column in frame or column in ("pet_size", "learning_rate", "zero_loss"):
            given: Any = frame[column] if column in frame else pd.Series(np.nan, index=frame.index)
            frame = frame.assign(**{column: pd.to_numeric(given, errors="coerce").astype(float)})
    words = {"task": name, "method": ALL, "family": "", "base": None}
    for column, value in words.items():
        given = frame[column] if column in frame else pd.Series(np.nan, index=frame.index)
        other = _bases(frame) if value is None else value
        frame = frame.assign(**{column: given.astype(object).where(given.notna(), other).map(str)})
    frame = frame.assign(seed=frame.get("seed", np.nan), run=_names(frame, runs))
    frame["zero_loss"] = frame["zero_loss"].fillna(_untouched(runs, frame))
    return frame


def _bases(frame: pd.DataFrame) -> pd.Series[Any]:
    """What a base without a name is called: its size, where that is known."""
    sizes = frame["model_params"]
    return sizes.map(lambda size: f"{size:,.0f} parameters").where(sizes.notna(), "the base").astype(object)


def _names(frame: pd.DataFrame, runs: Runs) -> list[str]:
    """The name of each run, or its place in the file where it has none of its own."""
    places = [f"{runs.places.word} {int(row) + runs.places.first}" for row in frame.index]
    if "run" not in frame:
        return places
    twice = frame["run"].duplicated(keep=False) | frame["run"].isna()
    pairs = zip(frame["run"], places, twice, strict=True)
    return [
        f"{run} ({place})" if again and pd.notna(run) else place if again else str(run) for run, place, again in pairs
    ]


def _untouched(runs: Runs, frame: pd.DataFrame) -> pd.Series[Any]:
    """Loss of each run's base before any finetuning, where the table has it as a run with 0 examples."""
    zero = runs.frame[(runs.frame["examples"] == 0) & np.isfinite(runs.frame["loss"])]
    keys = [name for name in ("task", "base", "model_params", "pretrain_tokens") if name in runs.frame]
    if not len(zero) or not keys:
        return pd.Series(np.nan, index=frame.index)
    loss = zero.groupby(keys, dropna=False)["loss"].median().rename("_untouched").reset_index()
    found = runs.frame.loc[frame.index, keys].merge(loss, on=keys, how="left")["_untouched"]
    return pd.Series(found.to_numpy(dtype=float), index=frame.index)


def _labelled(shown: pd.DataFrame, runs: Runs) -> pd.DataFrame:
    """The runs with a flag for each that no fit uses: its own, or what was found."""
    own = shown["flag"].fillna("").astype(str) if "flag" in shown else pd.Series("", index=shown.index)
    for finding in runs.findings:
        if finding.excludes:
            mine = own.index.isin(finding.rows) & (own == "")
            own = own.mask(mine, finding.kind)
    return shown.assign(flag=own)


def _held(shown: pd.DataFrame, factor: str | None) -> dict[str, int]:
    usable = shown[shown["flag"] == ""]
    names = ["examples", *([factor] if factor else [])]
    return {name: 1 for name in names if usable[name].nunique() >= FEWEST_LEVELS}
