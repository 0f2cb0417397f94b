"""From a study's records to what they say: fits, held-out error, crossings and advice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pandas as pd

from finescale.errors import Refused
from finescale.stats.advise import Advice, advise
from finescale.stats.fit import fit
from finescale.stats.fits import Fits, law_named
from finescale.stats.runs import Runs
from finescale.stats.slices import AXES, cut
from finescale.study.compare import BEYOND, PLACE, crossings
from finescale.study.links import refuse_links
from finescale.study.lock import Study, versions
from finescale.study.maps import Map, maps_of
from finescale.study.plan import Kind
from finescale.study.run import SESSIONS
from finescale.study.table import base_label, probes, trials


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
        probes: one row per run, probe and metric (``study.table.probes``); None where nothing was probed.
        claims: the paper's claims as ``finescale tables`` last judged them (``stats.claims.Claims.table``); None if it
            did not, or before the newest run.
        level: coverage that the study asked of intervals.
        table: name of the file, where the runs are somebody's table and there is no study; else empty.
        prices: US dollars per labelled example (``label``) and per device-hour (``hour``), where ``[budget]`` has them.
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
    probes: pd.DataFrame | None = None
    claims: pd.DataFrame | None = None
    level: float = 0.9
    table: str = ""
    prices: dict[str, float] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """The unit of the losses, as ``nats per target token``; nothing where the runs do not tell it."""
        return self.final.unit

    @cached_property
    def maps(self) -> list[Map]:
        """Critical-size maps of the pairs of methods; worked out when first asked for, which takes seconds."""
        return maps_of(self.final, self.runs, self.level)


def analyse(study: Study, save: bool = True) -> Analysis:
    """Fit and answer from the records a study has now.

    Args:
        study: an open study; it need not be complete.
        save: whether the fits are written to ``fits/``.

    Raises:
        Refused: no run is finished, or none is usable.
        StudyError: a link in the study's folder leads elsewhere.
    """
    runs, asked = labelled(study), study.spec.fit
    if not (runs["flag"] == "").any():
        raise Refused(f"study {study.name!r} has no usable run yet: {len(runs)} finished, all flagged or none at all")
    held = {law: fit_study(study, runs, law, asked.hold_out or {}) for law in asked.laws}
    final = fit_study(study, runs, asked.laws[0], {})
    if save:
        refuse_links(study.folder)
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
        advice=list(advice(final, runs, asked.level)),
        provenance=study.provenance,
        bases=bases(study),
        rates=trials(study.store, study.plan),
        cost=_cost(study),
        versions=versions(),
        probes=probes(study.store, study.plan),
        claims=_judged(study),
        level=asked.level,
        prices=_prices(study),
    )


def _prices(study: Study) -> dict[str, float]:
    budget = study.spec.budget
    thousand, hour = budget.usd_per_1000_examples, budget.usd_per_device_hour
    said = {"label": None if thousand is None else thousand / 1000, "hour": hour}
    return {name: price for name, price in said.items() if price is not None}


CLAIMS = "report/paper/claims.csv"
JUDGED = {"claim", "task", "verdict", "statistic", "low", "high", "runs", "sentence"}


def _judged(study: Study) -> pd.DataFrame | None:
    """The claims' verdicts on file, unless a run has come since."""
    path, newest = study.folder / CLAIMS, study.folder / "runs"
    try:
        if path.stat().st_mtime < newest.stat().st_mtime:
            return None
        table = pd.read_csv(path)
    except (OSError, ValueError):
        return None
    return table if set(table) >= JUDGED else None


def must_be_fitted(analysis: Analysis) -> None:
    """Refuse to call an analysis without a single fit one.

    Raises:
        Refused: no law was fitted to any group; says why.
    """
    every = [analysis.final, analysis.fits, *analysis.others.values()]
    if not any(one.fitted for fits in every for one in fits.groups):
        reasons = list(dict.fromkeys(str(status) for status in analysis.final.status.values()))
        more = f" (and {len(reasons) - 3} further reasons)" if len(reasons) > 3 else ""
        raise Refused(f"nothing could be fitted: {'; '.join(reasons[:3])}{more}")


def factor_of(study: Study, runs: pd.DataFrame) -> str | None:
    """The factor that is fitted beside examples; see ``varying``."""
    return varying(runs, study.spec.fit.factor)


def varying(runs: pd.DataFrame, asked: str | None) -> str | None:
    """The factor that was asked for, or, where that one stands still, one that varies.

    None where none varies enough (``finescale.stats.slices``): then the law is one of examples alone.
    """
    usable = runs[runs["flag"] == ""]
    there = {name for cell in cut(usable) for name in cell.slices} if len(usable) else set()
    return next((name for name in (asked, *AXES) if name in there), None)


def labelled(study: Study) -> pd.DataFrame:
    """The study's runs; a method of several PET sizes carries the size in its name, so that each is fitted alone."""
    runs = study.table()
    if factor_of(study, runs) == "pet_params":
        return runs
    return named_by_size(runs, [name for name, choice in study.spec.methods.items() if len(choice.sizes) > 1])


