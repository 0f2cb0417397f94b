"""What a run's own history tells: evaluations that are missing from it, and examples that follow from its speeds."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from finescale.exchange.disk import Unreadable, text_of, yaml_of
from finescale.exchange.events import FILES, Events, read_events
from finescale.exchange.found import number

_SPEED, _TIME = 5e-4, 5e-5  # half of the last digit that transformers' ``speed_metrics`` keeps of each
MOST_STEPS = 1e12
"""A step beyond it is damage."""
_CARD = re.compile(r"^- (\w+): (\S.*)$", re.M)
_FRONT = re.compile(r"\A---\n(.*?)\n---\n", re.S)


def gaps(steps: Sequence[float], end: float | None = None, interval: float | None = None) -> str:
    """What is missing from evaluations at ``steps`` of a run of ``end`` steps; empty if nothing shows.

    Evaluations are made at one interval, so that an interval of several times that one lacks some. The first and the
    last may stand anywhere, since both can be made besides; of two, or one, only an early end can show. Where the
    ``interval`` is known, a history that was thinned evenly shows too.
    """
    every = sorted({step for step in steps if 0 < step < MOST_STEPS})
    if not every:
        return ""
    inner = [later - earlier for earlier, later in pairwise(every)]
    least = interval or min(inner[:-1] or inner or every)
    lost = sum(max(round(gap / least) - 1, 0) for gap in inner) if len(every) > 2 or interval else 0
    late = end is not None and end < MOST_STEPS and end - every[-1] >= 2 * least
    said = []
    if lost:
        said.append(f"lacks {lost} of {lost + len(every)} evaluations, if they were made at one interval")
    if late:
        said.append(f"ends at step {every[-1]:g} of {end:g}")
    return " and ".join(said)


def interval_of(points: Sequence[tuple[float, float | None]], asked: float | None) -> float | None:
    """Steps between the evaluations that a trainer made, by its settings; None where they do not tell.

    Args:
        points: steps and epochs of the evaluations in its history.
        asked: its ``eval_steps``, which says something only where it evaluated by steps, not by epochs. It did where
            the steps are multiples of it, and by epochs where they are whole epochs.
    """
    points = [(step, epoch) for step, epoch in points if 0 < step < MOST_STEPS]
    steps = sorted(step for step, _ in points)
    inner = steps[:-1] or steps  # the last may be made besides
    by_steps = bool(asked and asked >= 1 and inner and all(step % asked == 0 for step in inner))
    if by_steps and any(later - earlier == asked for earlier, later in pairwise([0.0, *steps])):
        return asked
    epochs = [(step, epoch) for step, epoch in points if step in inner]
    if epochs and all(
        epoch and math.isfinite(epoch) and round(epoch) and abs(epoch - round(epoch)) < 1e-6 for _, epoch in epochs
    ):
        step, epoch = epochs[-1]
        return step / round(epoch or 1)
    return asked if by_steps else None


def rows_from_speed(log: Mapping[str, Any], epochs: Any) -> tuple[int, int] | None:
    """The least and the most rows in the training set that a trainer's last log allows; None where it tells nothing.

    ``train_samples_per_second`` is rows times epochs over ``train_runtime``, each rounded (transformers,
    ``speed_metrics``). It is so where the training was asked for in epochs, not in steps, and ran through them.
    """
    wanted = log.get("train_runtime"), log.get("train_samples_per_second"), log.get("epoch"), epochs
    numbers = [number(value) for value in wanted]
    if any(value is None or not math.isfinite(value) or value <= 0 for value in numbers):
        return None
    runtime, speed, done, asked = (float(value or 0.0) for value in numbers)
    if abs(done - asked) > 1e-6:
        return None
    least = math.ceil((runtime - _TIME) * (speed - _SPEED) / asked - 1e-9)
    most = math.floor((runtime + _TIME) * (speed + _SPEED) / asked + 1e-9)
    return (least, most) if 0 < least <= most else None


def card(path: Path) -> dict[str, Any]:
    """Settings that a model card tells: its base, and the list of hyperparameters that Trainer writes into it."""
    try:
        text = text_of(path) if path.is_file() else ""
    except Unreadable:
        return {}
    found: dict[str, Any] = dict(_CARD.findall(text.partition("Training hyperparameters")[2]))
    front = _FRONT.match(text)
    try:
        found |= {"base_model": yaml_of(front[1]).get("base_model")} if front else {}
    except Unreadable:
        return found
    return found


def logged(folder: Path) -> tuple[Events, list[str]]:
    """Everything in a folder's event files, one after another, and what is wrong with them."""
    whole, wrong = Events(), []
    for path in sorted(folder.glob(FILES)):
        try:
            one = read_events(path)
        except Unreadable as error:
            wrong.append(f"an event file {error}")
            continue
        for tag, points in one.scalars.items():
            whole.scalars.setdefault(tag, []).extend(points)
        whole.texts = one.texts | whole.texts
        if one.cut:
            wrong.append("an event file is cut off or damaged: what was logged after that is missing")
    return whole, wrong


def arguments(events: Events) -> dict[str, Any]:
    """The training arguments that transformers logs as text, as JSON, beside its scalars."""
    for tag, text in events.texts.items():
        if tag.split("/")[0] == "args":
            try:
                found = json.loads(text)
            except (ValueError, RecursionError):
                return {}
            return found if isinstance(found, dict) else {}
    return {}
