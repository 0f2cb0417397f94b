"""What a ``study.toml`` can say, section by section, with every default spelled out.

Defaults live here (recipes: ``finescale.core``) and nowhere else. What relates one section to another is checked in
``study/relate.py``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from finescale import registry
from finescale.core import FinetuneRecipe, MethodSpec, PretrainRecipe, PublicBase
from finescale.lab import probes
from finescale.lab.corpora.cache import FETCHERS
from finescale.lab.corpora.recipes import RECIPES
from finescale.study.families import public_base, tokens_of
from finescale.study.fields import (
    ALL,
    ByTask,
    Count,
    Counts,
    Distinct,
    Names,
    Positive,
    Section,
    Seed,
    Seeds,
    Some,
    fault,
    known,
    one_of,
)
from finescale.study.files import BuiltInTask, FileTask

Law = Annotated[str, one_of(lambda: [*registry.names("law"), "auto"], "law")]
TASK_PROBE = "task:"
Pretraining = Literal["branches", "separate", "checkpoints"]


class Data(Section):
    """Where real text comes from; ``corpus = "none"`` fetches none, for published models on the user's own examples."""

    corpus: Literal["debian", "none"] = "debian"
    tier: Annotated[str, one_of(lambda: sorted({recipe.tier for recipe in RECIPES}))] = "starter"
    source: Annotated[str, one_of(lambda: ["auto", *FETCHERS])] = Field(
        default="auto", description="where packages are fetched from; no part of the identity"
    )
    stream_tokens: Count = Field(default=20_000_000, description="most tokens of pretraining text to prepare")


class OwnShape(Section):
    """A ``[base.shapes.NAME]`` table: a shape that the built-in ladder does not have, usable as a rung."""

    layers: Count
    heads: Count
    width: Count
    ff: Count
    kv_heads: Count | None = Field(default=None, description="1: multi-query attention; left out: as many as heads")
    gated: bool = Field(default=True, description="three feed-forward matrices, or two")


class Base(Section):
    """The bases: rungs pretrained here at every pretraining size, or published models by revision.

    ``pretraining`` says what a pretraining size is: ``branches`` of one run, each annealed by a short decay;
    ``separate`` runs, each with a full schedule of its own; or un-annealed ``checkpoints`` of one run scheduled for
    the largest size, as in the paper (section 3). There a larger size is another schedule, so other bases.
    """

    ladder: Annotated[tuple[str, ...], Distinct] = ()
    models: Annotated[tuple[str, ...], Distinct] = Field(default=(), description="``repository@revision``")
    precision: Literal["float32", "bfloat16"] | None = Field(
        default=None, description="what published models are computed in; by default bf16 where the machine has it"
    )
    trust_remote_code: Annotated[tuple[str, ...], Distinct] = Field(
        default=(), description="models among these whose own code may be run; by default no code is"
    )
    pretrain_tokens: Annotated[tuple[Count, ...], Distinct] = ()
    pretraining: Pretraining = "branches"
    languages: Annotated[tuple[str, ...], Some, Distinct] = ("en", "de")
    vocab: Annotated[Count, Field(ge=259, le=65_536, description="256 bytes and 3 marks at least")] = 4096
    context: Count = 128
    seed: Seed = 0
    shapes: dict[str, OwnShape] = Field(default={})
    recipe: PretrainRecipe = PretrainRecipe()

    def published(self, name: str) -> PublicBase:
        """The published model of this name, with its own code where that was asked for.

        Raises:
            InputError: it cannot be had.
        """
        return public_base(name, name in self.trust_remote_code)


class Finetune(Section):
    """The grid of runs: every task at every number of unique examples, once per seed.

    ``epochs`` lists passes over the examples where those are a factor of their own; else the recipe says how many.
    """

    tasks: Names
    examples: Counts
    epochs: Annotated[tuple[Positive, ...], Distinct] = ()
    seeds: Seeds = (0,)
    dev_examples: Count = 256
    test_examples: Count = 512
    recipe: FinetuneRecipe = FinetuneRecipe()


