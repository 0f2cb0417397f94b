"""Slices of a table of runs: which settings lie along which axis, averaged over seeds, as Zhang et al. 2024 cut theirs.

A *setting* is a run without its seed; its loss is the mean over seeds, as in the paper. A *slice* varies one factor and
the examples and keeps the rest at one value: model size at the largest pretraining size and the default PET size,
pretraining size on one base, PET size on one base. Which rows those are is derived from the table and said in words.
Runs over different numbers of epochs (``epochs_asked``) are different settings, never seeds of one; all settings of a
task and method are kept at one number of epochs, the commonest, since one fit spans their slices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from finescale.errors import Fault, InputError
from finescale.stats.runs import Runs, read_runs

Rows = npt.NDArray[np.int_]
Mask = npt.NDArray[np.bool_]

AXES = {"model_params": "model_params", "pretrain_tokens": "pretrain_tokens", "pet_params": "pet_size"}
"""Factor of the law, and the column whose levels make its axis: the paper counts PET size as rank or prompt length."""
WORDS = {
    "model_params": "model size",
    "pretrain_tokens": "pretraining size",
    "pet_params": "PET size",
    "pet_size": "PET size",
}
EPOCHS = "epochs_asked"
PLACE = ["base", "model_params", "pretrain_tokens", "pet_size"]
CURVE = ["model_params", "pretrain_tokens", "pet_size"]
# With fewer levels than these the largest is not kept out: two sizes and three numbers of examples must remain.
_FEWEST_SIZES, _FEWEST_EXAMPLES = 3, 4


@dataclass(frozen=True)
class Slice:
    """Settings along one factor: their rows in ``Settings.frame``, which of them are held out, and both in words."""

    factor: str
    rows: Rows
    held: Mask
    words: str

    @property
    def fitted(self) -> Rows:
        return self.rows[~self.held]


@dataclass(frozen=True)
class Settings:
    """The settings of one task and method.

    Attributes:
        frame: one row per setting: ``base, model_params, pretrain_tokens, pet_size, examples, loss`` (mean over seeds);
            all at one number of epochs.
        runs: the runs behind them with ``setting``, the row of their setting in ``frame``.
        slices: by factor, those the table has.
        missing: by factor, why the table has no such slice.
    """

    task: str
    method: str
    frame: pd.DataFrame
    runs: pd.DataFrame
    slices: dict[str, Slice]
    missing: dict[str, str]

    @property
    def label(self) -> str:
        return f"{self.task}, {self.method}"

    @property
    def curve(self) -> Rows:
        """Code of each setting's curve in examples (base and PET size)."""
        return np.asarray(self.frame.groupby(CURVE, dropna=False).ngroup(), dtype=np.int_)

    def part(self, factor: str) -> pd.DataFrame:
        """Settings of a slice, with ``held_out``; the axis is in the factor's own column."""
        one = self.slices[factor]
        frame = self.frame.iloc[one.rows]
        return frame.assign(**{factor: frame[AXES[factor]].astype(float)}, held_out=one.held)

    def runs_of(self, *factors: str) -> pd.DataFrame:
        """The runs behind slices (all of them, if none is named)."""
        if not factors:
            return self.runs
        rows = np.concatenate([self.slices[name].rows for name in factors if name in self.slices] or [np.zeros(0, int)])
        return self.runs[self.runs["setting"].isin(set(rows.tolist()))]


def usable_runs(source: Runs | pd.DataFrame | Any) -> pd.DataFrame:
    """Rows of a table of runs that a fit may use, with every column that slices need.

    A table without ``task``, ``method``, ``base`` or ``seed`` has one of each (a method is then called "method").
    ``pet_size`` (rank or prompt length) is needed only where one base has several PET sizes. Epochs that are not known
    are one level of their own.

    Raises:
        InputError: no row is usable, or PET sizes of different bases cannot be matched.
    """
    table = source if isinstance(source, Runs) else read_runs(source)
    frame = table.usable.reset_index(drop=True)
    if not len(frame):
        raise InputError(Fault("runs", "none is usable", "see read_runs(...).findings"))
    for name, value in (("task", "task"), ("method", "method"), ("seed", 0)):
        frame[name] = frame[name].fillna(value) if name in frame else value
    for name in ("model_params", "pretrain_tokens"):
        frame[name] = frame[name].astype(float) if name in frame else np.nan
    if "base" not in frame:
        frame["base"] = frame["model_params"].map(lambda size: f"{size:g}")
    if "run" not in frame:
        frame["run"] = [f"row {row}" for row in range(len(frame))]
    frame[EPOCHS] = pd.to_numeric(frame[EPOCHS], errors="coerce").astype(float) if EPOCHS in frame else np.nan
    return frame.assign(pet_size=_pet_size(frame))


def _pet_size(frame: pd.DataFrame) -> pd.Series:
    """Rank or prompt length; 0 for a method without one, and where every base has one PET size only."""
    if "pet_size" in frame and frame["pet_size"].notna().any():
        return pd.to_numeric(frame["pet_size"], errors="coerce").fillna(0.0)
    out = pd.Series(0.0, index=frame.index)
    if "pet_params" not in frame:
        return out
    for method, part in frame.groupby("method"):
        where = ["base", "model_params", "pretrain_tokens"]
        if part.groupby(where, dropna=False)["pet_params"].nunique().max() <= 1:
            continue
        bases = part.groupby("pet_params")["base"].nunique()
        if part["base"].nunique() > 1 and bases.max() == 1:
            what = f"method {method!r} has several PET sizes, and no two bases share a value of pet_params"
            raise InputError(Fault("column 'pet_size'", what, "add a column pet_size: the rank or prompt length"))
        out[part.index] = part["pet_params"]
    return out


