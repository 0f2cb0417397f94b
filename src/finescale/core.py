"""The nouns as frozen models, and the fingerprint that gives each its identity.

A fingerprint is taken over what a thing *is*; paths, hosts, devices and times never enter it.

Column names of a table of runs (one row per run) are fixed here, with their units:

=================  =========================================================================
``task``           name of the task
``method``         ``full``, ``lora``, ``prompt`` …
``base``           name of the base model
``family``         bases that differ in size only
``model_params``   non-embedding parameters of the base
``pretrain_tokens``  tokens the base was pretrained on
``pet_params``     trainable parameters of the method (all parameters for ``full``)
``examples``       finetuning examples (unique)
``loss``           test loss, nats per target token, token-weighted over the whole test set
``loss_unit``      the unit of ``loss`` in a table of runs made elsewhere; a study has nats per target token
``seed``           replicate; decides subset, initialisation and order
=================  =========================================================================
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
)

FACTORS = ("model_params", "pretrain_tokens", "pet_params", "examples")


class Noun(BaseModel):
    """A frozen model that refuses unknown fields and knows its own fingerprint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def fingerprint(self) -> str:
        """Twelve hex digits of the SHA-256 of the canonical JSON of this noun."""
        return fingerprint(self.model_dump(mode="json"))


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spare white space.

    Raises:
        ValueError: a number is NaN or infinite, which has no identity.
    """
    _refuse_nonfinite(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(value: Any) -> str:
    """Twelve hex digits of the SHA-256 of ``canonical_json(value)``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_nonfinite(value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} has no identity: only finite numbers can be fingerprinted")
    if isinstance(value, dict):
        for item in value.values():
            _refuse_nonfinite(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_nonfinite(item)


def _without(dumped: dict[str, Any], key: str, nothing: Any) -> dict[str, Any]:
    """A noun's values without one that says nothing, which so moves no identity made before it could be said."""
    return {name: value for name, value in dumped.items() if name != key or value != nothing}


class Shape(Noun):
    """Shape of a decoder-only base; ``vocab`` counts tokens, the rest are widths and counts."""

    layers: PositiveInt
    width: PositiveInt
    heads: PositiveInt
    ff: PositiveInt
    vocab: PositiveInt
    context: PositiveInt
    kv_heads: PositiveInt | None = Field(default=None, description="key and value heads; None: as many as heads")
    gated: bool = Field(default=True, description="three feed-forward matrices (gated) or two")


class TaskSpec(Noun):
    """What is learned: where the examples come from, how they are rendered, how they are split."""

    name: str
    source: Literal["corpus", "jsonl", "hub"]
    digest: str = Field(description="SHA-256 of the examples' origin (corpus, file or data set)")
    template: str = Field(description="prompt with {fields}; the target follows it")
    target: str = Field(description="field that holds the target")
    dev_examples: PositiveInt
    test_examples: PositiveInt
    max_source_tokens: PositiveInt
    max_target_tokens: PositiveInt
    languages: tuple[str, ...] = Field(default=(), description="target languages, for a task that mixes several")
    chat: bool = Field(default=False, description="whether examples are written by the model's own chat template")
    rendering: str = Field(default="", description="identity of that template and of the day it is told")

    @model_serializer(mode="wrap")
    def _plain(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(_without(dump(self), "chat", False), "rendering", "")


class ProbeSpec(Noun):
    """A further evaluation set beside a task's own test set: what finetuning does to other abilities.

    ``translation`` reads ``src`` and answers in ``tgt`` after ``shots`` demonstrations (0: zero-shot); ``task`` is the
    test set of another task; ``text`` is held-out pretraining text in the language ``tgt``.
    """

    name: str
    kind: Literal["translation", "task", "text"]
    src: str | None = None
    tgt: str | None = None
    task: str | None = None
    shots: NonNegativeInt = 0
    examples: PositiveInt = 200
    digest: str | None = Field(default=None, description="SHA-256 of its own data set; None: it reads the corpus")

    @model_serializer(mode="wrap")
    def _plain(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(dump(self), "digest", None)


class EvaluateSpec(Noun):
    """What a run is scored by, beyond log-perplexity and bits per byte of its task's test set."""

    metrics: tuple[str, ...] = Field(default=(), description="generation metrics, scored on decoded answers")
    decoded: NonNegativeInt = Field(default=0, description="test examples decoded; 0: none")
    beams: PositiveInt = 1
    probes: tuple[str, ...] = Field(default=(), description="names of the DataSpec's probes that are evaluated")
    digests: dict[str, str] = Field(default={}, description="digest of each probe that reads a data set of its own")

    @model_serializer(mode="wrap")
    def _plain(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(dump(self), "digests", {})


class DataSpec(Noun):
    """Everything a study's data step needs: the corpus, the languages, the tokenizer, the tasks, the probes."""

    corpus: str
    corpus_digest: str
    languages: tuple[str, ...]
    vocab: PositiveInt
    context: PositiveInt
    stream_tokens: PositiveInt = Field(description="most tokens of pretraining text to prepare")
    tasks: tuple[TaskSpec, ...]
    probes: tuple[ProbeSpec, ...] = ()

    def text_fingerprint(self) -> str:
        """Identity of the tokenizer and the pretraining text alone, so that one more task moves no base."""
        return fingerprint(self.model_dump(mode="json", exclude={"tasks", "probes"}))


class ModelDataSpec(DataSpec):
    """What a study of published models needs: as ``DataSpec``, in the models' own tokens."""

    tokenizer: str = Field(description="identity of the tokenizer, as in ``PublicBase``")


class PretrainRecipe(Noun):
    """How a rung is pretrained.

    ``branches``: warm-up, constant rate, then a linear decay branch for each kept size. ``cosine``: warm-up, then a
    cosine over ``BaseSpec.scheduled_tokens`` to a tenth of the peak, as in the paper (section 3).
    """

    schedule: Literal["branches", "cosine"] = "branches"
    optimiser: Literal["adamw", "adafactor"] = "adamw"
    batch_tokens: PositiveInt = 4096
    learning_rate_at_width_64: PositiveFloat = 5e-3
    warmup_tokens: PositiveInt = 50_000
    decay_fraction: float = Field(default=0.2, gt=0, lt=1)
    weight_decay: float = 0.1
    clip: PositiveFloat = 1.0


class BaseSpec(Noun):
    """A rung of the ladder at one pretraining size."""

    name: str
    shape: Shape
    data: str = Field(description="text fingerprint of the DataSpec")
    pretrain_tokens: PositiveInt
    scheduled_tokens: PositiveInt | None = Field(
        default=None, description="length the schedule was made for; None: pretrain_tokens, so that it is annealed"
    )
    recipe: PretrainRecipe
    seed: int


class PublicBase(Noun):
    """A published model at one revision: what a ``BaseSpec`` is for a rung pretrained here."""

    name: str
    revision: str
    digest: str = Field(description="SHA-256 of its files, or how its publisher names them: repository and revision")
    tokenizer: str = Field(description="identity of its tokenizer; losses per token are comparable where it is one")
    shape: Shape = Field(description="its context is the row that examples are packed in, at most the model's own")
    model_params: PositiveInt
    total_params: PositiveInt
    pretrain_tokens: PositiveInt | None = Field(default=None, description="None where its publisher does not say")
    precision: Literal["float32", "bfloat16"] | None = Field(default=None, description="None: the machine's")

    trust_remote_code: bool = Field(default=False, description="whether code that lies beside its weights is run")

    @model_serializer(mode="wrap")
    def _plain(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(_without(dump(self), "precision", None), "trust_remote_code", False)


class FinetuneRecipe(Noun):
    """How a run is finetuned. Batch size is counted in examples, so that it does not vary with packing."""

    batch_examples: PositiveInt = 16
    epochs: PositiveFloat = 4.0
    min_steps: PositiveInt = 60
    max_steps: PositiveInt = 100_000
    warmup_fraction: float = Field(default=0.06, ge=0, lt=1)
    dev_checks: PositiveInt = 8
    patience: PositiveInt = 3
    weight_decay: float = 0.0
    clip: PositiveFloat = 1.0
    optimiser: Literal["adamw", "adafactor"] = "adamw"

    def steps(self, examples: int) -> int:
        """Optimiser steps of a run on ``examples`` examples: its epochs, within the least and the most allowed."""
        return min(self.max_steps, max(self.min_steps, math.ceil(examples * self.epochs / self.batch_examples)))


class MethodSpec(Noun):
    """A finetuning method at one PET size (LoRA rank, prompt length; none for ``full``)."""

    name: str
    pet_size: PositiveInt | None = None
    options: dict[str, float | bool | str] = {}


class RateSearch(Noun):
    """The declared search for one method's learning rate: on one base, one data size, the dev set only."""

    base: str = Field(description="fingerprint of the BaseSpec")
    task: TaskSpec
    method: MethodSpec
    recipe: FinetuneRecipe
    examples: PositiveInt
    grid: tuple[PositiveFloat, ...]
    seed: int


class RunSpec(Noun):
    """One run: this base, this task, this method, this many examples, these seeds."""

    base: str = Field(description="fingerprint of the BaseSpec")
    task: TaskSpec
    method: MethodSpec
    learning_rate: PositiveFloat | str = Field(description="a rate, or the fingerprint of the RateSearch that finds it")
    examples: PositiveInt
    seed_subset: int
    seed_init: int
    seed_order: int
    recipe: FinetuneRecipe
    evaluate: EvaluateSpec = EvaluateSpec()


class Score(Noun):
    """A metric's value with everything needed to read it."""

    metric: str
    value: float
    unit: str
    direction: Literal["lower", "higher"]
    n: PositiveInt = Field(description="examples it is taken over")
    low: float
    high: float
    level: float = 0.9
    signature: str
