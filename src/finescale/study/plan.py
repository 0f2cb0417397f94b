"""A study's plan: its steps, what each needs and what each costs.

The plan is a pure function of the spec and the digests of its data. A step's id ends in the fingerprint of what it
*is*, so that a wider grid only adds steps and every record made before keeps its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal

from pydantic import Field

from finescale import registry
from finescale.core import (
    BaseSpec,
    DataSpec,
    EvaluateSpec,
    ModelDataSpec,
    Noun,
    PublicBase,
    RateSearch,
    RunSpec,
    TaskSpec,
    canonical_json,
)
from finescale.lab import probes
from finescale.lab.ladder import train_flops
from finescale.study.cost import evaluate_flops, finetune_flops, pretrain_work
from finescale.study.families import params_of
from finescale.study.files import FileTask
from finescale.study.grid import Cell, cells, sizes_of
from finescale.study.shapes import shape_of
from finescale.study.spec import StudySpec

Kind = Literal["data", "base", "rate", "run"]
Size = tuple[str, int]
"""A rung (or model) at a number of pretraining tokens."""


class Digests(Noun):
    """Identity of the data a study reads."""

    corpus: str
    tasks: dict[str, str]
    models: dict[str, PublicBase] = Field(default={})
    chat: str = Field(default="", description="identity of the models' chat template, where a task is written by it")


@dataclass(frozen=True)
class Step:
    """One unit of work. ``needs`` maps the role a needed step plays here to its id."""

    id: str
    kind: Kind
    label: str
    spec: Noun
    needs: dict[str, str]
    flops: float = field(compare=False)


@dataclass(frozen=True)
class Plan:
    """All steps of a study by id; a step comes after those it needs."""

    steps: dict[str, Step]

    def of(self, kind: Kind) -> list[Step]:
        """Steps of one kind, in order."""
        return [step for step in self.steps.values() if step.kind == kind]

    def trusts_base_of(self, step: Step) -> bool:
        """Whether the code that a step's base brings may be run, as the study says of that base."""
        needed = self.steps.get(step.needs.get("base", ""))
        return needed is not None and isinstance(needed.spec, PublicBase) and needed.spec.trust_remote_code


def make_plan(spec: StudySpec, digests: Digests) -> Plan:
    """The plan of a study; pure, and quick enough for 100,000 runs."""
    return Plan({step.id: step for step in _Planner(spec, digests).steps()})


def size_label(number: float) -> str:
    """A count in at most three digits and a letter: 500, 2.5K, 8M."""
    for unit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= unit:
            return f"{number / unit:.3g}{letter}"
    return f"{number:.3g}"


