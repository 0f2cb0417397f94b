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


MOST_PATHS, MUCH_ALIKE = 3, 0.75


def near_path(path: Path) -> str:
    """A hint for a path that is not there: what is called most like it, and what else is much like it; "" for nothing.

    It lies beside it, or under a folder above it that is spelled otherwise.
    """
    missing, known = path, path.parent
    while not known.is_dir() and known != known.parent:
        missing, known = known, known.parent
    try:
        names = sorted(one.name for one in known.iterdir())
    except OSError:
        return ""
    if (first := nearest(missing.name, names)) is None:
        return ""
    others = difflib.get_close_matches(missing.name, names, n=MOST_PATHS, cutoff=MUCH_ALIKE)
    rest = path.relative_to(missing)
    whole = [known / name / rest for name in list(dict.fromkeys([first, *others]))[:MOST_PATHS]]
    found = [one for one in whole if one.exists()] or [known / first]
    return f"did you mean {' or '.join(repr(str(one)) for one in found)}?"


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
