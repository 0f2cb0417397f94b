"""One model path: transformers' own causal LM classes, loaded from a folder, run over packed rows.

A rung of the ladder is ``LlamaForCausalLM`` from a config, or ``ArceeForCausalLM``, which is the same with a two-matrix
feed-forward layer; a public checkpoint is whatever its folder says. Either way the code below trains and scores it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import ArceeConfig, ArceeForCausalLM, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.modeling_layers import GradientCheckpointingLayer

from finescale.core import Shape
from finescale.errors import Fault, InputError
from finescale.lab import fastpath, ladder
from finescale.lab.packing import Packed
from finescale.lab.tokenizer import BOS, EOS, PAD

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
CausalLM = Any
"""A transformers causal language model; its classes are untyped."""

FEED_FORWARD = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
CONTEXTS = ("max_position_embeddings", "max_seq_len", "seq_length")
UNBOUNDED = 2048
"""Context of a model whose positions have no bound."""


@dataclass(frozen=True)
class Opening:
    """How a base is opened, which is no part of what it is.

    Attributes:
        trust: whether code that lies in its folder may be run.
        checkpointing: whether each layer's activations are worked out again on the way back instead of being kept; the
            numbers are the same (Chen et al. 2016, arXiv 1604.06174).
        device_map: how accelerate spreads the model over the devices of this process; None: it is on one.
    """

    trust: bool = False
    checkpointing: bool = False
    device_map: str | dict[str, str] | None = None


def build(shape: Shape, seed: int) -> CausalLM:
    """A freshly initialised rung, in fp32; weights follow ``seed`` alone.

    The feed-forward layer is SwiGLU where it is gated, else squared ReLU (So et al. 2021, arXiv 2109.08668).

    Raises:
        InputError: the shape is one that no model can have.
    """
    if found := ladder.faults(shape, "shape"):
        raise InputError(*found)
    fastpath.install()
    configured, made = (LlamaConfig, LlamaForCausalLM) if shape.gated else (ArceeConfig, ArceeForCausalLM)
    config = configured(
        vocab_size=shape.vocab,
        hidden_size=shape.width,
        intermediate_size=shape.ff,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads or shape.heads,
        head_dim=shape.width // shape.heads,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
        attn_implementation=fastpath.ATTENTION,
    )
    net = made(config)
    _initialise(net, torch.Generator().manual_seed(seed))
    fastpath.end_at_loss(net)
    return net


@torch.no_grad()
def _initialise(net: CausalLM, random: torch.Generator) -> None:
    """Draw weights so that narrow models learn from the first step.

    Matrices keep the scale of what they read (variance 1 / fan-in), embeddings get a spread of 0.1, and the projections
    that write to the residual stream start at zero, so that every block starts as the identity (Zhang et al. 2019,
    arXiv 1901.09321). The class's own spread of 0.02 for all is far too small at these widths: see docs/lab-log.md.
    """
    for name, weight in net.named_parameters():
        if weight.ndim < 2:
            continue
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weight.zero_()
        else:
            weight.normal_(0.0, 0.1 if "embed_tokens" in name else weight.shape[1] ** -0.5, generator=random)


def load(folder: Path, opening: Opening = Opening(), device: torch.device | None = None) -> CausalLM:
    """Load a base from a local folder in the hub's layout, in its own compute type if it has one, else the device's.

    Weights are read from safetensors alone, and code that lies beside them is not run, but on trust. The model is put
    on ``device``, by default the machine's GPU if it has one, or spread as ``opening`` says.

    Raises:
        InputError: the folder holds its weights as pickles, which can run anything when they are opened.
    """
    if not any(folder.glob("*.safetensors")) and (pickles := [p for p in folder.iterdir() if p.suffix in PICKLES]):
        what = f"holds weights as {pickles[0].name}, a pickle, which can run code when it is opened"
        raise InputError(Fault(str(folder), what, "save them as model.safetensors"))
    fastpath.install()
    asked = json.loads((folder / "config.json").read_text()) if (folder / "config.json").is_file() else {}
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        attn_implementation="eager" if asked.get("own_attention") else fastpath.ATTENTION,
        dtype=getattr(torch, asked.get("computed_in") or "", None) or fastpath.compute_dtype(device),
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=opening.trust,
        device_map=opening.device_map,
    ).eval()
    if opening.device_map is None:
        model = model.to(device or fastpath.device())
    fastpath.end_at_loss(model)
    if opening.checkpointing:
        _keep_no_activations(model)
    return model


def _keep_no_activations(model: CausalLM) -> None:
    """Switch gradient checkpointing on; the layers alone count as training, so that nothing is dropped out."""
    try:
        older = "gradient_checkpointing_enable"  # its name before transformers 5.23
        enable = getattr(model, "activation_checkpointing_enable", None) or getattr(model, older)
        enable({"use_reentrant": False, "preserve_rng_state": False})
    except ValueError as error:
        what, fix = "cannot keep fewer activations", "leave [run] gradient_checkpointing out"
        raise InputError(Fault(model.config.model_type, f"{what}: {error}", fix)) from error
    for layer in model.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.training = True


def save(model: CausalLM, folder: Path) -> None:
    """Write weights (safetensors, fp32) and config so that ``from_pretrained`` opens them."""
    model.float().save_pretrained(folder)


def shape_of(model: CausalLM) -> Shape:
    """Shape of a model of any architecture, to reckon cost; widths by the names that all settings answer to."""
    config = model.config.get_text_config()
    width, heads = config.hidden_size, config.num_attention_heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    return Shape(
        layers=config.num_hidden_layers,
        width=width,
        heads=heads,
        ff=_first(config, FEED_FORWARD, 4 * width),
        vocab=config.vocab_size,
        context=row(model),
        kv_heads=shared if shared != heads else None,
        gated=any("gate" in name for name, _ in model.named_modules()),
    )


def _first(config: Any, names: tuple[str, ...], otherwise: int) -> int:
    """The first of the settings that is a number."""
    return next((found for name in names if isinstance(found := getattr(config, name, None), int)), otherwise)


def row(model: CausalLM) -> int:
    """Tokens of the rows that examples are packed in: a published base's own setting, else the whole context."""
    return _first(model.config.get_text_config(), ("packed_row", *CONTEXTS), UNBOUNDED)


