"""What every backend must hold, run over all that are registered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from finescale import registry
from finescale.errors import StudyError
from finescale.study.backends import Backend, Ended, Setup
from finescale.study.backends.ray import POLITE

CLUSTERS = {"ray", "slurm"}
"""Backends that take long to start: once for all tests here, in the slow tier."""
pytestmark = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in CLUSTERS)) for name in registry.names("backend")]
)
HERE = "test_backend_contract"
SECONDS_TO_WAIT = 240
"""A cluster on a machine that is busy with other things takes its time."""


def write(folder: str, step: str) -> None:
    (Path(folder) / step).write_text(f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')}")


def fail(folder: str, step: str) -> None:
    raise ValueError(step)


def leave(folder: str, step: str) -> None:
    sys.exit(7)


def die(folder: str, step: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(folder: str, step: str) -> None:
    write(folder, step)
    time.sleep(60)


def hoard(folder: str, step: str) -> None:
    held = bytearray(os.urandom(1 << 20) * 600)
    write(folder, step)
    time.sleep(20)
    assert held


def hoard_elsewhere(folder: str, step: str) -> None:
    """What holds too much is a process of the step's own, two steps down."""
    write(folder, step)
    hoarding = "import os, time; held = bytearray(os.urandom(1 << 20) * 600); time.sleep(20)"
    again = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hoarding!r}])"
    subprocess.run([sys.executable, "-c", again], check=False)


@pytest.fixture(autouse=True)
def cluster(name: str) -> None:
    """A Ray cluster of this machine that outlives each test; submitit's local executor in the place of Slurm."""
    if name == "slurm":
        pytest.importorskip("submitit")
    if name == "ray":
        ray = pytest.importorskip("ray")
        if not ray.is_initialized():
            quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
            ray.init(num_cpus=2, _system_config=POLITE, **quiet)


def made_of(name: str, folder: Path, workers: int = 2, preload: str = HERE, memory_bytes: int | None = None) -> Backend:
    address = "local" if name == "slurm" else None
    setup = Setup(workers, preload=(preload,), memory_bytes=memory_bytes, address=address, folder=folder)
    backend: Backend = registry.get("backend", name)(setup)
    return backend


@pytest.fixture
def backend(name: str, tmp_path: Path) -> Iterator[Backend]:
    made = made_of(name, tmp_path)
    yield made
    made.close()


def ends(backend: Backend, count: int) -> dict[str, Ended]:
    found: dict[str, Ended] = {}
    deadline = time.monotonic() + SECONDS_TO_WAIT
    while len(found) < count:
        assert time.monotonic() < deadline, f"only {sorted(found)} ended"
        found |= {ended.step: ended for ended in backend.poll(0.2)}
    return found


def started(folder: Path, step: str) -> int:
    deadline = time.monotonic() + SECONDS_TO_WAIT
    while not (folder / step).exists() or not (folder / step).read_text():
        assert time.monotonic() < deadline, f"{step} did not start"
        time.sleep(0.01)
    return int((folder / step).read_text().split()[0])


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not Path(f"/proc/{pid}").exists()


def test_each_step_has_a_process_of_its_own_with_one_thread(backend: Backend, tmp_path: Path) -> None:
    for step in ("a", "b", "c"):
        backend.submit(f"{HERE}:write", str(tmp_path), step)
    found = ends(backend, 3)
    assert {ended.exit for ended in found.values()} == {0}
    said = [(tmp_path / step).read_text().split() for step in ("a", "b", "c")]
    assert len({pid for pid, _ in said}) == 3
    assert {threads for _, threads in said} == {"1"}
    assert all((ended.peak_memory_bytes or 1) > 0 for ended in found.values())


def test_every_way_to_end_is_told_apart_and_hurts_nobody_else(backend: Backend, tmp_path: Path) -> None:
    for function in ("die", "fail", "leave", "write"):
        backend.submit(f"{HERE}:{function}", str(tmp_path), function)
    found = ends(backend, 4)
    assert {step: ended.exit for step, ended in found.items()} == {"die": -9, "fail": 1, "leave": 7, "write": 0}


def test_a_function_that_is_not_there_fails_its_step_only(backend: Backend, tmp_path: Path) -> None:
    backend.submit("no_such_module:work", str(tmp_path), "lost")
    backend.submit(f"{HERE}:write", str(tmp_path), "fine")
    assert {step: ended.exit for step, ended in ends(backend, 2).items()} == {"lost": 1, "fine": 0}


def test_a_cancelled_step_ends_and_is_told(backend: Backend, tmp_path: Path) -> None:
    backend.submit(f"{HERE}:sleep", str(tmp_path), "long")
    pid = started(tmp_path, "long")
    backend.cancel("long")
    assert ends(backend, 1)["long"].exit != 0
    assert gone(pid)


@pytest.mark.parametrize("way", ["hoard", "hoard_elsewhere"])
def test_a_step_that_holds_too_much_is_ended_for_it(name: str, tmp_path: Path, way: str) -> None:
    made = made_of(name, tmp_path, memory_bytes=400 << 20)
    made.submit(f"{HERE}:{way}", str(tmp_path), "large")
    made.submit(f"{HERE}:write", str(tmp_path), "small")
    found = ends(made, 2)
    made.close()
    assert (found["large"].why, found["small"].why) == ("memory", "")
    assert found["large"].exit != 0 == found["small"].exit


def test_closing_leaves_no_process(backend: Backend, tmp_path: Path) -> None:
    for step in ("a", "b"):
        backend.submit(f"{HERE}:sleep", str(tmp_path), step)
    pids = [started(tmp_path, step) for step in ("a", "b")]
    began = time.monotonic()
    backend.close()
    assert time.monotonic() - began < 8
    assert all(map(gone, pids))


def test_it_can_be_asked_what_its_machines_hold_before_it_is_made(name: str) -> None:
    found = registry.get("backend", name).largest_memory("local" if name == "slurm" else None)
    own = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert own / 4 < found <= own


def test_polling_waits_no_longer_than_asked(backend: Backend, tmp_path: Path) -> None:
    backend.submit(f"{HERE}:sleep", str(tmp_path), "long")
    began = time.monotonic()
    assert backend.poll(0.3) == []
    assert time.monotonic() - began < 2


def test_it_can_be_used_again_after_closing(backend: Backend, tmp_path: Path) -> None:
    backend.close()
    backend.submit(f"{HERE}:write", str(tmp_path), "again")
    assert ends(backend, 1)["again"].exit == 0


def test_modules_that_cannot_be_imported_are_named(name: str, tmp_path: Path) -> None:
    made = made_of(name, tmp_path, workers=1, preload="no_such_module")
    made.submit(f"{HERE}:write", str(tmp_path), "a")
    with pytest.raises(StudyError, match="no_such_module"):
        ends(made, 1)
    made.close()
