"""What every registered finetuning method must do, a contributor's own included."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small_models import PLAIN, SHAPES, awake

from finescale import registry
from finescale.core import Shape
from finescale.lab import ladder, model
from finescale.lab.adapters import ADAPTERS
from finescale.lab.methods import Attached, Method
from finescale.lab.packing import Example, Packed, pack
from finescale.lab.train import Optimiser

METHODS = registry.names("method")
EXAMPLES = [Example(row[:4], row[4:], 4) for row in np.random.default_rng(0).integers(3, 97, size=(8, 8))]


def size_of(method: Method) -> int | None:
    """A PET size small enough for the test."""
    return 3 if method.size_word else None


def prepared(name: str, shape: Shape) -> torch.nn.Module:
    """A fresh base as a method keeps it before anything is trained: as it is, or in 4 bits."""
    net = awake(shape, seed=0)
    adapter = ADAPTERS.get(name)
    if adapter is not None and adapter.prepare is not None:
        adapter.prepare(net)
    return net


class Trained:
    """A method attached to a fresh base and trained for some steps on a few examples."""

    def __init__(self, name: str, shape: Shape, seed: int, steps: int, optimiser: str = "adamw") -> None:
        self.method: Method = registry.get("method", name)
        self.net = awake(shape, seed=0)
        self.before = dict(prepared(name, shape).named_parameters())
        size = size_of(self.method) or 0
        self.attached: Attached = self.method.attach(self.net, size, self.method.options, seed)
        self.start = {name: weight.detach().clone() for name, weight in self.attached.trainable.items()}
        inner = Optimiser(self.attached.trainable, 0.0, 1.0, kind=optimiser, relative=self.method.whole)
        for _ in range(steps):
            self.loss().backward()
            inner.step(self.method.default_rates[0])

    @property
    def packed(self) -> Packed:
        return pack(EXAMPLES, 24, 0 if self.attached.prefix is None else len(self.attached.prefix))

    def loss(self) -> torch.Tensor:
        return model.nats(self.net, self.packed, self.attached.prefix)[0]


@pytest.fixture(params=METHODS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest) -> Shape:
    return SHAPES[request.param]


def test_it_says_what_it_is(name: str) -> None:
    method: Method = registry.get("method", name)
    assert method.name == name
    assert method.source
    assert method.summary
    assert bool(method.size_word) == bool(method.default_sizes)
    assert list(method.default_rates) == sorted(method.default_rates)
    assert all(rate > 0 for rate in method.default_rates)


def test_it_counts_exactly_what_it_trains(name: str, shape: Shape) -> None:
    trained = Trained(name, shape, seed=0, steps=0)
    held = sum(p.numel() for p in trained.attached.trainable.values())
    assert held == trained.method.pet_params(shape, size_of(trained.method))
    trained.loss().backward()
    assert all(p.grad is not None for p in trained.attached.trainable.values())
    assert held <= ladder.count(shape).total or trained.method.size_word


def test_before_the_first_step_the_base_is_untouched(name: str, shape: Shape) -> None:
    trained = Trained(name, shape, seed=0, steps=0)
    fresh = prepared(name, shape)
    bare = pack(EXAMPLES, 24)
    assert torch.allclose(model.nats(trained.net, bare)[0], model.nats(fresh, bare)[0], rtol=1e-6)
    assert math.isfinite(float(trained.loss().detach()))


@pytest.mark.parametrize("optimiser", ["adamw", "adafactor"])
def test_training_lowers_the_loss_and_moves_what_it_declares_and_nothing_else(
    name: str, shape: Shape, optimiser: str
) -> None:
    trained = Trained(name, shape, seed=0, steps=8, optimiser=optimiser)
    assert trained.loss() < Trained(name, shape, seed=0, steps=0).loss()
    declared = {id(p) for p in trained.attached.trainable.values()}
    after = {n.replace(".base_layer", ""): p for n, p in trained.net.named_parameters()}
    for weight_name, before in trained.before.items():
        if id(after[weight_name]) not in declared:
            assert torch.equal(after[weight_name], before), weight_name
            assert after[weight_name].grad is None, weight_name
    for weight_name, weight in trained.attached.trainable.items():
        assert not torch.equal(weight, trained.start[weight_name]), weight_name


def test_the_seed_decides_everything(name: str) -> None:
    one, again, other = (Trained(name, PLAIN, seed, steps=3) for seed in (1, 1, 2))
    assert torch.equal(one.loss(), again.loss())
    for weight_name, weight in one.attached.trainable.items():
        assert torch.equal(weight, again.attached.trainable[weight_name])
    if one.method.size_word:
        assert not torch.equal(one.loss(), other.loss()), "a method that adds weights draws them from the seed"


def test_a_rate_stays_at_its_place_and_stays_a_rate(name: str, shape: Shape) -> None:
    method: Method = registry.get("method", name)
    size, wide = size_of(method), shape.model_copy(update={"width": 256, "heads": 8})
    assert method.rate_at(0.01, shape, shape, size, size) == 0.01
    carried = method.rate_at(0.01, shape, wide, size, size and 7 * size)
    assert 0 < carried < math.inf
    assert method.rate_at(0.02, shape, wide, size, size and 7 * size) == pytest.approx(2 * carried)
