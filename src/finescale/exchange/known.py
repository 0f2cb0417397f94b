"""What training settings mean in our words, whoever wrote them: names of arguments, adapters, and models' sizes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finescale.errors import InputError
from finescale.exchange.disk import Unreadable, json_of, tensor_sizes
from finescale.exchange.found import Fact, number, whole_number
from finescale.stats.units import COLUMN
from finescale.study.families import family_of, public_base, tabled
from finescale.study.family_table import FAMILIES

SETTINGS: dict[str, tuple[str, ...]] = {
    "learning_rate": ("learning_rate", "lr"),
    "seed": ("seed", "training_seed"),
    "epochs_asked": ("num_train_epochs", "num_epochs"),
    "batch_examples": ("total_train_batch_size",),
}
"""Columns, and the names under which trainers write them; numbers all."""

KEPT = (
    *("base_revision", "pet_size", "alpha", "total_params", "learning_rate", "epochs_asked", "epochs", "steps"),
    *("batch_examples", "train_rows", "eval_examples", "shots", COLUMN),
)
"""Columns besides the canonical ones that a table keeps without being asked."""

METHODS = {"PROMPT_TUNING": "prompt", "PREFIX_TUNING": "prefix", "P_TUNING": "p-tuning"}
EMBEDDINGS = re.compile(
    r"(^|\.)(embed_tokens|wte|tok_embeddings|word_embeddings|embed_in|lm_head|embed_out|shared)\.weight$"
)
"""Tables of tokens, read or written, as the causal models of transformers call them."""


def settings(config: Mapping[str, Any]) -> dict[str, Fact]:
    """The columns that a trainer's arguments tell; what is no number is left out."""
    found: dict[str, Fact] = {}
    for column, names in SETTINGS.items():
        for name in names:
            value = number(config.get(name))
            if value is not None and column not in found:
                found[column] = int(value) if column == "seed" and value == int(value) else value
    return found


def adapter(config: Mapping[str, Any]) -> dict[str, Fact]:
    """Method, PET size and base of PEFT's ``adapter_config.json``, or of the same settings elsewhere.

    DoRA and rsLoRA are methods of their own here, though LoRA's ``peft_type`` holds for all three.
    """
    kind = str(config.get("peft_type") or "").rsplit(".", 1)[-1].upper()
    if not kind:
        return {}
    method = METHODS.get(kind, kind.lower().replace("_", "-"))
    if kind == "LORA":
        method = "dora" if config.get("use_dora") else "rslora" if config.get("use_rslora") else "lora"
    found: dict[str, Fact] = {"method": method}
    for column, name in (("pet_size", "r"), ("pet_size", "num_virtual_tokens"), ("alpha", "lora_alpha")):
        value = whole_number(config.get(name))
        if value is not None and not (name == "r" and "LORA" not in kind):
            found[column] = value
    return found | base(config.get("base_model_name_or_path"), config.get("revision"))


def base(name: Any, revision: Any = None) -> dict[str, Fact]:
    """A base by name, and its size and pretraining where a table of families or its own folder tells them."""
    if not isinstance(name, str) or not name.strip():
        return {}
    revision = revision if isinstance(revision, str) and revision else None
    found: dict[str, Fact] = {"base": name}
    if revision:
        found["base_revision"] = revision
    if tabled(name):
        return found | _of_family(name, revision)
    place = os.path.expanduser(name)
    return found | weights(Path(place)) if os.path.isdir(place) else found  # False, not an error, for any odd name


def _of_family(name: str, revision: str | None) -> dict[str, Fact]:
    """What the table of families tells of a model; its pretraining only where the revision says which checkpoint."""
    found: dict[str, Fact] = {"family": family_of(name)}
    try:
        facts = public_base(f"{name}@{revision}" if revision else name)
        found |= {"pretrain_tokens": facts.pretrain_tokens} if facts.pretrain_tokens else {}
    except InputError:  # no revision, or one that the table does not know: every checkpoint has the same size
        pass
    for family in FAMILIES:
        for label, size in family.sizes.items():
            if name == family.repository.format(size=label):
                count = family.params(family.shape(size))
                found |= {"model_params": count.non_embedding, "total_params": count.total}
    return found


def weights(folder: Path) -> dict[str, Fact]:
    """Parameters of a model saved in a folder, without and with embeddings; nothing where its headers do not tell.

    Counted as in ``finescale.lab``: the tables of input and output tokens are left out, positions are not. A model
    kept in fewer bits packs several parameters into one number, and is not counted.
    """
    try:
        if (folder / "config.json").is_file() and "quantization_config" in json_of(folder / "config.json"):
            return {}
        sizes: dict[str, int] = {}
        for file in sorted(folder.glob("model*.safetensors")):
            sizes |= tensor_sizes(file)
    except Unreadable:
        return {}
    total = sum(sizes.values())
    inner = total - sum(size for name, size in sizes.items() if EMBEDDINGS.search(name))
    return {"model_params": inner, "total_params": total} if inner else {}
