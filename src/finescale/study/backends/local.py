"""Steps as processes of this machine: one process a step, one thread a process.

A step that is killed is noticed and reported; the others go on. One thread each is not a nicety: two processes with
two threads each take four times as long on two cores as two with one.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from contextlib import suppress

from finescale.errors import Fault, InputError, StudyError
from finescale.study.backends import Ended, Setup

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONHASHSEED": "0",
}
START = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
START += "from finescale.study.backends.nursery import main; main()"
SECONDS_TO_END = 10.0


class LocalBackend:
    """Runs steps in children of one nursery process, which is started with the first step.

    Raises:
        InputError: an address is given, and there is nowhere to go.
    """

    def __init__(self, setup: Setup) -> None:
        if setup.address is not None:
            fix = "leave it out, or say where with --on ray"
            raise InputError(Fault(f"--address {setup.address}", "is for a cluster, and this runs here", fix))
        self.setup = setup
        self.running: set[str] = set()
        self.nursery: subprocess.Popen[bytes] | None = None
        self.unread = b""

    def submit(self, function: str, folder: str, step: str) -> None:
        """Start ``module:function`` with two strings in a process of its own."""
        self.running.add(step)
        self._order({"start": [function, folder, step]})

    def poll(self, timeout: float) -> list[Ended]:
        """Steps that ended since the last call; waits up to ``timeout`` seconds for one.

        Raises:
            StudyError: the modules that steps need cannot be imported.
        """
        if self.nursery is None or self.nursery.stdout is None:
            return self._all_lost()
        source = self.nursery.stdout.fileno()
        if not select.select([source], [], [], timeout)[0]:
            return []
        received = os.read(source, 65536)
        if not received:
            self._end_nursery()
            return self._all_lost()
        *lines, self.unread = (self.unread + received).split(b"\n")
        return [self._ended(json.loads(line)) for line in lines]

    def cancel(self, step: str) -> None:
        """Kill a running step; it is still reported by ``poll``."""
        if self.nursery is not None:
            self._order({"cancel": step})

    def close(self) -> None:
        """End all running steps and the nursery."""
        self._end_nursery()
        self.running.clear()

    @staticmethod
    def largest_memory(address: str | None) -> int | None:
        """Memory of this machine, bytes."""
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def _order(self, order: dict[str, object]) -> None:
        if self.nursery is None:
            self.nursery = self._start_nursery()
        assert self.nursery.stdin is not None
        try:
            self.nursery.stdin.write(json.dumps(order).encode() + b"\n")
            self.nursery.stdin.flush()
        except BrokenPipeError:
            self._end_nursery()

    def _start_nursery(self) -> subprocess.Popen[bytes]:
        """A session of its own keeps Ctrl-C in the terminal from reaching the workers before the driver decides."""
        setup = self.setup
        return subprocess.Popen(
            [sys.executable, "-P", "-c", START, json.dumps(sys.path), str(setup.memory_bytes or 0), *setup.preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | ENVIRONMENT,
            pass_fds=setup.keep_open,
            start_new_session=True,
        )

    def _ended(self, message: dict[str, object]) -> Ended:
        if "broken" in message:
            raise StudyError(f"workers cannot start: {message['broken']} — pip install 'finescale[lab]'")
        ended = Ended(**message)  # type: ignore[arg-type]
        self.running.discard(ended.step)
        return ended

    def _all_lost(self) -> list[Ended]:
        """All running steps as killed: the nursery died, and its children with it."""
        lost = [Ended(step, -9) for step in sorted(self.running)]
        self.running.clear()
        return lost

    def _end_nursery(self) -> None:
        nursery, self.nursery, self.unread = self.nursery, None, b""
        if nursery is None:
            return
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        with suppress(BrokenPipeError):
            nursery.stdin.close()
        try:
            nursery.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            nursery.kill()
            nursery.wait()
        nursery.stdout.close()