def cut(source: Runs | pd.DataFrame | Any, y: str = "loss") -> list[Settings]:
    """Cut a table of runs into settings and slices, one entry per task and method.

    Args:
        source: a table of runs, or what ``read_runs`` takes.
        y: the column that is averaged over seeds; runs without it are left out.
    """
    frame = usable_runs(source)
    frame = frame[np.isfinite(pd.to_numeric(frame[y], errors="coerce"))].assign(loss=frame[y])
    return [
        _settings(str(task), str(method), part) for (task, method), part in frame.groupby(["task", "method"], sort=True)
    ]


def _settings(task: str, method: str, runs: pd.DataFrame) -> Settings:
    keys = [*PLACE, "examples"]
    runs, at = _at_one_number_of_epochs(runs, keys)
    runs = runs.assign(setting=runs.groupby(keys, dropna=False, sort=True).ngroup())
    frame = runs.groupby(keys, dropna=False, sort=True)["loss"].mean().reset_index()
    slices, missing = {}, {}
    wanted = [factor for factor in AXES if factor != "pet_params" or frame["pet_size"].gt(0).any()]
    for factor in wanted:
        found = _slice(frame, factor)
        if isinstance(found, str):
            missing[factor] = found + at
        else:
            slices[factor] = replace(found, words=found.words + at)
    return Settings(task, method, frame, runs, slices, missing)


def _at_one_number_of_epochs(runs: pd.DataFrame, keys: list[str]) -> tuple[pd.DataFrame, str]:
    """Runs at the number of epochs that most settings have (of equals the smallest, unknown last), and that in words.

    The others are left out altogether: they would count as further seeds wherever noise is estimated.
    """
    count = runs.drop_duplicates([*keys, EPOCHS]).groupby(EPOCHS, dropna=False, sort=True).size()
    if len(count) == 1:
        return runs, ""
    names = ["unknown" if np.isnan(level) else f"{level:g}" for level in count.index]
    chosen = int(np.argmax(count.to_numpy()))
    level = count.index[chosen]
    kept = runs[runs[EPOCHS].isna() if np.isnan(level) else runs[EPOCHS] == level]
    left = f"{len(runs) - len(kept)} runs at {', '.join(name for name in names if name != names[chosen])} left out"
    return kept, f"; epochs {names[chosen]} ({left})"


def _slice(frame: pd.DataFrame, factor: str) -> Slice | str:
    """The slice along a factor, or why there is none."""
    axis = AXES[factor]
    others = [name for name in CURVE if name != axis]
    best: tuple[Any, ...] | None = None
    for place, part in frame.groupby(others, dropna=False):
        rank = _rank(others, place, part, axis)
        if best is None or rank > best[0]:
            best = (rank, place, part)
    assert best is not None, "a method without settings has no entry"
    _, place, part = best
    sizes, counts = part[axis].nunique(), part["examples"].nunique()
    if sizes < 2 or counts < 3:
        step = f"{WORDS[factor]} has {sizes} level(s) and examples {counts} where the other factors stand still"
        return f"{step}; runs at 2 or more sizes and 3 or more numbers of examples are needed"
    held, said = _held(part, axis, factor)
    return Slice(factor, np.asarray(part.index, dtype=np.int_), held, f"{_fixed(others, place, part)}; {said}")


def _rank(others: list[str], place: tuple[Any, ...], part: pd.DataFrame, axis: str) -> tuple[float, ...]:
    """Most levels of the axis; then the largest pretraining, then the most settings, then the smallest base."""
    at = dict(zip(others, place, strict=True))
    largest = at.get("pretrain_tokens", 0.0)
    smallest = at.get("model_params", 0.0)
    levels = float(part[axis].nunique())
    known = -np.inf if not np.isfinite(largest) else float(largest)
    return levels, known, float(len(part)), -float(smallest) if np.isfinite(smallest) else 0.0, -at.get("pet_size", 0.0)


def _held(part: pd.DataFrame, axis: str, factor: str) -> tuple[Mask, str]:
    held = np.zeros(len(part), dtype=bool)
    said = []
    for column, name, fewest in ((axis, WORDS[factor], _FEWEST_SIZES), ("examples", "examples", _FEWEST_EXAMPLES)):
        levels = np.sort(part[column].unique())
        if len(levels) >= fewest:
            held |= (part[column] == levels[-1]).to_numpy()
            said.append(f"{name} {levels[-1]:g}")
        else:
            said.append(f"nothing by {name} (only {len(levels)} levels)")
    return held, "held out: " + " and ".join(said)


def _fixed(others: list[str], place: tuple[Any, ...], part: pd.DataFrame) -> str:
    said = [
        f"{WORDS[name]} {value:g}"
        for name, value in zip(others, place, strict=True)
        if np.isfinite(value) and (name != "pet_size" or value > 0)
    ]
    return f"{len(part)} settings at {' and '.join(said) or 'the only place there is'}"


def slice_table(cells: list[Settings]) -> pd.DataFrame:
    """One row per task, method and factor: ``settings, runs, held_out`` (settings) and ``words``, or why not."""
    rows = []
    for one in cells:
        rows += [
            [one.task, one.method, name, len(part.rows), len(one.runs_of(name)), int(part.held.sum()), part.words]
            for name, part in one.slices.items()
        ]
        rows += [[one.task, one.method, name, 0, 0, 0, f"missing: {why}"] for name, why in one.missing.items()]
    return pd.DataFrame(rows, columns=["task", "method", "factor", "settings", "runs", "held_out", "words"])


def each_slice(cells: list[Settings]) -> Iterator[tuple[Settings, str]]:
    """Every slice there is, with its settings."""
    for one in cells:
        for factor in one.slices:
            yield one, factor
