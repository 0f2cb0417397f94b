"""What a plan costs, and what its design can and cannot identify, before anything is run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import ceil, log10
from typing import Any

from finescale import registry
from finescale.lab import probes
from finescale.lab.ladder import LIBRARIES
from finescale.study.cost import step_memory
from finescale.study.families import checkpoint, params_of, repositories
from finescale.study.lock import Study
from finescale.study.pace import measured, work_of
from finescale.study.plan import Kind, Plan, Step, size_label
from finescale.study.relate import context_of, widths_of
from finescale.study.run import cores
from finescale.study.show import duration
from finescale.study.space import needed
from finescale.study.spec import StudySpec

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
    """A plan in numbers.

    Attributes:
        steps: how many by kind; ``done`` of them are.
        flops: at most, of pretraining and of finetuning.
        seconds: wall time for what is left, None while nothing of the study was measured and no speed was given.
        paced_by: what ``seconds`` is reckoned from.
        workers: processes at a time.
        memory: estimated bytes of the largest step of each kind; all workers may hold as much at a time.
        memory_parts: the same by what they are for.
        least_memory: what the largest step needs at least, each batch worked through in parts.
        device_gb: what a device holds, by ``[run] memory_gb``; None where that is not said.
        devices: how many such devices hold the least; empty where that is not said.
        disk: estimated bytes of all records, and of the weights that runs keep.
        usd: price of the device time left, where a price and the time are known.
        spans, notes: what the design can and cannot identify.
    """

    steps: dict[str, int]
    done: int
    flops: dict[str, float]
    seconds: float | None
    paced_by: str
    workers: int
    memory: dict[str, int]
    memory_parts: dict[str, dict[str, int]]
    least_memory: dict[str, int]
    device_gb: float | None
    devices: dict[str, int]
    disk: int
    usd: float | None
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
        room = "\n".join([*self._room(), f"disk: about {_bytes(self.disk)}"])
        design = "\n".join(f"  {line}" for line in [*map(str, self.spans), *self.notes])
        done = f"{self.done} of {sum(self.steps.values())} steps done"
        return f"{counts}; {done}\n{work}; {self._time()}\n{room}\nThe design\n{design}"

    def _room(self) -> Iterator[str]:
        """Memory of each kind of step by part, and how many devices the least of it takes where one is too few."""
        for kind, size in self.memory.items():
            if not size:
                continue
            parts = ", ".join(f"{name} {_bytes(part)}" for name, part in self.memory_parts[kind].items())
            yield f"memory by estimate: {_bytes(size)} a {kind} ({parts})"
            if self.device_gb is not None and size > self.device_gb * 1e9:
                least = f"{_bytes(self.least_memory[kind])} with each batch worked through in parts"
                yield f"  {least}: {self.devices[kind]:,} devices of {self.device_gb:g} GB at the least"

    def _time(self) -> str:
        if self.done == sum(self.steps.values()):
            return "nothing is left to do"
        if self.seconds is None:
            return "time unknown until the first steps are measured, or [run] tflops says what a worker keeps up"
        price = "" if self.usd is None else f", {self.usd:,.2f} USD"
        return f"about {duration(self.seconds)} left on {self.workers} workers{price}, {self.paced_by}"


def summarise(study: Study) -> Summary:
    """Count, cost and judge a study's plan."""
    plan, store, spec = study.plan, study.store, study.spec
    finished = store.finished(plan)
    work = work_of(plan.steps.values())
    workers = spec.run.workers or cores()
    left = work_of(step for step in plan.steps.values() if step.id not in finished)
    core_seconds, paced_by = _pace(study, left)
    hourly, device = spec.budget.usd_per_device_hour, spec.run.memory_gb
    parts, at_least = (_memory(plan, whole, spec.run.gradient_checkpointing) for whole in (True, False))
    least = {kind: sum(need.values()) for kind, need in at_least.items()}
    return Summary(
        steps={kind: len(plan.of(kind)) for kind in ("data", "base", "rate", "run")},
        done=len(finished),
        flops={"base": work["base"], "finetune": work["rate"] + work["run"]},
        seconds=None if core_seconds is None else core_seconds / workers,
        paced_by=paced_by,
        workers=workers,
        memory={kind: sum(need.values()) for kind, need in parts.items()},
        memory_parts=parts,
        least_memory=least,
        device_gb=device,
        devices={} if device is None else {kind: ceil(size / (device * 1e9)) for kind, size in least.items()},
        disk=needed(study),
        usd=None if core_seconds is None or hourly is None else core_seconds / 3600 * hourly,
        spans=tuple(_spans(study)),
        notes=tuple(_notes(spec)),
    )


def _pace(study: Study, left: dict[Kind, float]) -> tuple[float | None, str]:
    """Seconds of one worker for what is left, and what they are reckoned from."""
    seconds = measured(study.store, study.plan).estimate(left)
    if seconds is not None:
        return seconds, "by the steps done so far"
    if (tflops := study.spec.run.tflops) is not None:
        return sum(left.values()) / (tflops * 1e12), f"if a worker keeps up {tflops:g} TFLOP/s"
    return None, ""


