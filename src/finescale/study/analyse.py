"""From a study's records to what they say: fits, held-out error, crossings and advice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from finescale.errors import Refused
from finescale.stats.advise import Advice, advise
from finescale.stats.critical import critical_size
from finescale.stats.fit import fit
from finescale.stats.fits import Fits, law_named
from finescale.study.lock import Study, versions
from finescale.study.plan import Kind
from finescale.study.run import SESSIONS
from finescale.study.table import base_label

BEYOND = 4
"""Advice is also given for this many times the examples the study went to."""


@dataclass(frozen=True)
class Analysis:
    """Everything a report shows, computed from the records alone.

    Attributes:
        runs: one row per finished run, flagged ones included; ``method`` carries the PET size where there are several.
        fits: the law fitted without the levels held out; gives the held-out error and the curves.
        final: the same law fitted to all runs; gives crossings and advice.
        others: the study's further laws, fitted as ``fits`` is.
        crossings: one row per task, base and pair of methods, with a verdict in words.
        advice: for each task, at the most examples of the study and at ``BEYOND`` times as many.
        provenance: manifest of the corpus.
        bases: one row per base. ``pretrain_loss`` is in nats per token of held-out text.
        rates: one row per trial of a learning-rate search.
        cost: steps, seconds, core-seconds and FLOPs by kind; seconds and memory of the sessions.
        versions: what the numbers were made with.
    """

    name: str
    question: str
    runs: pd.DataFrame
    fits: Fits
    final: Fits
    others: dict[str, Fits]
    crossings: pd.DataFrame
    advice: list[Advice]
    provenance: dict[str, Any]
    bases: pd.DataFrame
    rates: pd.DataFrame
    cost: dict[str, Any]
    versions: dict[str, str]


def analyse(study: Study, save: bool = True) -> Analysis:
    """Fit and answer from the records a study has now.

    Args:
        study: an open study; it need not be complete.
        save: whether the fits are written to ``fits/``.

    Raises:
        Refused: no run is finished, or none is usable.
    """
    runs, asked = labelled(study), study.spec.fit
    if not (runs["flag"] == "").any():
        raise Refused(f"study {study.name!r} has no usable run yet: {len(runs)} finished, all flagged or none at all")
    held = {law: fit_study(study, runs, law, asked.hold_out or {}) for law in asked.laws}
    final = fit_study(study, runs, asked.laws[0], {})
    if save:
        folder = study.folder / "fits"
        folder.mkdir(exist_ok=True)
        final.to_json(folder / f"{final.law}.json")
        for law, fits in held.items():
            fits.to_json(folder / f"{law}-held-out.json")
    return Analysis(
        name=study.name,
        question=study.spec.question,
        runs=runs,
        fits=held.pop(asked.laws[0]),
        final=final,
        others=held,
        crossings=crossings(final, runs, asked.level),
        advice=list(_advice(final, runs, asked.level)),
        provenance=study.provenance,
        bases=_bases(study),
        rates=_rates(study),
        cost=_cost(study),
        versions=versions(),
    )


def labelled(study: Study) -> pd.DataFrame:
    """The study's runs; a method of several PET sizes carries the size in its name, so that each is fitted alone."""
    runs = study.table()
    if study.spec.fit.factor == "pet_params":
        return runs
    several = [name for name, choice in study.spec.methods.items() if len(choice.sizes) > 1]
    split = runs["method"].isin(several)
    runs.loc[split, "method"] = [f"{row.method}-{row.pet_size:g}" for row in runs[split].itertuples()]
    return runs


def fit_study(study: Study, runs: pd.DataFrame, law: str, hold_out: dict[str, int]) -> Fits:
    """A law by task and method, and by every other factor of the bases that has several levels.

    Where the factor has a single level, a law of it cannot be fitted and the power law in examples is, instead.
    """
    factor: str | None = study.spec.fit.factor
    fewest, most = law_named(law).factors if law != "auto" else (0, 3)
    if most == 0 or runs[factor].nunique() < 2:
        law, factor = (law if fewest == 0 else "power"), None
    others = [name for name in ("model_params", "pretrain_tokens") if name != factor and runs[name].nunique() > 1]
    held = {name: count for name, count in hold_out.items() if name in (factor, "examples")}
    return fit(runs, law=law, factor=factor, by=["task", "method", *others], hold_out=held, seed=study.spec.fit.seed)


PLACE = ["task", "base", "family", "model_params", "pretrain_tokens"]