def embed(model: CausalLM, ids_BT: torch.Tensor, slots_BT: torch.Tensor, prefix: torch.Tensor | None) -> torch.Tensor:
    """Vectors of tokens, (B, T, D), with those of a soft prompt, (length, D), where ``slots_BT`` is not -1."""
    embedded: torch.Tensor = model.get_input_embeddings()(ids_BT)
    if prefix is None:
        return embedded
    return torch.where((slots_BT >= 0)[..., None], prefix[slots_BT.clamp(min=0)].to(embedded.dtype), embedded)


def last_logits(model: CausalLM, **inputs: Any) -> torch.Tensor:
    """Logits after the last position of each row, (rows, vocabulary), by the output layer that ``nats`` goes by."""
    if getattr(model.config, "own_head", False):
        return cast(torch.Tensor, model(**inputs).logits[:, -1])
    hidden = model.base_model(**inputs).last_hidden_state
    return cast(torch.Tensor, model.get_output_embeddings()(hidden[:, -1]))


def nats(
    model: CausalLM, packed: Packed, prefix: torch.Tensor | None = None, weights_N: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of a packed batch.

    Args:
        model: any causal LM with a trunk (``base_model``). Its output layer is taken to be a plain projection unless
            its settings say that it is more (``own_head``: a bias, a scale, a cap on logits).
        packed: the rows.
        prefix: soft prompt, (length, width), put where ``packed.slots_BT`` points.
        weights_N: weight of each loss position; by default the mean over them.

    Returns:
        The weighted sum of nats (differentiable) and the nats of each position, (N,), fp32.
    """
    packed = packed.to(model.device)
    embedded = embed(model, packed.ids_BT, packed.slots_BT, prefix)
    inputs = {
        "inputs_embeds": embedded,
        "attention_mask": packed.mask_B1TT.expand(embedded.shape[0], -1, -1, -1).to(embedded.dtype),
        "position_ids": packed.positions_BT,
        "use_cache": False,
    }
    if weights_N is None:
        weights_N = torch.full((len(packed.at_N),), 1 / len(packed.at_N), device=model.device)
    weights_N = weights_N.to(model.device)
    if getattr(model.config, "own_head", False):
        logits_NV = model(**inputs).logits.flatten(0, 1)[packed.at_N].float()
        nats_N = torch.nn.functional.cross_entropy(logits_NV, packed.targets_N, reduction="none")
        return (nats_N * weights_N).sum(), nats_N.detach()
    h_ND = fastpath.trunk(model, packed.at_N, inputs)
    head = model.get_output_embeddings().weight
    h_ND, targets_N, weights_N = (part.to(head.device) for part in (h_ND, packed.targets_N, weights_N))
    return fastpath.linear_cross_entropy(h_ND, head, targets_N, weights_N)
