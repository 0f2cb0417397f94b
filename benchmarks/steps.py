"""One finetuning step: transformers' class and PEFT as they come against this package, and their share of the ceiling.

``python benchmarks/steps.py [--rungs l,2xl] [--rounds 6]``. Batches of 16 made pairs of 10 to 80 tokens, on one thread.
Both sides take forward, backward and an AdamW step in turn on the same batches, and the least time of a batch over the
rounds counts, as a neighbour only ever adds. The rival pads to the longest pair of a batch and computes all logits.
FLOPs are 6 per parameter and real token (4 where the base is frozen), so padding earns nothing; the ceiling is the best
of this machine's fp32 products of 1024 × 1024 matrices in the same run.

The last table says how much less time a pair takes where several runs on one frozen base share a pass: batches 2, 4 and
8 times as large under one adapter, which is more than separate adapters in one pass could save.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import LlamaForCausalLM

from finescale.core import MethodSpec
from finescale.lab import fastpath, finetune, ladder, model
from finescale.lab.packing import Example
from finescale.lab.train import Optimiser

VOCAB, CONTEXT, BATCH, BATCHES = 4096, 128, 16, 4
SIZES = {"full": None, "lora": 8, "prompt": 20}
IGNORED = -100


def pairs(count: int) -> list[Example]:
    """Pairs of random tokens whose lengths are spread as those of sentences are."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(3.0, 0.5, (count, 2)), 5, 40).astype(int)
    return [Example(rng.integers(3, VOCAB, n), rng.integers(3, VOCAB, m), int(m)) for n, m in lengths]


def ours(rung: str, method: str) -> Callable[[list[Example]], None]:
    """A step of this package."""
    net = model.build(ladder.shape(rung, VOCAB, CONTEXT), seed=0)
    attached = finetune.attach(net, MethodSpec(name=method, pet_size=SIZES[method]), 0)
    optimiser = Optimiser(attached.trainable, 0.0, 1.0)

    def step(batch: list[Example]) -> None:
        for loss, _ in finetune.losses(net, batch, CONTEXT, attached.prefix, 1, finetune.ALONE):
            loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step(1e-4)

    return step


def theirs(rung: str, method: str) -> Callable[[list[Example]], None]:
    """A step of transformers and PEFT."""
    made = model.build(ladder.shape(rung, VOCAB, CONTEXT), seed=0)
    net: Any = LlamaForCausalLM(type(made.config)(**{**made.config.to_dict(), "attn_implementation": "sdpa"}))
    if method == "lora":
        net = get_peft_model(net, LoraConfig(r=SIZES["lora"], target_modules="all-linear", task_type="CAUSAL_LM"))
    elif method == "prompt":
        net = get_peft_model(net, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=SIZES["prompt"]))
    trained = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4, fused=True)

    def step(batch: list[Example]) -> None:
        long = max(len(e.prompt) + len(e.target) for e in batch)
        ids, labels = torch.zeros(len(batch), long, dtype=torch.long), torch.full((len(batch), long), IGNORED)
        mask = torch.zeros_like(ids)
        for i, e in enumerate(batch):
            both = np.concatenate([e.prompt, e.target])
            ids[i, : len(both)], mask[i, : len(both)] = torch.from_numpy(both), 1
            labels[i, len(e.prompt) : len(both)] = torch.from_numpy(e.target)
        net(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


def least(steps: dict[str, Callable[[Any], None]], batches: dict[str, list[Any]], rounds: int) -> dict[str, float]:
    """Least processor seconds of each batch over the rounds, summed, by name; names take turns."""
    found = {name: [float("inf")] * len(batches[name]) for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            for i, batch in enumerate(batches[name]):
                began = time.process_time()
                step(batch)
                found[name][i] = min(found[name][i], time.process_time() - began)
    return {name: sum(times) for name, times in found.items()}


def ceiling() -> float:
    """FLOP/s of the best of many products of 1024 × 1024 fp32 matrices."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    multiply = {"product": lambda _: torch.mm(a, b)}
    return 2 * 1024**3 / least(multiply, {"product": [None]}, 40)["product"]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rungs", default="l,2xl")
    parser.add_argument("--rounds", type=int, default=6)
    args = parser.parse_args()
    torch.set_num_threads(1)
    best = ceiling()
    print(f"ceiling: {best / 1e9:.0f} GFLOP/s of fp32 on one thread\n")
    print("| base, method | Trainer's class: tokens/s | MFU | here: tokens/s | MFU | ratio |\n|" + " --- |" * 6)
    drawn = pairs(BATCH * BATCHES)
    batches = [drawn[i : i + BATCH] for i in range(0, len(drawn), BATCH)]
    tokens = sum(len(e.prompt) + len(e.target) for e in drawn)
    for rung in args.rungs.split(","):
        for method in SIZES:
            steps = {"theirs": theirs(rung, method), "ours": ours(rung, method)}
            seconds = least(steps, dict.fromkeys(steps, batches), args.rounds)
            share = 1.0 if method == "full" else 2 / 3
            flops = share * ladder.train_flops(ladder.shape(rung, VOCAB, CONTEXT), tokens)
            shown = [f"{tokens / s:,.0f} | {flops / s / best:.0%}" for s in seconds.values()]
            print(f"| {rung}, {method} | {' | '.join(shown)} | {seconds['theirs'] / seconds['ours']:.2f} |", flush=True)
    print("\n| base, LoRA | 2 runs in a pass | 4 | 8 |\n|" + " --- |" * 4)
    drawn = pairs(BATCH * 8)
    for rung in ("2xs", "s", *args.rungs.split(",")):
        sizes = {str(k): [drawn[i : i + BATCH * k] for i in range(0, len(drawn), BATCH * k)] for k in (1, 2, 4, 8)}
        seconds = least(dict.fromkeys(sizes, ours(rung, "lora")), sizes, args.rounds)
        shown = [f"{seconds['1'] / seconds[k]:.2f} times" for k in ("2", "4", "8")]
        print(f"| {rung} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    fastpath.keep_freed_memory()
    main()
