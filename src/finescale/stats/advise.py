"""Advice: which of these candidates is best, how surely, and when to refuse an answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from finescale.errors import Fault, InputError
from finescale.stats import units
from finescale.stats.fits import Fits
from finescale.stats.laws import Array

UNIT = "nats per token"
"""How sentences call the unit of a study's losses."""
NAMES = {"full": "full finetuning", "lora": "LoRA", "prompt": "prompt tuning"}


@dataclass(frozen=True)
class Advice:
    """A decision over forecasts.

    Attributes:
        best: the candidate advised, as a dict of its columns; None if all were refused, or all but one, which
            then has nothing to be better than.
        probability: that a run of it has the lowest loss of one run each (or, with a target, that it meets it).
        table: the candidates with ``median, low, high, reach, p_best, p_target, refused`` (the reason, or "").
        runner_up: the candidate that is best next most often; None if there is only one.
        sentence: the advice, or the refusal, in plain words.
    """

    best: dict[str, Any] | None
    probability: float
    table: pd.DataFrame
    runner_up: dict[str, Any] | None
    sentence: str

    @property
    def refused(self) -> bool:
        return self.best is None

    def __str__(self) -> str:
        return self.sentence


def advise(
    fits: Fits,
    candidates: pd.DataFrame,
    level: float = 0.9,
    target_loss: float | None = None,
    max_reach: float = 4.0,
) -> Advice:
    """Choose among candidates.

    Without a target, the best candidate is the one whose expected loss is lowest in most joint draws. With a target, it
    is the cheapest (column ``cost`` if there is one, else ``examples``) whose new run meets the target with probability
    ``level``.

    Args:
        candidates: one row per candidate with the factors and the ``by`` columns of the fits; more columns are kept.
        level: width of the interval, and how surely a target must be met.
        target_loss: in the unit of the fits' runs.
        max_reach: candidates further beyond the support than this, in any factor, are refused.

    Raises:
        InputError: columns are missing, factors are not positive, or there is no candidate.
    """
    if not len(candidates):
        raise InputError(Fault("candidates", "there is none", "give one row per candidate"))
    table = candidates.reset_index(drop=True)
    reasons = _reasons(fits, table, max_reach)
    able = np.flatnonzero(reasons == "")
    for name in ("median", "low", "high", "reach", "p_best", "p_target"):
        table[name] = np.nan
    table["refused"] = reasons
    if not len(able):
        return Advice(None, float("nan"), table, None, _of_task(fits, table, "No advice." + _tail(table)))
    asked = candidates.reset_index(drop=True).iloc[able]
    said = fits.forecast(asked, level)
    table.loc[able, list(said.columns)] = said.to_numpy()
    curve = fits.draws(asked, "curve")
    # Runs, not curves: a law monotone in size never lets a larger base lose, the noise between bases and runs does.
    run = fits.draws(asked, "run")
    table.loc[able, "p_best"] = np.bincount(np.argmin(run, axis=1), minlength=len(able)) / len(run)
    if target_loss is not None:
        table.loc[able, "p_target"] = (run <= target_loss).mean(axis=0)
        found = _by_target(table, candidates, able, level, target_loss, spoken_unit(fits))
    else:
        found = _by_loss(table, candidates, able, level, curve, spoken_unit(fits))
    return replace(found, sentence=_of_task(fits, table, found.sentence))


def spoken_unit(fits: Fits) -> str:
    """The unit of losses as it stands behind a number; nothing where it is not known."""
    return f" {UNIT}" if fits.unit == units.STUDY else f" {fits.unit}" if fits.unit else ""


def _of_task(fits: Fits, table: pd.DataFrame, sentence: str) -> str:
    """The sentence with its task, where there are fits of several and the candidates are of one."""
    tasks = {fit.group.key.get("task") for fit in fits.groups}
    if len(tasks) < 2 or table["task"].nunique() > 1:
        return sentence
    return f"For {table['task'].iloc[0]}: {sentence[0].lower()}{sentence[1:]}"


def _reasons(fits: Fits, table: pd.DataFrame, max_reach: float) -> Any:
    """Why each candidate is refused; "" if it is not."""
    reasons = np.full(len(table), "", dtype=object)
    status = {tuple(fit.group.key[name] for name in fits.by): fit for fit in fits.groups}
    for row in range(len(table)):
        key = tuple(table[name].iloc[row] for name in fits.by if name in table)
        fit = status.get(key)
        if fit is not None and not fit.fitted:
            reasons[row] = f"{fit.group.label} was not fitted ({fit.status})"
    able = np.flatnonzero(reasons == "")
    if len(able):
        reach = fits.reach(table.iloc[able])
        for index, far in zip(able.tolist(), reach, strict=True):
            if far > max_reach:
                what = f"{name_of(table.iloc[index])} with {table['examples'].iloc[index]:,.0f} examples"
                reasons[index] = f"{what} lies {far:.4g} times beyond what was seen, more than {max_reach:g} times."
    return reasons


