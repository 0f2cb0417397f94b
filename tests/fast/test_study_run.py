"""Driving a study with real processes: killed workers, killed drivers, Ctrl-C, failures, resuming."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import study_toy
from study_toy import TOML, WORK, attempts, order, toy_study

from finescale.errors import InputError, StudyError
from finescale.study import store
from finescale.study.lease import driven, hold
from finescale.study.lock import LOCK_FILE, Study
from finescale.study.run import Outcome, run, state

SMALL = TOML.replace('["xs", "s"]', '["xs"]').replace("[10_000, 20_000]", "[10_000]")
HERE = Path(__file__).parent


def drive(study: Study, **how: object) -> Outcome:
    return run(study, workers=2, function=WORK, **how)


def wait_for(what: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def alive(folder: Path) -> list[int]:
    """Processes whose command line or working files are of this study: workers hold its output file open."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                files = [os.readlink(file) for file in (process / "fd").iterdir()]
            except OSError:
                continue
            if any(str(folder) in file for file in files) and int(process.name) != os.getpid():
                found.append(int(process.name))
    return found


def test_a_study_runs_to_the_end_and_again_does_nothing(tmp_path: Path) -> None:
    study = toy_study(tmp_path)
    seen: list[int] = []
    outcome = drive(study, show=lambda now: seen.append(len(now.done)))
    assert outcome.complete
    assert outcome.peak_memory_bytes > 0
    assert seen == sorted(seen)
    assert len(study.table()) == 32
    assert Counter(attempts(tmp_path)) == Counter(list(study.plan.steps)), "each step once"
    assert drive(study).complete
    assert len(attempts(tmp_path)) == len(study.plan.steps), "nothing is done twice"
    assert not list(tmp_path.rglob("*.part"))
    assert not alive(tmp_path)


def test_a_wider_grid_runs_only_what_is_new(tmp_path: Path) -> None:
    drive(toy_study(tmp_path, SMALL))
    before = set(attempts(tmp_path))
    wider = toy_study(tmp_path, SMALL.replace("400, 800]", "400, 800, 1600]"))
    assert drive(wider).complete
    assert len(attempts(tmp_path)) == len(wider.plan.steps) == len(before) + 2


def test_the_longest_way_to_the_end_goes_first(tmp_path: Path) -> None:
    study = toy_study(tmp_path)
    run(study, workers=1, function=WORK)
    done = attempts(tmp_path)
    runs = [study.plan.steps[id].flops for id in done if study.plan.steps[id].kind == "run"]
    assert runs[0] == max(runs), "long runs are not left to the end"
    assert done[0] == study.plan.of("data")[0].id


def test_a_killed_worker_is_tried_again(tmp_path: Path) -> None:
    study = toy_study(tmp_path, SMALL)
    victim = study.plan.of("run")[3].id
    order(tmp_path, victim, "kill-once")
    assert drive(study).complete
    assert Counter(attempts(tmp_path))[victim] == 2


def test_a_step_that_is_killed_twice_fails_and_the_others_go_on(tmp_path: Path) -> None:
    study = toy_study(tmp_path, SMALL)
    victim = study.plan.of("run")[3].id
    order(tmp_path, victim, "kill")
    outcome = drive(study)
    assert outcome.failed[victim].kind == "killed"
    assert "signal 9" in outcome.failed[victim].message
    assert len(outcome.done) == outcome.total - 1
    assert Counter(attempts(tmp_path))[victim] == 2
    assert state(study).failed[victim] == outcome.failed[victim], "the failure stands in the folder"


def test_want_of_memory_is_met_with_smaller_parts_of_a_batch(tmp_path: Path) -> None:
    study = toy_study(tmp_path, SMALL)
    victim = study.plan.of("run")[3].id
    order(tmp_path, victim, "memory")
    assert drive(study).complete
    assert [line.split()[0] for line in (tmp_path / "parts").read_text().splitlines() if victim in line] == list("124")


def test_a_step_that_takes_too_long_is_ended_once_and_told(tmp_path: Path) -> None:
    study = toy_study(tmp_path, SMALL + "[run]\nminutes = 0.03\n")
    slow = study.plan.of("run")[0].id
    order(tmp_path, slow, "slow")
    outcome = drive(study)
    assert outcome.failed[slow].kind == "time"
    assert len(outcome.done) == outcome.total - 1
    assert Counter(attempts(tmp_path))[slow] == 1


def test_only_some_failures_are_tried_again_with_what_waited_for_them(tmp_path: Path) -> None:
    study = toy_study(tmp_path, SMALL)
    order(tmp_path, "rate", "fail")
    lone = study.plan.of("run")[0].id
    order(tmp_path, lone, "kill")
    first = drive(study)
    assert {failure.kind for failure in first.failed.values()} == {"bug", "killed"}
    (tmp_path / "orders" / "rate").unlink()
    (tmp_path / "orders" / lone).unlink()
    again = drive(study, only=[id for id, failure in first.failed.items() if failure.kind == "bug"])
    assert again.total - len(again.done) == 1
    assert state(study).failed.keys() == {lone}


def test_a_study_the_disk_cannot_hold_is_refused_before_it_starts(tmp_path: Path) -> None:
    study = toy_study(tmp_path, TOML + "[data]\nstream_tokens = 900_000_000_000_000\n")
    with pytest.raises(StudyError, match=r"the disk has .* GB free, and the steps left may need 1800"):
        drive(study)
    assert attempts(tmp_path) == []


