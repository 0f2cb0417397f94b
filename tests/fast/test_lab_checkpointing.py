"""Gradient checkpointing: the same losses and gradients from fewer kept activations, whatever the architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import local_hub
import pytest
import torch
from small_models import close, examples

from finescale import registry
from finescale.core import MethodSpec
from finescale.errors import InputError
from finescale.lab import ladder, model
from finescale.lab.finetune import attach
from finescale.lab.packing import pack


def passed(folder: Path, opening: model.Opening, method: str) -> tuple[int, torch.Tensor, list[torch.Tensor]]:
    """Bytes kept for the way back, loss and gradients of one batch."""
    net = model.load(folder, opening).float()
    size = registry.get("method", method).default_sizes
    attached = attach(net, MethodSpec(name=method, pet_size=size[0] if size else None), seed=3)
    with torch.no_grad():  # adapters that start at zero have no gradients to compare
        for index, weight in enumerate(attached.trainable.values()):
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(index)) * 0.05)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> Any:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    batch = pack(examples(1), 64, 0 if attached.prefix is None else len(attached.prefix))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model.nats(net, batch, attached.prefix)[0]
    loss.backward()
    return sum(kept.values()), loss, [p.grad for p in attached.trainable.values() if p.grad is not None]


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "llama", "olmo2", "qwen2", "phi"])
@pytest.mark.parametrize("method", ["full", "lora", "prompt"])
def test_the_numbers_are_the_same_and_less_is_kept(kind: str, method: str, tmp_path: Path) -> None:
    folder = local_hub.save(tmp_path / kind, kind)
    much, loss, gradients = passed(folder, model.Opening(), method)
    little, again, same = passed(folder, model.Opening(checkpointing=True), method)
    assert close(loss, again)
    assert len(gradients) == len(same) > 0
    assert all(close(one, other) for one, other in zip(gradients, same, strict=True))
    assert little < much


def test_a_model_that_cannot_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = local_hub.save(tmp_path / "llama", "llama")
    monkeypatch.setattr("transformers.LlamaForCausalLM.supports_gradient_checkpointing", False)
    with pytest.raises(InputError, match=r"leave \[run\] gradient_checkpointing out"):
        model.load(folder, model.Opening(checkpointing=True))


def test_the_estimate_falls_with_what_is_kept() -> None:
    """Checkpointing never asks for more, and saves more the deeper a base is."""
    saved = []
    for rung in ("xs", "m", "2xl"):
        shape = ladder.shape(rung, 4096, 128)
        much, little = (
            ladder.memory(shape, 1000, rows=8, row=128, checkpointing=checkpointing) for checkpointing in (False, True)
        )
        saved.append(1 - little.activations / much.activations)
        assert little.total < much.total
        assert little.weights == much.weights
    assert saved == sorted(saved)
