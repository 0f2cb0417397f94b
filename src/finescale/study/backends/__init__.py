"""Where steps run. A backend has three verbs; none of an engine's own types pass through them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


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
    """Submit, poll, cancel. Made as ``Backend(workers, keep_open=…, preload=…, memory_bytes=…)``.

    ``keep_open`` are file descriptors every process of the backend holds while it lives; the driver's lease is one, so
    that no second driver starts before the last worker of the first is gone. ``preload`` names modules that a worker
    needs, which a backend may import ahead of the steps. ``memory_bytes`` is the most a step may hold; None: no limit.
    """

    def submit(self, function: str, folder: str, step: str) -> None:
        """Start ``module:function`` with two strings, a study folder and a step id, in a process of its own."""

    def poll(self, timeout: float) -> list[Ended]:
        """Steps that ended since the last call; waits up to ``timeout`` seconds for one."""

    def cancel(self, step: str) -> None:
        """End a running step; it is still reported by ``poll``."""

    def close(self) -> None:
        """End all running steps and leave no process behind."""
