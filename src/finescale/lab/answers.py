"""What a model writes for an evaluation set: decoded, graded by every metric asked for, and kept example by example."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from finescale import registry
from finescale.errors import Refused
from finescale.lab import splits, tokenizer
from finescale.lab.decode import decode, texts
from finescale.lab.metrics.flags import RATES, look
from finescale.lab.metrics.text import Answers, Graded, TextMetric
from finescale.lab.splits import Split, strata_of
from finescale.lab.subset import in_proportion

FLAGS = ("empty", "repetition", "wrong_language", "too_long")


@dataclass(frozen=True)
class EvaluationSet:
    """An evaluation set of a run.

    Attributes:
        data: prepared data folder.
        name: the task's or the probe's name.
        metrics: metrics of decoded answers to score.
        decoded: examples to decode; 0: none.
        beams: 1 is greedy.
        limit: most tokens of an answer.
        parts: in how many parts a batch is worked through, where memory is short; the numbers are the same.
    """

    data: Path
    name: str
    metrics: tuple[str, ...] = ()
    decoded: int = 0
    beams: int = 1
    limit: int = 1
    parts: int = 1

    def examples(self, split: str = "test") -> Split:
        """Its tokenised examples."""
        return splits.load_split(self.data, self.name, split)

    def key(self, split: str = "test") -> str:
        """Twelve hex digits of the tokens it holds, whatever it is called and wherever it lies."""
        total = hashlib.sha256()
        for example in self.examples(split):
            for piece in (example.prompt, example.target):
                total.update(len(piece).to_bytes(8) + piece.tobytes())
        return total.hexdigest()[:12]

    def how(self) -> str:
        """How its answers are decoded, in words for file names and signatures."""
        return f"{'greedy' if self.beams == 1 else f'beams-{self.beams}'}-{self.limit}-tokens"


def write(net: Any, test: EvaluationSet, prefix: torch.Tensor | None = None) -> Answers:
    """Decode the first ``test.decoded`` examples of a set, its languages in proportion.

    An answer also ends at its first line break where no reference has one: a base that nobody has finetuned does not
    know how an answer ends, and would otherwise be graded on what it rambles after it.
    """
    examples = test.examples()
    chosen = in_proportion(strata_of(examples), test.decoded)
    frame = splits.load_text(test.data, test.name, "test").iloc[chosen]
    one_line = not frame["reference"].str.contains("\n", regex=False).any()
    decoded = decode(net, [examples[i].prompt for i in chosen], test.limit, prefix, test.beams, test.parts)
    said = list(texts(decoded, tokenizer.load(test.data), one_line))
    return Answers(
        sources=tuple(frame["source"]),
        predictions=tuple(text for text, _ in said),
        references=tuple(frame["reference"]),
        languages=tuple(frame["language"]),
        complete=tuple(ended for _, ended in said),
        how=test.how() + ("|ends:line" if one_line else ""),
    )


def metrics_of(test: EvaluationSet) -> Iterator[TextMetric]:
    """The metrics its answers are graded by: those asked for, then the rates of degenerate answers."""
    yield from (registry.get("metric", name) for name in test.metrics)
    yield from RATES


def grade(answers: Answers, metric: TextMetric, refused: dict[str, str]) -> Graded | None:
    """Grade answers by one metric; where it cannot be computed, note in ``refused`` what to install."""
    try:
        if needed := metric.needs():
            raise Refused(needed)
        return metric.grade(answers)
    except Refused as reason:
        refused[metric.name] = str(reason)
        return None


def table(name: str, answers: Answers, graded: dict[str, Graded]) -> pd.DataFrame:
    """A row per answer: what was asked, said and expected, what is wrong with it, and each metric's value for it."""
    looked = [look(*one) for one in zip(answers.predictions, answers.languages, answers.complete, strict=True)]
    columns = {
        "set": name,
        "index": np.arange(len(answers)),
        "source": answers.sources,
        "prediction": answers.predictions,
        "reference": answers.references,
        "language": answers.languages,
        **{flag: [getattr(one, flag) for one in looked] for flag in FLAGS},
    }
    rates = {rate.name for rate in RATES}
    return pd.DataFrame(columns | {key: one.each for key, one in graded.items() if key not in rates})
