"""Published models as bases of a study: brought into the study's own folder, checked, and counted.

A base's folder is one layout whatever it came from: ``config.json``, ``model.safetensors``, ``tokenizer.json``. Nothing
is ever unpickled, and code that a model brings is not run, but where a study trusts that of this very model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from finescale.core import PublicBase, Shape
from finescale.errors import Fault, InputError, StudyError, collecting
from finescale.lab import model, packages, sources, tokenizer
from finescale.lab.chat import chat_of
from finescale.lab.packing import Example, pack
from finescale.lab.prepare import Tell
from finescale.lab.tokenizer import Marks

APART = 1e-3
"""Nats by which a token's loss on a packed row may differ from the model's own forward pass, from rounding alone."""
WAYS = ((False, False), (False, True), (True, False), (True, True))
"""Ways of running a base, fastest first: by its own attention or this package's, by its own output layer or ours."""
CAUSAL = ("ForCausalLM", "LMHeadModel")
NO_CODE = "code that a repository ships is not run"


def bring(base: PublicBase, name: str, out: Path, tell: Tell) -> dict[str, Any]:
    """Write a published model into ``out`` as a base, after checks; returns its record.

    Args:
        base: what it is.
        name: where it is, as a study names it.
        out: the base's folder, beside those of the study's other bases.
        tell: is told the fraction done.

    Raises:
        InputError: the model cannot be had.
        StudyError: it is not the model its name says, it has the weights of another base of the study, or its losses
            on packed rows are not its own.
    """
    trust = base.trust_remote_code
    net = _load(name, trust)
    tell(0.6)
    weights = _digest(net)
    if (twin := _twin(out, weights)) is not None:
        raise StudyError(f"{base.name}@{base.revision} has the very weights of {twin}: one of them is mislabelled")
    net.config.get_text_config().packed_row = base.shape.context
    net.config.computed_in = base.precision
    net.config.eos_token_id = marks(_tokenizer(name, trust)).end
    counted = _count(net)
    if counted != (base.model_params, base.total_params):
        raise StudyError(f"{base.name} has {counted} parameters, not {(base.model_params, base.total_params)}")
    net.save_pretrained(out)
    tell(0.8)
    apart = settle(base.name, out, trust)
    return {
        "model_params": base.model_params,
        "total_params": base.total_params,
        "pretrain_tokens": base.pretrain_tokens,
        "apart_from_own_forward": apart,
        "weights": weights,
    }


def words(name: str, out: Path, trust: bool = False) -> tuple[Tokenizer, Marks]:
    """Write a published model's tokenizer into ``out`` as ``tokenizer.json`` and open it.

    Raises:
        InputError: the model cannot be had, or its tokenizer has no fast form or no end-of-text token.
    """
    found = _tokenizer(name, trust)
    found.backend_tokenizer.save(str(out / "tokenizer.json"))
    return tokenizer.load(out), marks(found)


def marks(found: Any) -> Marks:
    """What a transformers tokenizer puts before a text, if anything, and what ends one."""
    before = found("a", add_special_tokens=True).input_ids[: -len(found("a", add_special_tokens=False).input_ids)]
    return Marks(tuple(before), found.eos_token_id, chat_of(found))


def same_chat(models: Mapping[str, bool]) -> str:
    """See to it that models write conversations alike.

    Args:
        models: by name, whether the code that a model brings is trusted.

    Returns:
        The identity of how they do.

    Raises:
        InputError: a model cannot be had, or has no chat template, or one unlike that of another.
    """
    chats = {name: chat_of(_tokenizer(name, trust)) for name, trust in models.items()}
    first = next(iter(chats))
    with collecting() as faults:
        for name, chat in chats.items():
            if chat is None:
                faults.add(name, "has no chat template", "leave chat out of the tasks, or this model of the study")
            elif (other := chats[first]) is not None and chat.template != other.template:
                faults.add(name, f"has another chat template than {first}", "make a study of each")
    found = chats[first]
    assert found is not None, "models without faults have a template"
    return found.identity()


def settle(name: str, out: Path, trust: bool = False) -> float:
    """Find the fastest way of running a base that gives its own losses on packed rows, and note it in its settings.

    Tried in turn: this package's attention and loss; its attention with the model's own output layer, where that is
    more than a projection; and both with the model's own attention.

    Returns:
        Largest difference of a token's nats from transformers' own forward pass over each example alone.

    Raises:
        StudyError: none gives the losses of the model's own forward pass.
    """
    why = ""
    for attention, head in WAYS:
        _note(out, own_attention=attention, own_head=head)
        try:
            apart = _apart(out, trust)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            why = f"{type(error).__name__}: {error}"
            continue
        if apart <= APART:
            return apart
        why = f"a token's loss is {apart:.2g} nats off"
    raise StudyError(f"{name}: its architecture cannot be run on rows that several examples share ({why})")