def test_a_failure_is_recorded_blocks_what_needs_it_and_is_tried_by_the_next_run(tmp_path: Path) -> None:
    study = toy_study(tmp_path, SMALL)
    order(tmp_path, "rate", "fail")
    outcome = drive(study)
    (failure,) = outcome.failed.values()
    assert (failure.kind, failure.message) == ("bug", "ValueError: ordered to fail")
    assert "study_toy.py" in failure.details
    lora = {step.id for step in study.plan.of("run") if step.spec.method.name == "lora"}
    assert outcome.blocked == lora == state(study).blocked
    assert len(study.table()) == 4, "what does not need it was run"
    (tmp_path / "orders" / "rate").unlink()
    assert drive(study).complete
    assert not list(tmp_path.rglob("error.json"))


def test_the_breaker_stops_after_failures_of_one_cause(tmp_path: Path) -> None:
    study = toy_study(tmp_path)
    order(tmp_path, "run", "fail")
    with pytest.raises(StudyError, match="stopped after 5 failures of one cause"):
        drive(study)
    assert len([id for id in attempts(tmp_path) if study.plan.steps[id].kind == "run"]) <= 6
    assert not alive(tmp_path)


def test_a_fault_of_the_user_is_told_from_a_fault_of_ours(tmp_path: Path) -> None:
    study = toy_study(tmp_path, SMALL)
    order(tmp_path, "data", "input")
    outcome = drive(study)
    assert [failure.kind for failure in outcome.failed.values()] == ["input"]
    assert len(outcome.blocked) == outcome.total - 1


def test_a_second_driver_is_told_who_drives(tmp_path: Path) -> None:
    study = toy_study(tmp_path, SMALL)
    with hold(tmp_path):
        assert driven(tmp_path)
        with pytest.raises(StudyError, match=rf"another driver is running this study.*{os.getpid()}"):
            drive(study)
    assert not driven(tmp_path)
    assert attempts(tmp_path) == []


def driver(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, study_toy.__file__, str(folder)], cwd=HERE, stderr=subprocess.PIPE, start_new_session=True
    )


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_driver_leaves_no_worker_and_loses_nothing(tmp_path: Path, how: signal.Signals) -> None:
    """However the driver ends, its workers end with it, and the same command finishes the study."""
    study = toy_study(tmp_path, SMALL)
    slow = study.plan.of("run")[0].id
    order(tmp_path, slow, "slow")
    process = driver(tmp_path)
    wait_for(lambda: slow in attempts(tmp_path) and len(attempts(tmp_path)) > 5)
    assert driven(tmp_path)
    wait_for(lambda: slow in state(study).running)
    process.send_signal(how)
    process.communicate(timeout=15)
    wait_for(lambda: not alive(tmp_path), 10)
    before = study.store.finished(study.plan)
    assert slow not in before
    (tmp_path / "orders" / slow).unlink()
    assert drive(study).complete
    again = Counter(attempts(tmp_path))
    assert all(again[id] == 1 for id in before), "what was done stays done"
    assert not list(tmp_path.rglob("*.part"))


def test_a_killed_nursery_costs_one_try(tmp_path: Path) -> None:
    study = toy_study(tmp_path, SMALL)
    slow = study.plan.of("run")[0].id
    order(tmp_path, slow, "slow")

    def kill_nursery(now: Outcome) -> None:
        if slow in attempts(tmp_path) and (tmp_path / "orders" / slow).exists():
            (tmp_path / "orders" / slow).unlink()
            for pid in alive(tmp_path):
                if b"nursery" in Path(f"/proc/{pid}/cmdline").read_bytes() and os.getsid(pid) == pid:
                    os.kill(pid, signal.SIGKILL)

    assert drive(study, show=kill_nursery).complete
    assert Counter(attempts(tmp_path))[slow] == 2


def test_a_session_is_noted_even_when_it_stops(tmp_path: Path) -> None:
    study = toy_study(tmp_path, SMALL)

    def stop(now: Outcome) -> None:
        if len(now.done) >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(study, show=stop)
    assert drive(study).complete
    assert len((tmp_path / "sessions.jsonl").read_text().splitlines()) == 2


def test_time_left_is_unknown_until_something_was_measured(tmp_path: Path) -> None:
    study = toy_study(tmp_path, SMALL)
    said: list[float | None] = []
    drive(study, show=lambda now: said.append(now.seconds_left))
    assert said[0] is None or said[0] > 0
    assert said[-1] == pytest.approx(0.0, abs=1e-9)


def test_progress_of_a_step_is_read_while_it_runs(tmp_path: Path) -> None:
    study = toy_study(tmp_path, SMALL)
    step = study.plan.of("data")[0]
    study.store.begin(step)
    assert study.store.progress(step) == 0.0
    (study.store.part(step) / "progress").write_text("0.25")
    assert study.store.progress(step) == 0.25
    assert store.find_part(tmp_path, step.id) == study.store.part(step)


@pytest.mark.parametrize(("asked", "says"), [({"backend": "rya"}, "ray"), ({"address": "1.2.3.4:5"}, "for a cluster")])
def test_a_backend_that_cannot_be_had_leaves_nothing(tmp_path: Path, asked: dict[str, str], says: str) -> None:
    study = toy_study(tmp_path, SMALL)
    with pytest.raises(InputError, match=says):
        run(study, function=WORK, **asked)
    assert not (tmp_path / LOCK_FILE).exists()
