"""What a step costs before it is run: FLOPs, memory and disk, in closed form and at most.

Every example is counted at full length and no run stops early; decoding is counted by FLOPs like reading, though a CPU
does far fewer of them a second there. What steps really took corrects for that (``study/pace.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from finescale import registry
from finescale.core import (
    BaseSpec,
    DataSpec,
    FinetuneRecipe,
    MethodSpec,
    Noun,
    PretrainRecipe,
    ProbeSpec,
    RateSearch,
    RunSpec,
    Shape,
    TaskSpec,
)
from finescale.lab.ladder import Memory, count, forward_flops, memory, train_flops
from finescale.lab.probes import USUAL_SHOT

BASE_COPIES = 7
"""Of a base in fp32: its weights, its trunk (weights and two moments) and a state to resume from while it is made."""
EVALUATED, VALIDATED_ROWS = 64, 32
"""Examples that are evaluated at a time (``evaluate.BATCH``); rows of text that a base is judged on at a time."""
BYTES_A_WEIGHT = 4
BYTES_PER_TASK = 10_000_000
BYTES_PER_RUN = 50_000
"""A run's record and curve: 20 to 40 kB as seen, rounded up."""
ROW_BYTES = 24
ANSWER_BYTES = 600


def pretrain_work(tokens: int, before: int, recipe: PretrainRecipe) -> float:
    """Tokens trained on to reach one size after a smaller one: the rest, and the smaller one's decay branch again."""
    again = recipe.decay_fraction if recipe.schedule == "branches" else 0.0
    return tokens - (1 - again) * before


def length(task: TaskSpec, method: MethodSpec) -> int:
    """Tokens of an example at its longest: source, target and soft prompt."""
    return task.max_source_tokens + task.max_target_tokens + prompt_length(method)


def prompt_length(method: MethodSpec) -> int:
    """Tokens of the soft prompt that a method trains; 0 where it trains none."""
    return method.pet_size or 0 if registry.get("method", method.name).size_word == "length" else 0


def finetune_flops(shape: Shape, task: TaskSpec, method: MethodSpec, recipe: FinetuneRecipe, examples: int) -> float:
    """FLOPs of one finetuning with its dev checks at most, without the test.

    All methods count alike: a frozen base saves the weight gradients only, a few per cent of a step here.
    """
    each = length(task, method)
    trained = recipe.steps(examples) * recipe.batch_examples * each
    return train_flops(shape, trained) + forward_flops(shape, (recipe.dev_checks + 1) * task.dev_examples * each)


def evaluate_flops(shape: Shape, run: RunSpec, probes: Iterable[ProbeSpec]) -> float:
    """FLOPs of testing one run: its test set, the answers it decodes and its probes, which fill the context."""
    each, asked = length(run.task, run.method), run.evaluate
    read = run.task.test_examples * each + min(asked.decoded, run.task.test_examples) * each * asked.beams
    for probe in probes:
        decoded = min(asked.decoded, probe.examples) if probe.kind == "translation" else 0
        read += (probe.examples + decoded * asked.beams) * shape.context
    return forward_flops(shape, read)