class MethodChoice(Section):
    """A method with the PET sizes and learning rates to run it at; several rates mean a search.

    The first PET size is the method's default: rates are searched there, and other factors vary there in a
    one-factor design. ``examples`` and ``recipe`` say only what differs from ``[finetune]``.
    """

    sizes: Annotated[tuple[Count, ...], Distinct] = Field(description="ranks or prompt lengths; none for ``full``")
    rates: Annotated[tuple[Positive, ...], Some, Distinct]
    options: dict[str, float | bool | str]
    examples: ByTask[Counts] = Field(default={})
    recipe: dict[str, int | float | str] = Field(default={})

    def method(self, name: str, size: int | None) -> MethodSpec:
        """The method called ``name`` at one PET size."""
        return MethodSpec(name=name, pet_size=size, options=self.options)


class OneFactor(Section):
    """Vary one factor at a time around a default cell, each crossed with the examples, as the paper does (section 3).

    The default cell is a rung at ``pretrain_tokens``, the first PET size and the first number of epochs. The model
    size varies over all bases; everything else on those in ``bases`` and for the tasks in ``tasks`` only.
    """

    bases: Annotated[tuple[str, ...], Some, Distinct] = Field(description="rungs (or models) where the others vary")
    pretrain_tokens: Count | None = Field(default=None, description="by default the largest")
    tasks: Annotated[tuple[str, ...], Distinct] = Field(default=(), description="by default all")


class RateSearchChoice(Section):
    """Where learning rates are searched: at the first listed task, pretraining size and PET size.

    The first, not the middle: a grid that is widened at its end keeps the search, and with it every run made.
    ``per`` says how far one search reaches: ``method``, whose rate is carried to other bases and PET sizes by the
    method's own rule, and to other tasks as it is; ``task``, one search each; ``pet-size``, one search each on the same
    base; or ``base``, one search each at the first size.
    """

    base: str = Field(default="smallest", description="a rung (or model), or 'smallest'")
    per: Literal["method", "task", "pet-size", "base"] = "method"
    examples: Count = 1000
    seed: Seed = 0


class EvaluateChoice(Section):
    """What runs are scored by beside log-perplexity and bits per byte.

    A probe's name spells it: ``src-tgt`` (zero-shot), ``src-tgt@shots``, ``text:LANGUAGE``, ``task:NAME``.
    """

    metrics: Annotated[tuple[Annotated[str, known("metric")], ...], Distinct] = ()
    decoded: Annotated[int, Field(ge=0, strict=True, description="test examples decoded")] = 0
    beams: Count = 1
    probes: ByTask[Annotated[tuple[str, ...], Distinct]] = Field(
        default={}, description="for all tasks, or a table by task, where an empty list means none"
    )
    probe_examples: Count = 200


class FitChoice(Section):
    """Laws fitted, in which factor besides ``examples``, and how many of a factor's largest levels test them.

    By default one level is held out of the factor and of ``examples``, each where that leaves three or more.
    """

    laws: Annotated[tuple[Law, ...], Some, Distinct] = ("multiplicative",)
    factor: Literal["model_params", "pretrain_tokens", "pet_params"] = "model_params"
    hold_out: dict[str, Count] | None = None
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    seed: Seed = 0


class BudgetChoice(Section):
    """Prices, where money is asked about."""

    usd_per_device_hour: Positive | None = None
    usd_per_1000_examples: Positive | None = None


