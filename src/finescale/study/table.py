"""The tables of a study: one row per finished run, and one per run, probe and metric.

Columns are those of ``finescale.core`` and of a record. A metric's column is its name with ``_`` for ``-``. Beside it
stands what the untouched base gets (``zero_…``) and, for metrics of decoded answers, the interval (``…_low``,
``…_high``). A score that a record lacks is missing (NaN), never 0; ``refused`` says why.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from finescale import registry
from finescale.core import BaseSpec
from finescale.lab.metrics.flags import RATES
from finescale.study.plan import Plan, Step, size_label
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
]
PROBE_COLUMNS = ["run", "probe", "metric", "value", "low", "high", "zero_value", *(c for c in FACTORS if c != "run")]
WORDS = {"task", "method", "base", "family", "run", "flag", "probe", "metric"}


def table(store: Store, plan: Plan) -> pd.DataFrame:
    """One row per finished run of the plan. ``zero_loss`` is the loss of the untouched base."""
    decoded = _decoded_metrics(plan)
    beside = [name for metric in decoded for name in _columns(metric)]
    rows = [_row(step, record, bases, decoded) for step, record, bases in _finished(store, plan)]
    return _typed(pd.DataFrame(rows, columns=[*COLUMNS, *beside]))


def probes(store: Store, plan: Plan) -> pd.DataFrame:
    """One row per finished run, probe and metric: its value with its interval, and what the untouched base gets.

    ``loss`` is the run's on its own task, so that what was lost stands beside what was learned.
    """
    rows = []
    for step, record, bases in _finished(store, plan):
        run = _factors(step, record, bases)
        for probe, found in record.get("probes", {}).items():
            zero = {score["metric"]: score["value"] for score in found["zero_scores"]}
            rows += [
                run
                | {"probe": probe, "zero_value": zero.get(score["metric"])}
                | {key: score.get(key) for key in ("metric", "value", "low", "high")}
                for score in found["scores"]
            ]
    return _typed(pd.DataFrame(rows, columns=PROBE_COLUMNS))


def refused(store: Store, plan: Plan) -> dict[str, str]:
    """Metrics that some finished run could not compute, with what to install."""
    reasons: dict[str, str] = {}
    for _, record, _ in _finished(store, plan):
        reasons |= record.get("refused", {})
    return reasons


def base_label(base: BaseSpec) -> str:
    """Name of a base in tables: rung and pretraining size, as hub models are named with a revision."""
    return f"{base.name}@{size_label(base.pretrain_tokens)}"


def _finished(store: Store, plan: Plan) -> list[tuple[Step, dict[str, Any], dict[str, Step]]]:
    """Each finished run with its record, and the plan's bases by fingerprint."""
    finished = store.finished(plan)
    bases = {base.spec.fingerprint(): base for base in plan.of("base")}
    return [(step, store.record(step), bases) for step in plan.of("run") if step.id in finished]


def _decoded_metrics(plan: Plan) -> list[str]:
    """Metrics of decoded answers that any run of the plan asks for, in the order they are named; then the rates."""
    specs: list[Any] = [step.spec for step in plan.of("run")]
    asked = dict.fromkeys(name for run in specs for name in run.evaluate.metrics if run.evaluate.decoded)
    named = [name for name in asked if registry.get("metric", name).decoded]
    return [*named, *(rate.name for rate in RATES)] if any(run.evaluate.decoded for run in specs) else []


def _columns(metric: str) -> tuple[str, str, str, str]:
    name = metric.replace("-", "_")
    return name, f"{name}_low", f"{name}_high", f"zero_{name}"


def _factors(step: Step, record: dict[str, Any], bases: dict[str, Step]) -> dict[str, Any]:
    run: Any = step.spec
    base: Any = bases[run.base].spec
    losses = (score["value"] for score in record["scores"] if score["metric"] == "nll")
    return {key: record.get(key) for key in ("model_params", "pretrain_tokens", "pet_params")} | {
        "task": run.task.name,
        "method": run.method.name,
        "base": base_label(base),
        "family": FAMILY,
        "examples": run.examples,
        "loss": next(losses, None),
        "seed": run.seed_subset,
        "run": step.id,
        "pet_size": run.method.pet_size,
        "flag": record["flag"] or "",
    }


def _row(step: Step, record: dict[str, Any], bases: dict[str, Step], decoded: list[str]) -> dict[str, Any]:
    scores = {score["metric"]: score for score in record["scores"]}
    zero = {score["metric"]: score["value"] for score in record["zero_scores"]}
    loss = scores.get("nll", {})
    row = {key: record.get(key) for key in COPIED} | _factors(step, record, bases)
    row |= {"zero_loss": zero.get("nll"), "loss_low": loss.get("low"), "loss_high": loss.get("high")}
    for metric in ("perplexity", "bits-per-byte"):
        value, _, _, untouched = _columns(metric)
        row |= {value: scores.get(metric, {}).get("value"), untouched: zero.get(metric)}
    for metric in decoded:
        score = scores.get(metric, {})
        row |= dict(zip(_columns(metric), (*map(score.get, ("value", "low", "high")), zero.get(metric)), strict=True))
    return row


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Everything but the words as numbers, so that what is missing is NaN."""
    return frame.assign(**{name: pd.to_numeric(frame[name]) for name in frame.columns if name not in WORDS})
