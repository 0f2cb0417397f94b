"""The only training loop: an optimiser on fp32 masters, a rate per step, clipping, a word to the caller each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers.optimization import Adafactor

from finescale.errors import FinescaleError

OptimiserName = Literal["adamw", "adafactor"]
_MOMENTS = {
    "adamw": ("step", "exp_avg", "exp_avg_sq"),
    "adafactor": ("step", "exp_avg_sq_row", "exp_avg_sq_col", "exp_avg_sq"),
}


class Diverged(FinescaleError):
    """The loss was no longer a finite number."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss is not finite at step {step}")
        self.step = step


class Optimiser:
    """An optimiser whose state and weights are fp32 whatever the model computes in.

    ``adamw`` is Loshchilov and Hutter 2019 (arXiv 1711.05101). ``adafactor`` is Shazeer and Stern 2018
    (arXiv 1804.04235) in transformers' version: no first moment, updates clipped at an RMS of 1, and the rate is the
    schedule's own, where torch's version silently caps it at 1/√step, below the paper's schedule from step 10,000 on.

    Args:
        parameters: what is trained, by name. Weight decay falls on matrices only.
        weight_decay: decoupled decay per unit of rate.
        clip: largest global gradient norm.
        betas: decay of AdamW's two moments.
        kind: which optimiser.
        relative: Adafactor only: the rate is in units of each weight's own RMS, as in T5X, from which the paper's rates
            come. Off for what a method adds: LoRA's B starts at zero and has no size of its own, and Lester et al. 2021
            (arXiv 2104.08691, section 3) train prompts without it.
    """

    def __init__(
        self,
        parameters: dict[str, torch.nn.Parameter],
        weight_decay: float,
        clip: float,
        betas: tuple[float, float] = (0.9, 0.99),
        kind: OptimiserName = "adamw",
        relative: bool = True,
    ) -> None:
        self.parameters = parameters
        self.clip = clip
        self.kept = _MOMENTS[kind]
        self.masters = {
            name: p if p.dtype == torch.float32 else torch.nn.Parameter(p.detach().float())
            for name, p in parameters.items()
        }
        matrices = [m for m in self.masters.values() if m.ndim > 1]
        others = [m for m in self.masters.values() if m.ndim <= 1]
        split = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
        groups = [group for group in split if group["params"]]
        self.inner: Any = (
            torch.optim.AdamW(groups, lr=0.0, betas=betas, fused=True)
            if kind == "adamw"
            else Adafactor(groups, lr=0.0, scale_parameter=relative, relative_step=False)
        )

    def step(self, rate: float) -> float:
        """One update at ``rate`` from the gradients present; returns the gradient norm before clipping."""
        for name, parameter in self.parameters.items():
            master = self.masters[name]
            if master is not parameter:
                master.grad = None if parameter.grad is None else parameter.grad.float()
        norm = self.clip_gradients()
        for group in self.inner.param_groups:
            group["lr"] = rate
        self.inner.step()
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.grad = self.masters[name].grad = None
                if self.masters[name] is not parameter:
                    parameter.copy_(self.masters[name])
        return norm

    def clip_gradients(self) -> float:
        """Scale the gradients down to a global norm of ``clip`` at most; returns the norm before."""
        return float(torch.nn.utils.clip_grad_norm_(list(self.masters.values()), self.clip))

    def total(self, loss: float, tokens: int) -> tuple[float, int]:
        """Loss and tokens of a part of a batch over all processes that share the training: here there is one."""
        return loss, tokens

    def weights(self) -> dict[str, torch.Tensor]:
        """Copies of the masters by name, fp32."""
        return {name: master.detach().clone() for name, master in self.masters.items()}

    def state(self) -> dict[str, torch.Tensor]:
        """Masters (``weight/NAME``) and moments (``MOMENT/NAME``) as tensors, to be stored and put back."""
        tensors = {f"weight/{name}": weight for name, weight in self.weights().items()}
        for name, master in self.masters.items():
            for key, value in self.inner.state[master].items():
                if key in self.kept:
                    tensors[f"{key}/{name}"] = torch.as_tensor(value).detach().clone()
        return tensors

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put back what ``state`` gave; the next step is then bit-equal to one that was never interrupted."""
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(tensors[f"weight/{name}"])
                self.parameters[name].copy_(master)
                found = {key: tensors[f"{key}/{name}"].clone() for key in self.kept if f"{key}/{name}" in tensors}
                counted = {} if found["step"].is_floating_point() else {"step": int(found["step"])}
                self.inner.state[master].update(found | counted)


@dataclass(frozen=True)
class Step:
    """What a training step left: its number from 1, its loss in nats per target token, its rate, its tokens."""

    number: int
    loss: float
    rate: float
    tokens: int


LossesOf = Callable[[int], Iterable[tuple[torch.Tensor, int]]]
"""For a step (numbered from 0), the parts of its batch one after the other: each part's share of the batch's loss, and
its tokens. The shares add up to the loss, so that parts change what is in memory at a time and nothing else."""


def train(
    optimiser: Optimiser,
    losses_of: LossesOf,
    rate_of: Callable[[int], float],
    steps: Iterable[int],
    after: Callable[[Step], bool],
) -> None:
    """Run the loop over ``steps`` until they end or ``after`` returns True.

    Raises:
        Diverged: a loss was NaN or infinite; the weights are those before that step.
    """
    for step in steps:
        value, tokens = 0.0, 0
        for loss, read in losses_of(step):
            more, read = optimiser.total(float(loss.detach()), read)
            value, tokens = value + more, tokens + read
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
