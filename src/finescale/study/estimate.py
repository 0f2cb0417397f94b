"""What a study's runs take here: memory in closed form, time from real steps that are made and thrown away, price."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from finescale.core import PublicBase, RateSearch, RunSpec
from finescale.errors import StudyError
from finescale.lab.ladder import LIBRARIES, Memory, count, train_flops
from finescale.study import store
from finescale.study.backends import Setup
from finescale.study.backends.local import LocalBackend
from finescale.study.cost import EVALUATED, packed_rows, tuning_memory
from finescale.study.families import params_of
from finescale.study.files import FileTask
from finescale.study.lock import Study, write_lock
from finescale.study.plan import Step
from finescale.study.run import WORK, cores
from finescale.study.table import base_label

TIMING = "finescale.study.timing:work"
LENGTHS = (128, 256, 512, 1024, 2048, 4096)
SECONDS_PER_LOOK = 1.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Cell:
    """Runs that differ in examples and seed alone.

    Attributes:
        base, task, method: what they have in common; the method with its PET size.
        memory: of a run, bytes by what they are for; ``libraries`` among them.
        by_length: bytes of a run by the tokens of every example, up to what the model reads.
        peak: bytes that the probe held at its peak.
        step: seconds of a training step, wall and processor.
        seconds: wall seconds of a run by its number of examples, where it does not stop early.
        cpu_seconds: the same in processor seconds.
        runs: how many runs there are of each size.
    """

    base: str
    task: str
    method: str
    memory: dict[str, int]
    by_length: dict[int, int]
    peak: int | None
    step: tuple[float, float]
    seconds: dict[int, float]
    cpu_seconds: dict[int, float]
    runs: int

    @property
    def bytes(self) -> int:
        """All of a run's memory."""
        return sum(self.memory.values())

    @property
    def total(self) -> float:
        """Seconds of all its runs."""
        return self.runs * sum(self.seconds.values())


