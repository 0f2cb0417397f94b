"""The reproducibility checklist for scaling laws, filled from the records; what they do not tell is said as unknown.

The four blocks are those of "(Mis)Fitting: A Survey of Scaling Laws", arXiv 2502.18969: hypothesis, training set-up,
data collection, fitting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from finescale.report import numbers
from finescale.report.markup import join, tag
from finescale.report.section import Section, facts, listed, paragraph, plural
from finescale.report.series import Plotted

if TYPE_CHECKING:
    from finescale.study.analyse import Analysis

UNKNOWN = "unknown: the records do not tell"
OBJECTIVES = {
    "robust": "Huber loss of residuals of the log loss, turning point from their spread",
    "chinchilla": "Huber loss of residuals of the log loss, turning point 1e-3",
    "paper": "Huber loss of residuals of the loss, turning point 1e-3",
}
Fact = tuple[str, str | None]


def checklist_section(analysis: Analysis, shown: Plotted) -> Section:
    """The four blocks, a line per question."""
    lead = paragraph(
        "The questions of the (Mis)Fitting survey (arXiv 2502.18969), answered from the records of this study; what "
        "they do not tell is unknown."
    )
    blocks = [
        join(tag("h3", title), facts([(name, _said(value)) for name, value in rows]))
        for title, rows in checklist(analysis).items()
    ]
    return Section("checklist", "Reproducibility checklist", "Checklist", join(lead, blocks))


def _said(value: str | None) -> object:
    return value if value else tag("span", UNKNOWN, class_="warn")


def checklist(analysis: Analysis) -> dict[str, list[Fact]]:
    """Question and answer by block; an answer that the records do not hold is None."""
    return {
        "Hypothesis": list(_hypothesis(analysis)),
        "Training set-up": list(_training(analysis)),
        "Data collection": list(_collection(analysis)),
        "Fitting": list(_fitting(analysis)),
    }


def _hypothesis(analysis: Analysis) -> Iterator[Fact]:
    fits = analysis.final
    members = [member for fit in fits.groups for member in fit.members]
    formulas = dict.fromkeys(f"{member.law.name}: {member.law.formula}" for member in members)
    table = fits.table()
    free = {str(law): part["parameter"].unique() for law, part in table.groupby("law", sort=False)}
    yield "Form", "; ".join(formulas) or None
    yield "Variables", listed([name.replace("_", " ") for name in fits.factors])
    yield "Free parameters", "; ".join(f"{law}: {', '.join(names)}" for law, names in free.items()) or None
    yield "One law for each", listed([name.replace("_", " ") for name in fits.by]) or "none: one law for all"
    yield "Other forms compared", listed(list(analysis.others)) or "none"
    yield "Why this form", None


def _training(analysis: Analysis) -> Iterator[Fact]:
    runs = analysis.runs
    yield "Models", f"{plural(runs['base'].nunique(), 'base')}: {listed(sorted(map(str, runs['base'].unique())))}"
    yield "Parameters, without embeddings", _range(runs, "model_params")
    yield "Parameters, in all", _range(runs, "total_params")
    yield "Pretraining tokens", _range(runs, "pretrain_tokens")
    yield "Methods", listed(list(dict.fromkeys(map(str, runs["method"]))))
    yield "PET sizes", _levels(runs, "pet_size")
    yield "Finetuning examples", _levels(runs, "examples")
    yield "Epochs over them", _range(runs, "epochs")
    yield "Learning rates", _rates(analysis)
    yield "Data", _data(analysis.provenance)
    yield "Versions", ", ".join(f"{name} {version}" for name, version in sorted(analysis.versions.items())) or None


def _rates(analysis: Analysis) -> str | None:
    rates = analysis.rates
    if rates.empty:
        return f"given, not searched: {found}" if (found := _levels(analysis.runs, "learning_rate")) else None
    searches = len(rates[["task", "method", "base", "examples"]].drop_duplicates())
    return f"searched by the dev set, {plural(len(rates), 'trial')} in {plural(searches, 'search', 'searches')}"


def _data(manifest: dict[str, Any]) -> str | None:
    if not manifest:
        return None
    leaks = manifest["leaks"]
    found = f"{plural(leaks['found'], 'leaked paragraph')} removed from pretraining text, {leaks['remaining']} left"
    return f"{plural(len(manifest['artefacts']), 'package')}, corpus digest {manifest['digest'][:12]}; {found}"


def _collection(analysis: Analysis) -> Iterator[Fact]:
    runs = analysis.runs
    flagged = runs.loc[runs["flag"] != "", "flag"].value_counts()
    setting = [name for name in ("task", "method", "base", "pretrain_tokens", "pet_size", "examples") if name in runs]
    seeds = runs.groupby(setting, dropna=False).size()
    spread = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    dropped = listed([f"{plural(count, 'run')} {name}" for name, count in flagged.items()])
    yield "Points", f"{plural(len(runs), 'run')} at {plural(len(seeds), 'setting')}, {spread} a setting (seeds)"
    yield "Dropped", f"{dropped}: shown, and not fitted" if dropped else "none"
    yield "Other findings", "; ".join(analysis.final.left_out) or "none"
    chosen = "best_step" in runs and bool(runs["best_step"].notna().any())
    yield "Checkpoint of a run", "the best on the dev set; one point a run" if chosen else None
    yield "Loss", None if analysis.table else f"on the whole test set, {analysis.unit}"


def _fitting(analysis: Analysis) -> Iterator[Fact]:
    final, tested = analysis.final, analysis.fits
    about = final.about
    held = tested.held_out()
    objective, draws = about.get("objective"), about.get("draws")
    left = {name: count for name, count in tested.about.get("hold_out", {}).items() if count}
    worst = numbers.percent(held["relative_error"].max(), 1) if len(held) else ""
    kept = listed(
        [
            f"the largest{f' {count} levels' if count > 1 else ''} of {name.replace('_', ' ')}"
            for name, count in left.items()
        ]
    )
    yield "Objective", OBJECTIVES.get(objective, objective) if isinstance(objective, str) else None
    how = "grid over the shapes with the terms solved for exactly, then damped Newton steps"
    yield "Optimiser and starts", how if objective in OBJECTIVES else None
    yield "Shared parameters", listed(list(about.get("share") or [])) or "none"
    yield "Validation", f"{plural(len(held), 'run')} held out ({kept}); worst error {worst}" if len(held) else "none"
    yield "Uncertainty", f"{plural(draws, 'draw')} by resampling" if isinstance(draws, int) else draws
    outcomes = Counter(status.name for status in final.status.values())
    yield "Outcome", listed([f"{count} {name}" for name, count in outcomes.items()])
    yield "Seed", str(final.seed)


def _range(runs: pd.DataFrame, name: str) -> str | None:
    known = runs[name].dropna() if name in runs else runs.iloc[:0, 0]
    if known.empty:
        return None
    low, high = numbers.short(known.min()), numbers.short(known.max())
    return low if low == high else f"{low} to {high}"


def _levels(runs: pd.DataFrame, name: str, most: int = 12) -> str | None:
    levels = sorted(runs[name].dropna().unique()) if name in runs else []
    return listed([numbers.short(level) for level in levels]) if len(levels) <= most else _range(runs, name)
