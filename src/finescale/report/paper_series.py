"""What the paper's figures plot, as long tables: a row per mark or point of a line, a panel per row and column.

Columns: ``row, column`` (the panel), ``x_is, y_is`` (what its axes measure, with the unit), ``series`` (a level of the
factor, or a method), ``kind``, ``x, y, low, high`` and ``note``. Each is the CSV beside its figure. Kinds are ``run``,
``held out``, ``curve``, ``beyond`` (a curve outside what was seen), ``untouched`` and ``left out``: computed or wanted,
and not drawn for the reason in ``note``. Intervals of a curve come from the law's draws, those of a mark (generation
metrics and probes) are the runs' own over test examples, averaged. A figure that the data do not allow is a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd

from finescale import registry
from finescale.report.numbers import short
from finescale.report.paper_tables import crossing
from finescale.stats.claims import ORDER, Evidence
from finescale.stats.correlate import metrics_of
from finescale.stats.critical import located
from finescale.stats.fit import fit
from finescale.stats.fits import Fits
from finescale.stats.groups import log_factors
from finescale.stats.protocol import Fitted
from finescale.stats.runs import Runs
from finescale.stats.slices import AXES, WORDS, Settings
from finescale.stats.verdicts import quantiles

COLUMNS = ["row", "column", "x_is", "y_is", "series", "kind", "x", "y", "low", "high", "note"]
Made = pd.DataFrame | str
EXAMPLES, LOSS = "finetuning examples", "test loss (nats per token)"
SIZES = {"model_params": "model parameters", "pretrain_tokens": "pretraining tokens"}
SPAN = 2.0
"""A curve is drawn where the ends of its interval differ by less than this factor: else the data leave it open."""
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
        fits = fit(Runs(part, ()), "power", by="model_params", hold_out=hold, seed=evidence.seed)
        parts.append(_marks(cell, part, "model_params"))
        parts += [
            drawn.assign(row=cell.task, column=cell.method, x_is=EXAMPLES, y_is=LOSS)
            for drawn in _by_size(fits, part, level)
        ]
    return _joined(parts, "no base has runs at several numbers of examples beside a second base")


def _by_size(fits: Fits, part: pd.DataFrame, level: float) -> Iterator[pd.DataFrame]:
    """The power law of every model size, or why there is none."""
    for one in fits.groups:
        name = short(one.group.key["model_params"])
        if one.fitted:
            asked = _grid(part).assign(model_params=one.group.key["model_params"])
            said = fits.forecast(asked, level, kind="curve")
            point = np.exp(one.members[0].log_point(log_factors(asked, one.members[0].factors)))
            yield _curve(name, asked["examples"], said.assign(y=point), level)
        else:
            yield _left_out(name, one.status.sentence)


def joint(evidence: Evidence, factor: str, level: float) -> Made:
    """Figures 2, 3 and 4: the joint multiplicative law along one factor, fitted without the hollow points."""
    parts = []
    for cell in evidence.cells:
        if factor not in cell.slices:
            continue
        fitted = evidence.fits[cell.task, cell.method].kept["multiplicative"]
        part = cell.part(factor)
        parts.append(_marks(cell, part, factor))
        for size in sorted(part[factor].unique()):
            if isinstance(fitted, str):
                drawn = _left_out(short(size), fitted)
            else:
                asked = _grid(part)["examples"]
                said = fitted.predict(factor, np.full(len(asked), size), asked.to_numpy())
                bounds = np.array([quantiles(column, level) for column in said[1:].T])
                drawn = pd.DataFrame({"y": said[0], "low": bounds[:, 0], "high": bounds[:, 1]})
                drawn = _curve(short(size), asked, drawn, level)
            parts.append(drawn.assign(row=cell.task, column=cell.method, x_is=EXAMPLES, y_is=LOSS))
    why = [f"{cell.label}: {cell.missing[factor]}" for cell in evidence.cells if factor in cell.missing]
    return _joined(parts, "; ".join(why) or f"no method has runs along {WORDS[factor]} that a law could be fitted to")


def crossings(evidence: Evidence, level: float) -> Made:
    """Figure 5: the number of examples at which two methods are equal, against model and pretraining size."""
    parts = [
        part.assign(row=WORDS[factor], column=task, x_is=SIZES[factor], y_is="critical examples")
        for factor in SIZES
        for task in evidence.tasks
        for part in _pairs(evidence, factor, task, level)
    ]
    if not any((part["kind"] != "left out").any() for part in parts):
        return "no two methods cross in half of the draws between a tenth of the fewest and ten times the most examples"
    return _joined(parts, "")


def _pairs(evidence: Evidence, factor: str, task: str, level: float) -> Iterator[pd.DataFrame]:
    """Where each two methods of a task cross along a factor, or why that is not known."""
    methods = [method for method in ORDER if (task, method) in evidence.fits]
    known = {}
    for method in methods:
        one = evidence.whole(task, method)
        if one is not None and factor in one.along:
            known[method] = one
    if len(known) < 2:
        yield _left_out("", f"fewer than two methods have a law along {WORDS[factor]}")
    for a, b in combinations(known, 2):
        parts = [evidence.fits[task, method].cell.part(factor) for method in (a, b)]
        yield _crossed(f"{a} vs. {b}", (known[a], known[b]), factor, parts, level)


def _crossed(
    name: str, pair: tuple[Fitted, Fitted], factor: str, parts: list[pd.DataFrame], level: float
) -> pd.DataFrame:
    """Median and interval over all draws; dashed where not both methods were seen with so many examples."""
    frame = pd.concat(parts)
    span = frame["examples"].min() / 10, frame["examples"].max() * 10
    seen = max(part["examples"].min() for part in parts), min(part["examples"].max() for part in parts)
    rows = []
    for size in np.geomspace(frame[factor].min(), frame[factor].max(), 12):
        at = crossing(*pair, factor, float(size), span)[1:]
        share, (low, middle, high) = located(at, level)
        if share < 0.5 or not 0 < middle < np.inf:
            rows.append({"kind": "left out", "x": float(size), "note": "fewer than half of the draws cross"})
            continue
        kind = "curve" if seen[0] <= middle <= seen[1] else "beyond"
        note = "" if low > 0 and high < np.inf else "the interval goes on beyond what was looked at"
        band = {"low": max(float(low), span[0]), "high": min(float(high), span[1])}
        rows.append({"kind": kind, "x": float(size), "y": float(middle), "note": note} | band)
    return pd.DataFrame(rows).assign(series=name)


def quality(evidence: Evidence, factor: str) -> Made:
    """Figures 7, 8 and 9: generation metrics along one factor, means over seeds; no law is drawn."""
    parts = []
    for cell in evidence.cells:
        for metric in metrics_of(cell.runs) if factor in cell.slices else []:
            part = cell.part(factor)
            runs = _with_bounds(cell.runs.dropna(subset=[metric]), metric)
            means = runs.groupby("setting")[[metric, "low", "high"]].mean().reindex(part.index)
            marks = _marks(cell, part.assign(loss=means[metric], held_out=False), factor)
            parts.append(marks.assign(y_is=unit(metric), low=means["low"], high=means["high"]))
    return _joined(parts, f"no run along {WORDS[factor]} has a generation metric")


def _with_bounds(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Runs with the metric's own interval as ``low`` and ``high``; missing where the table has none."""
    bounds = {end: pd.to_numeric(runs.get(f"{metric}_{end}", np.nan), errors="coerce") for end in ("low", "high")}
    return runs.assign(**bounds)


