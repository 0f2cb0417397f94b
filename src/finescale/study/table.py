"""The tables of a study: one row per finished run, one per run, probe and metric, and one per trial of a rate.

Columns are those of ``finescale.core`` and of a record. A metric's column is its name with ``_`` for ``-``. Beside it
stands what the untouched base gets (``zero_…``) and, for metrics of decoded answers, the interval (``…_low``,
``…_high``). A score that a record lacks is missing (NaN), never 0; ``refused`` says why. ``epochs`` are passes over
the examples as they were made, ``epochs_asked`` what the recipe asked for: the least and the most steps may part them,
and a run may stop early.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np
import pandas as pd

from finescale import registry
from finescale.core import BaseSpec, PublicBase
from finescale.lab.metrics.flags import RATES
from finescale.stats import units
from finescale.study import index
from finescale.study.families import family_of
from finescale.study.index import SCORE, ZERO
from finescale.study.plan import Plan, size_label
from finescale.study.store import Store

FAMILY = "ladder"
FACTORS = [
    *("task", "method", "base", "family", "model_params", "pretrain_tokens", "pet_params", "examples", "loss", "seed"),
    *("run", "pet_size", "flag"),
]
COPIED = [
    *("model_params", "total_params", "pretrain_tokens", "pet_params", "learning_rate", "train_tokens", "test_tokens"),
    *("epochs", "unique_examples", "steps", "best_step", "dev_loss", "seconds", "cpu_seconds", "evaluate_seconds"),
    *("flops", "peak_memory_bytes"),
]
COLUMNS = [
    *FACTORS,
    *("zero_loss", "loss_low", "loss_high", "perplexity", "zero_perplexity", "bits_per_byte", "zero_bits_per_byte"),
    *(name for name in COPIED if name not in FACTORS),
    "epochs_asked",
    units.COLUMN,
    units.TOKENIZER,
]
MADE = ["epochs", "epochs_asked", "unique_examples", "steps"]
"""How much a run was trained, which the long table has beside what was lost."""
PROBE_COLUMNS = [
    *("run", "probe", "metric", *index.PROBE_FIELDS),
    *(name for name in FACTORS if name != "run"),
    *MADE,
]
TRIALS = ["task", "method", "base", "examples", "learning_rate", "dev_loss", "chosen", "flag", "cpu_seconds"]


def table(store: Store, plan: Plan) -> pd.DataFrame:
    """One row per finished run of the plan. ``zero_loss`` is the loss of the untouched base."""
    found = index.fresh(store, plan).of("run")
    columns: dict[str, Any] = {name: found[name] for name in COPIED} | _factors(plan, found)
    for name, said in ((units.COLUMN, units.STUDY), (units.TOKENIZER, _tokenizer(store, plan))):
        columns[name] = pd.Series(said, index=found.index, dtype=object)
    columns |= {"zero_loss": _of(found, f"{ZERO}nll")}
    columns |= {f"loss_{end}": _of(found, f"{SCORE}nll:{end}") for end in ("low", "high")}
    for metric in ("perplexity", "bits-per-byte"):
        value, _, _, untouched = _columns(metric)
        columns |= {value: _of(found, f"{SCORE}{metric}:value"), untouched: _of(found, f"{ZERO}{metric}")}
    decoded = _decoded_metrics(plan)
    for metric in decoded:
        sources = (*(f"{SCORE}{metric}:{part}" for part in ("value", "low", "high")), f"{ZERO}{metric}")
        columns |= {name: _of(found, source) for name, source in zip(_columns(metric), sources, strict=True)}
    beside = [name for metric in decoded for name in _columns(metric)]
    return pd.DataFrame(columns, columns=[*COLUMNS, *beside]).reset_index(drop=True)


def probes(store: Store, plan: Plan) -> pd.DataFrame:
    """One row per finished run, probe and metric: its value with its interval, and what the untouched base gets.

    ``loss`` is the run's on its own task, so that what was lost stands beside what was learned.
    """
    found = index.fresh(store, plan, probes=True)
    assert found.probes is not None
    runs = found.of("run")
    beside = pd.DataFrame({name: runs[name] for name in MADE if name in runs} | _factors(plan, runs), index=runs.index)
    long = found.probes.to_pandas()
    place = runs.index.get_indexer(pd.Index(long["id"]))
    order = np.argsort(place, kind="stable")[np.count_nonzero(place < 0) :]
    whole = beside.iloc[place[order]].reset_index(drop=True)
    scored = {name: long[name].to_numpy()[order] for name in ("probe", "metric", *index.PROBE_FIELDS)}
    return whole.assign(**scored)[PROBE_COLUMNS]


def trials(store: Store, plan: Plan) -> pd.DataFrame:
    """One row per trial of a finished search for a learning rate; ``cpu_seconds`` are those of its whole search."""
    bases: dict[str, Any] = {step.spec.fingerprint(): step.spec for step in plan.of("base")}
    rows, finished = [], store.finished(plan)
    for step in plan.of("rate"):
        if step.id in finished:
            spec: Any = step.spec
            record = store.record(step)
            search = {"task": spec.task.name, "method": spec.method.name, "base": base_label(bases[spec.base])}
            search |= {"examples": spec.examples, "cpu_seconds": record.get("cpu_seconds")}
            rows += [
                search
                | {"learning_rate": trial["rate"], "dev_loss": trial["dev_loss"], "flag": trial["flag"] or ""}
                | {"chosen": trial["rate"] == record["learning_rate"]}
                for trial in record["trials"]
            ]
    return pd.DataFrame(rows, columns=TRIALS)


def refused(store: Store, plan: Plan) -> dict[str, str]:
    """Metrics that some finished run could not compute, with what to install."""
    reasons: dict[str, str] = {}
    for said in index.fresh(store, plan).of("run")["refused"].dropna().unique():
        reasons |= json.loads(said)
    return reasons


def _tokenizer(store: Store, plan: Plan) -> str | None:
    """Digest of the tokenizer that a study's tokens are counted by, as in the signatures of its scores."""
    words = next((path for step in plan.of("data") if (path := store.done(step) / "tokenizer.json").exists()), None)
    return None if words is None else hashlib.sha256(words.read_bytes()).hexdigest()[:12]


