"""QLoRA: LoRA on linear layers in 4 bits, against transformers' and PEFT's own way to it."""

from __future__ import annotations

from pathlib import Path

import local_hub
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from small_models import close, examples, stock_loss
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from finescale.errors import InputError
from finescale.lab import model
from finescale.lab.keep import keep_weights
from finescale.lab.methods import QLORA
from finescale.lab.packing import pack
from finescale.study import lock

FOUR_BITS = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.float32,
)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return local_hub.save(tmp_path / "base", "llama")


def test_loss_gradients_and_adapter_are_those_of_a_model_loaded_in_4_bits(base: Path, tmp_path: Path) -> None:
    net = model.load(base).float()
    whole = model.nats(net, pack(examples(1), 24))[0]
    attached = QLORA.attach(net, 3, QLORA.options, 7)
    twin = AutoModelForCausalLM.from_pretrained(base, quantization_config=FOUR_BITS, attn_implementation="eager")
    torch.manual_seed(7)
    config = LoraConfig(r=3, lora_alpha=32.0, lora_dropout=0.0, target_modules="all-linear")
    theirs = get_peft_model(twin, config)
    lora = dict(theirs.named_parameters())
    pairs = [(p, lora[f"base_model.model.{name}"]) for name, p in attached.trainable.items()]
    assert theirs.get_nb_trainable_parameters()[0] == QLORA.pet_params(model.shape_of(model.load(base)), 3)
    with torch.no_grad():
        for own, other in pairs:
            other.copy_(own.add_(torch.randn_like(own) * 0.05))
    loss, other_loss = model.nats(net, pack(examples(1), 24))[0], stock_loss(theirs, examples(1))
    assert not close(loss, whole), "4 bits and an adapter leave a trace"
    loss.backward()
    other_loss.backward()
    assert close(loss, other_loss)
    assert all(close(own.grad, other.grad) for own, other in pairs)
    (tmp_path / "run").mkdir()
    keep_weights(tmp_path / "run", "adapters", net, attached, base)
    again = AutoModelForCausalLM.from_pretrained(base, quantization_config=FOUR_BITS, attn_implementation="eager")
    assert close(stock_loss(PeftModel.from_pretrained(again, tmp_path / "run" / "adapter"), examples(1)), loss)


def test_a_model_without_plain_linear_layers_is_refused(tmp_path: Path) -> None:
    net = model.load(local_hub.save(tmp_path / "gpt2", "gpt2"))
    with pytest.raises(InputError, match="finds no linear layer in 'gpt2'"):
        QLORA.attach(net, 3, QLORA.options, 7)


def test_a_missing_package_is_said_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    lock.check_packages(["lora", "qlora", "full"])
    monkeypatch.setattr(lock, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package bitsandbytes.*finescale\[qlora\]"):
        lock.check_packages(["lora", "qlora", "full"])
