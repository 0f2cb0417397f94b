"""Loss by language of the target: one row per finished run and language, from the run's sums per test example."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import pandas as pd

from finescale.errors import StudyError
from finescale.lab.metrics.sums import NLL, Rows
from finescale.lab.splits import load_text
from finescale.study.plan import Plan
from finescale.study.store import Store
from finescale.study.table import FACTORS, table

COLUMNS = ["run", "language", "loss", "loss_low", "loss_high", "test_examples", "test_tokens"]


def by_language(store: Store, plan: Plan) -> pd.DataFrame:
    """Loss in nats per target token over the test examples of each language, with its 90 % interval over examples.

    A task in one language has one row a run, whose loss is the run's own (``loss`` of the table). The factors of the
    run stand beside it; few ``test_examples`` make a wide interval, and of a single one there is none.

    Raises:
        StudyError: the sums of a run are missing or are not those of its task's test set.
    """
    whole = table(store, plan)
    of_test = lru_cache(maxsize=None)(lambda data, task: load_text(store.done(plan.steps[data]), task, "test"))
    runs = zip(whole["run"], whole["loss"], strict=True)
    rows = [row for run, loss in runs for row in _of_run(store, plan, run, loss, of_test)]
    beside = whole[[name for name in FACTORS if name != "loss"]]
    return pd.DataFrame(rows, columns=COLUMNS).merge(beside, on="run", how="left", validate="many_to_one")


def _of_run(store: Store, plan: Plan, run: str, loss: float, of_test: Any) -> list[dict[str, Any]]:
    step: Any = plan.steps[run]
    text = of_test(step.needs["data"], step.spec.task.name)
    path = store.done(step) / "rows.parquet"
    if path.is_symlink():
        raise StudyError(f"{path}: is a link, and a study reads its own files only")
    again = f"delete the folder {path.parent} and run the study again"
    try:
        sums = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: cannot be read: {error}; {again}") from error
    if len(sums) != len(text) or not {"nats", "tokens", "bytes"} <= set(sums.columns):
        raise StudyError(f"{path}: has not the sums of the {len(text)} test examples; {again}")
    if not math.isclose(sums["nats"].sum() / sums["tokens"].sum(), loss, rel_tol=1e-9):
        raise StudyError(f"{path}: its sums are not those of the run's loss, {loss:g} nats per token; {again}")
    found = []
    for language, of in sums.groupby(text["language"].to_numpy()):
        score = NLL.score(Rows(*(of[name].to_numpy(float) for name in ("nats", "tokens", "bytes"))), "")
        ends = {"loss_low": score.low, "loss_high": score.high} if len(of) > 1 else {}
        made = {"run": run, "language": language, "loss": score.value, "test_examples": len(of)}
        found.append(made | ends | {"test_tokens": int(of["tokens"].sum())})
    return found
