"""One family of errors: each says what is wrong, where, and what to do next.

Exit codes of the command line follow the class: 1 your input, 2 our fault, 3 refused for a stated reason.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

Made = TypeVar("Made")
Given = ParamSpec("Given")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: the place, the fact, and the way out."""

    where: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" — {self.fix}" if self.fix else "")


class FinescaleError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is what the command line returns."""

    exit_code = 2


class InputError(FinescaleError):
    """Something the user gave is wrong; lists every fault found, not only the first."""

    exit_code = 1

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        head = "" if len(faults) == 1 else f"{len(faults)} faults:\n"
        super().__init__(head + "\n".join(f"  {fault}" if head else str(fault) for fault in faults))


class Refused(FinescaleError):
    """The question is well put but the evidence does not allow an answer; the message says why."""

    exit_code = 3


class StudyError(FinescaleError):
    """A study could not go on: a step failed, a record is damaged, or two things disagree."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The valid name that is most like ``name``, whatever the case of its letters; None where none is like it."""
    options = sorted(known)
    same = {option.casefold(): option for option in reversed(options)}
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    folded = difflib.get_close_matches(name.casefold(), list(same), n=1, cutoff=0.5)
    if folded and (not close or name.casefold() in same):
        return same[folded[0]]
    return close[0] if close else None


def near(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown ``name``: the nearest valid one if there is any, and the whole list."""
    options = sorted(known)
    close = nearest(name, options)
    listed = "one of " + ", ".join(options) if options else "none is registered"
    return f"did you mean {close!r}? {listed}" if close is not None else listed


def nearest_path(path: Path) -> Path | None:
    """What is there and called most like a path that is not: beside it, or with a folder above it spelled otherwise."""
    missing, known = path, path.parent
    while not known.is_dir() and known != known.parent:
        missing, known = known, known.parent
    try:
        found = nearest(missing.name, [one.name for one in known.iterdir()])
    except OSError:
        return None
    if found is None:
        return None
    whole = known / found / path.relative_to(missing)
    return whole if whole.exists() else known / found


class Faults:
    """Collects faults so that one error can list them all."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def add(self, where: str, what: str, fix: str = "") -> None:
        self.found.append(Fault(where, what, fix))

    def tried(self, do: Callable[Given, Made], *given: Given.args, **named: Given.kwargs) -> Made | None:
        """What ``do`` makes of what is given, or None with its faults noted."""
        try:
            return do(*given, **named)
        except InputError as error:
            self.found += error.faults
            return None

    def __iter__(self) -> Iterator[Fault]:
        return iter(self.found)

    def raise_if_any(self) -> None:
        """Raise one ``InputError`` with all faults, or return if there are none."""
        if self.found:
            raise InputError(*self.found)


@contextmanager
def collecting() -> Iterator[Faults]:
    """Collect faults in a ``with`` block and raise them together at its end."""
    faults = Faults()
    yield faults
    faults.raise_if_any()