def unit(metric: str) -> str:
    """A metric with its unit, as words on an axis; one that finescale does not know keeps its name."""
    name = metric.replace("_", "-")
    if name not in registry.names("metric"):
        return metric
    said = str(registry.get("metric", name).unit)
    return f"loss ({said})" if name == "nll" else said


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
    """Probes of the runs that lie in the slice along a factor.

    A study too small for a law has no slices; its probes are shown by model size all the same, at the largest
    pretraining size and each method's commonest PET size.
    """
    known = {
        str(run) for cell in evidence.cells if factor in cell.slices for run in cell.runs_of(factor)["run"].astype(str)
    }
    if known or factor != "model_params" or any(cell.slices for cell in evidence.cells):
        return probes[probes["run"].astype(str).isin(known)]
    most = probes.groupby("method")["pet_size"].transform(lambda sizes: sizes.mode().iloc[0])
    largest = probes["pretrain_tokens"].fillna(0) == probes["pretrain_tokens"].fillna(0).max()
    chosen: pd.DataFrame = probes[largest & (probes["pet_size"] == most)]
    return chosen


def _kept(probes: pd.DataFrame, factor: str, metric: str) -> pd.DataFrame:
    keys = ["task", factor, "method", "examples"]
    bounds = [end for end in ("low", "high") if end in probes]
    means = probes.groupby(keys)[["value", "zero_value", *bounds]].mean().reset_index()
    head = pd.DataFrame(
        {
            "row": means["task"],
            "column": [f"{WORDS[factor]} {short(size)}" for size in means[factor]],
            "x_is": EXAMPLES,
            "y_is": unit(metric),
            "series": means["method"],
            "x": means["examples"].astype(float),
        }
    )
    tuned = head.assign(kind="run", y=means["value"], **{end: means[end] for end in bounds})
    base = head.assign(kind="untouched", series="untouched base", y=means["zero_value"])
    return pd.concat([tuned, base.drop_duplicates(["row", "column", "x"])], ignore_index=True)