class RunChoice(Section):
    """How the study is run here; no part of any identity."""

    workers: Count | None = Field(default=None, description="processes at a time; by default one per core")
    tflops: Positive | None = Field(
        default=None, description="10^12 FLOPs a second that one worker keeps up; used where nothing was measured"
    )
    memory_gb: Positive | None = Field(
        default=None, description="most memory a process of a step may hold; by default any"
    )
    minutes: Positive | None = Field(default=None, description="longest a step may take; by default any")
    shards: Count | None = Field(
        default=None, description="processes that share the finetuning of one run; by default as memory_gb needs"
    )
    gradient_checkpointing: bool = Field(
        default=False, description="work activations out again instead of keeping them: less memory, more time"
    )
    device_map: Literal["auto", "balanced", "sequential"] | None = Field(
        default=None, description="spread a base over the devices of one process, as accelerate does; by default not"
    )
    slurm: dict[str, str | int] = Field(default={}, description='what sbatch is told, as in partition = "cpu"')
    keep: Literal["scores", "adapters", "best"] = Field(
        default="scores", description="weights that runs leave: none, adapters (PEFT's format), or best checkpoints too"
    )

    @model_validator(mode="after")
    def _one_way_to_share(self) -> RunChoice:
        if self.device_map is not None and (self.shards or 1) > 1:
            what = f"device_map = {self.device_map!r} and shards = {self.shards} share one training in two ways"
            raise fault(what, "keep one of them: a map is for devices of one process, shards are processes")
        return self


class StudySpec(Section):
    """A whole study as the user asked for it, every default spelled out."""

    layout: Literal[1] = Field(alias="schema")
    question: str = ""
    data: Data = Data()
    base: Base
    finetune: Finetune
    methods: dict[str, MethodChoice]
    one_factor: OneFactor | None = None
    rate_search: RateSearchChoice = RateSearchChoice()
    tasks: dict[str, FileTask | BuiltInTask] = Field(default={})
    evaluate: EvaluateChoice = EvaluateChoice()
    fit: FitChoice = FitChoice()
    budget: BudgetChoice = BudgetChoice()
    run: RunChoice = RunChoice()

    @property
    def epochs(self) -> tuple[float | None, ...]:
        """Levels of the epochs where they are a factor of their own; else one level, which the recipe decides."""
        return self.finetune.epochs or (None,)

    @property
    def centre_tokens(self) -> int:
        """Pretraining tokens at which the other factors vary in a one-factor design; else those of the rate search."""
        if self.one_factor is not None and self.one_factor.pretrain_tokens is not None:
            return self.one_factor.pretrain_tokens
        sizes = self.base.pretrain_tokens or tuple(tokens_of(name) for name in self.base.models)
        return max(sizes) if self.one_factor is not None else sizes[0]

    @property
    def task_names(self) -> tuple[str, ...]:
        """Tasks finetuned on and tasks whose test sets are probes of others."""
        probed = (name for task in self.finetune.tasks for name in self.probes(task) if name.startswith(TASK_PROBE))
        return tuple(dict.fromkeys([*self.finetune.tasks, *(name.removeprefix(TASK_PROBE) for name in probed)]))

    @property
    def flores(self) -> tuple[str, ...]:
        """Names of the probes that read FLORES, whose data is theirs alone."""
        probed = (name for task in self.finetune.tasks for name in self.probes(task))
        return tuple(dict.fromkeys(name for name in probed if probes.parse(name).task == probes.FLORES))

    def examples(self, method: str, task: str) -> tuple[int, ...]:
        """Numbers of examples a method is run at on a task."""
        own = self.methods[method].examples
        return own.get(task, own.get(ALL, self.finetune.examples))

    def probes(self, task: str) -> tuple[str, ...]:
        """Names of the probes put to the runs of a task; a task is no probe of itself."""
        asked = self.evaluate.probes.get(task, self.evaluate.probes.get(ALL, ()))
        return tuple(name for name in asked if name != f"{TASK_PROBE}{task}")

    def recipe(self, method: str, epochs: float | None = None) -> FinetuneRecipe:
        """How runs of a method are trained; ``epochs`` where they are a factor of their own."""
        told = self.finetune.recipe.model_dump() | self.methods[method].recipe
        return FinetuneRecipe.model_validate(told | ({} if epochs is None else {"epochs": epochs}))
