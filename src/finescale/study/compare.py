"""Methods against each other: where each pair crosses on each base, or why nothing is said."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pandas as pd

from finescale.stats.critical import critical_size
from finescale.stats.fits import Fits

BEYOND = 4
"""Advice is also given for this many times the examples the study went to."""
PLACE = ["task", "base", "family", "model_params", "pretrain_tokens"]


def crossings(fits: Fits, runs: pd.DataFrame, level: float) -> pd.DataFrame:
    """Critical data size of each pair of methods on each base; a pair that was not fitted says so in its verdict."""
    rows: list[pd.DataFrame] = []
    ordered = runs.sort_values(["task", "pretrain_tokens", "model_params"], kind="stable")
    for _, there in ordered.groupby(PLACE, dropna=False, sort=False):
        there, place = there.sort_index(), there.iloc[0][PLACE]
        learned = set(there.loc[there["flag"] == "", "method"])
        for a, b in combinations(dict.fromkeys(there["method"]), 2):
            if silent := [one for one in (a, b) if one not in learned]:
                said = f"no run of {' or '.join(silent)} learned anything here"
                rows.append(pd.DataFrame([{**place, "a": a, "b": b, "share": 0.0, "verdict": said}]))
            else:
                rows.append(_crossing(fits, dict(place), a, b, level))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=[*PLACE, "a", "b", "verdict"])


def comparable(fits: Fits, place: dict[str, Any], a: str, b: str) -> dict[str, Any] | str:
    """Where two methods are compared: the place with every factor the fits ask of; or why they are not."""
    found = {one: fits.find(**place, method=one) for one in (a, b)}
    unfitted = [one for one in (a, b) if not found[one].fitted]
    sized = [one for one in (a, b) if "pet_params" in found[one].group.factors]
    if unfitted:
        return f"no law was fitted to {' or '.join(unfitted)}: {found[unfitted[0]].status.sentence}"
    if len(sized) == 2:
        return "not compared: each has a law of its own PET size; fit along another factor to compare them size by size"
    # A method without a PET size pays no heed to it; the other is taken at its smallest.
    size = [found[one].group.support["pet_params"][0] for one in sized] or [1.0]
    return {**place, "pet_params": size[0]} if "pet_params" in fits.factor else place


def _crossing(fits: Fits, place: dict[str, Any], a: str, b: str, level: float) -> pd.DataFrame:
    at = comparable(fits, place, a, b)
    if isinstance(at, str):
        return pd.DataFrame([{**place, "a": a, "b": b, "share": 0.0, "verdict": at}])
    return critical_size(fits, a, b, at=at, level=level)


def crossings_in_words(crossings: pd.DataFrame) -> Iterator[str]:
    """What is known of crossings, a line each; those undecided or unknown are counted, with the first as an example."""
    named: dict[str, list[str]] = {}
    for row in crossings.to_dict("records"):
        unknown = "cannot be compared" if pd.isna(row.get("better_below", float("nan"))) else "decided"
        kind = "undecided" if row.get("outcome") == "undecided" else unknown
        line = f"{row['task']}, base {row['base']}, {row['a']} and {row['b']}: {row['verdict']}"
        named.setdefault(kind, []).append(line)
    yield from named.get("decided", [])
    further = "further " if "decided" in named else ""
    for kind in ("undecided", "cannot be compared"):
        lines = named.get(kind, [])
        if len(lines) > 1:
            yield f"{len(lines)} {further}pairs {kind}; the first: {lines[0]}"
        else:
            yield from lines