def pretraining(bases: pd.DataFrame | None, level: float, seed: int) -> Made:
    """Figure 10: loss on held-out pretraining text against pretraining size, one power law per model size."""
    if bases is None or "pretrain_loss" not in bases:
        return "the table says nothing of the bases' own loss (column pretrain_loss of a study's bases)"
    frame = bases.dropna(subset=["pretrain_loss"]).rename(columns={"pretrain_loss": "loss"})
    frame = frame.assign(examples=frame["pretrain_tokens"].astype(float), loss=frame["loss"].astype(float))
    if frame["examples"].nunique() < 2:
        return "all bases were pretrained on the same number of tokens"
    words = {"row": "", "column": "", "x_is": SIZES["pretrain_tokens"], "y_is": "held-out text (nats per token)"}
    marks = {"series": frame["model_params"].map(short), "kind": "run", "x": frame["examples"], "y": frame["loss"]}
    fits = fit(Runs(frame.reset_index(drop=True), ()), "power", by="model_params", seed=seed)
    parts = [pd.DataFrame(marks), *_by_size(fits, frame, level)]
    return _joined([part.assign(**words) for part in parts], "")


# --------------------------------------------------------------------------------------------------- what they share


def _grid(part: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"examples": np.geomspace(part["examples"].min(), part["examples"].max(), _POINTS)})


def _marks(cell: Settings, part: pd.DataFrame, factor: str) -> pd.DataFrame:
    """Settings as marks; hollow where they were held out."""
    return pd.DataFrame(
        {
            "row": cell.task,
            "column": cell.method,
            "x_is": EXAMPLES,
            "y_is": LOSS,
            "series": part[AXES[factor]].map(short),
            "kind": np.where(part["held_out"], "held out", "run"),
            "x": part["examples"].astype(float),
            "y": part["loss"],
        }
    )


def _curve(name: str, x: pd.Series, said: pd.DataFrame, level: float) -> pd.DataFrame:
    """A line with its band; where the data leave it open it is left out, with the reason."""
    low, high, y = (said[column].to_numpy(dtype=float) for column in ("low", "high", "y"))
    known = np.isfinite(low) & np.isfinite(high) & (low > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        narrow = known & (high < SPAN * low) & (y > low / SPAN) & (y < high * SPAN)
    wide = f"the {level:.0%} interval spans more than a factor of {SPAN:g}"
    note = np.where(narrow, "", np.where(known, wide, "there is no interval"))
    head = {"series": name, "kind": np.where(narrow, "curve", "left out"), "x": x.to_numpy(dtype=float), "y": y}
    return pd.DataFrame(head | {"low": low, "high": high, "note": note})


def _left_out(name: str, why: str) -> pd.DataFrame:
    return pd.DataFrame([{"series": name, "kind": "left out", "note": why}])


def _joined(parts: list[pd.DataFrame], why: str) -> Made:
    known = [part.reindex(columns=COLUMNS) for part in parts if len(part)]
    if not known:
        return why
    frame = pd.concat([part.dropna(axis=1, how="all") for part in known], ignore_index=True).reindex(columns=COLUMNS)
    return frame.assign(note=frame["note"].fillna(""))


def every(evidence: Evidence, bases: pd.DataFrame | None, level: float) -> Iterator[tuple[str, Made]]:
    """Every figure: its file's name and its table; a further metric has a figure of its own, named after it."""
    for name, made in _numbered(evidence, bases, level):
        if isinstance(made, str):
            yield name, made
            continue
        for number, (measure, part) in enumerate(made.groupby("y_is", sort=False)):
            slug = re.sub(r"[^a-z0-9]+", "-", re.split(r"[,(]", str(measure))[0].lower()).strip("-")
            yield f"{name}-{slug}" if number else name, part.reset_index(drop=True)


def _numbered(evidence: Evidence, bases: pd.DataFrame | None, level: float) -> Iterator[tuple[str, Made]]:
    slugs = {factor: WORDS[factor].replace(" ", "-").lower() for factor in AXES}
    yield "figure-1-single", single(evidence, level)
    for number, factor in enumerate(AXES, 2):
        yield f"figure-{number}-{slugs[factor]}", joint(evidence, factor, level)
    yield "figure-5-critical-sizes", crossings(evidence, level)
    yield "figure-6-zero-shot", probed(evidence, "zero-shot", None, "model_params")
    for number, factor in enumerate(AXES, 7):
        yield f"figure-{number}-quality-{slugs[factor]}", quality(evidence, factor)
    yield "figure-10-pretraining", pretraining(bases, level, evidence.seed)
    shown = [(shots, factor) for factor in ("model_params", "pretrain_tokens") for shots in (1, 5)]
    for number, (shots, factor) in enumerate(shown, 11):
        yield f"figure-{number}-{shots}-shot-{slugs[factor]}", probed(evidence, "few-shot", shots, factor)
    yield "figure-forgetting", probed(evidence, "text,task", None, "model_params")
