"""What a plan costs, and what its design can and cannot identify, before anything is run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import log10
from typing import Any

from finescale import registry
from finescale.lab.ladder import count, shape
from finescale.study.config import StudySpec
from finescale.study.lock import Study
from finescale.study.pace import measured, work_of
from finescale.study.plan import size_label
from finescale.study.run import cores
from finescale.study.show import duration

ENOUGH_DECADES = {"model_params": 1.0, "pretrain_tokens": 1.0, "pet_params": 1.0, "examples": 1.5}
ENOUGH_LEVELS = {"model_params": 3, "pretrain_tokens": 3, "pet_params": 3, "examples": 4}
WHAT = {
    "model_params": "how loss falls with the size of the base",
    "pretrain_tokens": "how loss falls with pretraining",
    "pet_params": "how loss falls with the PET size",
    "examples": "the exponent of the examples and the floor E",
}


@dataclass(frozen=True)
class Span:
    """Levels of a factor: how many there are and how many are left once the held-out ones are gone."""

    factor: str
    of: str
    levels: tuple[float, ...]
    held_out: int

    @property
    def left(self) -> tuple[float, ...]:
        """Levels the fit sees."""
        return self.levels[: len(self.levels) - self.held_out]

    @property
    def decades(self) -> float:
        """Powers of ten between the smallest and the largest level the fit sees."""
        return log10(self.left[-1] / self.left[0])

    @property
    def verdict(self) -> str:
        """What the fit can learn from these levels, in words."""
        what, left = WHAT[self.factor], len(self.left)
        if left < 2:
            return f"cannot tell {what}: one level"
        if left < ENOUGH_LEVELS[self.factor]:
            return f"can hardly tell {what}: {left} levels to fit, {ENOUGH_LEVELS[self.factor]} are the least for it"
        if self.decades < ENOUGH_DECADES[self.factor]:
            wanted = ENOUGH_DECADES[self.factor]
            return f"may not tell {what}: {self.decades:.1f} decades to fit, {wanted:g} or more are advised"
        return f"can tell {what}: {left} levels over {self.decades:.1f} decades"

    def __str__(self) -> str:
        listed = ", ".join(size_label(level) for level in self.levels)
        held = f" (largest {self.held_out} held out)" if self.held_out else ""
        return f"{self.factor}{f' of {self.of}' if self.of else ''}: {listed}{held}: {self.verdict}"


@dataclass(frozen=True)
class Summary:
    """A plan in numbers; ``seconds`` is wall time for what is left, None while nothing of the study was measured."""

    steps: dict[str, int]
    done: int
    flops: dict[str, float]
    seconds: float | None
    workers: int
    spans: tuple[Span, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, verdicts included."""
        spans = [asdict(span) | {"decades": span.decades, "verdict": span.verdict} for span in self.spans]
        return asdict(self) | {"spans": spans}

    def __str__(self) -> str:
        names = {"base": "bases", "rate": "learning-rate searches", "run": "finetuning runs"}
        counts = ", ".join(f"{name}: {self.steps[kind]}" for kind, name in names.items())
        work = f"at most {self.flops['base']:.2g} FLOPs of pretraining, {self.flops['finetune']:.2g} of finetuning"
        if self.done == sum(self.steps.values()):
            time = "nothing is left to do"
        elif self.seconds is None:
            time = "time unknown until the first steps are measured"
        else:
            time = f"about {duration(self.seconds)} left on {self.workers} workers, by the steps done so far"
        design = "\n".join(f"  {line}" for line in [*map(str, self.spans), *self.notes])
        return f"{counts}; {self.done} of {sum(self.steps.values())} steps done\n{work}; {time}\nThe design\n{design}"


def summarise(study: Study) -> Summary:
    """Count, cost and judge a study's plan."""
    plan, store, spec = study.plan, study.store, study.spec
    finished = store.finished(plan)
    work = work_of(plan.steps.values())
    workers = spec.run.workers or cores()
    left = measured(store, plan).estimate(work_of(step for step in plan.steps.values() if step.id not in finished))
    return Summary(
        steps={kind: len(plan.of(kind)) for kind in ("data", "base", "rate", "run")},
        done=len(finished),
        flops={"base": work["base"], "finetune": work["rate"] + work["run"]},
        seconds=None if left is None else left / workers,
        workers=workers,
        spans=tuple(_spans(spec)),
        notes=tuple(_notes(spec)),
    )


def _spans(spec: StudySpec) -> Iterator[Span]:
    held = spec.fit.hold_out or {}
    shapes = [shape(rung, spec.base.vocab, spec.base.context) for rung in spec.base.ladder]
    sizes = sorted(float(count(one).non_embedding) for one in shapes)
    yield Span("examples", "", tuple(map(float, sorted(spec.finetune.examples))), held.get("examples", 0))
    yield Span("model_params", "", tuple(sizes), held.get("model_params", 0))
    tokens = tuple(map(float, sorted(spec.base.pretrain_tokens)))
    yield Span("pretrain_tokens", "", tokens, held.get("pretrain_tokens", 0))
    for name, choice in spec.methods.items():
        if choice.sizes:
            method = registry.get("method", name)
            levels = sorted(float(method.pet_params(shapes[0], size)) for size in choice.sizes)
            yield Span("pet_params", name, tuple(levels), held.get("pet_params", 0))


def _notes(spec: StudySpec) -> Iterator[str]:
    if len(spec.finetune.seeds) == 1:
        yield "one seed a cell: the noise between runs can only be judged from how far they lie off the law"
    if not spec.fit.hold_out:
        yield "nothing is held out: forecasts will be untested"
