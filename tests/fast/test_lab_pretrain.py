"""Pretraining designs: rates as stated, points of one run bit-equal to it, a kill changes nothing and costs nothing."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from finescale.core import BaseSpec, PretrainRecipe, Shape
from finescale.errors import InputError, StudyError
from finescale.lab import model
from finescale.lab.ladder import train_flops
from finescale.lab.pretrain import pretrain

torch.set_num_threads(1)

VOCAB = 100
SHAPE = Shape(layers=1, width=32, heads=2, ff=64, vocab=VOCAB, context=32, kv_heads=1)
WHOLE, HALF = 4_096, 2_048


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stream over a made language in which each token has two followers."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    follow = rng.integers(3, VOCAB, size=(VOCAB, 2))
    tokens = [3]
    for turn in rng.integers(2, size=9_999):
        tokens.append(int(follow[tokens[-1], turn]))
    stream = np.array(tokens, np.uint16)
    save_file({"train": stream[1000:], "valid": stream[:1000]}, folder / "stream.safetensors")
    return folder


def spec(tokens: int, design: str = "branches", optimiser: str = "adamw", **changes: object) -> BaseSpec:
    recipe = PretrainRecipe(
        schedule="branches" if design == "branches" else "cosine",
        optimiser=optimiser,
        batch_tokens=128,
        warmup_tokens=512,
        learning_rate_at_width_64=5e-3 if optimiser == "adamw" else 1e-2,
    )
    scheduled = WHOLE if design == "checkpoints" else None
    given = {"data": "d", "scheduled_tokens": scheduled, "recipe": recipe, "seed": 0} | changes
    return BaseSpec(name=f"tiny-{tokens}", shape=SHAPE, pretrain_tokens=tokens, **given)


@dataclass
class Done:
    folder: Path
    record: dict

    @property
    def log(self) -> list[dict]:
        return [json.loads(line) for line in (self.folder / "log.jsonl").read_text().splitlines()]

    def same_weights(self, other: Done) -> bool:
        mine, theirs = (model.load(done.folder).state_dict() for done in (self, other))
        return all(torch.equal(mine[name], theirs[name]) for name in theirs)


def make(base: BaseSpec, data: Path, out: Path, previous: Done | None = None) -> Done:
    out.mkdir(exist_ok=True)
    return Done(out, pretrain(base, out, data, previous.folder if previous else None, lambda _: None))


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Done]:
    """Every design at the whole size under each optimiser, made without a stop."""
    root = tmp_path_factory.mktemp("bases")
    pairs = [("branches", "adamw"), ("separate", "adamw"), ("checkpoints", "adafactor"), ("branches", "adafactor")]
    return {pair: make(spec(WHOLE, *pair), data, root / "-".join(pair)) for pair in pairs}


PAIRS = [("branches", "adamw"), ("separate", "adamw"), ("checkpoints", "adafactor")]


@pytest.mark.parametrize("pair", [*PAIRS, ("branches", "adafactor")])
def test_every_design_and_optimiser_learns(pair: tuple[str, str], undisturbed: dict) -> None:
    log = undisturbed[pair].log
    assert len(log) == WHOLE // 128
    assert undisturbed[pair].record["valid_nats_per_token"] < log[0]["loss"] - 0.3
    assert undisturbed[pair].record["pretrain_tokens"] == WHOLE


def test_a_branch_is_recorded_and_ends_near_zero(undisturbed: dict) -> None:
    done = undisturbed["branches", "adamw"]
    rates = [step["rate"] for step in done.log]
    assert done.record["branch_tokens"] == pytest.approx(0.2 * WHOLE, abs=64)
    assert max(rates) == pytest.approx(5e-3 * 64 / SHAPE.width)
    assert rates[-1] < 0.2 * max(rates)
    assert (done.folder / "trunk.safetensors").exists()


def test_a_separate_size_has_its_own_whole_cosine_and_leaves_nothing_to_go_on_from(undisturbed: dict) -> None:
    done = undisturbed["separate", "adamw"]
    rates = [step["rate"] for step in done.log]
    assert rates[-1] / max(rates) == pytest.approx(0.1, abs=0.01)
    assert (done.record["annealed"], done.record["branch_tokens"]) == (True, 0)
    assert not (done.folder / "trunk.safetensors").exists()


def test_adafactors_rates_are_the_papers_at_every_width(undisturbed: dict) -> None:
    rates = [step["rate"] for step in undisturbed["checkpoints", "adafactor"].log]
    assert max(rates) == pytest.approx(0.01)
    assert rates[-1] == pytest.approx(0.001, rel=0.05)


@pytest.mark.parametrize("pair", PAIRS)
def test_a_killed_pretraining_resumes_to_the_same_weights_and_the_whole_cost(
    pair: tuple[str, str], undisturbed: dict, data: Path, tmp_path: Path
) -> None:
    def stop_half_way(fraction: float) -> None:
        if fraction == 1 / 32:
            time.sleep(1.0)
        if fraction > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(spec(WHOLE, *pair), tmp_path, data, None, stop_half_way)
    began = time.perf_counter()
    resumed = make(spec(WHOLE, *pair), data, tmp_path)
    attempt = time.perf_counter() - began
    assert resumed.record["resumed_at_step"] == 16
    assert resumed.same_weights(undisturbed[pair])
    assert resumed.log == undisturbed[pair].log
    assert resumed.record["flops"] == undisturbed[pair].record["flops"] == train_flops(SHAPE, WHOLE)
    assert resumed.record["seconds"] > 1.0
    assert resumed.record["seconds"] < attempt + 1.0 + undisturbed[pair].record["seconds"] + 5
    assert not list(tmp_path.glob("state*"))
    assert not list(tmp_path.glob("*.aside"))


@pytest.mark.parametrize("pair", [("branches", "adamw"), ("checkpoints", "adafactor")])
def test_a_larger_size_continues_the_smaller_one_as_if_it_had_never_stopped(
    pair: tuple[str, str], undisturbed: dict, data: Path, tmp_path: Path
) -> None:
    quarter = make(spec(HALF // 2, *pair), data, tmp_path / "quarter")
    half = make(spec(HALF, *pair), data, tmp_path / "half", quarter)
    whole = make(spec(WHOLE, *pair), data, tmp_path / "whole", half)
    assert whole.same_weights(undisturbed[pair])
    done = [base.record["continued_from_step"] for base in (quarter, half, whole)]
    assert done == ([0, 6, 13] if pair[0] == "branches" else [0, 8, 16])
    assert whole.log == undisturbed[pair].log[done[-1] :]
    assert whole.record["flops"] == train_flops(SHAPE, WHOLE - 128 * done[-1])


def test_checkpoints_are_points_of_one_run_and_not_annealed(undisturbed: dict, data: Path, tmp_path: Path) -> None:
    half = make(spec(HALF, "checkpoints", "adafactor"), data, tmp_path / "half")
    whole = undisturbed["checkpoints", "adafactor"]
    assert half.log == whole.log[:16]
    assert (half.record["annealed"], whole.record["annealed"]) == (False, True)
    assert half.record["scheduled_tokens"] == whole.record["scheduled_tokens"] == WHOLE
    apart = make(spec(HALF, "separate", "adafactor"), data, tmp_path / "apart")
    assert apart.record["annealed"]
    assert apart.log != half.log


def test_a_continued_size_can_itself_be_killed(undisturbed: dict, data: Path, tmp_path: Path) -> None:
    half = make(spec(HALF), data, tmp_path / "half")

    def stop(fraction: float) -> None:
        if fraction > 0.9:
            raise KeyboardInterrupt

    (tmp_path / "whole").mkdir()
    with pytest.raises(KeyboardInterrupt):
        pretrain(spec(WHOLE), tmp_path / "whole", data, half.folder, stop)
    whole = make(spec(WHOLE), data, tmp_path / "whole", half)
    assert whole.same_weights(undisturbed["branches", "adamw"])
    assert whole.record["continued_from_step"] == 13
    assert len(whole.log) == 32 - 13


def test_sizes_so_close_that_they_share_a_branching_point_still_hand_on_the_trunk(data: Path, tmp_path: Path) -> None:
    smaller = make(spec(1280), data, tmp_path / "smaller")
    larger = make(spec(1290), data, tmp_path / "larger", smaller)
    assert (larger.folder / "trunk.safetensors").exists()
    assert larger.same_weights(smaller)


@pytest.mark.parametrize("other", [spec(WHOLE, "separate"), spec(WHOLE, seed=1), spec(WHOLE, data="e")])
def test_the_state_of_another_run_is_refused(other: BaseSpec, data: Path, tmp_path: Path) -> None:
    small = make(spec(640), data, tmp_path / "small")
    with pytest.raises(StudyError, match="another run"):
        make(other, data, tmp_path / "other", small)


def test_a_size_that_cannot_be_continued_is_refused(data: Path, tmp_path: Path) -> None:
    small = make(spec(640, "separate"), data, tmp_path / "small")
    with pytest.raises(StudyError, match="no trunk"):
        make(spec(1280, "separate"), data, tmp_path / "larger", small)
    large = make(spec(WHOLE), data, tmp_path / "large")
    with pytest.raises(StudyError, match="past"):
        make(spec(1280), data, tmp_path / "smaller", large)


def test_schedules_that_contradict_the_size_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="take no scheduled_tokens"):
        make(spec(640, scheduled_tokens=1280), data, tmp_path / "branches")
    with pytest.raises(InputError, match="ends before 1,280"):
        make(spec(1280, "separate", scheduled_tokens=640), data, tmp_path / "short")


@pytest.mark.parametrize(("train", "valid", "told"), [(500, 31, "held-out text"), (31, 500, "text to train on")])
def test_text_shorter_than_a_context_is_refused_by_name(tmp_path: Path, train: int, valid: int, told: str) -> None:
    """Without it the loss on held-out text would be nothing divided by nothing."""
    streams = {"train": np.full(train, 3, np.uint16), "valid": np.full(valid, 3, np.uint16)}
    save_file(streams, tmp_path / "stream.safetensors")
    with pytest.raises(InputError, match=f"data.stream_tokens: leaves 31 tokens of {told}.* one context of 32"):
        pretrain(spec(HALF), tmp_path, tmp_path, None, lambda _: None)
