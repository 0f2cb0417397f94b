"""Critical-size maps: which pairs of methods are compared, on which bases and sizes, and what was run there.

Where the fits have no law of model size there is nothing between bases, and each base is a row of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from finescale.stats.fits import Fits, Kind
from finescale.stats.laws import Array
from finescale.stats.versus import Versus, versus
from finescale.study.compare import BEYOND, PLACE, comparable

SIZE = "model_params"
MOST_CELLS = 16_000
MOST_SIZES, FEWEST_SIZES = 13, 5
MOST_EXAMPLES = 49
MOST_BYTES = 250_000_000


@dataclass(frozen=True)
class Map:
    """One pair of methods on one task (and one pretraining size, where there are several).

    Attributes:
        title: the map in words.
        labels: what each row is called (R).
        sizes: model parameters of each row (R,), ascending; None where each row is a base and nothing lies between.
        found: the comparison.
        frame: smallest and largest examples, then sizes (None without a law of size), that both were run with.
        seen: settings that were run, ``row`` (index of the row), ``examples``, ``said`` (runs by method in words).
    """

    task: str
    title: str
    labels: list[str]
    sizes: list[float] | None
    found: Versus
    frame: tuple[float | None, ...]
    seen: pd.DataFrame


def maps_of(fits: Fits, runs: pd.DataFrame, level: float) -> list[Map]:
    """A map for every pair of methods that were fitted, by task, and by pretraining size where there are several."""
    asked = list(_asked(fits, runs))
    fits = Remembering(**{one.name: getattr(fits, one.name) for one in fields(Fits)})
    each = max(MOST_CELLS // (MOST_EXAMPLES * max(len(asked), 1)), FEWEST_SIZES)
    return [_map(fits, runs, one, min(each, MOST_SIZES), level) for one in asked]


@dataclass
class Remembering(Fits):
    """Fits that keep their last draws: a method has the same ones in each of its pairs, and drawing takes the time."""

    kept: OrderedDict[tuple[str, bytes], Array] = field(default_factory=OrderedDict)

    def draws(self, frame: pd.DataFrame, kind: Kind = "curve") -> Array:
        """As ``Fits.draws``; not to be written to."""
        rows = pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes()
        key = (kind, " ".join(map(str, frame)).encode() + rows)
        found = self.kept.pop(key, None)
        self.kept[key] = super().draws(frame, kind) if found is None else found
        while sum(draws.nbytes for draws in self.kept.values()) > MOST_BYTES and len(self.kept) > 1:
            self.kept.popitem(last=False)
        return self.kept[key]


@dataclass(frozen=True)
class _Pair:
    a: str
    b: str
    bases: pd.DataFrame
    along: bool


def _asked(fits: Fits, table: pd.DataFrame) -> Iterator[_Pair]:
    """Pairs of methods and the bases on which both learned; ``along`` where both have a law of model size."""
    runs = table[table["flag"] == ""]
    for _, part in runs.groupby("task", sort=False):
        for a, b in combinations(dict.fromkeys(part["method"]), 2):
            both = part[part["method"].isin([a, b])]
            ran = both.groupby(PLACE, dropna=False)["method"].transform("nunique") == 2
            bases = both.loc[ran, PLACE].drop_duplicates().sort_values(["pretrain_tokens", SIZE])
            able = [comparable(fits, dict(place), a, b) for _, place in bases.iterrows()]
            bases = pd.DataFrame([at for at in able if not isinstance(at, str)])
            for _, same in bases.groupby("pretrain_tokens", dropna=False) if len(bases) else ():
                laws = [fits.find(**dict(same.iloc[0]), method=one).group.factors for one in (a, b)]
                along = all(SIZE in factors for factors in laws) and same[SIZE].nunique() > 1
                yield _Pair(a, b, same.drop_duplicates(SIZE) if along else same, along)


def _map(fits: Fits, runs: pd.DataFrame, pair: _Pair, sizes: int, level: float) -> Map:
    first = dict(pair.bases.iloc[0])
    supports = [fits.find(**first, method=one).group.support for one in (pair.a, pair.b)]
    places = _along(pair.bases, supports, sizes) if pair.along else pair.bases.reset_index(drop=True)
    low, high = _widened(supports, "examples")
    examples = np.geomspace(low, high, MOST_EXAMPLES)
    found = versus(fits, pair.a, pair.b, places, examples, BEYOND, level=level)
    return Map(
        task=str(first["task"]),
        title=_title(runs, pair),
        labels=[str(base) for base in places["base"]],
        sizes=[float(size) for size in places[SIZE]] if pair.along else None,
        found=found,
        frame=(*_shared(supports, "examples"), *(_shared(supports, SIZE) if pair.along else (None, None))),
        seen=_seen(runs, pair, places),
    )


def _widened(supports: list[dict[str, tuple[float, float]]], name: str) -> tuple[float, float]:
    """As far as anything may be said: from the least that one was seen with to the most, and ``BEYOND`` times more."""
    lows, highs = zip(*(support[name] for support in supports), strict=True)
    return min(lows) / BEYOND, max(highs) * BEYOND


def _shared(supports: list[dict[str, tuple[float, float]]], name: str) -> tuple[float, float]:
    lows, highs = zip(*(support[name] for support in supports), strict=True)
    return max(lows), min(highs)


def _along(bases: pd.DataFrame, supports: list[dict[str, tuple[float, float]]], count: int) -> pd.DataFrame:
    """The bases that were run, and others between and beyond them that differ in size alone."""
    sizes = np.geomspace(*_widened(supports, SIZE), count)
    near = [np.isclose(np.log(size), np.log(bases[SIZE]), atol=1e-3).any() for size in sizes]
    other = sizes[~np.array(near)]
    like = bases.iloc[np.zeros(len(other), dtype=int)].assign(**{SIZE: other})
    like["base"] = [f"a base of {size:,.0f} parameters" for size in other]
    return pd.concat([bases, like]).sort_values(SIZE).reset_index(drop=True)


def _title(runs: pd.DataFrame, pair: _Pair) -> str:
    tokens = pair.bases["pretrain_tokens"]
    several = pair.along and runs["pretrain_tokens"].nunique() > 1
    words = [f"{pair.a} against {pair.b}"]
    words += [f"{tokens.iloc[0]:,.0f} pretraining tokens"] if several else []
    words += [str(pair.bases["task"].iloc[0])] if runs["task"].nunique() > 1 else []
    return ", ".join(words)


def _seen(runs: pd.DataFrame, pair: _Pair, places: pd.DataFrame) -> pd.DataFrame:
    """Settings of the two methods that were run on the map's bases, and how often."""
    names = ["task", SIZE, "pretrain_tokens"] if pair.along else PLACE
    learned = runs[(runs["flag"] == "") & runs["method"].isin([pair.a, pair.b])].astype({SIZE: float})
    here = learned.merge(places[names].astype({SIZE: float}).assign(row=places.index), on=names)
    rows = [
        {"row": row, "examples": size, "said": _counted(part["method"])}
        for (row, size), part in here.groupby(["row", "examples"])
    ]
    return pd.DataFrame(rows, columns=["row", "examples", "said"])


def _counted(names: pd.Series[Any]) -> str:
    return "; ".join(f"{name}: {count}" for name, count in names.value_counts(sort=False).items())
