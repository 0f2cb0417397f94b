"""Ways to open a base that is large: fewer kept activations, parts on devices; the same losses and gradients."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import local_hub
import pytest
import torch
from accelerate import dispatch_model
from small_models import close, examples

from finescale import registry
from finescale.core import MethodSpec
from finescale.errors import InputError
from finescale.lab import fastpath, ladder, model
from finescale.lab.finetune import attach
from finescale.lab.packing import pack
from finescale.study.lock import read_study


def passed(
    folder: Path, opening: model.Opening, method: str, net: Any = None
) -> tuple[int, torch.Tensor, list[torch.Tensor]]:
    """Bytes kept for the way back, loss and gradients of one batch."""
    net = (net or model.load(folder, opening)).float()
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


@pytest.mark.parametrize("method", ["full", "lora", "prompt"])
def test_a_model_spread_by_accelerate_has_the_same_numbers(method: str, tmp_path: Path) -> None:
    """On one device, each part with the hooks that would move its inputs to another."""
    folder = local_hub.save(tmp_path / "llama", "llama")
    _, loss, gradients = passed(folder, model.Opening(), method)
    _, again, same = passed(folder, model.Opening(device_map="auto"), method)
    assert torch.equal(loss, again)
    parts = {"model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "model.rotary_emb", "lm_head"}
    net = model.load(folder)
    dispatch_model(net, dict.fromkeys(parts, "cpu"), main_device="cpu", force_hooks=True)
    fastpath.end_at_loss(net)
    _, again, hooked = passed(folder, model.Opening(), method, net)
    assert close(loss, again)
    for found in (same, hooked):
        assert len(found) == len(gradients) > 0
        assert all(close(one, other) for one, other in zip(gradients, found, strict=True))


def test_one_training_is_not_shared_in_two_ways(tmp_path: Path) -> None:
    asked = '[run]\nshards = 2\ndevice_map = "auto"\n'
    (tmp_path / "study.toml").write_text((files("finescale.demo") / "study.toml").read_text() + asked)
    with pytest.raises(InputError, match="share one training in two ways"):
        read_study(tmp_path)