def _memory(plan: Plan, whole: bool, checkpointing: bool) -> dict[str, dict[str, int]]:
    """Bytes of the step of each kind that needs most, by part; none of what is not made here."""
    bases: list[Any] = [step.spec for step in plan.of("base")]
    shapes = {base.fingerprint(): base.shape for base in bases}
    data: Any = plan.of("data")[0].spec
    found: dict[str, dict[str, int]] = {}
    for kind, steps in (("base", plan.of("base")), ("run", plan.of("run"))):
        unlike = {_cell(step): step.spec for step in steps}.values()
        asked = [step_memory(spec, shapes, data.probes, whole, checkpointing) for spec in unlike]
        needs = [need for need in asked if need is not None]
        largest = max(needs, key=lambda need: need.total, default=None)
        found[kind] = {} if largest is None else asdict(largest) | {"libraries": LIBRARIES}
    return found


def _cell(step: Step) -> object:
    """What decides a step's memory: runs that differ in examples and seed alone hold as much."""
    spec: Any = step.spec
    return (spec.base, spec.task.name, spec.method.model_dump_json()) if step.kind == "run" else step.id


def _spans(study: Study) -> Iterator[Span]:
    spec, plan = study.spec, study.plan
    held = spec.fit.hold_out or {}
    bases: list[Any] = [step.spec for step in plan.of("base")]
    examples = {level for name in spec.methods for task in spec.finetune.tasks for level in spec.examples(name, task)}
    found: dict[str, set[int]] = {
        "examples": examples,
        "model_params": {params_of(base).non_embedding for base in bases},
        "pretrain_tokens": {base.pretrain_tokens for base in bases if base.pretrain_tokens},
    }
    for factor, levels in found.items():
        if levels:
            yield Span(factor, "", tuple(map(float, sorted(levels))), held.get(factor, 0))
    for name, choice in spec.methods.items():
        if choice.sizes:
            method, form = registry.get("method", name), bases[0].shape
            levels = {method.pet_params(form, size) for size in choice.sizes}
            yield Span("pet_params", name, tuple(map(float, sorted(levels))), held.get("pet_params", 0))


def _notes(spec: StudySpec) -> Iterator[str]:
    if len(spec.finetune.seeds) == 1:
        yield "one seed a cell: the noise between runs can only be judged from how far they lie off the law"
    if not spec.fit.hold_out:
        yield "nothing is held out: forecasts will be untested"
    if spec.one_factor is not None:
        where = ", ".join(spec.one_factor.bases)
        tokens = size_label(spec.centre_tokens)
        yield f"one factor at a time: all but the base varies on {where} alone, around {tokens} pretraining tokens"
    if spec.base.pretraining == "checkpoints":
        yield "checkpoints of one run are not annealed: what looks like pretraining size is in part the learning rate"
    yield from _unannealed(spec)
    yield from _refused_metrics(spec)
    yield from _idle_ranks(spec)
    yield from _long_probes(spec)
    if (price := spec.budget.usd_per_1000_examples) is not None:
        most = max(max(spec.examples(name, task)) for name in spec.methods for task in spec.finetune.tasks)
        yield f"{most:,} examples of one task cost {most / 1000 * price:,.2f} USD"


def _unannealed(spec: StudySpec) -> Iterator[str]:
    known = [checkpoint(name) for name in spec.base.models if name.partition("@")[0] in repositories()]
    if open_ended := sum(not one.annealed for one in known):
        yield (
            f"{open_ended} of {len(known)} revisions are on the way of a run, not annealed: "
            "what looks like pretraining size is in part the learning rate"
        )


def _refused_metrics(spec: StudySpec) -> Iterator[str]:
    for name in spec.evaluate.metrics:
        metric = registry.get("metric", name)
        if metric.decoded and (needed := metric.needs()):
            yield f"{name} will be refused as it is: {needed}"


def _idle_ranks(spec: StudySpec) -> Iterator[str]:
    for name, choice in spec.methods.items():
        ranks = choice.sizes if registry.get("method", name).size_word == "rank" else ()
        for base, width in widths_of(spec.base).items():
            if beyond := [str(rank) for rank in ranks if rank > width]:
                yield (
                    f"{name} of rank {', '.join(beyond)} is beyond the width of {base} ({width}): "
                    f"there it can do no more than rank {width}"
                )


def _long_probes(spec: StudySpec) -> Iterator[str]:
    context = context_of(spec.base)
    for name in dict.fromkeys(name for task in spec.finetune.tasks for name in spec.probes(task)):
        if (taken := probes.parse(name).shots * probes.USUAL_SHOT) > context / 2:
            yield (
                f"{name}: demonstrations take about {taken} of {context} tokens; "
                "questions too long for the rest are left out"
            )


def _bytes(size: float) -> str:
    """Bytes in three digits and a unit."""
    for unit, letters in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size >= 0.97 * unit:
            return f"{size / unit:.3g} {letters}"
    return f"{size:.0f} B"