@dataclass(frozen=True)
class Estimate:
    """A study's cells, and its seconds of one worker by kind of step; ``usd`` is None where no hour has a price."""

    cells: tuple[Cell, ...]
    seconds: dict[str, float]
    workers: int
    usd: float | None

    @property
    def total(self) -> float:
        """Seconds of one worker for everything."""
        return sum(self.seconds.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        more = {"total_seconds": self.total}
        return asdict(self) | more | {"cells": [asdict(one) | {"bytes": one.bytes} for one in self.cells]}


def estimate(study: Study, tell: Tell = lambda line: None) -> Estimate:
    """Reckon memory, time and price of a study from twenty real steps of each of its cells, in a folder thrown away.

    What the study has prepared already is used; models are brought in as a run would bring them, and bases that are
    not pretrained yet are drawn at random. Nothing is written to the study.

    Raises:
        StudyError: a step of the probe failed.
    """
    with TemporaryDirectory(prefix="finescale-") as aside:
        probe = _Probe(_moved(study, Path(aside)), study, tell)
        try:
            return probe.estimate()
        finally:
            probe.backend.close()


def _moved(study: Study, aside: Path) -> Study:
    """The study in a folder of its own, its files named by whole paths; ids of steps are the same."""
    tasks: dict[str, Any] = {}
    for name, task in study.spec.tasks.items():
        keys = ("file", "dev", "test") if isinstance(task, FileTask) else ("mirror",)
        named = {key: getattr(task, key) for key in keys if getattr(task, key) is not None}
        whole = {key: str((study.folder / Path(path).expanduser()).absolute()) for key, path in named.items()}
        tasks[name] = task.model_copy(update=whole)
    moved = replace(study, folder=aside, spec=study.spec.model_copy(update={"tasks": tasks}))
    write_lock(moved)
    return moved


class _Probe:
    """One session of timing: real steps in processes as a study's own, one at a time."""

    def __init__(self, study: Study, origin: Study, tell: Tell) -> None:
        self.study, self.origin, self.tell = study, origin, tell
        preload = (WORK.partition(":")[0], TIMING.partition(":")[0])
        self.backend = LocalBackend(Setup(preload=preload, folder=study.folder))
        self.bases: dict[str, Step] = {step.spec.fingerprint(): step for step in study.plan.of("base")}
        self.checkpointing = study.spec.run.gradient_checkpointing
        self.places: dict[str, Path] = {}
        self.found: dict[tuple[str, str, str], dict[str, Any]] = {}

    def estimate(self) -> Estimate:
        """Everything, cell by cell."""
        plan, spec = self.study.plan, self.study.spec
        setting_up = self._ready(plan.of("data")[0])
        there = (
            step for step in plan.of("base") if isinstance(step.spec, PublicBase) or self.origin.store.arrived(step)
        )
        setting_up += sum(map(self._ready, there))
        cells = tuple(self._cell(steps) for steps in _cells(plan.of("run")))
        seconds = {
            "data and models": setting_up,
            "pretraining": sum(map(self._pretraining, plan.of("base"))),
            "learning-rate searches": sum(map(self._search, plan.of("rate"))),
            "untouched bases": sum(map(_untouched, self.found.values())),
            "runs": sum(cell.total for cell in cells),
        }
        hourly = spec.budget.usd_per_device_hour
        usd = None if hourly is None else sum(seconds.values()) / 3600 * hourly
        return Estimate(cells, seconds, spec.run.workers or cores(), usd)

    def _ready(self, step: Step) -> float:
        """Have a step's folder, from the study itself or made here; seconds it took."""
        place, there = self.study.store.done(step), self.origin.store.done(step)
        self.places[step.id] = there.resolve() if there.is_dir() else place
        if there.is_dir():
            return 0.0
        self.tell(f"{step.label} is prepared.")
        began = perf_counter()
        self.study.store.begin(step)
        self._do(WORK, step.id)
        if not place.is_dir():
            failure = self.study.store.failure(step)
            raise StudyError(f"{step.label} could not be prepared: {failure.message if failure else 'it was ended'}")
        return perf_counter() - began

    def _do(self, function: str, id: str) -> int | None:
        """Do one piece of work in a process of its own; the most bytes it held."""
        self.backend.submit(function, str(self.study.folder), id)
        while not (ended := self.backend.poll(SECONDS_PER_LOOK)):
            pass
        return ended[0].peak_memory_bytes

    def _cell(self, steps: list[Step]) -> Cell:
        run: Any = steps[0].spec
        base = self.bases[run.base]
        spec: Any = base.spec
        method = run.method.name + (f"-{run.method.pet_size}" if run.method.pet_size else "")
        self.tell(f"{method} on {base.label}, {run.task.name}: 20 steps are timed.")
        id = f"{len(self.found)}"
        asked = {
            "spec": run.model_dump(mode="json"),
            "data": str(self.places[self.study.plan.of("data")[0].id]),
            "base": str(self.places.get(base.id, self.study.store.done(base))),
            "shape": spec.shape.model_dump(),
            "opening": {"trust": self.study.plan.trusts_base_of(steps[0]), "checkpointing": self.checkpointing}
            | {"device_map": self.study.spec.run.device_map},
        }
        store.write_json(self.study.folder / f"{id}.json", asked, durable=False)
        peak = self._do(TIMING, id)
        path = self.study.folder / f"{id}.found.json"
        if not path.exists():
            raise StudyError(f"{method} on {base.label} could not be timed: its process was ended (see above)")
        found = self.found[_key(run)] = store.read_json(path) | {"decoded": run.evaluate.decoded}
        specs: list[Any] = [step.spec for step in steps]
        sizes = sorted({one.examples for one in specs})
        seconds, cpu = ({n: self._run_seconds(run, found, n, mark) for n in sizes} for mark in ("", "_cpu"))
        most = self._context(spec)
        return Cell(
            base=base_label(spec),
            task=run.task.name,
            method=method,
            memory=_parts(_memory(run, spec, found, self.checkpointing)),
            by_length={
                size: _whole(_memory(run, spec, found, self.checkpointing, size)) for size in LENGTHS if size <= most
            },
            peak=peak,
            step=(found["step"], found["step_cpu"]),
            seconds=seconds,
            cpu_seconds=cpu,
            runs=len(steps) // len(sizes),
        )

    def _context(self, spec: Any) -> int:
        """Tokens that a base reads at a time."""
        models = self.study.digests.models.values()
        known = {model.digest: model.shape.context for model in models}
        return int(known.get(getattr(spec, "digest", ""), spec.shape.context))

    def _run_seconds(self, run: RunSpec, found: dict[str, Any], examples: int, mark: str) -> float:
        """Seconds of one run that does not stop early, its base scored before; ``mark`` chooses the clock."""
        load, step, example, answer = (found[f"{part}{mark}"] for part in ("load", "step", "example", "answer"))
        data: Any = self.study.plan.of("data")[0].spec
        base: Any = self.bases[run.base].spec
        asked, context = [one for one in data.probes if one.name in run.evaluate.probes], base.shape.context
        read = found["test"] + sum(probe.examples * context / found["tokens"] for probe in asked)
        written = run.evaluate.decoded * (1 + sum(probe.kind == "translation" for probe in asked))
        trained = run.recipe.steps(examples) * step + run.recipe.dev_checks * found["dev"] * example
        return float(load + trained + read * example + written * answer)

    def _search(self, step: Step) -> float:
        """Seconds of a learning-rate search that is not widened, at the pace of the cell most like it."""
        spec: Any = step.spec
        assert isinstance(spec, RateSearch)
        like = [found for (base, _, method), found in self.found.items() if (base, method) == _of_search(spec)]
        found = like[0] if like else min(self.found.values(), key=lambda one: float(one["step"]))
        checks = spec.recipe.dev_checks * found["dev"] * found["example"]
        each = found["load"] + spec.recipe.steps(spec.examples) * found["step"] + checks
        return float(len(spec.grid) * each)

    def _pretraining(self, step: Step) -> float:
        """Seconds of pretraining a base that is not there yet, at the pace of the slowest way of finetuning it."""
        if isinstance(step.spec, PublicBase) or self.origin.store.arrived(step):
            return 0.0
        base: Any = step.spec
        runs: list[Any] = [other.spec for other in self.study.plan.of("run") if other.needs["base"] == step.id]
        paces = [
            found["step"] / train_flops(base.shape, found["tokens"] * run.recipe.batch_examples)
            for run, found in ((run, self.found[_key(run)]) for run in runs)
        ]
        return step.flops * max(paces, default=0.0)


def _cells(steps: list[Step]) -> Iterator[list[Step]]:
    """Runs that differ in examples and seed alone, together."""
    cells: dict[tuple[str, str, str], list[Step]] = {}
    for step in steps:
        assert isinstance(step.spec, RunSpec)
        cells.setdefault(_key(step.spec), []).append(step)
    yield from cells.values()


def _key(run: RunSpec) -> tuple[str, str, str]:
    return run.base, f"{run.task.name}-{run.recipe.epochs}", run.method.model_dump_json()


def _of_search(spec: RateSearch) -> tuple[str, str]:
    return spec.base, spec.method.model_dump_json()


def _untouched(found: dict[str, Any]) -> float:
    """Seconds of scoring a base before it is finetuned."""
    return float((found["dev"] + found["test"]) * found["example"] + found["decoded"] * found["answer"])


def _memory(run: RunSpec, base: Any, found: dict[str, Any], checkpointing: bool, each: int | None = None) -> Memory:
    """Memory of a run on its own examples as they are packed, or where all have ``each`` tokens."""
    shape, batch, read = base.shape, found["rows"], found["read_rows"]
    if each is not None:
        shape = shape.model_copy(update={"context": max(shape.context, each)})
        held = min(EVALUATED, max(found["dev"], found["test"]))
        batch, read = (packed_rows(many, each, shape.context) for many in (run.recipe.batch_examples, held))
    beyond = params_of(base).total - count(base.shape).total
    return tuning_memory(shape, run.method, run.recipe, batch, read, found["precision"], beyond, checkpointing)


def _parts(memory: Memory) -> dict[str, int]:
    return asdict(memory) | {"libraries": LIBRARIES}


def _whole(memory: Memory) -> int:
    return memory.total + LIBRARIES
