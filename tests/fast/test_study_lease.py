"""One driver a study, also across machines that share a folder and clocks that jump."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from finescale.errors import StudyError
from finescale.study import lease
from finescale.study.lease import LEASE, driven, hold


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hearts that beat in milliseconds."""
    monkeypatch.setattr(lease, "SECONDS_BETWEEN_BEATS", 0.05)


def elsewhere(folder: Path, beat: int, at: str = "2020-01-01T00:00:00+0000") -> None:
    """What a driver on another machine, which shares no locks with this one, writes."""
    (folder / LEASE).parent.mkdir(exist_ok=True)
    said = {"holder": "other", "pid": 1, "host": "elsewhere", "beat": beat, "at": at}
    (folder / LEASE).write_text(json.dumps(said).ljust(300))


def test_a_lease_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    with hold(tmp_path):
        said = json.loads((tmp_path / LEASE).read_text())
        assert said["pid"] == os.getpid()
        assert driven(tmp_path)
    assert not driven(tmp_path)
    assert (tmp_path / LEASE).read_text() == ""


def test_a_dead_driver_of_another_machine_is_succeeded(tmp_path: Path) -> None:
    elsewhere(tmp_path, 7)
    assert driven(tmp_path), "nobody can tell at one look"
    said: list[str] = []
    with hold(tmp_path, said.append):
        assert json.loads((tmp_path / LEASE).read_text())["pid"] == os.getpid()
    assert "elsewhere" in said[0]
    assert "takes over" in said[-1]


@pytest.mark.parametrize("at", ["1970-01-01T00:00:00+0000", "2999-01-01T00:00:00+0000"])
def test_a_living_driver_of_another_machine_is_left_alone_whatever_its_clock_says(tmp_path: Path, at: str) -> None:
    elsewhere(tmp_path, 7, at)
    end = threading.Event()

    def live() -> None:
        beat = 8
        while not end.wait(0.02):
            elsewhere(tmp_path, beat, at)
            beat += 1

    other = threading.Thread(target=live)
    other.start()
    try:
        with (
            pytest.raises(StudyError, match="another driver is running this study: process 1 on elsewhere"),
            hold(tmp_path),
        ):
            pass
    finally:
        end.set()
        other.join()


def test_a_driver_that_was_succeeded_notices_and_stops(tmp_path: Path) -> None:
    with hold(tmp_path) as held:
        elsewhere(tmp_path, 1)
        time.sleep(0.06)
        with pytest.raises(StudyError, match="another driver has taken this study over: process 1 on elsewhere"):
            held.beat()
    assert json.loads((tmp_path / LEASE).read_text())["host"] == "elsewhere", "and leaves the other's lease"


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00" * 300, '{"host": 3}'])
def test_a_damaged_lease_keeps_nobody_out(tmp_path: Path, content: str) -> None:
    (tmp_path / LEASE).parent.mkdir()
    (tmp_path / LEASE).write_text(content)
    with hold(tmp_path):
        assert driven(tmp_path)
