"""Pretraining a rung: one trunk at a constant rate, and a short decay branch for every size a study keeps.

Every kept size is a finished (annealed) model, so that "pretraining tokens" compares like with like; the branch is the
price of that and is recorded. The trunk's state at the branching point stays beside the base: a larger size, now or in
a later study, continues from there (Hägele et al. 2024, arXiv 2405.18392). The paper's checkpoints are not annealed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from finescale.core import BaseSpec
from finescale.lab import fastpath, ladder, model
from finescale.lab.packing import rows_of_text
from finescale.lab.prepare import Tell, load_stream
from finescale.lab.train import Diverged, Optimiser, Step, train

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


def pretrain(spec: BaseSpec, out: Path, data: Path, previous: Path | None, tell: Tell) -> dict[str, Any]:
    """Pretrain one base and write it to ``out``; resumes from a state found there.

    Args:
        spec: the base.
        out: folder to write into; may hold the state of an earlier attempt.
        data: prepared data folder.
        previous: folder of the same rung at the next smaller size, whose trunk is continued.
        tell: is told the fraction done.

    Raises:
        Diverged: the loss stopped being finite.
    """
    recipe, row = spec.recipe, spec.shape.context
    per_step = max(1, recipe.batch_tokens // row)
    steps = max(2, round(spec.pretrain_tokens / (per_step * row)))
    branch_at = round(steps * (1 - recipe.decay_fraction))
    stream = load_stream(data)
    text = _Text(stream["train"], row, per_step, spec.seed)
    net = model.build(spec.shape, spec.seed).to(fastpath.compute_dtype())
    optimiser = Optimiser(dict(net.named_parameters()), recipe.weight_decay, recipe.clip, betas=(0.9, 0.95))
    start = _restore(optimiser, out, previous)
    curve: list[Step] = []
    began = time.perf_counter(), time.process_time(), start

    def after(step: Step) -> bool:
        curve.append(step)
        tell(step.number / steps)
        if step.number == branch_at:
            save_file(optimiser.state(), out / "trunk.safetensors", {"step": str(step.number)})
        if step.number < steps and step.number % max(1, steps // SAVES) == 0:
            _save_state(optimiser, out, step.number)
        return False

    def loss_of(step: int) -> tuple[torch.Tensor, int]:
        rows = text.batch(step)
        return model.nats(net, rows_of_text(rows))[0], rows.size

    train(optimiser, loss_of, _rates(spec, per_step * row, branch_at, steps), range(start, steps), after)
    valid = _validate(net, stream["valid"], row)
    (out / "log.jsonl").write_text("".join(json.dumps(vars(step)) + "\n" for step in curve))
    model.save(net, out)
    (out / "state.safetensors").unlink(missing_ok=True)
    size = ladder.count(spec.shape)
    return {
        "pretrain_tokens": steps * per_step * row,
        "epochs": steps * per_step / len(text.rows),
        "branch_tokens": (steps - branch_at) * per_step * row,
        "model_params": size.non_embedding,
        "total_params": size.total,
        "valid_nats_per_token": valid,
        "flops": ladder.train_flops(spec.shape, (steps - start) * per_step * row),
        "seconds": time.perf_counter() - began[0],
        "cpu_seconds": time.process_time() - began[1],
        "resumed_at_step": began[2],
        "steps": steps,
        "precision": str(fastpath.compute_dtype()).removeprefix("torch."),
    }


def _rates(spec: BaseSpec, tokens_per_step: int, branch_at: int, steps: int) -> Callable[[int], float]:
    """Warm-up, a constant that falls with width (Yang et al. 2022, arXiv 2203.03466), and a linear branch to zero."""
    recipe = spec.recipe
    peak = recipe.learning_rate_at_width_64 * 64 / spec.shape.width
    warmup = max(1, recipe.warmup_tokens // tokens_per_step)

    def rate(step: int) -> float:
        decay = 1.0 if step < branch_at else 1 - (step + 1 - branch_at) / (steps - branch_at + 1)
        return peak * min(1.0, (step + 1) / warmup) * decay

    return rate


def _restore(optimiser: Optimiser, out: Path, previous: Path | None) -> int:
    """Put back the newest state there is and return its step; 0 where there is none."""
    for path in (out / "state.safetensors", previous / "trunk.safetensors" if previous else None):
        if path is None or not path.exists():
            continue
        tensors = load_file(path)
        optimiser.restore(tensors)
        return int(next(value for key, value in tensors.items() if key.startswith("step/")).item())
    return 0


def _save_state(optimiser: Optimiser, out: Path, step: int) -> None:
    aside = out / "state.aside"
    save_file(optimiser.state(), aside, {"step": str(step)})
    os.replace(aside, out / "state.safetensors")


@torch.no_grad()
def _validate(net: Any, tokens: NDArray[np.uint16], row: int) -> float:
    """Mean nats per token on held-out pretraining text."""
    rows = tokens[: len(tokens) // row * row].reshape(-1, row).astype(np.int64)
    losses = [float(model.nats(net, rows_of_text(rows[i : i + 32]))[1].double().sum()) for i in range(0, len(rows), 32)]
    return sum(losses) / (rows.size - len(rows))


__all__ = ["Diverged", "pretrain"]