def _pick(candidates: pd.DataFrame, row: int) -> dict[str, Any]:
    return {str(name): value for name, value in candidates.iloc[row].to_dict().items()}


def _by_loss(table: pd.DataFrame, candidates: pd.DataFrame, able: Any, level: float, curve: Array, unit: str) -> Advice:
    order = able[np.lexsort((table["median"].to_numpy()[able], -table["p_best"].to_numpy()[able]))]
    best = int(order[0])
    one = table.iloc[best]
    if len(able) == 1 < len(table):
        sentence = (
            f"No advice: with {one['examples']:,.0f} examples only {name_of(one)} can be forecast, "
            f"{_interval(one, level)}{unit}."
        )
        table.loc[best, "p_best"] = np.nan
        return Advice(None, float("nan"), table, None, sentence + _tail(table))
    among = "best" if len(able) == len(table) else f"best of the {len(able)} that can be forecast"
    what = "the only candidate" if len(table) == 1 else f"{among} with probability {_sure(one['p_best'])}"
    sentence = (
        f"With {one['examples']:,.0f} examples, {name_of(one)} is {what}; forecast {_interval(one, level)}{unit}."
    )
    runner_up = None
    if len(order) > 1:
        second = int(order[1])
        runner_up = _pick(candidates, second)
        place = {row: column for column, row in enumerate(able)}
        gap = float(np.median(curve[:, place[second]] - curve[:, place[best]]))
        behind = f"{gap:.3f}{unit} behind" if gap >= 0 else f"{-gap:.3f}{unit} ahead in the median"
        sentence += f" Next is {name_of(table.iloc[second])}, {behind}."
    return Advice(_pick(candidates, best), float(one["p_best"]), table, runner_up, sentence + _tail(table))


def _by_target(
    table: pd.DataFrame, candidates: pd.DataFrame, able: Any, level: float, target: float, unit: str
) -> Advice:
    price = table["cost"] if "cost" in table else table["examples"]
    meets = [row for row in able if table["p_target"][row] >= level]
    if meets:
        order = sorted(meets, key=lambda row: (price[row], -table["p_target"][row]))
        head = f"To reach {target:g}{unit}, the cheapest choice is"
    else:
        order = sorted(able, key=lambda row: -table["p_target"][row])
        head = f"No candidate reaches {target:g}{unit} with probability {level:g}; nearest is"
    one = table.iloc[order[0]]
    sentence = (
        f"{head} {name_of(one)} with {one['examples']:,.0f} examples (probability {_sure(one['p_target'])}); "
        f"forecast {_interval(one, level)}{unit}."
    )
    runner_up = _pick(candidates, order[1]) if len(order) > 1 else None
    return Advice(_pick(candidates, order[0]), float(one["p_target"]), table, runner_up, sentence + _tail(table))


def _interval(row: pd.Series, level: float) -> str:
    return f"{row['median']:.3f} ({row['low']:.3f} to {row['high']:.3f}, {level:.0%} interval of a new run)"


def _tail(table: pd.DataFrame) -> str:
    refused = table["refused"][table["refused"] != ""]
    if not len(refused):
        return ""
    return f" {len(refused)} of {len(table)} candidates were refused, the first because {refused.iloc[0]}"


def name_of(row: pd.Series) -> str:
    """A candidate in words: its method and base, or whatever tells it apart."""
    method = str(row["method"]) if "method" in row else ""
    words = [NAMES.get(method, method)] if method else []
    if "pet_size" in row and pd.notna(row["pet_size"]):
        words.append(f"(size {row['pet_size']:g})")
    if "base" in row:
        words.append(f"on base {row['base']}")
    elif "model_params" in row:
        words.append(f"on a base of {row['model_params']:,.0f} parameters")
    return " ".join(words) or f"a run with {row['examples']:,.0f} examples"


def _sure(probability: float) -> str:
    """A probability in words: a finite number of draws never shows certainty."""
    if probability > 0.99:
        return "above 0.99"
    return f"{probability:.2f}" if probability >= 0.01 else "below 0.01"