def step_memory(
    spec: Noun,
    shapes: Mapping[str, Shape],
    probes: Iterable[ProbeSpec] = (),
    whole: bool = True,
    checkpointing: bool = False,
) -> Memory | None:
    """Estimated bytes that a base, rate or run step holds at its peak, by part; its worker's libraries come on top.

    Args:
        spec: of the step; a published model is not made here and needs nothing.
        shapes: shape of each base by its fingerprint.
        probes: the study's; those that a run is judged by may take more than its task.
        whole: a batch at once; else in as many parts as it can be worked through in, a row or an example at a time.
        checkpointing: whether finetuning works activations out again.
    """
    if isinstance(spec, BaseSpec):
        rows, row = max(1, spec.recipe.batch_tokens // spec.shape.context) if whole else 1, spec.shape.context
        held = VALIDATED_ROWS if whole else 1
        return memory(spec.shape, count(spec.shape).total, rows, row, spec.recipe.optimiser, evaluated=held)
    if isinstance(spec, RunSpec | RateSearch):
        each = spec.task.max_source_tokens + spec.task.max_target_tokens
        evaluated = _evaluated(spec, each, shapes[spec.base].context, probes) if whole else 1
        batch, shape = spec.recipe.batch_examples if whole else 1, shapes[spec.base]
        rows = packed_rows(batch, each, shape.context)
        return tuning_memory(shape, spec.method, spec.recipe, rows, evaluated, checkpointing=checkpointing)
    return None


def packed_rows(examples: int, each: int, row: int) -> int:
    """Rows that so many examples of ``each`` tokens are packed in: none is cut, so what is left of a row is empty.

    A soft prompt counts neither in ``each`` nor in ``row``: it stands before them, once a row.
    """
    return math.ceil(examples / max(1, row // each))


def tuning_memory(
    shape: Shape,
    method: MethodSpec,
    recipe: FinetuneRecipe,
    rows: int,
    evaluated: int,
    dtype: str = "float32",
    beyond: int = 0,
    checkpointing: bool = False,
) -> Memory:
    """Bytes that finetuning holds at its peak.

    Args:
        shape: of the base; its context is the row that examples are packed in.
        method: what is trained.
        recipe: its optimiser.
        rows: of a batch, packed.
        evaluated: rows of a batch of evaluation.
        dtype: what the base computes in.
        beyond: parameters of the base that its shape does not tell, as an output head of its own.
        checkpointing: whether activations are worked out again on the way back.
    """
    known, row = registry.get("method", method.name), shape.context + prompt_length(method)
    trained = known.pet_params(shape, method.pet_size) + (beyond if known.whole else 0)
    adapted = known.size_word == "rank"
    return memory(shape, trained, rows, row, recipe.optimiser, dtype, adapted, evaluated, beyond, checkpointing)


def _evaluated(spec: RunSpec | RateSearch, each: int, row: int, probes: Iterable[ProbeSpec]) -> int:
    """Rows of the largest batch of evaluation: of the task's own dev and test sets, or of a probe."""
    held = max(spec.task.dev_examples, spec.task.test_examples)
    batches = [packed_rows(min(EVALUATED, held), each, row)]
    asked = spec.evaluate.probes if isinstance(spec, RunSpec) else ()
    for probe in probes:
        if probe.name in asked:
            told = {"translation": probe.shots * USUAL_SHOT + each, "text": row // 2, "task": row}[probe.kind]
            batches.append(packed_rows(min(EVALUATED, probe.examples), min(row, told), row))
    return max(batches)


def kept_disk(method: MethodSpec, shape: Shape, keep: str) -> int:
    """Bytes of the weights that a run leaves, in fp32: none, its adapter, or the whole model where all was trained."""
    known = registry.get("method", method.name)
    if keep == "scores" or (keep == "adapters" and known.whole):
        return 0
    return BYTES_A_WEIGHT * int(known.pet_params(shape, method.pet_size))


def step_disk(spec: Noun) -> int:
    """Bytes a step may need on disk, by estimate: what it leaves and, for a base, a state to resume from.

    Weights that runs keep on request come on top: ``kept_disk``.
    """
    if isinstance(spec, DataSpec):
        return 2 * spec.stream_tokens + BYTES_PER_TASK * (len(spec.tasks) + len(spec.probes))
    if isinstance(spec, BaseSpec):
        return BYTES_A_WEIGHT * BASE_COPIES * count(spec.shape).total
    if isinstance(spec, RunSpec):
        sets = 1 + len(spec.evaluate.probes)
        return BYTES_PER_RUN + ROW_BYTES * spec.task.test_examples + ANSWER_BYTES * sets * spec.evaluate.decoded
    return BYTES_PER_RUN
