"""Scores of a model on an evaluation set: nats of the targets, and, where asked for, what it writes by itself.

A run has several sets: its task's test set and its probes. Each is judged twice, for the finetuned model and for the
base nobody has finetuned; the second is worked out once and kept beside the base's weights.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from finescale import registry
from finescale.core import RunSpec, Score
from finescale.errors import Fault, InputError
from finescale.lab import answers as written
from finescale.lab import model
from finescale.lab.answers import EvaluationSet
from finescale.lab.metrics import Rows
from finescale.lab.metrics.text import Answers
from finescale.lab.packing import Example, pack
from finescale.lab.probes import parse

BATCH = 64


@dataclass
class Judged:
    """What a model got on a set: its scores, the metrics refused with what to install, and a row per answer."""

    rows: Rows
    scores: list[Score]
    refused: dict[str, str] = field(default_factory=dict)
    answers: pd.DataFrame | None = None


def sets_of(spec: RunSpec, data: Path, parts: int = 1) -> list[EvaluationSet]:
    """The evaluation sets of a run, worked through in ``parts``: its task's test set first, then its probes.

    Raises:
        InputError: a metric is unknown, or needs decoded answers and none are to be decoded.
    """
    asked = spec.evaluate
    named = tuple(name for name in asked.metrics if registry.get("metric", name).decoded)
    if named and not asked.decoded:
        fix = "say under evaluate.decoded how many test examples to decode"
        raise InputError(Fault("evaluate.metrics", f"{', '.join(named)} need decoded answers", fix))
    full = EvaluationSet(data, spec.task.name, named, asked.decoded, asked.beams, spec.task.max_target_tokens, parts)
    return [full, *(_probe(full, name) for name in asked.probes)]


def _probe(full: EvaluationSet, name: str) -> EvaluationSet:
    """A probe's set; only translations are decoded, as another ability's answers to these metrics mean little."""
    if parse(name).kind == "translation":
        return replace(full, name=name)
    return EvaluationSet(full.data, name, parts=full.parts)


def judge(net: Any, test: EvaluationSet, prefix: torch.Tensor | None = None) -> Judged:
    """Score a model on a set; ``prefix`` is its soft prompt, (length, width)."""
    found = rows(net, test.examples(), model.row(net), prefix, test.parts)
    judged = Judged(found, scores(found, test.data))
    if test.decoded:
        answers = written.write(net, test, prefix)
        tried = {m.name: written.grade(answers, m, judged.refused) for m in written.metrics_of(test)}
        graded = {name: one for name, one in tried.items() if one}
        judged.scores += [one.score for one in graded.values()]
        judged.answers = written.table(test.name, answers, graded)
    return judged


def untouched(net: Any, base: Path, test: EvaluationSet) -> Judged:
    """Score a base nobody has finetuned, worked out once and kept beside its weights for later runs.

    What is kept is derived and may be deleted; it is renamed into place, so two workers that make it at once agree.
    """
    found = untouched_rows(net, base, test)
    judged = Judged(found, scores(found, test.data))
    if test.decoded:
        stem = f"untouched-{test.key()}-{test.decoded}-{test.how()}"
        answers = _kept_answers(base / f"{stem}-answers.parquet", lambda: written.write(net, test))
        for metric in written.metrics_of(test):
            recipe = "" if metric.needs() else hashlib.sha256(metric.signature(answers).encode()).hexdigest()[:12]
            path = base / f"{stem}-{metric.name}-{recipe}.json"
            if recipe and path.exists():
                judged.scores.append(Score(**json.loads(path.read_text())))
            elif graded := written.grade(answers, metric, judged.refused):
                judged.scores.append(graded.score)
                _put(path, partial(Path.write_text, data=graded.score.model_dump_json()))
    return judged


def untouched_rows(net: Any, base: Path, test: EvaluationSet, split: str = "test") -> Rows:
    """Per-example sums of a base nobody has finetuned, kept beside its weights."""
    path = base / f"untouched-{test.key(split)}-{split}.parquet"
    if not path.exists():
        found = rows(net, test.examples(split), model.row(net), parts=test.parts)
        _put(path, pd.DataFrame(vars(found)).to_parquet)
    frame = pd.read_parquet(path)
    return Rows(*(frame[name].to_numpy(float) for name in ("nats", "tokens", "bytes")))


@torch.no_grad()
def rows(net: Any, examples: Sequence[Example], row: int, prefix: torch.Tensor | None = None, parts: int = 1) -> Rows:
    """Per-example sums over ``examples``, each batch in ``parts``; ``prefix`` is a soft prompt, (length, width)."""
    length = 0 if prefix is None else len(prefix)
    sums = []
    size = max(1, BATCH // parts)
    for start in range(0, len(examples), size):
        packed = pack(examples[start : start + size], row, length)
        nats = model.nats(net, packed, prefix)[1].double().cpu()
        sums.append(torch.zeros(packed.examples, dtype=torch.float64).index_add_(0, packed.owner_N, nats).numpy())
    return Rows(
        nats=np.concatenate(sums),
        tokens=np.array([len(e.target) for e in examples], float),
        bytes=np.array([e.target_bytes for e in examples], float),
    )


def mean_nats(of: Rows) -> float:
    """Nats per target token, token-weighted over the whole set."""
    return float(of.nats.sum() / of.tokens.sum())


def scores(of: Rows, data: Path, metrics: Sequence[str] = ("nll", "perplexity", "bits-per-byte")) -> list[Score]:
    """Each metric with its interval; the signature names the tokenizer, without which nats cannot be compared."""
    words = hashlib.sha256((data / "tokenizer.json").read_bytes()).hexdigest()[:12]
    signature = f"target-only|eos:counted|tokenizer:{words}"
    return [registry.get("metric", name).score(of, signature) for name in metrics]


def _kept_answers(path: Path, make: Callable[[], Answers]) -> Answers:
    """Answers from a file, or made and put there."""
    if not path.exists():
        _put(path, pd.DataFrame(vars(make())).to_parquet)
    frame = pd.read_parquet(path)
    columns: dict[str, Any] = {name: tuple(frame[name].tolist()) for name in frame.columns}
    return Answers(**columns | {"how": columns["how"][0]})


def _put(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a derived file aside and rename it into place."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.aside")
    write(aside)
    os.replace(aside, path)