@torch.no_grad()
def _apart(out: Path, trust: bool) -> float:
    """How far losses on a packed row are from transformers' own forward pass over each example alone."""
    net = model.load(out, model.Opening(trust), torch.device("cpu")).float()
    stock = AutoModelForCausalLM.from_pretrained(
        out, attn_implementation="eager", dtype=torch.float32, local_files_only=True, trust_remote_code=trust
    ).eval()
    drawn, vocab = np.random.default_rng(0), net.get_input_embeddings().weight.shape[0]
    some = [Example(drawn.integers(0, vocab, p), drawn.integers(0, vocab, t), 1) for p, t in ((5, 3), (2, 4), (7, 6))]
    together = model.nats(net, pack(some, sum(len(e.prompt) + len(e.target) for e in some)))[1]
    return float((together - torch.cat([_own_nats(stock, example) for example in some])).abs().max())


def _own_nats(stock: Any, example: Example) -> torch.Tensor:
    ids = torch.from_numpy(np.concatenate([example.prompt, example.target]))[None]
    logits = stock(input_ids=ids).logits[0, len(example.prompt) - 1 : -1]
    return torch.nn.functional.cross_entropy(logits, torch.from_numpy(example.target), reduction="none")


def _note(out: Path, **said: bool) -> None:
    """Write settings of this package into a base's ``config.json``."""
    path = out / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | said, indent=2) + "\n")


def describe(name: str, trust: bool = False) -> tuple[Shape, int, int]:
    """Shape of a model that no table here knows, and its parameters without embeddings and in all; no weights are read.

    The shape serves to reckon cost; the counts are those of the model's own class, whatever its architecture.

    Raises:
        InputError: the model cannot be had, it needs code of its own and is not trusted, or transformers has no causal
            language model of its kind.
    """
    config = _config(name, trust)
    with torch.device("meta"):
        net = AutoModelForCausalLM.from_config(config, trust_remote_code=trust)
    inner, total = _count(net)
    try:
        return model.shape_of(net), inner, total
    except AttributeError as error:
        what = f"is of type {config.model_type!r}, whose sizes cannot be told: {error}"
        raise InputError(Fault(name, what, "a decoder with attention is needed")) from None


def _config(name: str, trust: bool) -> Any:
    place = sources.folder(name, weights=False, code=trust)
    own = json.loads((place / "config.json").read_text()).get("auto_map", {})
    try:
        config = AutoConfig.from_pretrained(place, local_files_only=True, trust_remote_code=trust)
    except ValueError as error:
        if own and not trust:
            what, fix = "needs code of its own, which is not run", f'trust_remote_code = ["{name}"] under [base]'
            raise InputError(Fault(name, what, f"read that code, and if you trust it write {fix}")) from None
        raise InputError(Fault(name, f"cannot be opened: {str(error).splitlines()[0]}", NO_CODE)) from None
    if trust and AutoModelForCausalLM.__name__ in own:
        return config
    causal = [kind for kind in config.architectures or () if kind.endswith(CAUSAL)]
    if type(config) not in AutoModelForCausalLM._model_mapping or not causal:
        saved = ", ".join(config.architectures or ("nothing it names",))
        raise InputError(Fault(name, f"was saved as {saved}, which is no causal language model"))
    return config


def _load(name: str, trust: bool) -> Any:
    """The model as it was stored, free of the format it was stored in."""
    if not name.startswith(packages.PREFIX):
        place = sources.folder(name, code=trust)
        return AutoModelForCausalLM.from_pretrained(
            place, dtype="auto", use_safetensors=True, local_files_only=True, trust_remote_code=trust
        )
    path = packages.weights(name)
    stored = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    config = stored.config
    config.__dict__.pop("quantization_config", None)
    net = AutoModelForCausalLM.from_config(config)
    net.load_state_dict(stored.state_dict())
    return net


def _tokenizer(name: str, trust: bool) -> Any:
    if name.startswith(packages.PREFIX):
        path = packages.weights(name)
        return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    place = sources.folder(name, weights=False, code=trust)
    found = AutoTokenizer.from_pretrained(place, local_files_only=True, trust_remote_code=trust)
    if not found.is_fast:
        raise InputError(Fault(name, "its tokenizer has no fast form", "save one: tokenizer.json"))
    if found.eos_token_id is None:
        raise InputError(Fault(name, "its tokenizer has no end-of-text token", "say one in tokenizer_config.json"))
    return found


def _digest(net: Any) -> str:
    """Identity of weights, whatever files they came in: names, shapes and values."""
    total = hashlib.sha256()
    for name, weight in sorted(net.state_dict().items()):
        total.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        total.update(weight.contiguous().view(torch.uint8).numpy().data if weight.ndim else b"")
    return total.hexdigest()


def _twin(out: Path, weights: str) -> str | None:
    """Another base of the study with the same weights."""
    for path in sorted(out.parent.glob("*/record.json")):
        record = json.loads(path.read_text())
        if record.get("weights") == weights and path.parent.name != out.with_suffix("").name:
            return path.parent.name
    return None


def _count(net: Any) -> tuple[int, int]:
    """Parameters without token embeddings and an output head of its own, and all of them."""
    tables = (net.get_input_embeddings().weight, net.get_output_embeddings().weight)
    tied = {id(weight): weight.numel() for weight in tables}
    total = sum(weight.numel() for weight in net.parameters())
    return total - sum(tied.values()), total
