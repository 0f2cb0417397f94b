"""What makes a step fast changes nothing but rounding, and asks for no work that nobody reads."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.tuners.lora.layer import Linear
from small_models import PLAIN, SHAPES, awake, close, examples
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.llama.modeling_llama import rotate_half

from finescale import registry
from finescale.lab import decode, fastpath, model
from finescale.lab.methods import LORA
from finescale.lab.packing import EMPTY, Example, pack
from finescale.lab.train import Optimiser


def flops(net: torch.nn.Module, batch: list[Example]) -> int:
    """FLOPs of the products of one reading."""
    counter = FlopCounterMode(display=False)
    with counter:
        model.nats(net, pack(batch, 24))
    return int(counter.get_total_flops())


@settings(max_examples=20, deadline=None)
@given(heads=st.integers(1, 3), tokens=st.integers(1, 9), half=st.integers(1, 8), seed=st.integers(0, 99))
def test_rotation_and_its_gradient_are_the_textbook_ones(heads: int, tokens: int, half: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    shape = 2, heads, tokens, 2 * half
    q, k, pull = (torch.randn(shape, generator=rng, requires_grad=True) for _ in range(3))
    angles = torch.randn(2, tokens, half, generator=rng).repeat(1, 1, 2)
    mine = fastpath._rotate(q, k, angles.cos(), angles.sin())
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    theirs = tuple(x * cos + rotate_half(x) * sin for x in (q, k))
    for own, other in zip(mine, theirs, strict=True):
        assert torch.allclose(own, other, atol=1e-5)
        grads = [torch.autograd.grad((y * pull).sum(), (q, k), allow_unused=True) for y in (own, other)]
        for a, b in zip(*grads, strict=True):
            assert (a is None) == (b is None)
            assert a is None or torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("form", SHAPES)
def test_a_last_layer_that_ends_at_the_loss_gives_the_same_numbers_for_less(form: str) -> None:
    net = awake(SHAPES[form], seed=0)
    whole = copy.deepcopy(net)
    last = whole.base_model.layers[-1]
    last.forward = type(last).forward.__get__(last)
    batch = examples(0)
    losses = [model.nats(one, pack(batch, 24))[0] for one in (net, whole)]
    for loss in losses:
        loss.backward()
    assert close(*losses)
    assert all(close(p.grad, q.grad) for p, q in zip(net.parameters(), whole.parameters(), strict=True))
    assert flops(net, batch) < flops(whole, batch)


def test_reading_without_gradients_does_not_work_them_out() -> None:
    net, batch = awake(PLAIN, seed=0), examples(0)
    with_gradients = flops(net, batch)
    with torch.no_grad():
        without = flops(net, batch)
    at_loss = sum(len(e.target) for e in batch)
    # of the two products that gradients need, the counter does not see the one that is added in place
    assert with_gradients - without == 2 * at_loss * PLAIN.width * PLAIN.vocab


def test_a_joined_layer_that_is_switched_off_or_merged_gives_what_pefts_own_gives() -> None:
    net = awake(PLAIN, seed=0)
    LORA.attach(net, 2, LORA.options, 0)
    layer: Any = next(one for one in net.modules() if type(one) is Linear)
    assert "_low_rank" in repr(layer.forward)
    x = torch.randn(3, 5, layer.in_features)
    with torch.no_grad():
        layer.lora_B["default"].weight.add_(0.5)
        base, whole = layer.base_layer(x), layer(x)
        assert close(whole, Linear.forward(layer, x))
        assert not close(whole, base)
        layer.enable_adapters(False)
        assert torch.equal(layer(x), base)
        layer.enable_adapters(True)
        layer.merge()
        assert close(layer(x), whole), "an adapter that is in the weights is not added again"
        layer.unmerge()
        assert close(layer(x), whole)


def test_a_copy_of_a_joined_layer_computes_with_its_own_weights() -> None:
    net = awake(PLAIN, seed=0)
    LORA.attach(net, 2, LORA.options, 0)
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for name, weight in twin.named_parameters():
            if "lora_B" in name:
                weight.add_(1.0)
    batch = pack(examples(0), 24)
    assert not torch.equal(model.nats(net, batch)[0], model.nats(twin, batch)[0])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), count=st.integers(1, 20), row=st.integers(4, 60), prefix=st.integers(0, 12))
def test_a_soft_prompt_stands_once_in_a_row(seed: int, count: int, row: int, prefix: int) -> None:
    batch = examples(seed, count=count)
    packed = pack(batch, row, prefix)
    rows, width = packed.ids_BT.shape
    longest = max(len(e.prompt) + len(e.target) for e in batch)
    assert prefix + longest <= width <= prefix + max(row, longest)
    assert packed.slots_BT[:, :prefix].tolist() == [list(range(prefix))] * rows
    assert bool((packed.slots_BT[:, prefix:] == EMPTY).all())
    assert packed.tokens == rows * prefix + sum(len(e.prompt) + len(e.target) for e in batch)
    assert int(packed.positions_BT.max()) == prefix + longest - 1, "positions do not run on along a row"


@pytest.mark.parametrize("name", ["full", "lora", "prompt"])
def test_every_tensor_of_training_and_answering_says_where_it_is(name: str) -> None:
    """There is no GPU to try: here a tensor that is made without a device has no data, and cannot meet one that has."""
    net = awake(PLAIN, seed=0)
    method = registry.get("method", name)
    attached = method.attach(net, 3, method.options, 0)
    optimiser = Optimiser(attached.trainable, 0.0, 1.0)
    batch, packed = examples(0), pack(examples(0), 24, 0 if attached.prefix is None else 3)
    expected = model.nats(net, packed, attached.prefix)[0]
    laid = decode._lay_out(net, [e.prompt for e in batch], attached.prefix)
    answers = decode._greedy(net, laid, 4)
    with torch.device("meta"), pytest.raises(RuntimeError, match="device"):
        net.get_input_embeddings().weight + torch.zeros(PLAIN.width)
    with torch.device("meta"):
        assert torch.equal(model.nats(net, packed, attached.prefix)[0], expected)
        assert decode._greedy(net, laid, 4) == answers
        model.nats(net, packed, attached.prefix)[0].backward()
        optimiser.step(0.1)
    assert not torch.equal(model.nats(net, packed, attached.prefix)[0], expected)
