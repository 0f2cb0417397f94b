"""Pretraining a rung at the sizes a study keeps, in one of three designs.

*Branches* (the default): one trunk at a constant rate and a short decay branch for every kept size. Every kept size is
a finished (annealed) model, so that "pretraining tokens" compares like with like; the branch is the price of that and
is recorded. The trunk's state at the branching point stays beside the base: a larger size, now or in a later study,
continues from there (Hägele et al. 2024, arXiv 2405.18392).

*Separate* (``cosine``): each size is a run of its own whose rate falls to a tenth of the peak by its end (Hoffmann et
al. 2022, arXiv 2203.15556, section 3).

*Checkpoints* (``cosine`` with ``scheduled_tokens``): one run scheduled for the largest size, and the smaller sizes are
what it was on the way, not annealed: the design of Zhang et al. 2024 (arXiv 2402.17193, section 3).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from finescale.core import BaseSpec, fingerprint
from finescale.errors import Faults, StudyError
from finescale.lab import fastpath, ladder, model
from finescale.lab.packing import rows_of_text
from finescale.lab.prepare import Tell, load_stream
from finescale.lab.train import Diverged, Optimiser, Step, cosine, train

SAVES = 8
"""How often a running pretraining leaves a state to resume from."""


class _Text:
    """Batches of running text: row r of the stream in a fixed shuffled order, one pass after another."""

    def __init__(self, stream: NDArray[np.uint16], row: int, rows_per_step: int, seed: int) -> None:
        self.rows = stream[: len(stream) // row * row].reshape(-1, row)
        self.per_step, self.seed = rows_per_step, seed
        self.orders: dict[int, NDArray[np.int64]] = {}

    def batch(self, step: int) -> NDArray[np.int64]:
        """Rows of a step, (rows, tokens)."""
        wanted = np.arange(step * self.per_step, (step + 1) * self.per_step)
        epochs, places = np.divmod(wanted, len(self.rows))
        picked = [self._order(int(e))[p] for e, p in zip(epochs, places, strict=True)]
        return self.rows[picked].astype(np.int64)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self.orders:
            self.orders[epoch] = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows))
        return self.orders[epoch]


class _Schedule:
    """How long a base is trained, at which rates, and where a larger size may go on from.

    Attributes:
        steps: optimiser steps until this base.
        branch: step from which a decay branch leaves the trunk; ``steps`` where there is none.
        handover: step whose state a larger size continues from; None where the run ends with this base.
        rate: learning rate of a step, numbered from 0.
    """

    def __init__(self, spec: BaseSpec) -> None:
        recipe, row = spec.recipe, spec.shape.context
        self.rows = max(1, recipe.batch_tokens // row)
        self.tokens_per_step = self.rows * row
        self.steps = self._steps(spec.pretrain_tokens)
        warmup = max(1, recipe.warmup_tokens // self.tokens_per_step)
        if recipe.schedule == "branches":
            branch = round(self.steps * (1 - recipe.decay_fraction))
            self.scheduled, self.branch = self.steps, branch
            self.rate = _trunk_and_branch(_peak(spec), warmup, branch, self.steps)
        else:
            self.scheduled = self._steps(spec.scheduled_tokens or spec.pretrain_tokens)
            self.branch = self.steps
            self.rate = cosine(_peak(spec), self.scheduled, warmup)
        self.handover = None if recipe.schedule == "cosine" and self.annealed else self.branch

    @property
    def annealed(self) -> bool:
        """Whether the rate has come down by the end, so that the base is a finished model."""
        return self.steps == self.scheduled

    def _steps(self, tokens: int) -> int:
        return max(2, round(tokens / self.tokens_per_step))


def pretrain(
    spec: BaseSpec, out: Path, data: Path, previous: Path | None, tell: Tell, parts: int = 1
) -> dict[str, Any]:
    """Pretrain one base and write it to ``out``; resumes from a state found there.

    Args:
        spec: the base.
        out: folder to write into; may hold the state of an earlier attempt.
        data: prepared data folder.
        previous: folder of the same rung at the next smaller size, whose run is continued.
        tell: is told the fraction done.
        parts: in how many parts a batch is worked through, where memory is short; the numbers are the same.

    Returns:
        The record. Cost and curve are of all the work done for this base by whichever attempt, without the steps taken
        over from ``previous`` and without those that a kill threw away.

    Raises:
        InputError: the spec's schedule and sizes contradict each other, or there is not a context of text.
        StudyError: ``previous`` is another run than the one this base belongs to.
        Diverged: the loss stopped being finite.
    """
    _check(spec)
    schedule = _Schedule(spec)
    stream = load_stream(data)
    _check_text(stream, spec.shape.context)
    text = _Text(stream["train"], spec.shape.context, schedule.rows, spec.seed)
    net = model.build(spec.shape, spec.seed).to(fastpath.device(), fastpath.compute_dtype())
    recipe = spec.recipe
    optimiser = Optimiser(
        dict(net.named_parameters()), recipe.weight_decay, recipe.clip, betas=(0.9, 0.95), kind=recipe.optimiser
    )
    journey = _Journey(optimiser, spec, schedule, out, tell)
    start = journey.restore(previous)

    def losses_of(step: int) -> Iterator[tuple[torch.Tensor, int]]:
        rows = text.batch(step)
        for some in np.array_split(rows, min(parts, len(rows))):
            yield model.nats(net, rows_of_text(some))[0] * (len(some) / len(rows)), some.size

    train(optimiser, losses_of, schedule.rate, range(start, schedule.steps), journey.after)
    valid = _validate(net, stream["valid"], spec.shape.context)
    model.save(net, out)
    journey.close()
    size = ladder.count(spec.shape)
    return {
        "pretrain_tokens": schedule.steps * schedule.tokens_per_step,
        "scheduled_tokens": schedule.scheduled * schedule.tokens_per_step,
        "schedule": recipe.schedule,
        "annealed": schedule.annealed,
        "epochs": schedule.steps * schedule.rows / len(text.rows),
        "branch_tokens": (schedule.steps - schedule.branch) * schedule.tokens_per_step,
        "model_params": size.non_embedding,
        "total_params": size.total,
        "valid_nats_per_token": valid,
        "resumed_at_step": start,
        "steps": schedule.steps,
        "precision": str(fastpath.compute_dtype()).removeprefix("torch."),
    } | journey.cost()


class _Journey:
    """What a pretraining leaves behind while it runs: states to resume from, its curve, its cost over all attempts."""

    def __init__(self, optimiser: Optimiser, spec: BaseSpec, schedule: _Schedule, out: Path, tell: Tell) -> None:
        self.optimiser, self.spec, self.schedule, self.out, self.tell = optimiser, spec, schedule, out, tell
        self.curve: list[Step] = []
        self.origin = 0
        self.spent = {"seconds": 0.0, "cpu_seconds": 0.0}
        self.began = {"seconds": time.perf_counter(), "cpu_seconds": time.process_time()}

    def restore(self, previous: Path | None) -> int:
        """Put back the newest state there is, this base's own or else the smaller size's, and return its step."""
        own, theirs = self.out / "state.safetensors", previous / "trunk.safetensors" if previous else None
        if own.exists():
            found = self._read(own)
            self.origin = int(found["origin"])
            self.spent = {key: float(found[key]) for key in self.spent}
            lines = (self.out / "log.jsonl").read_text().splitlines()
            self.curve = [Step(**json.loads(line)) for line in lines][: int(found["step"]) - self.origin]
            return int(found["step"])
        if theirs is None:
            return 0
        if not theirs.exists():
            raise StudyError(f"{previous} holds no trunk.safetensors to go on from")
        self.origin = int(self._read(theirs)["step"])
        if self.origin > self.schedule.branch:
            raise StudyError(f"{previous} is at step {self.origin}, past this base's {self.schedule.branch}")
        if self.origin == self.schedule.handover:
            self._write(self.out / "trunk.safetensors", self.origin)
        return self.origin

    def after(self, step: Step) -> bool:
        """Note a step; leave a state at the handover and every eighth of the way."""
        self.curve.append(step)
        self.tell(step.number / self.schedule.steps)
        if step.number == self.schedule.handover:
            self._write(self.out / "trunk.safetensors", step.number)
        if step.number < self.schedule.steps and step.number % max(1, self.schedule.steps // SAVES) == 0:
            self._write_curve()
            self._write(self.out / "state.safetensors", step.number)
        return False

    def close(self) -> None:
        """Write the whole curve; the state is no longer needed."""
        self._write_curve()
        (self.out / "state.safetensors").unlink(missing_ok=True)

    def cost(self) -> dict[str, float]:
        """Step this base's own work starts from, and what that work took so far."""
        tokens = (self.schedule.steps - self.origin) * self.schedule.tokens_per_step
        return {
            "continued_from_step": self.origin,
            "flops": ladder.train_flops(self.spec.shape, tokens),
        } | self._spent()

    def _spent(self) -> dict[str, float]:
        now = {"seconds": time.perf_counter(), "cpu_seconds": time.process_time()}
        return {key: self.spent[key] + now[key] - self.began[key] for key in now}

    def _read(self, path: Path) -> dict[str, str]:
        """Put a stored state back and return what is noted beside it."""
        with safe_open(path, "pt") as file:
            noted: dict[str, str] = file.metadata() or {}
        if noted.get("run") != _identity(self.spec):
            raise StudyError(f"{path} is the state of another run: text, shape, recipe, schedule or seed differ")
        self.optimiser.restore(load_file(path))
        return noted

    def _write(self, path: Path, step: int) -> None:
        noted = {"run": _identity(self.spec), "step": step, "origin": self.origin, **self._spent()}
        aside = path.with_suffix(".aside")
        save_file(self.optimiser.state(), aside, {key: str(value) for key, value in noted.items()})
        _into_place(aside, path)

    def _write_curve(self) -> None:
        aside = self.out / "log.aside"
        aside.write_text("".join(json.dumps(vars(step)) + "\n" for step in self.curve))
        _into_place(aside, self.out / "log.jsonl")


