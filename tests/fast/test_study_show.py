"""Progress and pace: what a person is told while a study runs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from study_toy import toy_study

from finescale.study.pace import Pace, work_of
from finescale.study.policy import Failure
from finescale.study.run import Outcome
from finescale.study.show import duration, line, showing

WHY = Failure("bug", "ValueError: no", "bug: ValueError at x.py:1")
NOW = Outcome(10, {"a", "b"}, {"c-0": WHY}, {"d"}, {"mt-lora4-m-8M-n100-s0-abc": 0.5}, seconds_left=600.0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "unknown"), (0, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (9000, "2.5 h")],
)
def test_durations(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_a_line_says_everything() -> None:
    assert line(NOW) == "2 of 10 steps done, 1 running, 1 failed, 1 blocked, about 10 min left"
    assert line(Outcome(1, {"a"})) == "1 of 1 steps done, 0 running"


def test_without_a_terminal_lines_are_few_and_a_failure_is_told_once() -> None:
    said = io.StringIO()
    with showing(Console(file=said)) as show:
        for _ in range(50):
            show(NOW)
        show(Outcome(1, {"a"}))
    assert said.getvalue().splitlines() == ["failed: c-0: ValueError: no", line(NOW), line(Outcome(1, {"a"}))]


def test_on_a_terminal_there_is_a_bar() -> None:
    said = io.StringIO()
    with showing(Console(file=said, force_terminal=True, width=80)) as show:
        show(NOW)
    assert "━" in said.getvalue()
    assert "mt-lora4-m-8M-n100-s0" in said.getvalue()
    assert "about 10 min left" in said.getvalue()


def test_markup_in_a_message_is_text() -> None:
    said = io.StringIO()
    with showing(Console(file=said)) as show:
        show(Outcome(2, set(), {"c": Failure("bug", "[red]not[/] markup", "")}))
    assert "[red]not[/] markup" in said.getvalue()


def test_pace_is_seconds_per_planned_flop_of_the_kind(tmp_path: Path) -> None:
    plan = toy_study(tmp_path).plan
    pace, base, run = Pace(), plan.of("base")[0], plan.of("run")[0]
    assert pace.estimate(work_of(plan.steps.values())) is None
    pace.add(base, 10.0)
    assert pace.estimate({"base": 2 * base.flops}) == pytest.approx(20.0)
    assert pace.estimate({"run": base.flops}) == pytest.approx(10.0), "at the pace of what was seen"
    pace.add(run, 1.0)
    assert pace.estimate({"run": 3 * run.flops, "rate": run.flops}) == pytest.approx(4.0), "a search is like a run"
