"""A step whose machine is taken away is taken up again; want of memory makes evaluation work in smaller parts too."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import study_toy
from small_models import PLAIN, awake, examples
from study_toy import TOML, attempts, toy_study

from finescale.lab import evaluate
from finescale.lab.decode import decode
from finescale.study import store
from finescale.study.lease import alone
from finescale.study.policy import TRIES
from finescale.study.run import Outcome, run
from finescale.study.serve import Teller, serve

WORK = "test_study_preempted:work"
SMALL = TOML.replace('["xs", "s"]', '["xs"]').replace("[10_000, 20_000]", "[10_000]")


def work(folder: str, step_id: str) -> None:
    serve(folder, step_id, execute)


def execute(root: Path, part: Path, tell: Teller) -> dict[str, object]:
    """Be asked to go as often as ``orders/<id>`` says, each time leaving one more line to go on from."""
    asked = store.read_json(part / "spec.json")
    order = root / "orders" / asked["id"]
    lines = (part / "state").read_text() if (part / "state").exists() else ""
    (part / "state").write_text(lines + "x")
    if order.exists() and len(lines) < int(order.read_text()):
        with (root / "attempts").open("a") as file:
            file.write(asked["id"] + "\n")
        os.kill(os.getpid(), signal.SIGTERM)
    (part / "state").unlink()
    return study_toy.execute(root, part, tell) | {"resumed_at_step": len(lines)}


def drive(folder: Path, times: int) -> tuple[Outcome, str, int]:
    study = toy_study(folder, SMALL)
    victim = study.plan.of("run")[2]
    study_toy.order(folder, victim.id, str(times))
    outcome = run(study, workers=2, function=WORK)
    resumed = study.store.record(victim)["resumed_at_step"] if victim.id in outcome.done else -1
    return outcome, victim.id, resumed


def test_a_worker_asked_to_go_is_replaced_and_its_step_resumes(tmp_path: Path) -> None:
    outcome, victim, resumed = drive(tmp_path, 3)
    assert outcome.complete
    assert resumed == 3, "it went on from what it had left"
    assert Counter(attempts(tmp_path))[victim] == 4
    assert not list(tmp_path.rglob("*.part"))


def test_one_that_is_never_left_alone_is_given_up_as_preempted(tmp_path: Path) -> None:
    outcome, victim, _ = drive(tmp_path, 99)
    assert outcome.failed[victim].kind == "preempted"
    assert Counter(attempts(tmp_path))[victim] == TRIES["preempted"]


def test_a_step_has_one_worker_at_a_time_and_a_late_one_finds_it_done(tmp_path: Path) -> None:
    study = toy_study(tmp_path, SMALL)
    step = study.plan.of("rate")[0]
    study.store.begin(step)
    part = study.store.part(step)
    with alone(part) as first:
        assert first
        child = os.fork()
        if child == 0:
            with alone(part) as second:
                os._exit(1 if second else 0)
        store.finish(part, {"learning_rate": 0.01})
    assert os.waitpid(child, 0)[1] == 0, "it waited, and found nothing left to do"
    assert sorted(path.name for path in study.store.done(step).iterdir()) == ["record.json"]


@pytest.mark.parametrize("parts", [2, 8, 1000])
def test_evaluation_in_parts_gives_the_same_numbers(parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, some, sizes = awake(PLAIN, 0).eval(), examples(0, 70), []
    whole = evaluate.rows(net, some, 24)
    real = evaluate.pack
    monkeypatch.setattr(evaluate, "pack", lambda batch, *how: (sizes.append(len(batch)), real(batch, *how))[1])
    split = evaluate.rows(net, some, 24, parts=parts)
    assert max(sizes) == max(1, evaluate.BATCH // parts)
    np.testing.assert_allclose(split.nats, whole.nats, rtol=1e-6)
    prompts = [one.prompt for one in some]
    answers = [[found.ids.tolist() for found in decode(net, prompts, 6, parts=n)] for n in (1, parts)]
    assert answers[0] == answers[1]
