"""Kill workers, their nursery and the driver at random, two hundred times: the study comes out as if undisturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import kill_study
import pytest
from kill_study import killed_study

from finescale.study import store
from finescale.study.lock import Study

pytestmark = pytest.mark.slow
KILLS = 200
VICTIMS = {"worker": 0.75, "nursery": 0.1, "driver": 0.15}
HERE = Path(__file__).parent


def start(folder: Path, backend: str = "local") -> subprocess.Popen[bytes]:
    command = [sys.executable, kill_study.__file__, str(folder), backend]
    return subprocess.Popen(command, cwd=HERE, stderr=subprocess.DEVNULL, start_new_session=True)


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:
            continue
    return found


def victim(driver: int, kind: str) -> int | None:
    """A living process of a kind under a driver, if there is one now."""
    if kind == "driver":
        return driver
    nurseries = children(driver)
    if kind == "nursery":
        return nurseries[0] if nurseries else None
    workers = [worker for nursery in nurseries for worker in children(nursery)]
    return random.choice(workers) if workers else None


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def disturb(folder: Path, kills: int) -> Counter[str]:
    """Run the study again and again and kill something every now and then, until so many were killed."""
    done: Counter[str] = Counter()
    while done.total() < kills:
        driver = start(folder)
        while driver.poll() is None and done.total() < kills:
            time.sleep(random.random() * 0.1)
            (kind,) = random.choices(list(VICTIMS), list(VICTIMS.values()))
            pid = victim(driver.pid, kind) if victim(driver.pid, "worker") else None
            if pid is not None and driver.poll() is None and kill(pid):
                done[kind] += 1
        if done.total() >= kills and driver.poll() is None:
            kill(driver.pid)
        driver.wait(30)
        study = killed_study(folder)
        if driver.returncode == 0:
            shrink(study)
    return done


def shrink(study: Study) -> None:
    """The study came to its end before all kills were done: take away half of its runs, so that it goes on."""
    for step in random.sample(study.plan.of("run"), len(study.plan.of("run")) // 2):
        folder = study.store.done(step)
        folder.rename(folder.with_suffix(".gone"))
        for path in folder.with_suffix(".gone").iterdir():
            path.unlink()
        folder.with_suffix(".gone").rmdir()


def results(study: Study) -> dict[str, dict[str, Any]]:
    assert study.store.finished(study.plan) == set(study.plan.steps)
    return {step.id: store.result(study.store.record(step)) for step in study.plan.steps.values()}


def test_a_study_killed_two_hundred_times_equals_one_that_was_not(tmp_path: Path) -> None:
    random.seed(os.environ.get("KILL_SEED", "1"))
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    assert start(calm).wait(300) == 0
    killed = disturb(wild, KILLS)
    assert killed.total() >= KILLS
    assert min(killed.values()) >= KILLS // 20, killed
    for _ in range(3):
        if start(wild).wait(300) == 0:
            break
    study = killed_study(wild)
    assert results(study) == results(killed_study(calm))
    folders = [path.name for name in store.FOLDERS.values() for path in (wild / name).iterdir()]
    assert len(folders) == len(study.plan.steps), "none double, none left in parts"
    assert {path.name for step in study.plan.of("run") for path in study.store.done(step).iterdir()} == {
        "record.json",
        "rows.bin",
    }
    assert not [path for path in wild.rglob("*") if path.suffix in {".part", ".tmp", ".aside", ".gone"}]
    assert not (wild / store.CONFLICTS).exists()
    whole = study.store.done(study.plan.of("run")[0]) / "rows.bin"
    assert whole.stat().st_size == 800
