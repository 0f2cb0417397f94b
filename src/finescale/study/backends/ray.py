"""Steps as tasks of a Ray cluster: this machine's, or the one at ``RAY_ADDRESS``.

A Ray worker keeps a nursery of its own, so that a step is a fresh process there as it is at home: with one thread, a
limit on its memory, and nothing left of the step before. All machines see the study folder under one path.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from finescale.errors import Fault, InputError
from finescale.study.backends import Ended
from finescale.study.backends.local import LocalBackend
from finescale.study.lease import working

CPUS_A_STEP = 1
SECONDS_A_POLL = 5.0
_nurseries: dict[tuple[tuple[str, ...], int | None], LocalBackend] = {}


def carry_out(
    function: str, folder: str, step: str, preload: tuple[str, ...], path: list[str], memory_bytes: int | None
) -> tuple[int, int | None, str]:
    """In a Ray worker: run a step in a child of this worker's nursery; returns exit code, peak memory and why.

    Raises:
        StudyError: the modules that steps need cannot be imported.
    """
    sys.path.extend(entry for entry in path if entry not in sys.path)
    nursery = _nurseries.setdefault(
        (preload, memory_bytes), LocalBackend(1, preload=preload, memory_bytes=memory_bytes)
    )
    with working(folder):
        nursery.submit(function, folder, step)
        while True:
            for ended in nursery.poll(SECONDS_A_POLL):
                return ended.exit, ended.peak_memory_bytes, ended.why


class RayBackend:
    """Gives each step to Ray as a task that asks for one CPU and the memory a step may hold.

    Ray itself never tries a task again: what is tried again, and how often, is the driver's policy. The dashboard of a
    cluster started here is off; nothing but this machine can reach it.

    Raises:
        InputError: Ray is not installed.
    """

    def __init__(
        self,
        workers: int,
        keep_open: Sequence[int] = (),
        preload: Sequence[str] = (),
        memory_bytes: int | None = None,
    ) -> None:
        self.workers, self.preload, self.memory_bytes = workers, tuple(preload), memory_bytes
        self.tasks: dict[Any, str] = {}
        self.mine = False
        self.ray = _ray()

    def submit(self, function: str, folder: str, step: str) -> None:
        """Start ``module:function`` with two strings as a task of the cluster."""
        self._connect()
        task = self.ray.remote(carry_out).options(
            num_cpus=CPUS_A_STEP, memory=self.memory_bytes, max_retries=0, name=step
        )
        self.tasks[task.remote(function, folder, step, self.preload, sys.path, self.memory_bytes)] = step

    def poll(self, timeout: float) -> list[Ended]:
        """Steps that ended since the last call; waits up to ``timeout`` seconds for one.

        Raises:
            StudyError: the modules that steps need cannot be imported.
        """
        if not self.tasks:
            return []
        ready, _ = self.ray.wait(list(self.tasks), num_returns=1, timeout=timeout)
        if ready:
            ready, _ = self.ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=0)
        return [self._ended(task) for task in ready]

    def cancel(self, step: str) -> None:
        """Kill a running step; it is still reported by ``poll``."""
        for task, name in self.tasks.items():
            if name == step:
                self.ray.cancel(task, force=True)

    def close(self) -> None:
        """End all running steps, and the cluster if it was started here."""
        for step in list(self.tasks.values()):
            self.cancel(step)
        if self.tasks:
            self.ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=5.0)
        self.tasks.clear()
        if self.mine:
            self.ray.shutdown()
            self.mine = False

    def _connect(self) -> None:
        if self.ray.is_initialized():
            return
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if not os.environ.get("RAY_ADDRESS"):
            quiet |= {"num_cpus": self.workers * CPUS_A_STEP, "include_dashboard": False}
        self.ray.init(**quiet)
        self.mine = True

    def _ended(self, task: Any) -> Ended:
        step, errors = self.tasks.pop(task), self.ray.exceptions
        try:
            code, peak, why = self.ray.get(task)
        except errors.TaskCancelledError:
            return Ended(step, -9)
        except errors.OutOfMemoryError:
            return Ended(step, -9, why="memory")
        except errors.RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except errors.RayError:
            return Ended(step, -9, why="preempted")
        return Ended(step, code, peak, why)


def _ray() -> Any:
    """Ray, which is an extra: listing backends must not need it."""
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise InputError(
            Fault("backend 'ray'", "needs Ray, which is not installed", "pip install 'finescale[ray]'")
        ) from error
    return ray
