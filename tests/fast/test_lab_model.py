"""The fast path computes what transformers computes, packing changes nothing, counts are the classes' own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import PLAIN, awake, close, examples, stock, stock_nats
from transformers import LlamaForCausalLM

from finescale.core import Shape
from finescale.errors import InputError
from finescale.lab import fastpath, ladder, model
from finescale.lab.packing import pack, rows_of_text
from finescale.lab.train import Optimiser

TINY = PLAIN.model_copy(update={"heads": 2})


def held(shape: Shape) -> int:
    """Parameters of the real transformers class of this shape."""
    with torch.device("meta"):
        return sum(p.numel() for p in model.build(shape, seed=0).parameters())


@pytest.mark.parametrize("rung", ladder.RUNGS)
@pytest.mark.parametrize(("kv_heads", "gated"), [(None, True), (1, True), (None, False), (1, False)])
def test_closed_form_counts_equal_the_models_own(rung: str, kv_heads: int | None, gated: bool) -> None:
    shape = ladder.shape(rung, vocab=512, context=64).model_copy(update={"kv_heads": kv_heads, "gated": gated})
    assert held(shape) == ladder.count(shape).total
    assert ladder.count(shape).total - shape.vocab * shape.width == ladder.count(shape).non_embedding


def test_the_papers_smallest_model_is_counted_as_large_as_its_prompt_share_says() -> None:
    """Table 3, "1B". Its 204,800 prompt parameters are 0.017 % of it (section 4), so 1.17 to 1.24 billion in all.

    The vocabulary is not given: 256,000 is PaLM's. Only two feed-forward matrices agree; three would make 1.48 billion.
    """
    shape = Shape(layers=16, width=2048, heads=8, ff=8192, vocab=256_000, context=512, kv_heads=1, gated=False)
    assert 1.17e9 < ladder.count(shape).total < 1.24e9
    assert ladder.count(shape).total == held(shape)


def test_fewer_key_heads_and_fewer_matrices_cost_fewer_flops() -> None:
    shape = ladder.shape("m", 512, 64)
    slim = [shape, *(shape.model_copy(update=u) for u in ({"kv_heads": 2}, {"kv_heads": 1}, {"gated": False}))]
    flops = [ladder.train_flops(s, 1000) for s in slim]
    assert flops == sorted(flops, reverse=True)
    assert flops == [6000 * held(s) for s in slim]


@pytest.mark.parametrize("kv_heads", [None, 1, 2])
@pytest.mark.parametrize("gated", [True, False])
def test_a_shape_survives_being_built_saved_and_loaded(kv_heads: int | None, gated: bool, tmp_path) -> None:
    shape = TINY.model_copy(update={"heads": 4, "kv_heads": kv_heads, "gated": gated})
    model.save(model.build(shape, seed=0), tmp_path)
    assert model.shape_of(model.load(tmp_path)) == shape


def test_every_impossible_thing_about_a_shape_is_named() -> None:
    bad = TINY.model_copy(update={"heads": 6, "kv_heads": 4})
    found = ladder.faults(bad, "base.shapes.mine")
    assert [str(fault) for fault in found] == [
        "base.shapes.mine: width 32 does not give 6 heads an even whole width — make width a multiple of 12",
        "base.shapes.mine: 6 heads do not share 4 key and value heads evenly — make heads a multiple of kv_heads; "
        "kv_heads = 1 is multi-query attention",
    ]
    with pytest.raises(InputError, match="2 faults"):
        model.build(bad, seed=0)
    assert not ladder.faults(TINY, "tiny")
    assert ladder.faults(TINY.model_copy(update={"heads": 32}), "odd heads")


def kept_for_the_way_back(net: object, rows: int, row: int, prefix: torch.Tensor | None = None) -> int:
    """Bytes of the distinct storages that autograd keeps of a forward pass, the parameters' own left out."""
    own = {p.untyped_storage().data_ptr() for p in net.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack_hook(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage  # held, so that its address is not used again
        return tensor

    ids = np.random.default_rng(0).integers(3, net.config.vocab_size, (rows, row))
    with torch.autograd.graph.saved_tensors_hooks(pack_hook, lambda tensor: tensor):
        loss, _ = model.nats(net, rows_of_text(ids), prefix)
    loss.backward()
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("rung", ["xs", "m"])
@pytest.mark.parametrize(("kv_heads", "gated"), [(None, True), (1, False)])
def test_activations_are_estimated_within_a_fifth_of_what_autograd_keeps(
    rung: str, kv_heads: int | None, gated: bool
) -> None:
    shape = ladder.shape(rung, 512, 128).model_copy(update={"kv_heads": kv_heads, "gated": gated})
    small, large = (kept_for_the_way_back(model.build(shape, seed=0), rows, 128) for rows in (2, 6))
    full = ladder.count(shape).total
    expected = [ladder.memory(shape, full, rows, 128).activations for rows in (2, 6)]
    assert expected[1] - expected[0] == pytest.approx(large - small, rel=0.2)


@pytest.mark.parametrize("kind", ["adamw", "adafactor"])
def test_optimiser_bytes_are_those_of_its_state(kind: str) -> None:
    net = model.build(TINY, seed=0)
    optimiser = Optimiser(dict(net.named_parameters()), 0.0, 1.0, kind=kind)
    model.nats(net, pack(examples(0), 24))[0].backward()
    optimiser.step(0.01)
    state = optimiser.state()
    moments = sum(v.nbytes for k, v in state.items() if not k.startswith(("weight/", "step/")))
    weights = sum(v.nbytes for k, v in state.items() if k.startswith("weight/"))
    estimate = ladder.memory(TINY, ladder.count(TINY).total, 4, 24, optimiser=kind)
    assert estimate.optimiser == moments + 2 * weights
    assert (estimate.weights, estimate.gradients) == (weights, weights)


@given(
    rung=st.sampled_from(list(ladder.RUNGS)), rows=st.integers(1, 64), more=st.integers(1, 64), share=st.floats(0, 0.5)
)
def test_memory_grows_with_all_that_needs_it(rung: str, rows: int, more: int, share: float) -> None:
    shape = ladder.shape(rung, 512, 64)
    full = ladder.count(shape).total
    part = ladder.memory(shape, int(share * full), rows, 64)
    assert part.total < ladder.memory(shape, full, rows, 64).total
    assert part.total < ladder.memory(shape, int(share * full), rows + more, 64).total
    assert ladder.memory(shape, full, rows, 64, "adafactor").total < ladder.memory(shape, full, rows, 64).total
    assert (
        ladder.memory(shape, full, rows, 64, dtype="bfloat16").activations
        < ladder.memory(shape, full, rows, 64).activations
    )


@given(rung=st.sampled_from(["2xs", "m", "4xl"]), rows=st.integers(1, 16), evaluated=st.integers(1, 64))
def test_adapters_and_evaluation_need_memory_of_their_own(rung: str, rows: int, evaluated: int) -> None:
    shape = ladder.shape(rung, 512, 64)
    plain, adapted = (ladder.memory(shape, 1000, rows, 64, adapted=beside) for beside in (False, True))
    outputs = 4 * sum(write for _, write in ladder.matrices(shape)) * shape.layers * rows * 64
    assert adapted.total - plain.total == 2 * outputs
    judged = ladder.memory(shape, 1000, rows, 64, evaluated=evaluated)
    assert judged.total >= plain.total
    large = ladder.memory(shape, 1000, rows, 64, evaluated=10_000)
    scores = 10_000 * 64 * 64 * shape.heads * 4
    assert large.total > large.weights + scores, "where it is the larger one, evaluation decides"


def test_an_unknown_rung_names_the_near_one() -> None:
    with pytest.raises(InputError, match="did you mean 'xl'"):
        ladder.shape("xll", 512, 64)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), row=st.integers(4, 40), kv_heads=st.sampled_from([None, 1]), gated=st.booleans())
