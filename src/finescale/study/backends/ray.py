"""Steps as tasks of a Ray cluster: this machine's, or the one at ``--address`` or ``RAY_ADDRESS``.

A Ray worker keeps a nursery of its own, so that a step is a fresh process there as it is at home: with one thread, a
limit on its memory, and nothing left of the step before. All machines see the study folder under one path, or the
study is kept at a URL.
"""

from __future__ import annotations

import os
import socket
import sys
from functools import cache
from typing import Any

from finescale.errors import Fault, InputError
from finescale.study import remote
from finescale.study.backends import Ended, Setup
from finescale.study.backends.local import LocalBackend
from finescale.study.lease import working

POLITE = {"worker_niceness": 0}
"""Ray starts its workers at niceness 15, where anything else on the machine starves them."""
SECONDS_A_POLL = 5.0
SECONDS_TO_ANSWER = 5.0


@cache
def _nursery(preload: tuple[str, ...], memory_bytes: int | None) -> LocalBackend:
    """The nursery of this Ray worker; it lives as long as the worker does."""
    return LocalBackend(Setup(preload=preload, memory_bytes=memory_bytes))


def carry_out(
    function: str, folder: str, step: str, preload: tuple[str, ...], path: list[str], memory_bytes: int | None
) -> tuple[int, int | None, str]:
    """In a Ray worker: run a step in a child of this worker's nursery; returns exit code, peak memory and why.

    Raises:
        StudyError: the modules that steps need cannot be imported.
    """
    sys.path.extend(entry for entry in path if entry not in sys.path)
    return in_child(_nursery(preload, memory_bytes), function, folder, step)


def in_child(nursery: LocalBackend, function: str, folder: str, step: str) -> tuple[int, int | None, str]:
    """Run a step in a child of a nursery, keeping new drivers of the study waiting; exit code, peak memory and why.

    Raises:
        StudyError: the modules that steps need cannot be imported.
    """
    with working(remote.here(folder)):
        nursery.submit(function, folder, step)
        while True:
            for ended in nursery.poll(SECONDS_A_POLL):
                return ended.exit, ended.peak_memory_bytes, ended.why


class RayBackend:
    """Gives each step to Ray as a task that asks for a CPU per process and the memory a step may hold.

    Ray itself never tries a task again: what is tried again, and how often, is the driver's policy. The dashboard
    of a cluster started here is off, and so are its usage reports; but Ray's own ports are open on every address of the
    machine (docs/clusters.md).

    Raises:
        InputError: Ray is not installed.
    """

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.tasks: dict[Any, str] = {}
        self.mine = False
        self.ray = _ray()

    def submit(self, function: str, folder: str, step: str) -> None:
        """Start ``module:function`` with two strings as a task of the cluster."""
        self._connect()
        task = self.ray.remote(carry_out).options(
            num_cpus=self.setup.cpus, memory=self.setup.step_bytes, max_retries=0, name=step
        )
        self.tasks[task.remote(function, folder, step, self.setup.preload, sys.path, self.setup.memory_bytes)] = step

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

    @staticmethod
    def largest_memory(address: str | None) -> int | None:
        """What the largest node that takes tasks has for them and their objects; this machine's where Ray starts here.

        None where no node takes tasks yet, as in a cluster that grows when it is asked.

        Raises:
            InputError: the cluster cannot be reached.
        """
        ray = _ray()
        if not (address or os.environ.get("RAY_ADDRESS") or ray.is_initialized()):
            return LocalBackend.largest_memory(None)
        mine = _join(ray, address)
        try:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        finally:
            if mine:
                ray.shutdown()
        kinds = ("memory", "object_store_memory")
        return round(max((sum(node.get(kind, 0) for kind in kinds) for node in nodes), default=0)) or None

    def _connect(self) -> None:
        cpus = self.setup.workers * self.setup.cpus
        self.mine = _join(self.ray, self.setup.address, cpus) or self.mine

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


def _join(ray: Any, address: str | None, cpus: int = 1) -> bool:
    """Be in the cluster at an address, or where there is none in one of this machine; whether that is new.

    Raises:
        InputError: nobody answers there.
    """
    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address := address or os.environ.get("RAY_ADDRESS"):
        quiet["address"] = address
    else:
        quiet |= {"num_cpus": cpus, "include_dashboard": False, "_system_config": POLITE}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        _knock(address or "")
        ray.init(**quiet)
    except (OSError, ValueError) as error:
        fix = "ray start --head, or leave --address out for a cluster of this machine"
        raise InputError(Fault(f"cluster {address}", f"cannot be reached: {error}", fix)) from error
    return True


def _knock(address: str) -> None:
    """Try a ``host:port`` first, as Ray itself waits for minutes where nobody answers.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), SECONDS_TO_ANSWER).close()


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
