"""Where steps run. A backend has three verbs; none of an engine's own types pass through them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Setup:
    """What every backend is made from.

    Attributes:
        workers: steps at a time.
        keep_open: file descriptors every process of the backend holds while it lives; the driver's lease is one, so
            that no second driver starts before the last worker of the first is gone.
        preload: modules that a worker needs, which a backend may import ahead of the steps.
        memory_bytes: the most a process of a step may hold; None: no limit.
        cpus: processes a step has at most.
        address: the cluster to go to, where a backend has a choice.
        options: what the study says to this backend, in the engine's own words.
        folder: the study's folder on the driver's machine.
    """

    workers: int = 1
    keep_open: tuple[int, ...] = ()
    preload: tuple[str, ...] = ()
    memory_bytes: int | None = None
    cpus: int = 1
    address: str | None = None
    options: Mapping[str, str | int] = field(default_factory=dict)
    folder: Path = Path()

    @property
    def step_bytes(self) -> int | None:
        """The most all processes of a step may hold together; None: no limit."""
        return None if self.memory_bytes is None else self.memory_bytes * self.cpus


@dataclass(frozen=True)
class Ended:
    """A step that is no longer running.

    ``exit`` is 0, an exit code, or minus the signal that ended it; ``why`` is the class of failure where the backend
    knows it (``memory``, ``preempted``), else empty.
    """

    step: str
    exit: int
    peak_memory_bytes: int | None = None
    why: str = ""


class Backend(Protocol):
    """Submit, poll, cancel; made from a ``Setup``. Before one is made it can be asked where steps would run."""

    def submit(self, function: str, folder: str, step: str) -> None:
        """Start ``module:function`` with two strings, a study folder and a step id, in a process of its own."""

    def poll(self, timeout: float) -> list[Ended]:
        """Steps that ended since the last call; waits up to ``timeout`` seconds for one."""

    def cancel(self, step: str) -> None:
        """End a running step; it is still reported by ``poll``."""

    def close(self) -> None:
        """End all running steps and leave no process behind."""

    @staticmethod
    def largest_memory(address: str | None) -> int | None:
        """Memory of the largest machine that steps may get to, bytes; None where nobody can tell."""
