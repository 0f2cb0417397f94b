"""Metrics of decoded answers: what the model wrote against the reference, example by example.

Every such metric is a number from totals of per-example statistics, so a corpus score such as BLEU is resampled exactly
and cheaply, and a mean over examples is the same thing with two columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from finescale.core import Score
from finescale.lab.metrics.interval import DRAWS, LEVEL, Floats, bounds, resampled


@dataclass(frozen=True)
class Answers:
    """Decoded answers, one entry per example.

    Attributes:
        sources: what the answer is about, without template and demonstrations; "" where that was not kept.
        predictions: what the model wrote; may be empty.
        references: what the data set answers.
        languages: code of the language the answer should be in; "" where unknown.
        complete: whether the answer ended before the token limit.
        how: how they were decoded, as it stands in signatures.
    """

    sources: tuple[str, ...]
    predictions: tuple[str, ...]
    references: tuple[str, ...]
    languages: tuple[str, ...]
    complete: tuple[bool, ...]
    how: str

    def __len__(self) -> int:
        return len(self.predictions)


@dataclass(frozen=True)
class Graded:
    """A metric on answers: the score, and its value for each example, (examples,)."""

    score: Score
    each: Floats


@dataclass(frozen=True)
class TextMetric:
    """A number from totals of per-example statistics.

    Attributes:
        statistics: per-example statistics, (examples, k). Raises ``Refused`` where something is not installed.
        of: values, (draws,), from totals, (draws, k).
        signature: everything needed to reproduce the number, from the answers it was taken over.
        source: where the metric comes from.
        needs: what is to be installed before it can be computed here; "" where it is ready.
    """

    name: str
    unit: str
    direction: Literal["lower", "higher"]
    statistics: Callable[[Answers], Floats]
    of: Callable[[Floats], Floats]
    signature: Callable[[Answers], str]
    source: str = ""
    needs: Callable[[], str] = lambda: ""

    decoded: ClassVar[bool] = True

    def grade(self, answers: Answers, level: float = LEVEL, draws: int = DRAWS) -> Graded:
        """Score answers, with a bootstrap interval over examples (fixed seed).

        Raises:
            Refused: something it needs is not installed; says what to install.
        """
        statistics = self.statistics(answers)
        low, high = bounds(self.of(resampled(statistics, draws)), level)
        score = Score(
            metric=self.name,
            value=float(self.of(statistics.sum(0, keepdims=True))[0]),
            unit=self.unit,
            direction=self.direction,
            n=len(answers),
            low=low,
            high=high,
            level=level,
            signature=f"{self.name}|{self.signature(answers)}|{answers.how}|n:{len(answers)}",
        )
        return Graded(score, self.of(statistics))


def with_count(values: Floats) -> Floats:
    """Statistics of a mean: each value beside a one, (examples, 2)."""
    return np.stack([values, np.ones_like(values)], 1)


def mean(totals: Floats) -> Floats:
    """Means from totals of ``with_count``."""
    out: Floats = totals[:, 0] / totals[:, 1]
    return out
