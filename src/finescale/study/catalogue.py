"""What a study can be made of, by name, with a line about each."""

from __future__ import annotations

from typing import Any

from finescale import registry
from finescale.errors import Fault, InputError, near
from finescale.lab.ladder import RUNGS, count, shape
from finescale.study.family_table import FAMILIES, Family, Size
from finescale.study.plan import size_label
from finescale.study.spec import Base

SOCKETS = {"laws": "law", "methods": "method", "tasks": "task", "metrics": "metric", "backends": "backend"}

AUTO = "laws and humble forecasts combined by how well each forecasts the largest scales it has not seen"


def catalogue(what: str, beside: tuple[str, ...] = ()) -> dict[str, str]:
    """Names and what they are, of ``laws``, ``methods``, ``tasks``, ``metrics``, ``backends`` or ``bases``.

    ``beside`` are lists that are to be had elsewhere, to be named where there is no such list.

    Raises:
        InputError: there is no such list.
    """
    if what == "bases":
        return {rung: _rung(rung) for rung in RUNGS} | {
            family.repository.format(size=label): _published(family, size)
            for family in FAMILIES
            for label, size in family.sizes.items()
        }
    if what not in SOCKETS:
        raise InputError(Fault(f"list {what!r}", "is unknown", near(what, [*SOCKETS, "bases", *beside])))
    socket = SOCKETS[what]
    found = {name: _words(registry.get(socket, name)) for name in registry.names(socket)}
    return {"auto": AUTO} | found if what == "laws" else found


def _rung(rung: str) -> str:
    vocab, context = Base.model_fields["vocab"].default, Base.model_fields["context"].default
    form = shape(rung, vocab, context)
    size = count(form)
    words = f"{form.layers} layers, width {form.width}, {size_label(size.non_embedding)} parameters without embeddings"
    return f"{words}, {size_label(size.total)} with a vocabulary of {vocab}"


def _published(family: Family, size: Size) -> str:
    form = family.shape(size)
    inner = size_label(family.params(form).non_embedding)
    tokens = size_label(size.steps * size.batch_tokens)
    words = f"{form.layers} layers, width {form.width}, {inner} parameters without embeddings"
    return f"{words}, by revisions as {family.example}, up to {tokens} tokens"


def _words(thing: Any) -> str:
    """A thing in a line: its formula, its summary, where it comes from, its unit or its docstring, whichever it has."""
    for attribute in ("formula", "summary", "source", "unit"):
        if isinstance(words := getattr(thing, attribute, None), str) and words:
            return words
    return (thing.__doc__ or "").partition("\n")[0]
