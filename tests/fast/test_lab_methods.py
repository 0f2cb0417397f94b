"""LoRA and prompts are PEFT's, to 1e-5; a rate carried to another PET size moves the model as far."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from small_models import PLAIN, SHAPES, awake, close, examples, stock, stock_loss

from finescale import registry
from finescale.lab import ladder, model
from finescale.lab.methods import LORA, PROMPT, Method
from finescale.lab.packing import pack
from finescale.lab.train import Optimiser


@pytest.mark.parametrize("form", SHAPES)
@pytest.mark.parametrize(("rank", "alpha", "rslora"), [(4, 32.0, False), (1, 8.0, False), (6, 16.0, True)])
def test_lora_loss_gradients_and_count_equal_pefts(form: str, rank: int, alpha: float, rslora: bool) -> None:
    shape = SHAPES[form]
    net = awake(shape, seed=1)
    twin = stock(net)
    mine = LORA.attach(net, rank, {"alpha": alpha, "rslora": rslora}, 7).trainable
    torch.manual_seed(7)
    theirs = get_peft_model(
        twin, LoraConfig(r=rank, lora_alpha=alpha, use_rslora=rslora, lora_dropout=0.0, target_modules="all-linear")
    )
    lora = dict(theirs.named_parameters())
    pairs = [(p, lora[f"base_model.model.{name}"]) for name, p in mine.items()]
    for own, other in pairs:
        assert torch.equal(own, other)
    assert theirs.get_nb_trainable_parameters()[0] == LORA.pet_params(shape, rank)
    with torch.no_grad():
        for own, other in pairs:
            other.copy_(own.add_(torch.randn_like(own) * 0.05))
    batch = examples(1)
    loss, other_loss = model.nats(net, pack(batch, 24))[0], stock_loss(theirs, batch)
    loss.backward()
    other_loss.backward()
    assert close(loss, other_loss)
    assert all(close(own.grad, other.grad) for own, other in pairs)


@pytest.mark.parametrize("form", SHAPES)
@pytest.mark.parametrize("length", [1, 3, 10])
def test_prompt_loss_gradient_and_count_equal_pefts(form: str, length: int) -> None:
    shape = SHAPES[form]
    net = awake(shape, seed=2)
    twin = stock(net)
    prefix = PROMPT.attach(net, length, {}, 7).prefix
    theirs = get_peft_model(twin, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=length))
    assert theirs.get_nb_trainable_parameters()[0] == PROMPT.pet_params(shape, length)
    other = theirs.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        other.copy_(prefix)
    batch = examples(2)
    loss, other_loss = model.nats(net, pack(batch, 24, length), prefix)[0], stock_loss(theirs, batch, length)
    loss.backward()
    other_loss.backward()
    assert close(loss, other_loss)
    assert close(prefix.grad, other.grad)


def test_prompts_start_from_vocabulary_vectors_and_follow_their_seed() -> None:
    net = model.build(PLAIN, seed=0)
    first, again, other = (PROMPT.attach(net, 6, {}, seed).prefix for seed in (0, 0, 1))
    table = net.get_input_embeddings().weight
    assert all((table == vector).all(1).any() for vector in first)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


BROAD = PLAIN.model_copy(update={"width": 64, "ff": 128})


def first_gain(rank: int, rslora: bool, rate: float) -> float:
    """Loss won by one small AdamW step from the start, mean over initialisations."""
    won = []
    for seed in range(3):
        net = awake(BROAD, seed)
        trainable = LORA.attach(net, rank, {"alpha": 32.0, "rslora": rslora}, seed).trainable
        packed = pack(examples(5, 20), 24)
        before = model.nats(net, packed)[0]
        before.backward()
        Optimiser(trainable, 0.0, 1e9, betas=(0.9, 0.999)).step(rate)
        with torch.no_grad():
            won.append(float(before - model.nats(net, packed)[0]))
    return float(np.mean(won))


@pytest.mark.parametrize("rslora", [False, True])
def test_the_rate_rule_makes_a_step_as_long_at_every_rank(rslora: bool) -> None:
    options = {"rslora": rslora}
    gains = [first_gain(rank, rslora, LORA.rate_at(1e-6, BROAD, BROAD, 8, rank, options)) for rank in (2, 32)]
    assert min(gains) > 0
    assert max(gains) / min(gains) < 1.25


def test_without_the_rule_rslora_steps_lengthen_with_the_root_of_the_rank() -> None:
    assert first_gain(32, True, 1e-6) / first_gain(2, True, 1e-6) == pytest.approx(4.0, rel=0.25)


@given(
    st.sampled_from(registry.names("method")),
    st.permutations(["2xs", "s", "xl"]),
    st.permutations([2, 16, 50]),
    st.sampled_from([{}, {"rslora": True}, {"rslora": False}]),
    st.sampled_from(["adamw", "adafactor"]),
)
def test_carrying_a_rate_by_a_detour_is_carrying_it(
    name: str, rungs: list[str], sizes: list[int], options: dict[str, bool], kind: str
) -> None:
    method: Method = registry.get("method", name)
    places = [(ladder.shape(rung, 512, 64), size) for rung, size in zip(rungs, sizes, strict=True)]

    def carry(rate: float, start: int, end: int) -> float:
        (found_at, found), (used_at, used) = places[start], places[end]
        return method.rate_at(rate, found_at, used_at, found, used, options, kind)

    assert carry(carry(0.01, 0, 1), 1, 2) == pytest.approx(carry(0.01, 0, 2))
    assert carry(carry(0.01, 0, 1), 1, 0) == pytest.approx(0.01)


def test_the_stated_rules() -> None:
    """alpha / r: the rate stays; alpha / √r: it falls as 1/√r; prompts: it stays; Adafactor, full: one for all."""
    narrow, wide = ladder.shape("2xs", 512, 64), ladder.shape("m", 512, 64)
    full = registry.get("method", "full")
    assert LORA.rate_at(0.01, narrow, narrow, 4, 64) == 0.01
    assert LORA.rate_at(0.01, narrow, narrow, 4, 64, {"rslora": True}) == pytest.approx(0.0025)
    assert LORA.rate_at(0.01, narrow, wide, 4, 4) == pytest.approx(0.005)
    assert PROMPT.rate_at(0.3, narrow, wide, 5, 150) == 0.3
    assert full.rate_at(0.004, narrow, wide) == pytest.approx(0.001)
    assert full.rate_at(0.004, narrow, wide, optimiser="adafactor") == 0.004
    assert LORA.rate_at(0.01, narrow, wide, 4, 4, optimiser="adafactor") == pytest.approx(0.005)


def test_counts_grow_in_proportion_to_the_pet_size() -> None:
    for method, shape in itertools.product((LORA, PROMPT), SHAPES.values()):
        assert [method.pet_params(shape, k) for k in (2, 5)] == [k * method.pet_params(shape, 1) for k in (2, 5)]
