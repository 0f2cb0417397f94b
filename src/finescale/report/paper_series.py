"""What the paper's figures plot, as long tables: a row per mark or point of a line, a panel per row and column.

Columns: ``row, column`` (the panel), ``series`` (a level of the factor, or a method), ``kind`` (run, held out, curve,
untouched), ``x, y, low, high``. Each is the CSV beside its figure. A figure that the data do not allow is a sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from finescale.report.numbers import short
from finescale.report.paper_tables import crossing
from finescale.stats.claims import ORDER, Evidence
from finescale.stats.correlate import metrics_of
from finescale.stats.fit import fit
from finescale.stats.runs import Runs
from finescale.stats.slices import AXES, WORDS, Settings
from finescale.stats.verdicts import quantiles

COLUMNS = ["row", "column", "series", "kind", "x", "y", "low", "high"]
Made = pd.DataFrame | str
_POINTS = 40


def single(evidence: Evidence, level: float) -> Made:
    """Figure 1: the single-variable law A/D^beta + E, fitted to every model size separately."""
    parts = []
    for cell in evidence.cells:
        if "model_params" not in cell.slices:
            continue
        part = cell.part("model_params").reset_index(drop=True)
        most = part["examples"].max()
        part["held_out"] = (part["examples"] == most) & (part["examples"].nunique() > 4)
        hold = {"examples": 1} if part["held_out"].any() else {}
        fits = fit(Runs(part, ()), "power", by="model_params", hold_out=hold, seed=evidence.seed, draws=100)
        parts.append(_marks(cell, part, "model_params"))
        for one in fits.groups:
            if one.fitted:
                asked = _grid(part).assign(model_params=one.group.key["model_params"])
                said = fits.forecast(asked, level, kind="curve")
                parts.append(_line(cell, asked["model_params"], asked["examples"], said))
    return _joined(parts, "no base has runs at several numbers of examples beside a second base")


def joint(evidence: Evidence, factor: str, level: float) -> Made:
    """Figures 2, 3 and 4: the joint multiplicative law along one factor, fitted without the hollow points."""
    parts = []
    for cell in evidence.cells:
        fitted = evidence.fits[cell.task, cell.method].kept["multiplicative"]
        if factor not in cell.slices or isinstance(fitted, str):
            continue
        part = cell.part(factor)
        parts.append(_marks(cell, part, factor))
        for size in sorted(part[factor].unique()):
            asked = _grid(part)
            said = fitted.predict(factor, np.full(len(asked), size), asked["examples"].to_numpy())
            bounds = np.array([quantiles(column, level) for column in said[1:].T])
            drawn = pd.DataFrame({"median": said[0], "low": bounds[:, 0], "high": bounds[:, 1]})
            parts.append(_line(cell, pd.Series(size, index=asked.index), asked["examples"], drawn))
    why = [f"{cell.label}: {cell.missing[factor]}" for cell in evidence.cells if factor in cell.missing]
    return _joined(parts, "; ".join(why) or f"no method has runs along {WORDS[factor]} that a law could be fitted to")


def crossings(evidence: Evidence, level: float) -> Made:
    """Figure 5: the number of examples at which two methods are equal, against model and pretraining size."""
    rows: list[dict[str, Any]] = []
    for factor in ("model_params", "pretrain_tokens"):
        for task in evidence.tasks:
            for a, b in combinations(ORDER, 2):
                one, two = evidence.whole(task, a), evidence.whole(task, b)
                if one is None or two is None or factor not in one.along or factor not in two.along:
                    continue
                frame = pd.concat([evidence.fits[task, method].cell.part(factor) for method in (a, b)])
                span = frame["examples"].min() / 10, frame["examples"].max() * 10
                for size in np.geomspace(frame[factor].min(), frame[factor].max(), 12):
                    at = crossing(one, two, factor, float(size), span)[1:]
                    if np.isfinite(at).mean() < 0.5:
                        continue
                    low, high = np.exp(quantiles(at, level))
                    middle = float(np.exp(np.nanmedian(at)))
                    head = {"row": WORDS[factor], "column": task, "series": f"{a} vs. {b}", "kind": "curve"}
                    rows.append(head | {"x": float(size), "y": middle, "low": float(low), "high": float(high)})
    said = "no two methods cross in half of the draws between a tenth of the fewest and ten times the most examples"
    return pd.DataFrame(rows, columns=COLUMNS) if rows else said


def quality(evidence: Evidence, factor: str) -> Made:
    """Figures 7, 8 and 9: generation metrics along one factor, means over seeds; no law is drawn."""
    parts = []
    for cell in evidence.cells:
        for metric in metrics_of(cell.runs) if factor in cell.slices else []:
            part = cell.part(factor)
            means = cell.runs.groupby("setting")[metric].mean().reindex(part.index)
            parts.append(_marks(cell, part.assign(loss=means, held_out=False), factor, metric))
    return _joined(parts, f"no run along {WORDS[factor]} has a generation metric")


def probed(evidence: Evidence, kind: str, shots: int | None, factor: str) -> Made:
    """Figures 6 and 11 to 14, and forgetting: what probes say against examples, by method; means over probes and seeds.

    Along model size at the largest pretraining size, or along pretraining size on the smallest base; PET at its
    default size. The untouched base is a dashed line.
    """
    if evidence.probes is None:
        return "no probes were evaluated"
    probes = evidence.probes[evidence.probes["kind"].isin(kind.split(","))]
    probes = probes if shots is None else probes[probes["shots"] == shots]
    if not len(probes):
        return f"no {kind} probe" + (f" with {shots} shots" if shots else "") + " was evaluated"
    rows: list[pd.DataFrame] = []
    for metric in _best_metrics(probes):
        chosen = _sliced(evidence, probes[probes["metric"] == metric], factor)
        rows += [_kept(chosen, factor, metric)] if len(chosen) else []
    return _joined(rows, f"no {kind} probe was evaluated along {WORDS[factor]}")


def _best_metrics(probes: pd.DataFrame) -> list[str]:
    """Log-perplexity and the first generation metric there is, in the paper's order of preference."""
    there = set(probes["metric"])
    decoded = [name for name in ("bleurt", "comet", "chrf", "bleu", "rouge-l") if name in there]
    return [*(["nll"] if "nll" in there else []), *decoded[:1]]


