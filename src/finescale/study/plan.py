"""A study's plan: its steps, what each needs, what each costs, and what the design can and cannot identify.

The plan is a pure function of the spec and the digests of its data. A step's id ends in the fingerprint of what it
*is*, so that a wider grid only adds steps and every record made before keeps its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import product
from typing import Any, Literal

from finescale import registry
from finescale.core import (
    BaseSpec,
    DataSpec,
    FinetuneRecipe,
    MethodSpec,
    Noun,
    PretrainRecipe,
    RateSearch,
    RunSpec,
    Shape,
    TaskSpec,
    canonical_json,
)
from finescale.lab.ladder import count, forward_flops, shape, train_flops
from finescale.study.config import MethodChoice, StudySpec

Kind = Literal["data", "base", "rate", "run"]


class Digests(Noun):
    """Identity of the data a study reads."""

    corpus: str
    tasks: dict[str, str]


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
        self.spec = spec
        self.tasks = {name: _task(name, spec, digests) for name in spec.finetune.tasks}
        self.shapes = {rung: shape(rung, spec.base.vocab, spec.base.context) for rung in spec.base.ladder}
        self.data = DataSpec(
            corpus=f"{spec.data.corpus}/{spec.data.tier}",
            corpus_digest=digests.corpus,
            languages=spec.base.languages,
            vocab=spec.base.vocab,
            context=spec.base.context,
            stream_tokens=spec.data.stream_tokens,
            tasks=tuple(self.tasks.values()),
        )

    def steps(self) -> Iterator[Step]:
        data = _step("data", f"{self.spec.data.corpus}-{self.spec.data.tier}", self.data, {}, 0.0)
        yield data
        bases = {(rung, tokens): step for rung, tokens, step in self._bases(data)}
        yield from bases.values()
        rates = {name: self._rate(name, choice, data, bases) for name, choice in self.spec.methods.items()}
        yield from (rate for rate in rates.values() if isinstance(rate, Step))
        for (rung, _), base in bases.items():
            for name, choice in self.spec.methods.items():
                yield from self._runs(rung, base, name, choice, rates[name], data)

    def _bases(self, data: Step) -> Iterator[tuple[str, int, Step]]:
        """Each rung at each size, smallest first: a larger size goes on from the trunk of the next smaller one."""
        recipe = self.spec.base.recipe
        for rung in self.spec.base.ladder:
            needs, before = {"data": data.id}, 0
            for tokens in sorted(self.spec.base.pretrain_tokens):
                base = BaseSpec(
                    name=rung,
                    shape=self.shapes[rung],
                    data=self.data.text_fingerprint(),
                    pretrain_tokens=tokens,
                    recipe=recipe,
                    seed=self.spec.base.seed,
                )
                flops = train_flops(base.shape, pretrain_work(tokens, before, recipe))
                step = _step("base", f"{rung}-{size_label(tokens)}", base, needs, flops)
                yield rung, tokens, step
                needs, before = {"data": data.id, "previous": step.id}, tokens

    def _rate(self, name: str, choice: MethodChoice, data: Step, bases: dict[tuple[str, int], Step]) -> Step | float:
        """The search for a method's rate, or the rate itself where the study names one."""
        if len(choice.rates) == 1:
            return choice.rates[0]
        search, spec = self.spec.rate_search, self.spec
        rung = search.base if search.base != "smallest" else min(self.shapes, key=lambda r: count(self.shapes[r]).total)
        base = bases[rung, spec.base.pretrain_tokens[0]]
        method = MethodSpec(name=name, pet_size=choice.sizes[0] if choice.sizes else None, options=choice.options)
        task = self.tasks[spec.finetune.tasks[0]]
        rate = RateSearch(
            base=base.spec.fingerprint(),
            task=task,
            method=method,
            recipe=spec.finetune.recipe,
            examples=search.examples,
            grid=choice.rates,
            seed=search.seed,
        )
        each = finetune_flops(self.shapes[rung], task, method, rate.recipe, search.examples, test=False)
        needs = {"data": data.id, "base": base.id}
        return _step("rate", f"{name}-{rung}", rate, needs, each * len(choice.rates))

    def _runs(
        self, rung: str, base: Step, name: str, choice: MethodChoice, rate: Step | float, data: Step
    ) -> Iterator[Step]:
        finetune, where = self.spec.finetune, base.spec.fingerprint()
        needs = {"data": data.id, "base": base.id} | ({"rate": rate.id} if isinstance(rate, Step) else {})
        learning_rate = rate.spec.fingerprint() if isinstance(rate, Step) else rate
        for task, size in product(self.tasks.values(), choice.sizes or (None,)):
            method = MethodSpec(name=name, pet_size=size, options=choice.options)
            first = RunSpec(
                base=where,
                task=task,
                method=method,
                learning_rate=learning_rate,
                examples=1,
                seed_subset=0,
                seed_init=0,
                seed_order=0,
                recipe=finetune.recipe,
            )
            quick, cell = _Fingerprints(first), _safe(f"{task.name}-{name}{size or ''}-{base.label}")
            for examples in finetune.examples:
                flops = finetune_flops(self.shapes[rung], task, method, finetune.recipe, examples)
                for seed in finetune.seeds:
                    level = {"examples": examples, "seed_subset": seed, "seed_init": seed, "seed_order": seed}
                    label = f"{cell}-n{examples}-s{seed}"
                    yield Step(f"{label}-{quick.of(level)}", "run", label, first.model_copy(update=level), needs, flops)


class _Fingerprints:
    """Fingerprints of nouns that differ in whole-number fields: the canonical JSON of the others is made once."""

    def __init__(self, noun: Noun) -> None:
        self.parts = {key: canonical_json(value) for key, value in sorted(noun.model_dump(mode="json").items())}

    def of(self, changed: dict[str, int]) -> str:
        parts = self.parts | {key: str(value) for key, value in changed.items()}
        text = ",".join(f'"{key}":{value}' for key, value in parts.items())
        return sha256(f"{{{text}}}".encode()).hexdigest()[:12]


def _task(name: str, spec: StudySpec, digests: Digests) -> TaskSpec:
    sizes: dict[str, Any] = {key: getattr(spec.finetune, key) for key in ("dev_examples", "test_examples")}
    if name not in spec.tasks:
        built_in: TaskSpec = registry.get("task", name).spec(digest=digests.corpus, **sizes)
        return built_in
    own = spec.tasks[name]
    shared: dict[str, Any] = own.model_dump(include={"template", "target", "max_source_tokens", "max_target_tokens"})
    return TaskSpec(name=name, source="jsonl", digest=digests.tasks[name], **sizes, **shared)


def pretrain_work(tokens: int, before: int, recipe: PretrainRecipe) -> float:
    """Tokens trained on to reach one size after a smaller one: the rest of the trunk and a decay branch."""
    return tokens - (1 - recipe.decay_fraction) * before


def finetune_flops(
    shape: Shape, task: TaskSpec, method: MethodSpec, recipe: FinetuneRecipe, examples: int, test: bool = True
) -> float:
    """FLOPs of one finetuning at most: every example at full length and no early stop.

    All methods count alike: a frozen base saves the weight gradients only, a few per cent of a step here.
    """
    prompt = method.pet_size or 0 if registry.get("method", method.name).size_word == "length" else 0
    length = task.max_source_tokens + task.max_target_tokens + prompt
    trained = recipe.steps(examples) * recipe.batch_examples * length
    read = (recipe.dev_checks + 1) * task.dev_examples * length + 2 * test * task.test_examples * length
    return train_flops(shape, trained) + forward_flops(shape, read)
