"""The grid of a study: which cells of task, method, base, PET size and epochs are run.

Without a ``[one_factor]`` section every level of every factor is crossed with every other. With one, a cell is run if
at most one factor besides the base is away from its default; see ``OneFactor``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple

from finescale.study.spec import StudySpec


class Cell(NamedTuple):
    """What the runs of a study have in common that differ in examples and seed only."""

    rung: str
    tokens: int
    task: str
    method: str
    size: int | None
    epochs: float | None


def sizes_of(rung: str, spec: StudySpec) -> Iterable[int]:
    """Pretraining sizes at which a rung is needed: all of them, or the default one where nothing else varies."""
    if spec.one_factor is None or rung in spec.one_factor.bases:
        return spec.base.pretrain_tokens
    return (spec.centre_tokens,)


def cells(spec: StudySpec, bases: Iterable[tuple[str, int]]) -> Iterator[Cell]:
    """The cells of a study, base by base."""
    for (rung, tokens), (name, choice) in product(bases, spec.methods.items()):
        for task, size, epochs in product(spec.finetune.tasks, choice.sizes or (None,), spec.epochs):
            cell = Cell(rung, tokens, task, name, size, epochs)
            if _wanted(cell, spec):
                yield cell


def _wanted(cell: Cell, spec: StudySpec) -> bool:
    around = spec.one_factor
    if around is None:
        return True
    sizes = spec.methods[cell.method].sizes or (None,)
    away = (cell.tokens != spec.centre_tokens) + (cell.size != sizes[0]) + (cell.epochs != spec.epochs[0])
    varies_here = cell.rung in around.bases and (not around.tasks or cell.task in around.tasks)
    return away == 0 or (away == 1 and varies_here)
