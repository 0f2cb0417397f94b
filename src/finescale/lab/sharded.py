"""Training one base in several processes that each hold a part of its layers: FSDP, inside one step.

Weights, gradients and moments of the decoder's layers are split over the processes (``torch.distributed.fsdp``); the
embeddings, the last norm and a soft prompt are whole in each. A batch is dealt out example by example and the gradients
are added up, so the losses are those of one process to rounding. Zhao et al. 2023, arXiv 2304.11277.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from finescale.core import FinetuneRecipe, MethodSpec
from finescale.errors import FinescaleError, collecting
from finescale.lab import fastpath, finetune, model
from finescale.lab.methods import Attached
from finescale.lab.packing import Example
from finescale.lab.prepare import Tell
from finescale.lab.splits import load_split
from finescale.lab.subset import subset
from finescale.lab.train import Optimiser

START = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
START += "from finescale.lab.sharded import main; main(sys.argv[1], int(sys.argv[2]))"
FOLDER = "sharded"
PR_SET_PDEATHSIG = 1
SECONDS_TO_END = 10.0
DONE = "done "


class Shards(finetune.Whole):
    """One process's side of a sharded training: which examples are its own, and how to add up over all."""

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count

    def spread(self, net: Any, attached: Attached) -> Attached:
        """Split the layers over the processes; what is trained is then this process's part of it."""
        names = {id(parameter): name for name, parameter in attached.trainable.items()}
        keys = {key: names[id(p)] for key, p in net.named_parameters() if id(p) in names}
        for layer in net.model.layers:
            split = fully_shard(layer, reshard_after_forward=True)
            split.set_gradient_divide_factor(1.0)
            split.set_force_sum_reduction_for_comms(True)  # gloo knows no other
        self.of = dict(attached.trainable)
        self.of |= {keys[key]: p for key, p in net.named_parameters() if key in keys}
        mine = {name: _part(p) for name, p in self.of.items()}
        return Attached(mine, attached.prefix)

    def mine(self, batch: list[Example]) -> tuple[list[Example], int]:
        """This process's examples of a batch, and how many of them count: all have as many, so that all keep step."""
        own = batch[self.rank :: self.count]
        return (own, len(own)) if len(own) == -(-len(batch) // self.count) else ([*own, batch[0]], len(own))

    def optimiser(self, *args: Any, **options: Any) -> Optimiser:
        """An optimiser of this process's part."""
        return _ShardedOptimiser(self.of, *args, **options)

    def gathered(self) -> dict[str, torch.Tensor]:
        """What was trained, put together again; every process must ask."""
        return {
            name: (p.full_tensor() if isinstance(p, DTensor) else p).detach().contiguous()
            for name, p in self.of.items()
        }


class _ShardedOptimiser(Optimiser):
    """The optimiser of a part of the weights, on sums and norms of all of them."""

    def __init__(self, of: dict[str, torch.nn.Parameter], *args: Any, **options: Any) -> None:
        self.of = of
        super().__init__(*args, **options)

    def step(self, rate: float) -> float:
        """One update at ``rate`` from the gradients of all processes."""
        for name, parameter in self.of.items():
            grad, mine = parameter.grad, self.parameters[name]
            if isinstance(grad, DTensor):
                mine.grad, parameter.grad = grad.to_local(), None
            else:
                mine.grad = torch.zeros_like(mine) if grad is None else grad
                dist.all_reduce(mine.grad)
        return super().step(rate)

    def clip_gradients(self) -> float:
        """Clip by the norm over all parts; returns it."""
        squares = torch.zeros(2, dtype=torch.float64)
        for name, master in self.masters.items():
            if master.grad is not None:
                squares[int(isinstance(self.of[name], DTensor))] += master.grad.double().square().sum()
        dist.all_reduce(parts := squares[1:])
        norm = float((squares[0] + parts[0]).sqrt())
        for master in self.masters.values():
            if master.grad is not None:
                master.grad.mul_(min(1.0, self.clip / (norm + 1e-6)))
        return norm

    def total(self, loss: float, tokens: int) -> tuple[float, int]:
        """Loss and tokens of a part of a batch over all processes."""
        both = torch.tensor([loss, tokens], dtype=torch.float64)
        dist.all_reduce(both)
        return float(both[0]), int(both[1])


def _part(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
    """This process's part of a weight, in the same memory."""
    if not isinstance(parameter, DTensor):
        return parameter
    return torch.nn.Parameter(parameter.to_local().detach(), requires_grad=parameter.requires_grad)


def tune(
    job: finetune.Job,
    out: Path,
    net: Any,
    spec: MethodSpec,
    recipe: FinetuneRecipe,
    rate: float,
    train_set: Sequence[Example],
    dev_set: Sequence[Example],
    zero_dev: float,
    seeds: tuple[int, int],
    tell: Tell,
    parts: int = 1,
) -> finetune.Tuned:
    """Train in ``job.shards`` processes and leave ``net`` as ``finetune.tune`` would, whose arguments these are.

    Args:
        job: where the processes find the base and the examples.
        out: the step's folder, which holds the processes' files meanwhile.

    Raises:
        InputError: the recipe's optimiser looks at whole matrices, which no process has; or the base is of a kind whose
            layers cannot be told apart.
        FinescaleError: a process failed; the message is its last words.
        MemoryError: a process had no memory left.
    """
    with collecting() as faults:
        if recipe.optimiser != "adamw":
            faults.add("run.shards", f"cannot be used with {recipe.optimiser}", "use adamw, or shards = 1")
        if not hasattr(getattr(net, "model", None), "layers"):
            what = f"does not know where the layers of {net.config.model_type!r} are"
            faults.add("run.shards", what, "use shards = 1, with a larger memory_gb")
    place = out / FOLDER
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    asked: dict[str, Any] = {"method": spec.model_dump(mode="json"), "recipe": recipe.model_dump(mode="json")}
    asked |= {"job": asdict(job), "rate": rate, "zero_dev": zero_dev, "seeds": seeds, "parts": parts}
    (place / "asked.json").write_text(json.dumps(asked))
    ranks = [_start(place, rank) for rank in range(job.shards)]
    try:
        _follow(ranks, place, tell)
        said = json.loads((place / "tuned.json").read_text())
        attached = finetune.attach(net, spec, seeds[0])
        best = load_file(place / "weights.safetensors")
        with torch.no_grad():
            for name, parameter in attached.trainable.items():
                parameter.copy_(best[name])
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
        shutil.rmtree(place, ignore_errors=True)
    return finetune.Tuned(attached, **said)


def _start(place: Path, rank: int) -> subprocess.Popen[str]:
    """Start a process; the first one's output is read, the others' goes to their logs with all errors."""
    command = [sys.executable, "-P", "-c", START, json.dumps(sys.path), str(place), str(rank)]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0"}
    with (place / f"{rank}.log").open("w") as log:
        out = log if rank else subprocess.PIPE
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=log, env=environment, text=True)


def _follow(ranks: list[subprocess.Popen[str]], place: Path, tell: Tell) -> None:
    """Pass on how far the first process is, until all have ended."""
    assert ranks[0].stdout is not None
    for line in ranks[0].stdout:
        if line.startswith(DONE):
            tell(float(line.removeprefix(DONE)))
    for number, rank in enumerate(ranks):
        try:
            code = rank.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        if code:
            last = (place / f"{number}.log").read_text().strip().splitlines()[-1:] or ["without a word"]
            if "allocate memory" in last[0] or "MemoryError" in last[0]:
                raise MemoryError(f"process {number} of {len(ranks)}: {last[0]}")
            raise FinescaleError(f"process {number} of {len(ranks)} ended with {code}: {last[0]}")


def main(place: str, rank: int) -> None:
    """One process of a sharded training; the first says how far it is and leaves what was trained."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    torch.set_num_threads(1)
    fastpath.keep_freed_memory()
    asked = json.loads((Path(place) / "asked.json").read_text())
    job = finetune.Job(**asked["job"] | {"opening": model.Opening(**asked["job"]["opening"])})
    dist.init_process_group("gloo", init_method=f"file://{place}/meeting", rank=rank, world_size=job.shards)
    shards = Shards(rank, job.shards)
    tuned = finetune.tune(
        model.load(Path(job.base), job.opening, torch.device("cpu")),
        MethodSpec.model_validate(asked["method"]),
        FinetuneRecipe.model_validate(asked["recipe"]),
        asked["rate"],
        subset(load_split(Path(job.data), job.task, "train"), job.examples, job.seed_subset),
        load_split(Path(job.data), job.task, "dev"),
        asked["zero_dev"],
        (asked["seeds"][0], asked["seeds"][1]),
        (lambda fraction: print(f"{DONE}{fraction:.4f}", flush=True)) if rank == 0 else lambda _: None,
        asked["parts"],
        shards,
    )
    whole = shards.gathered()
    if rank == 0:
        save_file(whole, Path(place) / "weights.safetensors")
        said = {key: value for key, value in vars(tuned).items() if key != "attached"}
        (Path(place) / "tuned.json").write_text(json.dumps(said))
    dist.barrier()
    dist.destroy_process_group()