def _sliced(evidence: Evidence, probes: pd.DataFrame, factor: str) -> pd.DataFrame:
    """Probes of the runs that lie in the slice along a factor."""
    known = {
        str(run) for cell in evidence.cells if factor in cell.slices for run in cell.runs_of(factor)["run"].astype(str)
    }
    return probes[probes["run"].astype(str).isin(known)]


def _kept(probes: pd.DataFrame, factor: str, metric: str) -> pd.DataFrame:
    keys = ["task", factor, "method", "examples"]
    means = probes.groupby(keys)[["value", "zero_value"]].mean().reset_index()
    head = pd.DataFrame(
        {
            "row": [f"{task}: {metric}" for task in means["task"]],
            "column": [f"{WORDS[factor]} {short(size)}" for size in means[factor]],
            "series": means["method"],
            "x": means["examples"].astype(float),
        }
    )
    tuned = head.assign(kind="run", y=means["value"])
    base = head.assign(kind="untouched", series="untouched base", y=means["zero_value"])
    both = pd.concat([tuned, base.drop_duplicates(["row", "column", "x"])], ignore_index=True)
    return both.reindex(columns=COLUMNS)


def pretraining(bases: pd.DataFrame | None, level: float, seed: int) -> Made:
    """Figure 10: loss on held-out pretraining text against pretraining size, one power law per model size."""
    if bases is None or "pretrain_loss" not in bases:
        return "the table says nothing of the bases' own loss (column pretrain_loss of a study's bases)"
    frame = bases.dropna(subset=["pretrain_loss"]).rename(columns={"pretrain_loss": "loss"})
    frame = frame.assign(examples=frame["pretrain_tokens"].astype(float), loss=frame["loss"].astype(float))
    if frame["examples"].nunique() < 2:
        return "all bases were pretrained on the same number of tokens"
    rows: list[pd.DataFrame] = [
        pd.DataFrame(
            {"row": "", "column": "", "series": frame["model_params"].map(short), "kind": "run"}
            | {"x": frame["examples"], "y": frame["loss"]}
        )
    ]
    fits = fit(Runs(frame.reset_index(drop=True), ()), "power", by="model_params", seed=seed, draws=100)
    for one in fits.groups:
        if one.fitted:
            asked = _grid(frame).assign(model_params=one.group.key["model_params"])
            said = fits.forecast(asked, level, kind="curve")
            head = {"row": "", "column": "", "series": short(one.group.key["model_params"]), "kind": "curve"}
            line = pd.DataFrame(head | {"x": asked["examples"], "y": said["median"]})
            rows.append(line.assign(low=said["low"], high=said["high"]))
    return pd.concat(rows, ignore_index=True).reindex(columns=COLUMNS)