def _into_place(aside: Path, path: Path) -> None:
    """Rename a finished file over its place once it is on the disk."""
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(aside, path)


def _identity(spec: BaseSpec) -> str:
    """What bases that are points of one run have in common: all but their names and the sizes they stop at."""
    length = spec.scheduled_tokens or (spec.pretrain_tokens if spec.recipe.schedule == "cosine" else None)
    common = spec.model_dump(mode="json", exclude={"name", "pretrain_tokens", "scheduled_tokens"})
    return fingerprint({**common, "length": length})


def _check(spec: BaseSpec) -> None:
    faults = Faults()
    if spec.scheduled_tokens is not None and spec.recipe.schedule == "branches":
        faults.add(f"base {spec.name!r}", "branches take no scheduled_tokens", "use schedule = 'cosine'")
    if spec.scheduled_tokens is not None and spec.scheduled_tokens < spec.pretrain_tokens:
        what = f"a schedule of {spec.scheduled_tokens:,} tokens ends before {spec.pretrain_tokens:,}"
        faults.add(f"base {spec.name!r}", what, "schedule it for the largest size")
    faults.raise_if_any()


def _check_text(stream: Mapping[str, NDArray[np.uint16]], context: int) -> None:
    faults = Faults()
    for name, part in (("train", "text to train on"), ("valid", "held-out text to judge the base by")):
        if (have := len(stream[name])) < context:
            what = f"leaves {have:,} tokens of {part}, less than the one context of {context:,} that is needed"
            faults.add("data.stream_tokens", what, "ask for more, choose a tier with more text, or a shorter context")
    faults.raise_if_any()


