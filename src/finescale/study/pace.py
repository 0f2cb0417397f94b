"""How long steps take: measured seconds per planned FLOP, by kind of step.

A plan counts every example at full length and no early stop; what steps really took corrects for that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from finescale.study import index
from finescale.study.plan import Kind, Plan, Step
from finescale.study.store import Store

LIKE: dict[Kind, Kind] = {"run": "rate", "rate": "run"}


class Pace:
    """Totals of planned FLOPs and measured seconds of the steps seen."""

    def __init__(self) -> None:
        self.flops: dict[Kind, float] = defaultdict(float)
        self.seconds: dict[Kind, float] = defaultdict(float)

    def add(self, step: Step, seconds: float) -> None:
        """Learn from a step that took so many seconds."""
        self.flops[step.kind] += step.flops
        self.seconds[step.kind] += seconds

    def estimate(self, work: dict[Kind, float]) -> float | None:
        """Seconds of one worker for planned FLOPs by kind; None while nothing was measured.

        A kind not seen yet is taken at the pace of the one most like it, else of all others together.
        """
        seen = [kind for kind, flops in self.flops.items() if flops]
        if not seen:
            return None
        overall = sum(self.seconds[kind] for kind in seen) / sum(self.flops[kind] for kind in seen)
        rates = {kind: self.seconds[kind] / self.flops[kind] for kind in seen}
        return sum(flops * rates.get(kind, rates.get(LIKE.get(kind, kind), overall)) for kind, flops in work.items())


def work_of(steps: Iterable[Step]) -> dict[Kind, float]:
    """Planned FLOPs by kind."""
    work: dict[Kind, float] = defaultdict(float)
    for step in steps:
        work[step.kind] += step.flops
    return work


def measured(store: Store, plan: Plan) -> Pace:
    """The pace of a study's finished steps."""
    pace, seen = Pace(), index.fresh(store, plan).records
    for id, seconds in zip(seen["id"].to_pylist(), seen["seconds"].to_pylist(), strict=True):
        if seconds is not None:
            pace.add(plan.steps[id], seconds)
    return pace
