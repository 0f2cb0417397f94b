"""The built-in ladder of bases: one dial gives the whole shape. No torch, so that planning stays light.

The dial is the width in units of 16. Depth grows with its square root, so that a step up the ladder widens more than it
deepens, which is what a CPU computes fastest; a head is 32 wide, or 16 where 32 does not divide the width. Counting
follows Kaplan et al. 2020 (arXiv 2001.08361, section 2.1): parameters without embeddings, and 6 FLOPs per parameter
and token of training; the vocabulary projection is included since it rules small models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from finescale.core import Shape
from finescale.errors import Fault, InputError, near

RUNGS: dict[str, int] = {"2xs": 2, "xs": 3, "s": 5, "m": 8, "l": 12, "xl": 20, "2xl": 32, "3xl": 48, "4xl": 64}


@dataclass(frozen=True)
class Params:
    """Parameter counts of a base; ``total`` adds the token embeddings (tied with the output head)."""

    non_embedding: int
    total: int


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


def count(shape: Shape) -> Params:
    """Parameters in closed form, equal to what the model class itself holds (tested)."""
    attention = 4 * shape.width**2
    feed_forward = 3 * shape.width * shape.ff
    norms = 2 * shape.width
    non_embedding = shape.layers * (attention + feed_forward + norms) + shape.width
    return Params(non_embedding=non_embedding, total=non_embedding + shape.vocab * shape.width)


def train_flops(shape: Shape, tokens: float) -> float:
    """FLOPs of training on ``tokens``: 6 per matrix parameter and token, head included, attention scores left out."""
    return 6.0 * count(shape).total * tokens


def forward_flops(shape: Shape, tokens: float) -> float:
    """FLOPs of reading ``tokens`` without gradients: a third of training on them."""
    return train_flops(shape, tokens) / 3
