"""What finetuning does to other abilities: zero- and few-shot translation, and off-task loss (forgetting).

A table of probes has one row per run, probe and metric: the tuned model's ``value`` and the untouched base's
``zero_value``. *Kept* is the change from base to tuned model, turned so that higher is better; methods are compared on
the same base, probe, number of examples, epochs and seed, where the base cancels.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from finescale.errors import collecting, near

COLUMNS = ["run", "probe", "metric", "value", "zero_value", "task", "method", "examples"]
CHANCE = {"bleu": 0.5, "chrf": 12.2, "rouge-l": 7.5}
"""What real but unrelated sentences score: 400 multi-way test rows of the ``standard`` tier, each held against the next
row's reference by our metrics (``benchmarks/claims.py unrelated``); the largest over six languages."""
ABLE = 2.0
"""A base can do something if it scores so many times what unrelated sentences do."""
SAME = ["task", "base", "pretrain_tokens", "probe", "metric", "examples", "epochs_asked", "seed"]
ABSENT: dict[str, Any] = {
    "base": "base",
    "pretrain_tokens": 0.0,
    "seed": 0,
    "pet_size": np.nan,
    "epochs_asked": np.nan,
    "flag": "",
}
"""What stands in for a column that a table of probes does not have."""
_LOWER = re.compile(r"^(nll|loss|perplexity|bits.per.byte)$|.rate$")


def read_probes(frame: pd.DataFrame) -> pd.DataFrame:
    """Check a table of probes and add ``kind`` (zero-shot, few-shot, text, task), ``shots`` and ``kept``.

    Flagged runs and rows without a value are left out. Epochs that are not known are one level of ``epochs_asked``.

    Raises:
        InputError: columns are missing; every one is named.
    """
    with collecting() as faults:
        for name in COLUMNS:
            if name not in frame:
                faults.add(f"probes, column {name!r}", "is missing", near(name, map(str, frame.columns)))
    for name, value in ABSENT.items():
        if name not in frame:
            frame = frame.assign(**{name: value})
    good = (frame["flag"].fillna("") == "") & np.isfinite(pd.to_numeric(frame["value"], errors="coerce"))
    frame = frame[good].reset_index(drop=True)
    sign = np.where(frame["metric"].map(lower_is_better), -1.0, 1.0)
    return frame.assign(
        kind=frame["probe"].map(kind_of),
        shots=frame["probe"].map(shots_of),
        kept=sign * (frame["value"].astype(float) - pd.to_numeric(frame["zero_value"], errors="coerce")),
        pet_size=pd.to_numeric(frame["pet_size"], errors="coerce").fillna(0.0),
        epochs_asked=pd.to_numeric(frame["epochs_asked"], errors="coerce").astype(float),
    )


def lower_is_better(metric: str) -> bool:
    """Whether a lower value of this metric is better (losses and rates of faults)."""
    return bool(_LOWER.search(metric))


def shots_of(probe: str) -> int:
    """Demonstrations before the question: ``fr-de@5`` has 5."""
    found = re.search(r"@(\d+)$", probe)
    return int(found[1]) if found else 0


def kind_of(probe: str) -> str:
    """``text`` or ``task`` (off-task loss), ``zero-shot`` or ``few-shot`` (translation)."""
    head = probe.partition(":")[0]
    if head in ("text", "task") and ":" in probe:
        return head
    return "few-shot" if shots_of(probe) else "zero-shot"


def ability_table(probes: pd.DataFrame, level: float = 0.9) -> pd.DataFrame:
    """Mean over bases and seeds per task, method, PET size, examples, epochs, probe and metric.

    Returns:
        ``task, method, pet_size, examples, epochs_asked, kind, probe, metric, untouched, tuned, kept, low, high,
        runs``; ``kept`` is the change, higher is better, with a Student interval over runs (NaN for one).
    """
    keys = ["task", "method", "pet_size", "examples", "epochs_asked", "kind", "probe", "metric"]
    groups = probes.assign(zero_value=probes["zero_value"].astype(float)).groupby(keys, dropna=False)
    found = groups[["zero_value", "value", "kept"]].mean().set_axis(["untouched", "tuned", "kept"], axis=1)
    count, spread = groups["kept"].count(), groups["kept"].std(ddof=1)
    reach = stats.t.ppf((1 + level) / 2, (count - 1).where(count > 1)) * spread / np.sqrt(count)
    found = found.assign(low=found["kept"] - reach, high=found["kept"] + reach, runs=groups.size())
    return found.reset_index()


def student(values: Any, level: float) -> tuple[float, float]:
    """Interval of a mean by Student's t; none for fewer than two values."""
    K = len(values)
    if K < 2:
        return np.nan, np.nan
    reach = float(stats.t.ppf((1 + level) / 2, K - 1) * np.std(values, ddof=1) / np.sqrt(K))
    return float(np.mean(values)) - reach, float(np.mean(values)) + reach


def against_full(probes: pd.DataFrame) -> pd.DataFrame:
    """PET minus full finetuning on the same base, probe, examples, epochs and seed: ``difference`` of what is kept.

    A PET method of several sizes counts with the one that has most runs.
    """
    full = probes[probes["method"] == "full"]
    parts = []
    for method, part in probes[probes["method"] != "full"].groupby("method"):
        size = part.groupby("pet_size").size().idxmax()
        both = part[part["pet_size"] == size].merge(full, on=SAME, suffixes=("", "_full"))
        parts.append(both.assign(method=method, difference=both["kept"] - both["kept_full"]))
    if not parts:
        return pd.DataFrame(columns=[*SAME, "method", "difference", "kind", "run", "run_full"])
    joined = pd.concat(parts, ignore_index=True)
    known: pd.DataFrame = joined[np.isfinite(joined["difference"])]
    return known


def subject(both: pd.DataFrame, probes: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The part of a comparison in which there was an ability to lose; if there is none, all of it and why not.

    The untouched base has an ability on a probe if a decoded metric there is ``ABLE`` times ``CHANCE`` or more. Where
    nothing was decoded nobody can tell; then a loss that falls under full finetuning and under PET is a gain, which
    says nothing about what is kept.

    Args:
        both: what ``against_full`` returns, of one task and method.
        probes: all probes, every metric of them.
    """
    place = ["task", "base", "pretrain_tokens", "probe"]
    chance = probes["metric"].str.replace("_", "-").map(CHANCE)
    times = (pd.to_numeric(probes["zero_value"], errors="coerce") / chance).rename("times")
    best = times.groupby([probes[name] for name in place], dropna=False).max().reset_index()
    rows = both.merge(best, on=place, how="left")
    unknown = rows["times"].isna()
    gained = bool((rows.loc[unknown, ["kept", "kept_full"]].mean() > 0).all())
    judged = (rows["times"] >= ABLE) | (unknown & (not gained))
    if judged.any():
        return rows[judged], ""
    why = [
        f"untouched it scores {rows['times'].max():.2g} times what unrelated sentences do ({ABLE:g} times are needed)"
        if not unknown.all()
        else "",
        "the loss on these probes falls under full finetuning and PET alike" if unknown.any() else "",
    ]
    return rows, f"the base has nothing to lose: {', and '.join(filter(None, why))}"


def cluster_means(both: pd.DataFrame) -> Any:
    """Mean difference per cluster (K,): per base where there are four or more, else per base and seed."""
    by = ["base", "pretrain_tokens"]
    clusters = by if both.groupby(by).ngroups >= 4 else [*by, "seed"]
    return both.groupby(clusters, dropna=False)["difference"].mean().to_numpy(float)
