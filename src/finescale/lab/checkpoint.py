"""Published models as bases of a study: brought into the study's own folder, checked, and counted.

A base's folder is one layout whatever it came from: ``config.json``, ``model.safetensors``, ``tokenizer.json``. Nothing
but weights is ever executed or unpickled: code that a repository ships is not run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from finescale.core import PublicBase
from finescale.errors import StudyError
from finescale.lab import model, packages, tokenizer
from finescale.lab.packing import Example, pack
from finescale.lab.prepare import Tell
from finescale.lab.tokenizer import Marks

APART = 1e-3
"""Nats by which an example's loss may differ between a packed row and a row of its own, from rounding alone."""


def bring(base: PublicBase, out: Path, tell: Tell) -> dict[str, Any]:
    """Write a published model into ``out`` as a base, after checks; returns its record.

    Raises:
        InputError: the model cannot be had.
        StudyError: it is not the model its name says, or its loss changes when examples share a row.
    """
    net = _load(base)
    tell(0.6)
    net.config.packed_row = base.shape.context
    counted = _count(net)
    if counted != (base.model_params, base.total_params):
        raise StudyError(f"{base.name} has {counted} parameters, not {(base.model_params, base.total_params)}")
    net.save_pretrained(out)
    tell(0.8)
    apart = packing_error(model.load(out))
    if apart > APART:
        raise StudyError(
            f"{base.name}: an example's loss moves by {apart:.2g} nats a token when it shares a row with others, so "
            "that this architecture cannot be trained on packed rows"
        )
    return {
        "model_params": base.model_params,
        "total_params": base.total_params,
        "pretrain_tokens": base.pretrain_tokens,
        "packing_error": apart,
    }


def words(base: PublicBase, out: Path) -> tuple[Tokenizer, Marks]:
    """Write a published model's tokenizer into ``out`` as ``tokenizer.json`` and open it."""
    found = _tokenizer(base)
    found.backend_tokenizer.save(str(out / "tokenizer.json"))
    return tokenizer.load(out), marks(found)


def marks(found: Any) -> Marks:
    """What a transformers tokenizer puts before a text, if anything, and what ends one."""
    before = found("a", add_special_tokens=True).input_ids[: -len(found("a", add_special_tokens=False).input_ids)]
    return Marks(tuple(before), found.eos_token_id)


@torch.no_grad()
def packing_error(net: Any) -> float:
    """Largest difference of a token's nats between an example in a shared row and the same example alone."""
    drawn = np.random.default_rng(0)
    vocab = net.get_input_embeddings().weight.shape[0]
    some = [Example(drawn.integers(0, vocab, p), drawn.integers(0, vocab, t), 1) for p, t in ((5, 3), (2, 4), (7, 6))]
    together = model.nats(net, pack(some, sum(len(e.prompt) + len(e.target) for e in some)))[1]
    alone = torch.cat([model.nats(net, pack([one], 1))[1] for one in some])
    return float((together - alone).abs().max())


def _load(base: PublicBase) -> Any:
    """The model in fp32, free of the format it was stored in."""
    path = packages.weights(base.name)
    stored = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    config = stored.config
    config.__dict__.pop("quantization_config", None)
    net = AutoModelForCausalLM.from_config(config)
    net.load_state_dict(stored.state_dict())
    return net


def _tokenizer(base: PublicBase) -> Any:
    path = packages.weights(base.name)
    return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


def _count(net: Any) -> tuple[int, int]:
    """Parameters without token embeddings and an output head of its own, and all of them."""
    tables = (net.get_input_embeddings().weight, net.get_output_embeddings().weight)
    tied = {id(weight): weight.numel() for weight in tables}
    total = sum(weight.numel() for weight in net.parameters())
    return total - sum(tied.values()), total
