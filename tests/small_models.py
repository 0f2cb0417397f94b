"""Small models and examples for tests of the lab, and the same weights in transformers' own forward.

A rung starts with its residual projections at zero, so that every block is the identity: a test on such a model would
see nothing of attention. The models here have all weights drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from finescale.core import Shape
from finescale.lab import model
from finescale.lab.packing import Example

torch.set_num_threads(1)

PLAIN = Shape(layers=2, width=32, heads=4, ff=48, vocab=97, context=24)
SHAPES = {
    "plain": PLAIN,
    "multi-query": PLAIN.model_copy(update={"kv_heads": 1}),
    "two matrices": PLAIN.model_copy(update={"kv_heads": 2, "gated": False}),
}


def awake(shape: Shape, seed: int) -> Any:
    """A rung whose residual projections are drawn too."""
    net = model.build(shape, seed)
    random = torch.Generator().manual_seed(seed + 1000)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.normal_(0.0, weight.shape[1] ** -0.5, generator=random)
    return net


def examples(seed: int, count: int = 5) -> list[Example]:
    """Examples of random tokens; prompts and targets of 2 to 8."""
    rng = np.random.default_rng(seed)
    pieces = [rng.integers(3, 97, size=rng.integers(2, 9)).astype(np.int64) for _ in range(2 * count)]
    return [Example(p, t, len(t)) for p, t in zip(pieces[::2], pieces[1::2], strict=True)]


def stock(net: Any) -> Any:
    """The same weights in the class as transformers ships it, with its eager attention."""
    twin = type(net)(type(net.config)(**{**net.config.to_dict(), "attn_implementation": "eager"}))
    twin.load_state_dict(net.state_dict())
    return twin


def stock_nats(net: Any, example: Example, prompt: int = 0) -> torch.Tensor:
    """Summed nats of one example's target through transformers' (or PEFT's) own forward."""
    ids = torch.from_numpy(np.concatenate([example.prompt, example.target]))[None]
    logits = net(input_ids=ids).logits[0, prompt + len(example.prompt) - 1 : -1]
    return F.cross_entropy(logits, torch.from_numpy(example.target), reduction="sum")


def stock_loss(net: Any, batch: list[Example], prompt: int = 0) -> torch.Tensor:
    """Mean nats per target token of the examples, one by one."""
    return sum(stock_nats(net, e, prompt) for e in batch) / sum(len(e.target) for e in batch)


def close(mine: torch.Tensor, theirs: torch.Tensor, to: float = 1e-5) -> bool:
    """Equal to ``to`` of the largest entry, which must not be zero."""
    largest = theirs.abs().max()
    return bool(largest > 0) and bool((mine - theirs).abs().max() <= to * largest)
