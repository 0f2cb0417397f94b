"""Models of several architectures, small and drawn at random, saved by transformers as a hub has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

NEOX = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = {**NEOX, "intermediate_size": 48, "num_key_value_heads": 2, "tie_word_embeddings": True}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "gpt_neox": NEOX,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "olmo2": LLAMA | {"tie_word_embeddings": False},
    "qwen2": LLAMA,
    "phi": NEOX,
    "gemma2": LLAMA | {"head_dim": 8},
    "granite": LLAMA | {"logits_scaling": 4.0},
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 256},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2},
}
COMMON = {"vocab_size": 300, "max_position_embeddings": 256, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


def net(kind: str, seed: int = 0) -> Any:
    """A model of an architecture, with weights that follow the seed."""
    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **COMMON, **ARCHITECTURES[kind]))
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(0.0, 0.15)
    return made


def words() -> Any:
    """A byte-level tokenizer without merges, whose only mark closes a text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(["<|end|>", *letters])}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>", bos_token="<|end|>")


def save(folder: Path, kind: str, seed: int = 0) -> Path:
    """A model and its tokenizer in a folder, as ``save_pretrained`` leaves them."""
    net(kind, seed).save_pretrained(folder)
    words().save_pretrained(folder)
    return folder


OWN = """
import pathlib
from transformers import LlamaConfig, LlamaForCausalLM

pathlib.Path(MARK).touch()


class OwnConfig(LlamaConfig):
    model_type = "own-llama"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


def save_with_code(folder: Path, mark: Path) -> Path:
    """A model of a kind that only the code beside it knows; that code leaves a mark when it is run."""
    save(folder, "llama")
    (folder / "modeling_own.py").write_text(OWN.replace("MARK", repr(str(mark))))
    settings = json.loads((folder / "config.json").read_text())
    named = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    own = {"model_type": "own-llama", "architectures": ["OwnForCausalLM"], "auto_map": named}
    (folder / "config.json").write_text(json.dumps(settings | own))
    return folder


def publish(cache: Path, repository: str, revision: str, kind: str, seed: int = 0) -> Path:
    """A model at a revision in the layout of the hub's cache, as a download leaves it."""
    home = cache / f"models--{repository.replace('/', '--')}"
    commit = f"{seed:040x}"
    (home / "refs").mkdir(parents=True, exist_ok=True)
    (home / "refs" / revision).write_text(commit)
    return save(home / "snapshots" / commit, kind, seed)
