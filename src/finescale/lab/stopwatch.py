"""A few real steps of a run, timed and thrown away, from which the time of whole runs is reckoned."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from finescale.core import RunSpec
from finescale.lab import answers, evaluate, model
from finescale.lab.finetune import tune
from finescale.lab.methods import Attached
from finescale.lab.packing import Example, pack
from finescale.lab.splits import load_split
from finescale.lab.subset import subset

STEPS = 20
LEFT_OUT = 2
"""First steps, which also set things up."""
SAMPLED, DECODED = 96, 4
"""Examples read, and answers written, to time each."""
RATE = 1e-6
"""So small that no step diverges; how long a step takes does not depend on it."""


def measure(spec: RunSpec, data: Path, base: Path, opening: model.Opening) -> dict[str, Any]:
    """Time a run's parts by doing some of each, in this process and on its own data.

    Args:
        spec: the run; its number of examples does not matter.
        data: prepared data folder.
        base: folder of the base.
        opening: how the base is opened.

    Returns:
        For each part wall seconds, and processor seconds under ``…_cpu``: ``load`` a base, a training ``step``, an
        ``example`` read for its loss, an ``answer`` written. And ``tokens`` of a training example, soft prompt and
        all; ``rows`` that a batch is packed in at the most, and ``read_rows`` one of evaluation; the ``precision`` that
        a run computes in; how many examples ``train``, ``dev`` and ``test`` have.
    """
    net, loaded = _timed(lambda: model.load(base, opening))
    train_set = load_split(data, spec.task.name, "train")
    test = evaluate.sets_of(spec, data)[0]
    dev_set, test_set = test.examples("dev"), test.examples()
    some = list(itertools.islice(itertools.chain(test_set, dev_set), SAMPLED))
    enough = STEPS * spec.recipe.batch_examples
    drawn = subset(train_set, min(len(train_set), enough), spec.seed_subset)
    recipe = spec.recipe.model_copy(update={"min_steps": STEPS, "max_steps": STEPS, "dev_checks": 1})
    marks: list[tuple[float, float]] = []
    seeds = spec.seed_init, spec.seed_order
    tuned = tune(net, spec.method, recipe, RATE, drawn, some[:1], float("inf"), seeds, lambda _: marks.append(_now()))
    wall, cpu = np.diff(np.array(marks), axis=0)[LEFT_OUT:].mean(axis=0)
    read = _reading(net, some, tuned.attached)
    written = _writing(net, test, tuned.attached)
    length = 0 if tuned.attached.prefix is None else len(tuned.attached.prefix)
    return {
        **_told("load", loaded),
        **_told("step", (float(wall), float(cpu))),
        **_told("example", read),
        **_told("answer", written),
        "tokens": float(train_set.tokens.mean()) + length,
        "rows": _rows(drawn, spec.recipe.batch_examples, model.row(net), length),
        "read_rows": _rows(some, evaluate.BATCH, model.row(net), length),
        "precision": str(net.dtype).removeprefix("torch."),
        "train": len(train_set),
        "dev": len(dev_set),
        "test": len(test_set),
    }


def _rows(examples: Sequence[Example], batch: int, row: int, length: int) -> int:
    """Rows that the largest of the batches takes: examples of more than half a row leave the rest of theirs empty."""
    cuts = range(0, len(examples), batch)
    return max(len(pack(examples[start : start + batch], row, length).ids_BT) for start in cuts)


def _reading(net: Any, some: list[Any], attached: Attached) -> tuple[float, float]:
    """Seconds of reading one example for its loss; a batch is read first to set things up."""
    row = model.row(net)
    evaluate.rows(net, some[:8], row, attached.prefix)
    _, (wall, cpu) = _timed(lambda: evaluate.rows(net, some, row, attached.prefix))
    return wall / len(some), cpu / len(some)


def _writing(net: Any, test: answers.EvaluationSet, attached: Attached) -> tuple[float, float]:
    """Seconds of writing one answer; 0 where a run writes none."""
    if not test.decoded:
        return 0.0, 0.0
    few = replace(test, decoded=min(test.decoded, DECODED))
    _, (wall, cpu) = _timed(lambda: answers.write(net, few, attached.prefix))
    return wall / few.decoded, cpu / few.decoded


def _timed(do: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """What ``do`` returns, and the wall and processor seconds it took."""
    began = _now()
    made = do()
    ended = _now()
    return made, (ended[0] - began[0], ended[1] - began[1])


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _told(part: str, seconds: tuple[float, float]) -> dict[str, float]:
    return {part: seconds[0], f"{part}_cpu": seconds[1]}