def test_packed_losses_and_gradients_are_those_of_the_examples_alone(
    seed: int, row: int, kv_heads: int | None, gated: bool
) -> None:
    net = awake(TINY.model_copy(update={"kv_heads": kv_heads, "gated": gated}), seed=seed)
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
        assert close(mine.grad, theirs.grad, 1e-4), name


def test_every_example_is_packed_once_and_rows_are_not_wider_than_asked() -> None:
    batch = examples(3, count=20)
    packed = pack(batch, row=24)
    assert packed.ids_BT.shape[1] <= 24
    assert packed.tokens == sum(len(e.prompt) + len(e.target) for e in batch)
    for index, example in enumerate(batch):
        assert packed.targets_N[packed.owner_N == index].tolist() == example.target.tolist()


def test_rows_of_text_score_every_next_token() -> None:
    net = awake(TINY, seed=0)
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


def test_saved_bases_load_in_transformers_and_generate(tmp_path) -> None:
    net = awake(TINY, seed=0)
    model.save(net, tmp_path)
    twin = LlamaForCausalLM.from_pretrained(tmp_path)
    assert twin.generate(torch.tensor([[1, 5, 9]]), max_new_tokens=3, do_sample=False).shape == (1, 6)
    batch = pack(examples(0), 24)
    assert torch.allclose(model.nats(model.load(tmp_path), batch)[0], model.nats(net, batch)[0], rtol=1e-2)
