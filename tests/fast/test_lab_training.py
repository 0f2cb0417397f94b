"""Training: optimisers are the libraries' own and resume bit-equal, bad rates are flagged, seeds decide."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from finescale.core import (
    BaseSpec,
    FinetuneRecipe,
    MethodSpec,
    PretrainRecipe,
    RateSearch,
    RunSpec,
    Shape,
    TaskSpec,
)
from finescale.lab import evaluate, metrics, model, tokenizer
from finescale.lab.finetune import finetune, search_rate, subset
from finescale.lab.packing import Example
from finescale.lab.pretrain import pretrain
from finescale.lab.splits import load_split
from finescale.lab.train import Optimiser, Step, cosine, train

VOCAB = 300
SHAPE = Shape(layers=2, width=32, heads=2, ff=64, vocab=VOCAB, context=32)
RECIPE = PretrainRecipe(batch_tokens=256, warmup_tokens=1000)
TASK = TaskSpec(
    name="copy",
    source="jsonl",
    digest="0",
    template="{src}",
    target="tgt",
    dev_examples=32,
    test_examples=32,
    max_source_tokens=16,
    max_target_tokens=16,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder over a made language: each token has two followers. The task speaks a dialect of 20 tokens."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    language, dialect = (rng.integers(3, top, size=(VOCAB, 2)) for top in (VOCAB, 23))

    def text(n: int, follow: np.ndarray = language) -> np.ndarray:
        out = [int(rng.integers(3, VOCAB))]
        while len(out) < n:
            out.append(int(follow[out[-1], rng.integers(2)]))
        return np.array(out, np.uint16)

    save_file({"train": text(60_000), "valid": text(2_000)}, folder / "stream.safetensors")
    arrays = {}
    for split, count in {"train": 400, "dev": 32, "test": 32}.items():
        pieces = [text(10, dialect) for _ in range(count)]
        arrays[f"{split}/ids"] = np.concatenate(pieces)
        arrays[f"{split}/lengths"] = np.tile(np.array([4, 6], np.int32), count)
        arrays[f"{split}/bytes"] = np.full(count, 6, np.int32)
        arrays[f"{split}/stratum"] = np.zeros(count, np.int16)
    save_file(arrays, folder / "copy.safetensors")
    tokenizer.train(["a b c"], 300).save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def base(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("base")
    spec = BaseSpec(name="tiny", shape=SHAPE, data="d", pretrain_tokens=30_000, recipe=RECIPE, seed=0)
    (out / "record.json").write_text(json.dumps(pretrain(spec, out, data, None, lambda _: None)))
    return out


def run_spec(method: str, rate: float | str, examples: int = 200, **seeds: int) -> RunSpec:
    return RunSpec(
        base="b",
        task=TASK,
        method=MethodSpec(name=method, pet_size=None if method == "full" else 4),
        learning_rate=rate,
        examples=examples,
        seed_subset=seeds.get("subset", 0),
        seed_init=seeds.get("init", 0),
        seed_order=seeds.get("order", 0),
        recipe=FinetuneRecipe(epochs=2, min_steps=30),
    )


def tuned(spec: RunSpec, base: Path, data: Path, out: Path, rate: Path | None = None) -> dict:
    out.mkdir()
    return finetune(spec, out, data, base, rate, lambda _: None)


@pytest.mark.parametrize(("method", "rate"), [("full", 3e-3), ("lora", 1e-2), ("prompt", 1e-1)])
def test_every_method_beats_the_untouched_base_and_repeats_exactly(
    method: str, rate: float, base: Path, data: Path, tmp_path: Path
) -> None:
    first, again = (tuned(run_spec(method, rate), base, data, tmp_path / name) for name in ("first", "again"))
    assert first["flag"] is None
    assert first["scores"][0]["value"] < first["zero_scores"][0]["value"]
    assert first["scores"] == again["scores"]


@pytest.mark.parametrize(("method", "rate"), [("full", 3e-3), ("lora", 1e-2), ("prompt", 1e-1)])
@pytest.mark.parametrize("parts", [2, 4, 99])
def test_a_batch_in_parts_gives_the_same_numbers(
    method: str, rate: float, parts: int, base: Path, data: Path, tmp_path: Path
) -> None:
    whole, split = tmp_path / "whole", tmp_path / "split"
    for out, count in ((whole, 1), (split, parts)):
        out.mkdir()
        finetune(run_spec(method, rate), out, data, base, None, lambda _: None, parts=count)
    losses = [
        [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()] for out in (whole, split)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_pretraining_in_parts_gives_the_same_numbers(base: Path, data: Path, tmp_path: Path) -> None:
    spec = BaseSpec(name="tiny", shape=SHAPE, data="d", pretrain_tokens=30_000, recipe=RECIPE, seed=0)
    record = pretrain(spec, tmp_path, data, None, lambda _: None, parts=3)
    whole = json.loads((base / "record.json").read_text())
    assert record["valid_nats_per_token"] == pytest.approx(whole["valid_nats_per_token"], rel=1e-6)


@pytest.mark.parametrize("which", ["subset", "init", "order"])
def test_each_seed_moves_the_result_on_its_own(which: str, base: Path, data: Path, tmp_path: Path) -> None:
    one = tuned(run_spec("lora", 1e-2), base, data, tmp_path / "one")
    other = tuned(run_spec("lora", 1e-2, **{which: 1}), base, data, tmp_path / "other")
    assert one["scores"][0]["value"] != other["scores"][0]["value"]


def test_a_rate_that_teaches_nothing_is_flagged(base: Path, data: Path, tmp_path: Path) -> None:
    record = tuned(run_spec("full", 1e6), base, data, tmp_path / "wild")
    assert record["flag"] in ("diverged", "did-not-learn")
    assert record["scores"][0]["value"] == pytest.approx(record["zero_scores"][0]["value"], rel=1e-6)


def test_the_search_finds_the_best_rate_widens_at_an_edge_and_is_used(base: Path, data: Path, tmp_path: Path) -> None:
    spec = RateSearch(
        base="b",
        task=TASK,
        method=MethodSpec(name="full"),
        recipe=FinetuneRecipe(epochs=2, min_steps=30),
        examples=200,
        grid=(1e-5, 1e-4),
        seed=0,
    )
    out = tmp_path / "rate"
    out.mkdir()
    found = search_rate(spec, out, data, base, lambda _: None)
    losses = {trial["rate"]: trial["dev_loss"] for trial in found["trials"]}
    assert found["learning_rate"] == min(losses, key=losses.get) > 1e-4
    assert len(losses) == 4
    (out / "record.json").write_text(json.dumps(found))
    record = tuned(run_spec("full", spec.fingerprint()), base, data, tmp_path / "run", out)
    assert record["learning_rate"] == found["learning_rate"]


@given(st.integers(0, 5), st.integers(1, 50), st.integers(1, 50))
def test_subsets_of_one_seed_are_nested(seed: int, small: int, large: int) -> None:
    pool = [Example(np.array([i]), np.array([i]), 1) for i in range(50)]
    small, large = sorted((small, large))
    assert subset(pool, large, seed)[:small] == subset(pool, small, seed)
    assert len({int(e.prompt[0]) for e in subset(pool, large, seed)}) == large


def test_loss_is_token_weighted_and_rows_add_up_to_it(base: Path, data: Path) -> None:
    rows = evaluate.rows(model.load(base), load_split(data, "copy", "test"), 32)
    score = metrics.NLL.score(rows, "sig")
    assert score.value == pytest.approx(rows.nats.sum() / rows.tokens.sum())
    assert score.low < score.value < score.high
    bits = metrics.BITS_PER_BYTE.score(rows, "sig").value
    assert bits * np.log(2) * rows.bytes.sum() == pytest.approx(rows.nats.sum())


def test_the_optimiser_equals_torchs_adamw() -> None:
    torch.manual_seed(0)
    mine, theirs = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    theirs.load_state_dict(mine.state_dict())
    decay = [{"params": [theirs.weight], "weight_decay": 0.1}, {"params": [theirs.bias], "weight_decay": 0.0}]
    reference = torch.optim.AdamW(decay, lr=0.01, betas=(0.9, 0.99))
    optimiser = Optimiser(dict(mine.named_parameters()), weight_decay=0.1, clip=1e9)
    x = torch.randn(8, 4)
    for _ in range(5):
        mine(x).square().mean().backward()
        optimiser.step(0.01)
        reference.zero_grad()
        theirs(x).square().mean().backward()
        reference.step()
    assert torch.allclose(mine.weight, theirs.weight, atol=1e-6)


@pytest.mark.parametrize("relative", [True, False])
def test_adafactor_takes_the_steps_of_its_paper(relative: bool) -> None:
    """Shazeer and Stern 2018, algorithm 4, written out: factored moments, clipping at 1, relative steps or not."""
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(4, 3) * 0.3)
    expected = weight.detach().clone().double()
    optimiser = Optimiser({"w": weight}, weight_decay=0.0, clip=1e9, kind="adafactor", relative=relative)
    rows, columns = torch.zeros(4).double(), torch.zeros(3).double()
    for step in range(1, 6):
        weight.grad = torch.randn(4, 3)
        square = weight.grad.double() ** 2 + 1e-30
        decay = 1 - step**-0.8
        rows, columns = (decay * old + (1 - decay) * square.mean(axis) for old, axis in ((rows, 1), (columns, 0)))
        update = weight.grad.double() / torch.outer(rows / rows.mean(), columns).sqrt()
        update /= max(1.0, float(update.square().mean().sqrt()))
        scale = max(1e-3, float(expected.square().mean().sqrt())) if relative else 1.0
        optimiser.step(0.1)
        expected -= 0.1 * scale * update
    assert torch.allclose(weight.double(), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["adamw", "adafactor"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_restored_optimiser_goes_on_bit_equal(kind: str, dtype: torch.dtype) -> None:
    def made() -> tuple[torch.nn.Linear, Optimiser]:
        torch.manual_seed(0)
        layer = torch.nn.Linear(5, 4, dtype=dtype)
        return layer, Optimiser(dict(layer.named_parameters()), weight_decay=0.1, clip=1.0, kind=kind)

    def go(layer: torch.nn.Linear, optimiser: Optimiser, steps: range) -> None:
        for step in steps:
            x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step)).to(dtype)
            layer(x).square().mean().backward()
            optimiser.step(0.01)

    straight, broken, fresh = made(), made(), made()
    go(*straight, range(6))
    go(*broken, range(3))
    fresh[1].restore(broken[1].state())
    go(*fresh, range(3, 6))
    ours, theirs = fresh[1].state(), straight[1].state()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert torch.equal(fresh[0].weight, straight[0].weight)


def test_cosine_warms_up_and_ends_at_a_tenth() -> None:
    rate = cosine(1.0, 100, 10)
    assert rate(0) == pytest.approx(0.1)
    assert rate(9) == pytest.approx(1.0)
    assert rate(99) == pytest.approx(0.1, abs=1e-3)
    assert all(a >= b for a, b in zip([rate(i) for i in range(10, 99)], [rate(i) for i in range(11, 100)], strict=True))


def test_the_loop_stops_when_told() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    seen: list[Step] = []

    def after(step: Step) -> bool:
        seen.append(step)
        return step.number == 3

    train(Optimiser({"w": weight}, 0.0, 1.0), lambda _: [(weight.sum(), 1)], lambda _: 0.1, range(10), after)
    assert [step.number for step in seen] == [1, 2, 3]
