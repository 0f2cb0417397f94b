"""A disk that fills, a folder that may not be written, records cut short or with flipped bits, two drivers at once.

Each ends in a clear state and message, and nothing that was done is lost. The full disk is a real one: a small tmpfs.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import kill_study
import pytest
from kill_study import WORK, killed_study

from finescale.errors import StudyError
from finescale.study import config, space, store
from finescale.study.lock import Study
from finescale.study.plan import Digests
from finescale.study.run import run, state

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {made.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_ends_the_session_at_once_and_loses_nothing(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done stays done; once there is room the same command ends the study."""
    study = killed_study(small_disk / "study")
    with pytest.raises(StudyError, match="GB free"):
        run(study, workers=2, function=WORK)
    monkeypatch.setattr(space, "SPARE", -(10**12))
    with pytest.raises(StudyError, match="No space left"):
        run(study, workers=2, function=WORK)
    before = study.store.finished(study.plan)
    assert 0 < len(before) < len(study.plan.steps)
    for id in before:
        study.store.record(study.plan.steps[id])
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert run(study, workers=2, function=WORK).complete
    assert not [path for path in small_disk.rglob("*") if path.suffix in {".part", ".tmp"}]


@pytest.fixture
def closed_folder(tmp_path: Path) -> Iterator[Path]:
    """A study's folder on a file system that may only be read; root writes through mere permissions."""
    folder = tmp_path / "study"
    killed_study(folder)
    bound = subprocess.run(["mount", "--bind", str(folder), str(folder)], capture_output=True)
    if bound.returncode:
        pytest.skip(f"cannot mount here: {bound.stderr.decode().strip()}")
    subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_folder_that_cannot_be_written_is_told_before_anything_runs(closed_folder: Path) -> None:
    study = Study(closed_folder, config.read(closed_folder), Digests(corpus="0" * 64, tasks={}), {})
    with pytest.raises(StudyError, match="cannot be written"):
        run(study, workers=2, function=WORK)


def test_damaged_records_are_named_and_mending_them_costs_only_them(tmp_path: Path) -> None:
    study = killed_study(tmp_path)
    assert run(study, workers=2, function=WORK).complete
    random.seed(3)
    victims = random.sample(study.plan.of("run"), 6)
    for number, step in enumerate(victims):
        path = study.store.done(step) / "record.json"
        content = bytearray(path.read_bytes())
        if number % 2:
            content = content[: random.randrange(len(content))]
        else:
            content[content.index(b'"value": ') + 9] ^= 1
        path.write_bytes(content)
    sound, faults = study.store.read_all(study.plan)
    assert len(sound) + len(faults) == len(study.plan.steps)
    assert [fault.where for fault in faults] == sorted(str(study.store.done(step)) for step in victims)
    named = {fault.where for fault in faults}
    moved = study.store.put_aside(step for step in victims if str(study.store.done(step)) in named)
    assert all((place / "rows.bin").exists() for place in moved), "nothing is deleted"
    assert run(study, workers=2, function=WORK).complete
    assert study.store.read_all(study.plan)[1] == []


def test_of_two_drivers_one_drives(tmp_path: Path) -> None:
    command = [sys.executable, kill_study.__file__, str(tmp_path), "local"]
    pair = [subprocess.Popen(command, cwd=HERE, stderr=subprocess.PIPE) for _ in range(2)]
    said = [process.communicate(timeout=300)[1].decode() for process in pair]
    assert sorted(process.returncode for process in pair) == [0, 1]
    (loser,) = (text for process, text in zip(pair, said, strict=True) if process.returncode)
    assert "another driver is running this study" in loser
    study = killed_study(tmp_path)
    assert state(study).complete
    assert not (tmp_path / store.CONFLICTS).exists()
    assert sorted(os.listdir(tmp_path / "leases")) == ["driver.json", "workers"]