def _safe(label: str) -> str:
    """A label as the name of a folder that cannot leave the study."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", label).lstrip(".-")


def _step(kind: Kind, label: str, spec: Noun, needs: dict[str, str], flops: float) -> Step:
    return Step(f"{_safe(label)}-{spec.fingerprint()}", kind, label, spec, needs, flops)


class _Planner:
    """Holds what the steps of one study share, so that each step is cheap to make."""

    def __init__(self, spec: StudySpec, digests: Digests) -> None:
        self.spec, self.digests = spec, digests
        self.tasks = {name: self._task(name) for name in spec.finetune.tasks}
        self.probes = {
            name: probes.parse(name, spec.evaluate.probe_examples).model_copy(
                update={"digest": digests.tasks.get(name)}
            )
            for name in dict.fromkeys(name for task in self.tasks for name in spec.probes(task))
        }
        self.models = {name: digests.models.get(name) or spec.base.published(name) for name in spec.base.models}
        self.bases: dict[Size, Step] = {}
        self.searches: dict[tuple[object, ...], Step] = {}

    @cached_property
    def data(self) -> Step:
        spec, text = self.spec, self.spec.data.corpus != "none"
        others = (name for name in spec.task_names if name not in self.tasks)
        made = DataSpec(
            corpus=f"{spec.data.corpus}/{spec.data.tier}" if text else "none",
            corpus_digest=self.digests.corpus,
            languages=spec.base.languages if text else (),
            vocab=spec.base.vocab,
            context=spec.base.context,
            stream_tokens=spec.data.stream_tokens if text else 1,
            tasks=(*self.tasks.values(), *map(self._task, others)),
            probes=tuple(self.probes.values()),
        )
        words = {model.tokenizer for model in self.models.values()}
        if words:
            made = ModelDataSpec(**made.model_dump(), tokenizer=words.pop())
        label = f"{spec.data.corpus}-{spec.data.tier}" if text else "own"
        return _step("data", label, made, {}, 0.0)

    def steps(self) -> Iterator[Step]:
        yield self.data
        self.bases = dict(self._bases())
        yield from self.bases.values()
        grid = list(cells(self.spec, self.bases))
        rates = [self._rate(cell) for cell in grid]
        yield from self.searches.values()
        for cell, rate in zip(grid, rates, strict=True):
            yield from self._runs(cell, rate)

    def _bases(self) -> Iterator[tuple[Size, Step]]:
        for name, model in self.models.items():
            row = min(model.shape.context, self.spec.base.context)
            asked = {"shape": model.shape.model_copy(update={"context": row}), "precision": self.spec.base.precision}
            model = model.model_copy(update=asked)
            tokens = model.pretrain_tokens or 0
            label = f"{model.name.rpartition('/')[2]}-{size_label(tokens) if tokens else model.revision}"
            yield (model.name if tokens else name, tokens), _step("base", label, model, {}, 0.0)
        for rung in self.spec.base.ladder:
            yield from self._sizes(rung)

    def _sizes(self, rung: str) -> Iterator[tuple[Size, Step]]:
        """A rung at each of its sizes, smallest first; unless each is a run of its own, a larger size goes on from the
        next smaller one."""
        asked = self.spec.base
        sizes = sorted(sizes_of(rung, self.spec))
        alone = asked.pretraining == "separate"
        recipe = asked.recipe.model_copy(
            update={"schedule": "branches" if asked.pretraining == "branches" else "cosine"}
        )
        needs, before = {"data": self.data.id}, 0
        for tokens in sizes:
            longest = max(asked.pretrain_tokens) if asked.pretraining == "checkpoints" else tokens
            base = BaseSpec(
                name=rung,
                shape=shape_of(rung, asked),
                data=self._data.text_fingerprint(),
                pretrain_tokens=tokens,
                scheduled_tokens=longest if longest > tokens else None,
                recipe=recipe,
                seed=asked.seed,
            )
            flops = train_flops(base.shape, pretrain_work(tokens, before, recipe))
            step = _step("base", f"{rung}-{size_label(tokens)}", base, needs, flops)
            yield (rung, tokens), step
            if not alone:
                needs, before = {"data": self.data.id, "previous": step.id}, tokens

    @property
    def _data(self) -> DataSpec:
        assert isinstance(self.data.spec, DataSpec)
        return self.data.spec

    def _rate(self, cell: Cell) -> Step | float:
        """The search for a cell's rate, or the rate itself where the study names one."""
        choice, search = self.spec.methods[cell.method], self.spec.rate_search
        if len(choice.rates) == 1:
            return choice.rates[0]
        place = (cell.rung, cell.tokens) if search.per == "base" else self._search_place()
        sizes = choice.sizes or (None,)
        size = cell.size if search.per == "pet-size" else sizes[0]
        task = cell.task if search.per == "task" else self.spec.finetune.tasks[0]
        key = (cell.method, size, place, task)
        if key not in self.searches:
            self.searches[key] = self._search(cell.method, size, place, self.tasks[task])
        return self.searches[key]

    def _search_place(self) -> Size:
        """The base that rates are searched on: the rung asked for, at the size where other factors vary."""
        asked = self.spec.rate_search.base
        named = [place for place in self.bases if asked in ("smallest", place[0])]
        rung = min(named, key=lambda place: params_of(_base(self.bases[place])).total)[0]
        centre = self.spec.centre_tokens
        at = [tokens for name, tokens in self.bases if name == rung]
        return rung, centre if centre in at else at[0]

    def _search(self, name: str, size: int | None, place: Size, task: TaskSpec) -> Step:
        spec, base = self.spec, self.bases[place]
        method = spec.methods[name].method(name, size)
        rate = RateSearch(
            base=base.spec.fingerprint(),
            task=task,
            method=method,
            recipe=spec.recipe(name, spec.epochs[0]),
            examples=spec.rate_search.examples,
            grid=spec.methods[name].rates,
            seed=spec.rate_search.seed,
        )
        each = finetune_flops(_base(base).shape, task, method, rate.recipe, rate.examples)
        per = spec.rate_search.per
        many = str(size or "") if per == "pet-size" else ""
        where = {"task": f"-{task.name}", "base": f"-{size_label(place[1])}"}.get(per, "")
        label = f"{name}{many}-{place[0].rpartition('/')[2]}{where}"
        return _step("rate", label, rate, {"data": self.data.id, "base": base.id}, each * len(rate.grid))

    def _runs(self, cell: Cell, rate: Step | float) -> Iterator[Step]:
        """The runs of one cell: every number of examples, once per seed."""
        spec, base = self.spec, self.bases[cell.rung, cell.tokens]
        task, choice = self.tasks[cell.task], spec.methods[cell.method]
        needs = {"data": self.data.id, "base": base.id} | ({"rate": rate.id} if isinstance(rate, Step) else {})
        method = choice.method(cell.method, cell.size)
        first = RunSpec(
            base=base.spec.fingerprint(),
            task=task,
            method=method,
            learning_rate=rate.spec.fingerprint() if isinstance(rate, Step) else rate,
            examples=1,
            seed_subset=0,
            seed_init=0,
            seed_order=0,
            recipe=spec.recipe(cell.method, cell.epochs),
            evaluate=self._evaluate(cell.task),
        )
        shape = _base(base).shape
        tested = evaluate_flops(shape, first, (self.probes[name] for name in first.evaluate.probes))
        epochs = "" if cell.epochs is None else f"-e{cell.epochs:g}"
        label = _safe(f"{task.name}-{method.name}{cell.size or ''}-{base.label}{epochs}")
        quick = _Fingerprints(first)
        for examples in spec.examples(cell.method, cell.task):
            flops = finetune_flops(shape, task, method, first.recipe, examples) + tested
            for seed in spec.finetune.seeds:
                level = {"examples": examples, "seed_subset": seed, "seed_init": seed, "seed_order": seed}
                name = f"{label}-n{examples}-s{seed}"
                yield Step(f"{name}-{quick.of(level)}", "run", name, first.model_copy(update=level), needs, flops)

    def _evaluate(self, task: str) -> EvaluateSpec:
        """What the runs of a task are scored by, in an order that does not depend on how the study lists it."""
        asked = self.spec.evaluate
        metrics = [name for name in asked.metrics if registry.get("metric", name).decoded]
        return EvaluateSpec(
            metrics=tuple(sorted(metrics)),
            decoded=asked.decoded,
            beams=asked.beams,
            probes=(names := tuple(sorted(self.spec.probes(task)))),
            digests={name: digest for name in names if (digest := self.probes[name].digest) is not None},
        )

    def _task(self, name: str) -> TaskSpec:
        spec, own = self.spec, self.spec.tasks.get(name)
        sizes: dict[str, Any] = {key: getattr(spec.finetune, key) for key in ("dev_examples", "test_examples")}
        if isinstance(own, FileTask):
            shared = own.model_dump(
                include={"template", "target", "max_source_tokens", "max_target_tokens", "languages", "chat"}
            )
            shared["rendering"] = self.digests.chat if own.chat else ""
            return TaskSpec(name=name, source="jsonl", digest=self.digests.tasks[name], **sizes, **shared)
        built_in = registry.get("task", name)
        languages = (own.languages if own else ()) or built_in.languages_in(spec.data.tier)
        digest = self.digests.corpus if built_in.origin == "corpus" else self.digests.tasks[name]
        made: TaskSpec = built_in.spec(digest=digest, languages=languages, **sizes)
        limits = own.model_dump(include={"max_source_tokens", "max_target_tokens"}, exclude_none=True) if own else {}
        return made.model_copy(update=limits)


def _base(step: Step) -> BaseSpec | PublicBase:
    assert isinstance(step.spec, BaseSpec | PublicBase)
    return step.spec


class _Fingerprints:
    """Fingerprints of nouns that differ in whole-number fields: the canonical JSON of the others is made once."""

    def __init__(self, noun: Noun) -> None:
        self.parts = {key: canonical_json(value) for key, value in sorted(noun.model_dump(mode="json").items())}

    def of(self, changed: dict[str, int]) -> str:
        parts = self.parts | {key: str(value) for key, value in changed.items()}
        text = ",".join(f'"{key}":{value}' for key, value in parts.items())
        return sha256(f"{{{text}}}".encode()).hexdigest()[:12]
