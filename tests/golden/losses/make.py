"""Losses of the smallest pretraining and of each finetuning method: print them as the golden file.

From this package's own code: they guard against a change that nobody meant, and say nothing about what is right.
Run: python tests/golden/losses/make.py > tests/golden/losses/losses.json
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from finescale import registry
from finescale.core import BaseSpec, FinetuneRecipe, MethodSpec, PretrainRecipe, Shape
from finescale.lab import model
from finescale.lab.finetune import tune
from finescale.lab.methods import Method
from finescale.lab.packing import Example
from finescale.lab.pretrain import pretrain

VOCAB = 100
SHAPE = Shape(layers=1, width=32, heads=2, ff=64, vocab=VOCAB, context=32)
RATE, SIZE = 1e-2, 4


def language(length: int, seed: int) -> list[int]:
    """Text of a made language in which each token has two followers."""
    follow = np.random.default_rng(0).integers(3, VOCAB, size=(VOCAB, 2))
    tokens = [3]
    for turn in np.random.default_rng(seed).integers(2, size=length - 1):
        tokens.append(int(follow[tokens[-1], turn]))
    return tokens


def pretrained(folder: Path) -> dict[str, Any]:
    """The record of a base of 4,096 tokens."""
    stream = np.array(language(10_000, 1), np.uint16)
    save_file({"train": stream[1000:], "valid": stream[:1000]}, folder / "stream.safetensors")
    recipe = PretrainRecipe(batch_tokens=128, warmup_tokens=512, learning_rate_at_width_64=5e-3)
    spec = BaseSpec(name="tiny", shape=SHAPE, data="d", pretrain_tokens=4_096, recipe=recipe, seed=0)
    (folder / "base").mkdir()
    return pretrain(spec, folder / "base", folder, None, lambda _: None)


def finetuned(base: Path, name: str) -> list[float]:
    """Losses of eight steps of a method on the same language backwards, nats per target token."""
    texts = [language(12, seed)[::-1] for seed in range(2, 34)]
    pairs = [Example(np.array(text[:6]), np.array(text[6:]), 6) for text in texts]
    method: Method = registry.get("method", name)
    spec = MethodSpec(name=name, pet_size=SIZE if method.size_word else None)
    recipe = FinetuneRecipe(batch_examples=4, epochs=1, min_steps=8, dev_checks=2)
    net = model.load(base)
    tuned = tune(net, spec, recipe, RATE, pairs[:24], pairs[24:], float("inf"), (0, 0), lambda _: None)
    return [line["loss"] for line in tuned.curve] + [tuned.best_dev]


def losses() -> dict[str, Any]:
    """What the golden file holds."""
    torch.set_num_threads(1)
    methods = [name for name in registry.names("method") if registry.get("method", name).package is None]
    with tempfile.TemporaryDirectory() as folder:
        record = pretrained(Path(folder))
        log = [json.loads(line) for line in (Path(folder) / "base" / "log.jsonl").read_text().splitlines()]
        found = {name: finetuned(Path(folder) / "base", name) for name in methods}
    return {"pretraining": [line["loss"] for line in log], "valid": record["valid_nats_per_token"], "finetuning": found}


if __name__ == "__main__":
    print(json.dumps(losses(), indent=1))