def crossings(fits: Fits, runs: pd.DataFrame, level: float) -> pd.DataFrame:
    """Critical data size of each pair of methods on each base; a pair that was not fitted says so in its verdict."""
    rows: list[pd.DataFrame] = []
    places = runs[PLACE].drop_duplicates().sort_values(["task", "pretrain_tokens", "model_params"])
    for _, place in places.iterrows():
        there = runs[(runs[PLACE] == place).all(axis=1)]
        learned = set(there.loc[there["flag"] == "", "method"])
        for a, b in combinations(dict.fromkeys(there["method"]), 2):
            if silent := [one for one in (a, b) if one not in learned]:
                said = f"no run of {' or '.join(silent)} learned anything here"
                rows.append(pd.DataFrame([{**place, "a": a, "b": b, "share": 0.0, "verdict": said}]))
            else:
                rows.append(_crossing(fits, dict(place), a, b, level))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=[*PLACE, "a", "b", "verdict"])


def _crossing(fits: Fits, place: dict[str, Any], a: str, b: str, level: float) -> pd.DataFrame:
    unfitted = [one for one in (a, b) if not fits.find(**place, method=one).fitted]
    if unfitted:
        said = f"no law was fitted to {' or '.join(unfitted)}: {fits.find(**place, method=unfitted[0]).status.sentence}"
        return pd.DataFrame([{**place, "a": a, "b": b, "share": 0.0, "verdict": said}])
    return critical_size(fits, a, b, at=place, level=level)


def _advice(fits: Fits, runs: pd.DataFrame, level: float) -> Iterator[Advice]:
    """Which method on which base, at the most examples the study has and at several times as many.

    A method that never learned on a base is no candidate there.
    """
    columns = [*PLACE, "method", "pet_size", "pet_params"]
    for task, part in runs[runs["flag"] == ""].groupby("task", sort=False):
        choices = part[columns].drop_duplicates().sort_values(["model_params", "pretrain_tokens", "method"])
        most = int(part["examples"].max())
        for examples in (most, BEYOND * most):
            yield advise(fits, choices.assign(task=task, examples=examples), level=level, max_reach=BEYOND)


def _bases(study: Study) -> pd.DataFrame:
    rows = []
    finished = study.store.finished(study.plan)
    for step in study.plan.of("base"):
        if step.id in finished:
            spec: Any = step.spec
            record = study.store.record(step)
            shape = spec.shape.model_dump(include={"layers", "width", "heads", "ff"})
            copied = ("model_params", "total_params", "pretrain_tokens", "epochs", "flops", "seconds", "cpu_seconds")
            rows.append(
                {"base": base_label(spec), "rung": spec.name, **shape}
                | {name: record.get(name) for name in copied}
                | {
                    "pretrain_loss": record.get("valid_nats_per_token"),
                    "branch_share": record["branch_tokens"] / record["pretrain_tokens"],
                }
            )
    return pd.DataFrame(rows)


def _rates(study: Study) -> pd.DataFrame:
    columns = ["task", "method", "base", "examples", "learning_rate", "dev_loss", "chosen", "flag"]
    bases: dict[str, Any] = {step.spec.fingerprint(): step.spec for step in study.plan.of("base")}
    finished = study.store.finished(study.plan)
    rows = []
    for step in study.plan.of("rate"):
        if step.id in finished:
            spec: Any = step.spec
            record = study.store.record(step)
            search = {"task": spec.task.name, "method": spec.method.name, "base": base_label(bases[spec.base])}
            rows += [
                search
                | {"examples": spec.examples, "learning_rate": trial["rate"], "dev_loss": trial["dev_loss"]}
                | {"chosen": trial["rate"] == record["learning_rate"], "flag": trial["flag"] or ""}
                for trial in record["trials"]
            ]
    return pd.DataFrame(rows, columns=columns)


def _cost(study: Study) -> dict[str, Any]:
    """What was spent; a session that was killed outright left no entry, so wall seconds are a lower bound then."""
    kinds: dict[Kind, dict[str, float]] = {}
    peak, finished = 0, study.store.finished(study.plan)
    for step in study.plan.steps.values():
        if step.id in finished:
            record = study.store.record(step)
            spent = kinds.setdefault(step.kind, {"steps": 0, "seconds": 0.0, "cpu_seconds": 0.0, "flops": 0.0})
            spent["steps"] += 1
            for name in ("seconds", "cpu_seconds", "flops"):
                spent[name] += record.get(name) or 0.0
            peak = max(peak, record.get("peak_memory_bytes") or 0)
    path = study.folder / SESSIONS
    sessions = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {
        "kinds": kinds,
        "wall_seconds": sum(session["seconds"] for session in sessions) or None,
        "sessions": len(sessions),
        "workers": max((session["workers"] for session in sessions), default=0),
        "peak_memory_bytes": peak,
        "peak_memory_of_all_bytes": max((session["peak_memory_bytes"] for session in sessions), default=0),
    }