def named_by_size(runs: pd.DataFrame, methods: list[str]) -> pd.DataFrame:
    """The runs with the PET size in the names of these methods."""
    split = runs["method"].isin(methods) & runs["pet_size"].notna()
    named = [f"{row.method}-{row.pet_size:g}" for row in runs[split].itertuples()]
    return runs.assign(method=runs["method"].mask(split, pd.Series(named, index=runs.index[split], dtype=object)))


def fit_study(study: Study, runs: pd.DataFrame, law: str, hold_out: dict[str, int]) -> Fits:
    """A law by task and method, and by every other factor of the bases that has several levels.

    Where the factor has a single level (in the study, or in a group), a law of it cannot be fitted and the power law in
    examples is, instead. Where nothing could be fitted without the levels held out, nothing is held out.
    """
    return fit_runs(runs, law, factor_of(study, runs), hold_out, study.spec.fit.seed)


def fit_runs(
    runs: pd.DataFrame, law: str, factor: str | None, hold_out: dict[str, int], seed: int, table: Runs | None = None
) -> Fits:
    """As ``fit_study``, of any table of runs with the columns of a study's.

    ``table`` gives the runs with what was found in them; without a law of model size, bases of one size are told apart.
    """
    fewest, most = law_named(law).factors if law != "auto" else (0, 3)
    if most == 0 or factor is None:
        law, factor = (law if fewest == 0 else "power"), None
    others = [name for name in ("model_params", "pretrain_tokens") if name != factor and runs[name].nunique() > 1]
    told = [*others, *([factor] if factor else [])]
    if factor != "model_params" and runs.groupby(["task", *told], dropna=False)["base"].nunique().max() > 1:
        others.append("base")
    by = ["task", "method", *others]
    held = {name: count for name, count in hold_out.items() if name in (factor, "examples")}
    for kept in (held, {}):
        fits = fit(runs if table is None else table, law=law, factor=factor, by=by, hold_out=kept, seed=seed)
        fits = fits if factor is None else _with_flat(fits, factor, runs, kept, seed)
        if any(one.fitted for one in fits.groups):
            break
    return fits


def _with_flat(fits: Fits, factor: str, runs: pd.DataFrame, held: dict[str, int], seed: int) -> Fits:
    """The same with the power law in examples for groups in which the factor stands still (PET size, for full)."""
    flat = [one.group.key for one in fits.groups if not one.fitted and one.group.frame[factor].nunique() < 2]
    if not flat:
        return fits
    rows = runs[[any(all(row[name] == key[name] for name in fits.by) for key in flat) for _, row in runs.iterrows()]]
    held = {name: count for name, count in held.items() if name == "examples"}
    alone = fit(rows, law="power", by=list(fits.by), hold_out=held, seed=seed)
    return replace(fits, groups=[alone.find(**one.group.key) if one.group.key in flat else one for one in fits.groups])


def note_on(study: Study, runs: pd.DataFrame) -> str:
    """What a reader must know before any number: which runs of the study are not finished, or flagged; else empty."""
    finished, steps = study.store.finished(study.plan), study.plan.of("run")
    missing = [step.label for step in steps if step.id not in finished]
    said = []
    if missing:
        head = f"Partial study: {len(steps) - len(missing)} of {len(steps)} runs are finished"
        said.append(f"{head}; missing: {_some(missing)}.")
    flagged = runs.loc[runs["flag"] != "", "run"].tolist()
    if flagged:
        said.append(f"{len(flagged)} finished runs are flagged and left out: {_some(flagged)}.")
    return " ".join(said)


def _some(names: list[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more (finescale status names all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def advice(fits: Fits, runs: pd.DataFrame, level: float) -> Iterator[Advice]:
    """Which method on which base, at the most examples the study has and at several times as many."""
    for choices in candidates(runs):
        for times in (1, BEYOND):
            asked = choices.assign(examples=choices["examples"] * times)
            yield advise(fits, asked, level=level, max_reach=BEYOND)


def candidates(runs: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """For each task every method on every base, at the most examples there are.

    A method that never learned on a base is no candidate there.
    """
    columns = [name for name in (*PLACE, "method", "pet_size", "pet_params") if name in runs]
    for task, part in runs[runs["flag"] == ""].groupby("task", sort=False):
        choices = part[columns].drop_duplicates().sort_values(["model_params", "pretrain_tokens", "method"])
        yield choices.assign(task=task, examples=int(part["examples"].max()))


def bases(study: Study) -> pd.DataFrame:
    """One row per finished base: its name, shape, sizes, cost and its loss on held-out pretraining text."""
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
                    "branch_share": _ratio(record.get("branch_tokens"), record.get("pretrain_tokens")),
                }
            )
    return pd.DataFrame(rows)


def _ratio(part: float | None, whole: float | None) -> float | None:
    """A share; None where either is not known."""
    return None if part is None or not whole else part / whole


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
