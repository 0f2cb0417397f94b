"""The wall clock is turned by hours, forward and back, while drivers and workers run: no lease is stolen or stuck.

A preloaded library (``clock.c``) gives the processes a wall clock that the test turns; steady clocks go on, as they do
when a real machine's clock is set. It also gives them the name of a machine, without locks shared with any other.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import cluster_study
import pytest
from cluster_study import left_behind, opened, results
from kill_study import TOML

from finescale.study import store
from finescale.study.lease import LEASE
from finescale.study.run import SESSIONS
from finescale.study.standing import standing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="builds a library to preload"),
]
HERE = Path(__file__).parent
HOURS = 100
SECONDS_BETWEEN_TURNS = 0.05
LONG = TOML.replace("[0, 1, 2]", "[0, 1, 2, 3, 4, 5]") + "[run]\nminutes = 1\n"


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("clock") / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(made), str(HERE / "clock.c")], check=True)
    return made


class Clock:
    """A wall clock that is off by as many seconds as its file says."""

    def __init__(self, library: Path, file: Path) -> None:
        self.library, self.file = library, file
        self.set(0)

    def set(self, hours: float) -> None:
        aside = self.file.with_suffix(".aside")
        aside.write_text(str(round(3600 * hours)))
        aside.replace(self.file)

    @contextmanager
    def turning(self) -> Iterator[None]:
        """Turn it by up to ``HOURS`` to either side, many times a second."""
        end, chance = threading.Event(), random.Random(7)

        def turn() -> None:
            while not end.wait(SECONDS_BETWEEN_TURNS):
                self.set(chance.uniform(-HOURS, HOURS))

        hand = threading.Thread(target=turn)
        hand.start()
        try:
            yield
        finally:
            end.set()
            hand.join()

    def drive(self, folder: Path, host: str = "") -> subprocess.Popen[str]:
        """Drive the study in a process of its own that has this clock."""
        own = {"LD_PRELOAD": str(self.library), "CLOCK_FILE": str(self.file)} | ({"CLOCK_HOST": host} if host else {})
        command = [sys.executable, cluster_study.__file__, str(folder), "local", ""]
        return subprocess.Popen(
            command, cwd=HERE, env=os.environ | own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


@pytest.fixture
def clock(library: Path, tmp_path: Path) -> Clock:
    return Clock(library, tmp_path / "off by")


def said_in_lease(folder: Path) -> dict[str, str]:
    try:
        found: dict[str, str] = json.loads((folder / LEASE).read_text())
    except (OSError, ValueError):
        return {}
    return found


def is_the_undisturbed_study(folder: Path, calm: Path) -> None:
    study = opened(str(folder), LONG)
    assert results(study) == results(opened(str(calm), LONG))
    assert study.store.read_all(study.plan)[1] == []
    assert left_behind(folder) == []
    assert not (folder / store.CONFLICTS).exists()


def test_a_clock_that_jumps_for_driver_and_workers_changes_nothing(clock: Clock, tmp_path: Path) -> None:
    """A second driver is kept out all the while, no step is thought too long, and every record is as it should be."""
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    opened(str(calm), LONG), opened(str(wild), LONG)
    assert clock.drive(calm).wait(300) == 0
    clocks, refused, began = set(), "", time.monotonic()
    with clock.turning():
        driver = clock.drive(wild)
        while driver.poll() is None:
            clocks.add(said_in_lease(wild).get("at"))
            if not refused and (wild / "bases").exists():
                refused = clock.drive(wild).communicate()[1]
            time.sleep(0.1)
    assert driver.returncode == 0, driver.communicate()
    took = time.monotonic() - began
    assert "another driver is running this study" in refused
    times = sorted(datetime.fromisoformat(at).timestamp() for at in clocks if at)
    assert times[-1] - times[0] > 3600 * HOURS / 10, "its clock did jump"
    is_the_undisturbed_study(wild, calm)
    sessions = [json.loads(line) for line in (wild / SESSIONS).read_text().splitlines()]
    assert [session["failed"] for session in sessions] == [0]
    assert 0 < sessions[0]["seconds"] < took, "time is told by a clock that does not jump"
    said = standing(opened(str(wild), LONG))
    assert (said["driven"], said["failed"], said["seconds_left"]) == (False, {}, 0)


@pytest.mark.parametrize("hours", [-HOURS, HOURS])
def test_machines_whose_clocks_disagree_keep_off_the_living_and_succeed_the_dead(
    clock: Clock, library: Path, tmp_path: Path, hours: int
) -> None:
    """Two machines that share a folder but no locks, a hundred hours apart, the first one's clock jumping besides."""
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    opened(str(calm), LONG), opened(str(wild), LONG)
    assert clock.drive(calm).wait(300) == 0
    other = Clock(library, tmp_path / "other's off by")
    other.set(hours)
    with clock.turning():
        first = clock.drive(wild, "one")
        while said_in_lease(wild).get("host") != "one":
            assert first.poll() is None, first.communicate()
            time.sleep(0.05)
        watching = other.drive(wild, "two")
        assert watching.wait(60) == 1
        assert "another driver is running this study" in watching.communicate()[1]
        assert first.poll() is None, "the living is left alone"
        first.kill()
        first.wait()
    study = opened(str(wild), LONG)
    assert 0 < len(study.store.finished(study.plan)) < len(study.plan.steps)
    began = time.monotonic()
    successor = other.drive(wild, "two")
    assert successor.wait(120) == 0, successor.communicate()
    assert time.monotonic() - began < 100, "nor is the lease of the dead kept"
    is_the_undisturbed_study(wild, calm)
