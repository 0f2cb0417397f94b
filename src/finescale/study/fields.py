"""Kinds of values a ``study.toml`` holds, each refusing with a sentence of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

from finescale import registry
from finescale.errors import near

ALL = "*"
"""Stands for every task that is not named beside it."""


class Section(BaseModel):
    """A table of ``study.toml``: frozen, and no key that is not its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def fault(what: str, fix: str = "") -> PydanticCustomError:
    """A refusal that keeps what is wrong and the way out apart."""
    return PydanticCustomError("fault", "{what}", {"what": what, "fix": fix})


def _count(value: Any) -> int:
    """A positive whole number; ``2e6`` counts as one, since TOML has no shorter way to write two million."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1 or not 1 <= value < 1e18:
        raise fault(f"{value!r} is not a positive whole number")
    return int(value)


def _seed(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise fault(f"{value!r} is not a seed", "a whole number from 0 up")
    return value


def _positive(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise fault(f"{value!r} is not a positive number")
    return float(value)


def _some(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise fault("is empty", "list at least one value")
    return values


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise fault(f"lists {', '.join(map(repr, twice))} more than once", "list each value once")
    return values


def _by_task(value: Any) -> Any:
    """A table by task; what is no table goes for all tasks."""
    return value if isinstance(value, dict) else {ALL: value}


def one_of(names: Callable[[], Iterable[str]], noun: str = "") -> AfterValidator:
    """One of the names that ``names()`` lists when it is asked."""

    def check(name: str) -> str:
        if name not in (valid := list(names())):
            raise fault(f"{noun} {name!r} is unknown".strip(), near(name, valid))
        return name

    return AfterValidator(check)


def known(socket: str) -> AfterValidator:
    """A name registered in ``socket``."""
    return one_of(lambda: registry.names(socket), socket)


Some = AfterValidator(_some)
Distinct = AfterValidator(_distinct)
Count = Annotated[int, BeforeValidator(_count)]
Seed = Annotated[int, BeforeValidator(_seed)]
Positive = Annotated[float, BeforeValidator(_positive)]
Counts = Annotated[tuple[Count, ...], Some, Distinct]
Seeds = Annotated[tuple[Seed, ...], Some, Distinct]
Names = Annotated[tuple[str, ...], Some, Distinct]

Value = TypeVar("Value")
ByTask = Annotated[dict[str, Value], BeforeValidator(_by_task)]