def _peak(spec: BaseSpec) -> float:
    """Highest rate of a run.

    AdamW's falls with width (Yang et al. 2022, arXiv 2203.03466). Adafactor's is one for all widths, as in Zhang et al.
    2024 (section 3): it is in units of the weights' own size, which falls as they widen.
    """
    recipe = spec.recipe
    return recipe.learning_rate_at_width_64 * (64 / spec.shape.width if recipe.optimiser == "adamw" else 1.0)


def _trunk_and_branch(peak: float, warmup: int, branch: int, steps: int) -> Callable[[int], float]:
    """Warm-up, a constant, and a linear fall to zero from step ``branch`` on."""

    def rate(step: int) -> float:
        decay = 1.0 if step < branch else 1 - (step + 1 - branch) / (steps - branch + 1)
        return peak * min(1.0, (step + 1) / warmup) * decay

    return rate


@torch.no_grad()
def _validate(net: Any, tokens: NDArray[np.uint16], row: int) -> float:
    """Mean nats per token on held-out pretraining text."""
    rows = tokens[: len(tokens) // row * row].reshape(-1, row).astype(np.int64)
    losses = [float(model.nats(net, rows_of_text(rows[i : i + 32]))[1].double().sum()) for i in range(0, len(rows), 32)]
    return sum(losses) / (rows.size - len(rows))


__all__ = ["Diverged", "pretrain"]
