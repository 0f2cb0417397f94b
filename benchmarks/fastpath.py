"""Training throughput of transformers' Llama as it comes against the fast path, rung by rung, on one thread.

Each variant's step (forward, backward, no optimiser) is timed in turn, several rounds, and the median is taken, so that
a noisy neighbour hits all alike; read the ratios, not the rates. Run: python benchmarks/fastpath.py
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from transformers import LlamaForCausalLM

from finescale.lab import fastpath, ladder, model
from finescale.lab.packing import rows_of_text

ROWS, TOKENS, VOCAB, ROUNDS = 8, 128, 4096, 15


def stock(net: LlamaForCausalLM, ids: torch.Tensor) -> None:
    """One step as transformers does it: its attention, all logits, its own loss."""
    logits = net(input_ids=ids).logits[:, :-1].float()
    F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()


def variants(rung: str) -> dict[str, Callable[[], None]]:
    """Steps to compare on one rung, by name."""
    ids = np.random.default_rng(0).integers(0, VOCAB, (ROWS, TOKENS))
    nets = {}
    for dtype in (torch.float32, torch.bfloat16):
        fast = model.build(ladder.shape(rung, VOCAB, TOKENS), seed=0).to(dtype)
        plain = LlamaForCausalLM(type(fast.config)(**{**fast.config.to_dict(), "attn_implementation": "sdpa"}))
        nets[dtype] = fast, plain.to(dtype)
    tensor, packed = torch.from_numpy(ids), rows_of_text(ids)
    return {
        "stock fp32": lambda: stock(nets[torch.float32][1], tensor),
        "stock bf16": lambda: stock(nets[torch.bfloat16][1], tensor),
        "fast fp32": lambda: model.nats(nets[torch.float32][0], packed)[0].backward(),
        "fast bf16": lambda: model.nats(nets[torch.bfloat16][0], packed)[0].backward(),
    }


def main() -> None:
    """Print tokens per second and the ratio to stock fp32."""
    torch.set_num_threads(1)
    table = Table("rung", *variants("2xs"), "fast / stock fp32", title="tokens per second, one thread")
    for freed_memory_kept in (False, True):
        if freed_memory_kept:
            fastpath.keep_freed_memory()
        for rung in ("xs", "s", "m", "l"):
            steps = variants(rung)
            seconds: dict[str, list[float]] = {name: [] for name in steps}
            for _ in range(ROUNDS):
                for name, step in steps.items():
                    began = time.process_time()
                    step()
                    seconds[name].append(time.process_time() - began)
            rate = {name: ROWS * TOKENS / float(np.median(times)) for name, times in seconds.items()}
            label = f"{rung}{', memory kept' if freed_memory_kept else ''}"
            ratio = rate["fast fp32"] / rate["stock fp32"]
            table.add_row(label, *(f"{rate[name]:,.0f}" for name in steps), f"{ratio:.2f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
