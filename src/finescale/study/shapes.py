"""The shape that a name means in a study: a built-in rung, a shape of the study's own, or a published model."""

from __future__ import annotations

from finescale.core import Shape
from finescale.lab import ladder
from finescale.study.spec import Base


def shape_of(name: str, base: Base) -> Shape:
    """Shape of a rung or of a published model.

    Raises:
        InputError: it is none of these.
    """
    if name in base.models:
        return base.published(name).shape
    if name in base.shapes:
        return Shape(vocab=base.vocab, context=base.context, **base.shapes[name].model_dump())
    return ladder.shape(name, base.vocab, base.context)
