"""The fast path computes what transformers and PEFT compute, and packing changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import LlamaForCausalLM

from finescale import registry
from finescale.core import Shape
from finescale.errors import InputError
from finescale.lab import fastpath, ladder, model
from finescale.lab.packing import Example, pack, rows_of_text

TINY = Shape(layers=2, width=32, heads=2, ff=48, vocab=97, context=24)


def examples(seed: int, count: int = 5) -> list[Example]:
    rng = np.random.default_rng(seed)
    pieces = [rng.integers(3, 97, size=rng.integers(2, 9)).astype(np.int64) for _ in range(2 * count)]
    return [Example(p, t, len(t)) for p, t in zip(pieces[::2], pieces[1::2], strict=True)]


def stock(net: object) -> LlamaForCausalLM:
    """The same weights in the class as transformers ships it, with its eager attention."""
    twin = LlamaForCausalLM(net.config.__class__(**{**net.config.to_dict(), "attn_implementation": "eager"}))
    twin.load_state_dict(net.state_dict())
    return twin


def stock_nats(net: object, example: Example) -> torch.Tensor:
    ids = torch.from_numpy(np.concatenate([example.prompt, example.target]))[None]
    logits = net(input_ids=ids).logits[0, len(example.prompt) - 1 : -1]
    return F.cross_entropy(logits, torch.from_numpy(example.target), reduction="sum")


@pytest.mark.parametrize("rung", ladder.RUNGS)
def test_closed_form_counts_equal_the_models_own(rung: str) -> None:
    shape = ladder.shape(rung, vocab=512, context=64)
    with torch.device("meta"):
        net = model.build(shape, seed=0)
    assert sum(p.numel() for p in net.parameters()) == ladder.count(shape).total
    embeddings = net.get_input_embeddings().weight.numel()
    assert ladder.count(shape).total - embeddings == ladder.count(shape).non_embedding


def test_an_unknown_rung_names_the_near_one() -> None:
    with pytest.raises(InputError, match="did you mean 'xl'"):
        ladder.shape("xll", 512, 64)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), row=st.integers(4, 40))
def test_packed_losses_and_gradients_are_those_of_the_examples_alone(seed: int, row: int) -> None:
    net = model.build(TINY, seed=seed)
    batch = examples(seed)
    packed = pack(batch, row)
    loss, nats = model.nats(net, packed)
    sums = torch.zeros(len(batch)).index_add_(0, packed.owner_N, nats)
    loss.backward()
    twin = stock(net)
    alone = [stock_nats(twin, e) for e in batch]
    (sum(alone) / sum(len(e.target) for e in batch)).backward()
    assert torch.allclose(sums, torch.stack(alone), rtol=1e-5)
    for (name, mine), theirs in zip(net.named_parameters(), twin.parameters(), strict=True):
        assert torch.allclose(mine.grad, theirs.grad, rtol=1e-3, atol=1e-5), name


def test_every_example_is_packed_once_and_rows_are_not_wider_than_asked() -> None:
    batch = examples(3, count=20)
    packed = pack(batch, row=24)
    assert packed.ids_BT.shape[1] == 24
    assert packed.tokens == sum(len(e.prompt) + len(e.target) for e in batch)
    for index, example in enumerate(batch):
        assert packed.targets_N[packed.owner_N == index].tolist() == example.target.tolist()


def test_rows_of_text_score_every_next_token() -> None:
    net = model.build(TINY, seed=0)
    ids = np.random.default_rng(0).integers(0, 97, size=(3, 24))
    logits = stock(net)(input_ids=torch.from_numpy(ids)).logits[:, :-1]
    expected = F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(ids)[:, 1:].flatten())
    assert torch.allclose(model.nats(net, rows_of_text(ids))[0], expected, rtol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 1300), st.integers(1, 9), st.integers(2, 40))
def test_linear_cross_entropy_equals_torchs(tokens: int, width: int, vocab: int) -> None:
    rng = torch.Generator().manual_seed(tokens)
    h = torch.randn(tokens, width, generator=rng, requires_grad=True)
    w = torch.randn(vocab, width, generator=rng, requires_grad=True)
    targets = torch.randint(vocab, (tokens,), generator=rng)
    weights = torch.rand(tokens, generator=rng)
    mine, nats = fastpath.linear_cross_entropy(h, w, targets, weights)
    mine_grads = torch.autograd.grad(mine * 2, (h, w))
    theirs_each = F.cross_entropy(h @ w.T, targets, reduction="none")
    theirs_grads = torch.autograd.grad((theirs_each * weights).sum() * 2, (h, w))
    assert torch.allclose(nats, theirs_each.detach(), rtol=1e-4, atol=1e-5)
    for a, b in zip(mine_grads, theirs_grads, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4)


def test_attention_equals_eager_with_grouped_heads_and_no_mask() -> None:
    q, k, v = torch.randn(2, 4, 7, 8), torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)
    mine, _ = fastpath._bmm_attention(torch.nn.Identity(), q, k, v, None, 0.3)
    wide = [x.repeat_interleave(2, 1) for x in (k, v)]
    theirs = F.scaled_dot_product_attention(q, *wide, is_causal=True, scale=0.3).transpose(1, 2)
    assert torch.allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize("name", registry.names("method"))
@pytest.mark.parametrize("size", [1, 3, 8])
def test_methods_declare_exactly_what_they_train(name: str, size: int) -> None:
    method = registry.get("method", name)
    net = model.build(TINY, seed=0)
    attached = method.attach(net, size, method.options, 0)
    assert sum(p.numel() for p in attached.trainable.values()) == method.pet_params(TINY, size)
    model.nats(net, pack(examples(0), 24, 0 if attached.prefix is None else size), attached.prefix)[0].backward()
    assert all(p.grad is not None for p in attached.trainable.values())
    frozen = {n for n, p in net.named_parameters() if p.grad is not None} - set(attached.trainable)
    assert not frozen


def test_lora_loss_and_gradients_equal_pefts() -> None:
    net = model.build(TINY, seed=1)
    method = registry.get("method", "lora")
    twin = stock(net)
    attached = method.attach(net, 4, method.options, 7)
    torch.manual_seed(7)
    theirs = get_peft_model(twin, LoraConfig(r=4, lora_alpha=32, target_modules="all-linear"))
    lora = [p for n, p in theirs.named_parameters() if "lora_" in n]
    for mine, other in zip(attached.trainable.values(), lora, strict=True):
        assert torch.equal(mine, other)
        with torch.no_grad():
            other.copy_(mine.add_(torch.randn_like(mine) * 0.05))
    batch = examples(1)
    model.nats(net, pack(batch, 24))[0].backward()
    (sum(stock_nats(theirs, e) for e in batch) / sum(len(e.target) for e in batch)).backward()
    for mine, other in zip(attached.trainable.values(), lora, strict=True):
        assert torch.allclose(mine.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_prompt_loss_and_gradient_equal_pefts() -> None:
    net = model.build(TINY, seed=2)
    method = registry.get("method", "prompt")
    twin = stock(net)
    prefix = method.attach(net, 3, method.options, 7).prefix
    theirs = get_peft_model(twin, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    other = theirs.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        other.copy_(prefix)
    example = examples(2)[0]
    model.nats(net, pack([example], 24, 3), prefix)[0].backward()
    ids = torch.from_numpy(np.concatenate([example.prompt, example.target]))[None]
    logits = theirs(input_ids=ids).logits[0, 3 + len(example.prompt) - 1 : -1]
    F.cross_entropy(logits, torch.from_numpy(example.target)).backward()
    assert torch.allclose(prefix.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_prompts_start_from_vocabulary_vectors_and_follow_their_seed() -> None:
    method = registry.get("method", "prompt")
    net = model.build(TINY, seed=0)
    first, again, other = (method.attach(net, 6, {}, seed).prefix for seed in (0, 0, 1))
    table = net.get_input_embeddings().weight
    assert all((table == vector).all(1).any() for vector in first)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_saved_bases_load_in_transformers_and_generate(tmp_path) -> None:
    net = model.build(TINY, seed=0)
    model.save(net, tmp_path)
    twin = LlamaForCausalLM.from_pretrained(tmp_path)
    assert twin.generate(torch.tensor([[1, 5, 9]]), max_new_tokens=3, do_sample=False).shape == (1, 6)
    batch = pack(examples(0), 24)
    assert torch.allclose(model.nats(model.load(tmp_path), batch)[0], model.nats(net, batch)[0], rtol=1e-2)