# --------------------------------------------------------------------------------------------------- what they share


def _grid(part: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"examples": np.geomspace(part["examples"].min(), part["examples"].max(), _POINTS)})


def _marks(cell: Settings, part: pd.DataFrame, factor: str, metric: str = "") -> pd.DataFrame:
    """Settings as marks; hollow where they were held out."""
    return pd.DataFrame(
        {
            "row": f"{cell.task}: {metric}" if metric else cell.task,
            "column": cell.method,
            "series": part[AXES[factor]].map(short),
            "kind": np.where(part["held_out"], "held out", "run"),
            "x": part["examples"].astype(float),
            "y": part["loss"],
        }
    ).reindex(columns=COLUMNS)


def _line(cell: Settings, size: pd.Series, examples: pd.Series, said: pd.DataFrame) -> pd.DataFrame:
    head = pd.DataFrame({"series": size.map(short), "x": examples, "y": said["median"]})
    bounds = {"low": said["low"], "high": said["high"]}
    return head.assign(row=cell.task, column=cell.method, kind="curve", **bounds).reindex(columns=COLUMNS)


def _joined(parts: list[pd.DataFrame], why: str) -> Made:
    known = [part for part in parts if len(part)]
    return pd.concat(known, ignore_index=True) if known else why


def every(evidence: Evidence, bases: pd.DataFrame | None, level: float) -> Iterator[tuple[str, str, str, Made]]:
    """Every figure: its file's name, the words on its axes, and its table."""
    examples, loss, value = "finetuning examples", "test loss (nats per token)", "value of the metric"
    yield "figure-1-single", examples, loss, single(evidence, level)
    for number, factor in enumerate(AXES, 2):
        yield (
            f"figure-{number}-{WORDS[factor].replace(' ', '-').lower()}",
            examples,
            loss,
            joint(evidence, factor, level),
        )
    yield "figure-5-critical-sizes", "size", "critical examples", crossings(evidence, level)
    yield "figure-6-zero-shot", examples, value, probed(evidence, "zero-shot", None, "model_params")
    for number, factor in enumerate(AXES, 7):
        name = f"figure-{number}-quality-{WORDS[factor].replace(' ', '-').lower()}"
        yield name, examples, value, quality(evidence, factor)
    yield (
        "figure-10-pretraining",
        "pretraining tokens",
        "held-out text (nats per token)",
        pretraining(bases, level, evidence.seed),
    )
    shown = [(shots, factor) for factor in ("model_params", "pretrain_tokens") for shots in (1, 5)]
    for number, (shots, factor) in enumerate(shown, 11):
        name = f"figure-{number}-{shots}-shot-{WORDS[factor].replace(' ', '-').lower()}"
        yield name, examples, value, probed(evidence, "few-shot", shots, factor)
    yield (
        "figure-forgetting",
        examples,
        "off-task loss (nats per token)",
        probed(evidence, "text,task", None, "model_params"),
    )
