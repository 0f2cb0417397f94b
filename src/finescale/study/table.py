"""The table of a study: one row per finished run, with the columns of ``finescale.core`` and those of a record."""

from __future__ import annotations

from typing import Any

import pandas as pd

from finescale.core import BaseSpec
from finescale.study.plan import Plan, Step, size_label
from finescale.study.store import Store

FAMILY = "ladder"
COLUMNS = [
    *("task", "method", "base", "family", "model_params", "pretrain_tokens", "pet_params", "examples", "loss", "seed"),
    *("run", "pet_size", "learning_rate", "flag", "zero_loss", "loss_low", "loss_high", "perplexity", "bits_per_byte"),
    *("total_params", "train_tokens", "test_tokens", "epochs", "steps", "best_step", "dev_loss"),
    *("seconds", "cpu_seconds", "flops", "peak_memory_bytes"),
]
WORDS = {"task", "method", "base", "family", "run", "flag"}
COPIED = [
    *("model_params", "total_params", "pretrain_tokens", "pet_params", "learning_rate", "train_tokens", "test_tokens"),
    *("epochs", "steps", "best_step", "dev_loss", "seconds", "cpu_seconds", "flops", "peak_memory_bytes"),
]


def table(store: Store, plan: Plan) -> pd.DataFrame:
    """One row per finished run of the plan, with the columns of ``finescale.core`` and those of a record.

    A score that a record lacks is missing (NaN), never 0. ``zero_loss`` is the loss of the untouched base.
    """
    finished = store.finished(plan)
    bases = {base.spec.fingerprint(): base for base in plan.of("base")}
    rows = [_row(step, store.record(step), bases) for step in plan.of("run") if step.id in finished]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.assign(**{name: pd.to_numeric(frame[name]) for name in COLUMNS if name not in WORDS})


def base_label(base: BaseSpec) -> str:
    """Name of a base in tables: rung and pretraining size, as hub models are named with a revision."""
    return f"{base.name}@{size_label(base.pretrain_tokens)}"


def _row(step: Step, record: dict[str, Any], bases: dict[str, Step]) -> dict[str, Any]:
    run: Any = step.spec
    base: Any = bases[run.base].spec
    scores = {score["metric"]: score for score in record["scores"]}
    zero = {score["metric"]: score for score in record["zero_scores"]}
    loss = scores.get("nll", {})
    return {key: record.get(key) for key in COPIED} | {
        "task": run.task.name,
        "method": run.method.name,
        "base": base_label(base),
        "family": FAMILY,
        "examples": run.examples,
        "loss": loss.get("value"),
        "seed": run.seed_subset,
        "run": step.id,
        "pet_size": run.method.pet_size,
        "flag": record["flag"] or "",
        "zero_loss": zero.get("nll", {}).get("value"),
        "loss_low": loss.get("low"),
        "loss_high": loss.get("high"),
        "perplexity": scores.get("perplexity", {}).get("value"),
        "bits_per_byte": scores.get("bits-per-byte", {}).get("value"),
    }
