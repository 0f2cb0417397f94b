"""What is done about a step that failed: classes of failure, how often each is tried again, when a session stops.

=============  =====================================================  ==================================================
class          what happened                                          what is done
=============  =====================================================  ==================================================
``memory``     told by Python, torch, a limit or the kernel           again, each batch in twice as many parts: the same
                                                                      batch and numbers
``killed``     the worker was ended by somebody                       once more
``preempted``  the worker or its node was asked to go (SIGTERM)       again, several times
``time``       longer than the study allows a step                    not again
``diverged``   the loss stopped being finite                          not again: it would do the same
``input``      the data is at fault                                   not again
``disk``       the disk is full or cannot be written                  the session ends at once
``study``      the study folder is damaged                            not again
``bug``        anything else                                          not again
=============  =====================================================  ==================================================

Five final failures of one cause end a session: what strikes every run is mended once, not met ten thousand times.
"""

from __future__ import annotations

import errno
import signal
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finescale.errors import FinescaleError, InputError

TRIES = {"memory": 4, "killed": 2, "preempted": 6}
"""How often a step is begun at most in one session, by the class of its failure; others once."""
CLASSES = ("memory", "killed", "preempted", "time", "diverged", "input", "disk", "study", "bug")
SAME_CAUSE_LIMIT = 5
_FULL = (errno.ENOSPC, errno.EDQUOT)
_CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Failure:
    """Why a step failed; ``cause`` groups failures that have one reason."""

    kind: str
    message: str
    cause: str
    details: str = ""

    @classmethod
    def told(cls, said: Mapping[str, Any]) -> Failure:
        """A failure as a file tells it; one that tells something else is of the study's folder."""
        fields = {key: said.get(key, "") for key in ("kind", "message", "cause", "details")}
        if fields["kind"] in CLASSES and all(isinstance(value, str) for value in fields.values()):
            return cls(**fields)
        return cls("study", f"its error.json is damaged: {dict(said)!r}"[:500], "study: a damaged error.json")


def classify(error: BaseException) -> str:
    """Class of what a step raised."""
    text = str(error)
    if isinstance(error, MemoryError) or "can't allocate memory" in text or "out of memory" in text:
        return "memory"
    if isinstance(error, OSError) and error.errno in (*_FULL, *_CLOSED):
        return "disk"
    if isinstance(error, InputError):
        return "input"
    if type(error).__name__ == "Diverged":
        return "diverged"
    return "study" if isinstance(error, FinescaleError) else "bug"


def of_exit(exit: int, why: str) -> Failure:
    """The failure of a worker that ended without a word; ``why`` is what its backend knows ("" if nothing)."""
    how = f"signal {-exit}" if exit < 0 else f"exit code {exit} without a word"
    if why in CLASSES:
        return Failure(why, f"the worker was ended ({how}): {_SAID[why]}", f"{why}: {how}")
    kind = "preempted" if exit == -signal.SIGTERM else "killed"
    return Failure(kind, f"the worker was ended by {how}", f"{kind}: {how}")


_SAID = {
    "memory": "it held more memory than it may, or the machine had none left",
    "time": "it took longer than the study allows a step",
    "preempted": "its machine was taken away",
}


@dataclass(frozen=True)
class Attempt:
    """One try of a step: which it is, and in how many parts each batch is worked through."""

    number: int = 1
    parts: int = 1


def next_attempt(before: Attempt, failure: Failure) -> Attempt | None:
    """The next try after a failure, or None where there is none."""
    if before.number >= TRIES.get(failure.kind, 1):
        return None
    return Attempt(before.number + 1, before.parts * 2 if failure.kind == "memory" else before.parts)


class Breaker:
    """Counts final failures by cause."""

    def __init__(self) -> None:
        self.causes: Counter[str] = Counter()

    def add(self, failure: Failure) -> str | None:
        """Take note of a final failure; the reason to end the session, if this was one too many."""
        self.causes[failure.cause] += 1
        if self.causes[failure.cause] < SAME_CAUSE_LIMIT and failure.kind != "disk":
            return None
        return (
            f"stopped after {self.causes[failure.cause]} failures of one cause ({failure.cause}); what is done is "
            f"kept, and the same command continues once it is mended\n  last: {failure.message}"
        )
