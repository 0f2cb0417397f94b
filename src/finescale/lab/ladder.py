"""The built-in ladder of bases: one dial gives the whole shape. No torch, so that planning stays light.

The dial is the width in units of 16. Depth grows with its square root, so that a step up the ladder widens more than it
deepens, which is what a CPU computes fastest; a head is 32 wide, or 16 where 32 does not divide the width. Counting
follows Kaplan et al. 2020 (arXiv 2001.08361, section 2.1): parameters without embeddings, and 6 FLOPs per parameter
and token of training; the vocabulary projection is included since it rules small models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from finescale.core import Shape
from finescale.errors import Fault, InputError, near

RUNGS: dict[str, int] = {"2xs": 2, "xs": 3, "s": 5, "m": 8, "l": 12, "xl": 20, "2xl": 32, "3xl": 48, "4xl": 64}

LIBRARIES = 460 * 2**20
"""Resident bytes of a worker that has imported torch, transformers and peft and trained nothing (measured, rounded)."""

WORKING = 0.4
"""Temporaries and freed memory the allocator cannot use again, as a share of activations (measured, rounded)."""

LOGITS = 512
"""Positions whose logits are worked out at a time (``fastpath.CHUNK``)."""

BYTES: dict[str, int] = {"float32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Params:
    """Parameter counts of a base; ``total`` adds the token embeddings (tied with the output head)."""

    non_embedding: int
    total: int


@dataclass(frozen=True)
class Memory:
    """Estimated bytes that one training run holds at its peak, by what they are for.

    ``working`` is what comes and goes during a step; the other parts are kept through it.
    """

    weights: int
    gradients: int
    optimiser: int
    activations: int
    working: int

    @property
    def total(self) -> int:
        """All of them; the libraries of a worker (``LIBRARIES``) come on top."""
        return self.weights + self.gradients + self.optimiser + self.activations + self.working


def shape(rung: str, vocab: int, context: int) -> Shape:
    """Shape of a rung.

    Args:
        rung: a name in ``RUNGS``.
        vocab: number of tokens.
        context: longest sequence, tokens.

    Raises:
        InputError: no such rung.
    """
    if rung not in RUNGS:
        raise InputError(Fault(f"rung {rung!r}", "is unknown", near(rung, RUNGS)))
    dial = RUNGS[rung]
    width = 16 * dial
    head = 32 if width % 32 == 0 else 16
    layers = round(1.4 * math.sqrt(dial))
    return Shape(layers=layers, width=width, heads=width // head, ff=_ff(width), vocab=vocab, context=context)


def _ff(width: int) -> int:
    """Width of the gated feed-forward layer: 8/3 of the width (Shazeer 2020, arXiv 2002.05202), a multiple of 16."""
    return round(8 * width / 3 / 16) * 16


def faults(shape: Shape, where: str) -> list[Fault]:
    """What makes a shape one that no model can have; empty where there is nothing.

    A head is ``width / heads`` wide and rotary positions turn pairs, so that must be whole and even; queries share
    key and value heads in groups of one size.
    """
    found = []
    if shape.width % shape.heads or shape.width // shape.heads % 2:
        what = f"width {shape.width} does not give {shape.heads} heads an even whole width"
        found.append(Fault(where, what, f"make width a multiple of {2 * shape.heads}"))
    if shape.kv_heads is not None and shape.heads % shape.kv_heads:
        what = f"{shape.heads} heads do not share {shape.kv_heads} key and value heads evenly"
        found.append(Fault(where, what, "make heads a multiple of kv_heads; kv_heads = 1 is multi-query attention"))
    return found


def matrices(shape: Shape) -> list[tuple[int, int]]:
    """(in, out) of each matrix of one layer: queries, keys, values, output, then the feed-forward's two or three.

    Keys and values are narrower where heads share them: ``kv_heads`` = 1 is multi-query attention (Shazeer 2019,
    arXiv 1911.02150), as in the paper's models.
    """
    keys = shape.width // shape.heads * (shape.kv_heads or shape.heads)
    attention = [(shape.width, shape.width), (shape.width, keys), (shape.width, keys), (shape.width, shape.width)]
    up = [(shape.width, shape.ff)] * (2 if shape.gated else 1)
    return [*attention, *up, (shape.ff, shape.width)]


def count(shape: Shape) -> Params:
    """Parameters in closed form, equal to what the model class itself holds (tested)."""
    norms = 2 * shape.width
    layer = sum(read * write for read, write in matrices(shape)) + norms
    non_embedding = shape.layers * layer + shape.width
    return Params(non_embedding=non_embedding, total=non_embedding + shape.vocab * shape.width)


def train_flops(shape: Shape, tokens: float) -> float:
    """FLOPs of training on ``tokens``: 6 per matrix parameter and token, head included, attention scores left out."""
    return 6.0 * count(shape).total * tokens


def forward_flops(shape: Shape, tokens: float) -> float:
    """FLOPs of reading ``tokens`` without gradients: a third of training on them."""
    return train_flops(shape, tokens) / 3


def memory(
    shape: Shape,
    pet_params: int,
    rows: int,
    row: int,
    optimiser: Literal["adamw", "adafactor"] = "adamw",
    dtype: str = "float32",
    adapted: bool = False,
    evaluated: int = 0,
    beyond: int = 0,
    checkpointing: bool = False,
) -> Memory:
    """Bytes that finetuning or pretraining a base holds at its peak: an estimate.

    Weights and gradients are in ``dtype``; fp32 masters come on top where that is narrower. AdamW keeps two fp32
    moments, Adafactor a row and a column of each matrix; finetuning keeps the best weights so far and copies them
    once more when they improve. Activations are what autograd keeps of each layer for the way back, plus one chunk
    of logits. Where evaluating takes more than a training step beyond the weights, as it does on small bases, that
    counts. ``benchmarks/memory.py`` holds it against real runs, from which the share of working memory was taken.

    Args:
        shape: the base.
        pet_params: trained parameters, from ``Method.pet_params``; all of them for full finetuning and pretraining.
        rows: rows of a batch, packed: about examples · (prompt + target + soft prompt tokens) / row.
        row: tokens in a row; the context, or the longest example if that is longer.
        optimiser: its name.
        dtype: compute type, ``float32`` or ``bfloat16``.
        adapted: each matrix has a low-rank path beside it, whose output and its sum with the matrix's own come and go.
        evaluated: rows of a batch of evaluation, whose gradients are not asked for; 0: none.
        beyond: parameters that the shape does not tell, as an output head of its own.
        checkpointing: each layer's activations are worked out again on the way back; its input alone is kept.
    """
    total, size = count(shape).total + beyond, BYTES[dtype]
    full = pet_params >= total
    masters = 0 if size == 4 else 4 * pet_params
    moments = 8 * pet_params if optimiser == "adamw" else _factored(shape) if full else pet_params
    activations = _activations(shape, full, rows, row, size, checkpointing)
    gradients = size * pet_params + masters
    outputs = shape.layers * sum(write for _, write in matrices(shape)) * rows * row * size if adapted else 0
    working = round(WORKING * activations) + 2 * outputs
    return Memory(
        weights=size * (total if full else total + pet_params) + masters,
        gradients=gradients,
        optimiser=moments + 2 * 4 * pet_params,
        activations=activations,
        working=max(working, _evaluating(shape, evaluated, row, size) - gradients - activations),
    )


def _evaluating(shape: Shape, rows: int, row: int, size: int) -> int:
    """Bytes that come and go while a batch is read without gradients: one layer's, the masks (two of fp32, three of
    bytes) and a chunk of logits, twice."""
    layer = 4 * (shape.width + shape.ff) + 3 * shape.heads * row
    return rows * row * (size * layer + 11 * row) + (8 * LOGITS * shape.vocab if rows else 0)


def _factored(shape: Shape) -> int:
    """fp32 bytes of Adafactor's state over a whole base: a row and a column per matrix, vectors in full."""
    layer = sum(read + write for read, write in matrices(shape)) + 2 * shape.width
    return 4 * (shape.layers * layer + shape.vocab + shape.width + shape.width)


def _activations(shape: Shape, full: bool, rows: int, row: int, size: int, checkpointing: bool) -> int:
    """Bytes kept for the way back.

    Per token and layer, in widths: the inputs of two norms and of the linear layers after them (4, or 6 where the norms
    are trained), query, key, value (3, repeated over shared heads) and the output projection's input (1); the
    probabilities of each head; and of the feed-forward its inputs, activation and product (4 gated, 2 not). The masks
    of a batch are fp32 and there are two of them. With ``checkpointing`` one layer has all this at a time, and the
    others their input.
    """
    tokens = rows * row
    layer = shape.width * (10 if full else 8) + shape.heads * row + shape.ff * (4 if shape.gated else 2)
    layers = shape.layers * shape.width + layer if checkpointing else shape.layers * layer
    kept = tokens * (layers + 5 * shape.width) * size
    logits = LOGITS * shape.vocab * 3 * 4 + (4 * shape.vocab * shape.width if full else 0)
    return kept + 2 * 4 * tokens * row + logits