def base_label(base: BaseSpec | PublicBase) -> str:
    """Name of a base in tables: rung and pretraining size; a published model is named by its revision."""
    mark = base.revision if isinstance(base, PublicBase) else size_label(base.pretrain_tokens)
    return f"{base.name}@{mark}"


def _family(base: BaseSpec | PublicBase) -> str:
    """What a base differs from its kin in size only: the ladder, a published family, or else itself alone."""
    return family_of(base.name) if isinstance(base, PublicBase) else FAMILY


def _decoded_metrics(plan: Plan) -> list[str]:
    """Metrics of decoded answers that any run of the plan asks for, in the order they are named; then the rates."""
    specs: list[Any] = [step.spec for step in plan.of("run")]
    asked = dict.fromkeys(name for run in specs for name in run.evaluate.metrics if run.evaluate.decoded)
    named = [name for name in asked if registry.get("metric", name).decoded]
    return [*named, *(rate.name for rate in RATES)] if any(run.evaluate.decoded for run in specs) else []


def _columns(metric: str) -> tuple[str, str, str, str]:
    name = metric.replace("-", "_")
    return name, f"{name}_low", f"{name}_high", f"zero_{name}"


def _factors(plan: Plan, found: pd.DataFrame) -> dict[str, Any]:
    """Columns that say what each run found is, and its loss; in the order of ``found``, whose index holds run ids."""
    specs: list[Any] = [base.spec for base in plan.of("base")]
    bases = {base.fingerprint(): base_label(base) for base in specs}
    families = {base.fingerprint(): _family(base) for base in specs}
    runs: list[Any] = [plan.steps[id].spec for id in found.index]
    columns = {
        "task": [run.task.name for run in runs],
        "method": [run.method.name for run in runs],
        "base": [bases[run.base] for run in runs],
        "family": [families[run.base] for run in runs],
        "examples": _numbers([run.examples for run in runs]),
        "seed": _numbers([run.seed_subset for run in runs]),
        "run": list(found.index),
        "pet_size": _numbers([run.method.pet_size for run in runs]),
        "flag": found["flag"].fillna(""),
        "epochs_asked": _numbers([run.recipe.epochs for run in runs]),
    }
    copied = {name: found[name] for name in ("model_params", "pretrain_tokens", "pet_params")}
    return columns | copied | {"loss": _of(found, f"{SCORE}nll:value")}


def _numbers(values: list[Any]) -> Any:
    """Numbers as an array, NaN where one is missing."""
    return pd.to_numeric(pd.Series(values, dtype=object)).to_numpy()


def _of(found: pd.DataFrame, name: str) -> Any:
    """A column of the index; all missing where no record has it."""
    return found.get(name, math.nan)
