"""The only training loop: AdamW on fp32 masters, a rate per step, clipping, a word to the caller after each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from finescale.errors import FinescaleError


class Diverged(FinescaleError):
    """The loss was no longer a finite number."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss is not finite at step {step}")
        self.step = step


class Optimiser:
    """AdamW (Loshchilov and Hutter 2019) whose state and weights are fp32 whatever the model computes in.

    Args:
        parameters: what is trained, by name. Weight decay falls on matrices only.
        betas: decay of the two moments.
        weight_decay: decoupled decay per unit of rate.
        clip: largest global gradient norm.
    """

    def __init__(
        self,
        parameters: dict[str, torch.nn.Parameter],
        weight_decay: float,
        clip: float,
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        self.parameters = parameters
        self.clip = clip
        self.masters = {
            name: p if p.dtype == torch.float32 else torch.nn.Parameter(p.detach().float())
            for name, p in parameters.items()
        }
        matrices = [m for m in self.masters.values() if m.ndim > 1]
        others = [m for m in self.masters.values() if m.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.adam = torch.optim.AdamW([g for g in groups if g["params"]], lr=0.0, betas=betas, fused=True)

    def step(self, rate: float) -> float:
        """One update at ``rate`` from the gradients present; returns the gradient norm before clipping."""
        for name, parameter in self.parameters.items():
            master = self.masters[name]
            if master is not parameter:
                master.grad = None if parameter.grad is None else parameter.grad.float()
        norm = torch.nn.utils.clip_grad_norm_(list(self.masters.values()), self.clip)
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.grad = self.masters[name].grad = None
                if self.masters[name] is not parameter:
                    parameter.copy_(self.masters[name])
        return float(norm)

    def state(self) -> dict[str, torch.Tensor]:
        """Masters and both moments as named fp32 tensors, to be stored and put back."""
        tensors: dict[str, torch.Tensor] = {}
        for name, master in self.masters.items():
            tensors[f"weight/{name}"] = master.detach().clone()
            for key, value in self.adam.state[master].items():
                tensors[f"{key}/{name}"] = value.detach().clone()
        return tensors

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put back what ``state`` gave."""
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(tensors[f"weight/{name}"])
                self.parameters[name].copy_(master)
                moments = {key: tensors[f"{key}/{name}"].clone() for key in ("step", "exp_avg", "exp_avg_sq")}
                self.adam.state[master].update(moments)


@dataclass(frozen=True)
class Step:
    """What a training step left: its number from 1, its loss in nats per target token, its rate, its tokens."""

    number: int
    loss: float
    rate: float
    tokens: int


LossOf = Callable[[int], tuple[torch.Tensor, int]]
"""Loss of the batch of a step (numbered from 0), and the tokens in it."""


def train(
    optimiser: Optimiser,
    loss_of: LossOf,
    rate_of: Callable[[int], float],
    steps: Iterable[int],
    after: Callable[[Step], bool],
) -> None:
    """Run the loop over ``steps`` until they end or ``after`` returns True.

    Raises:
        Diverged: a loss was NaN or infinite; the weights are those before that step.
    """
    for step in steps:
        loss, tokens = loss_of(step)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise Diverged(step)
        loss.backward()  # type: ignore[no-untyped-call]
        rate = rate_of(step)
        optimiser.step(rate)
        if after(Step(step + 1, value, rate, tokens)):
            return


def cosine(peak: float, steps: int, warmup: int) -> Callable[[int], float]:
    """Linear warm-up to ``peak``, then half a cosine down to a tenth of it, as the paper's schedule ends."""

    def rate(step: int) -> float:
        if step < warmup:
            return peak * (step + 1) / warmup
        done = (step - warmup) / max(1, steps - warmup)
        return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))

    return rate
