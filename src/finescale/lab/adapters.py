"""Adapters that PEFT injects into a frozen model of any architecture, as one table: configuration and size of each.

A further adapter is a further row here and a ``Method`` in ``finescale.lab.methods``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finescale.core import Shape
from finescale.errors import Fault, InputError
from finescale.lab.ladder import matrices

if TYPE_CHECKING:
    import torch

Options = Mapping[str, float | bool | str]


@dataclass(frozen=True)
class Adapter:
    """An adapter: its PEFT configuration from model, PET size and options; its parameters from shape and PET size.

    ``prepare`` changes the frozen model itself before the adapter goes in.
    """

    config: Callable[[Any, int, Options], Any]
    count: Callable[[Shape, int], int]
    prepare: Callable[[Any], None] | None = None


def inject(name: str, model: Any, pet_size: int, options: Options, seed: int) -> dict[str, torch.nn.Parameter]:
    """Freeze a model and put an adapter into it, started from ``seed``; returns what is trained, by name."""
    import torch
    from peft import inject_adapter_in_model

    from finescale.lab.fastpath import join_adapters

    adapter = ADAPTERS[name]
    config = adapter.config(model, pet_size, options)
    model.requires_grad_(False)
    if adapter.prepare is not None:
        adapter.prepare(model)
    torch.manual_seed(seed)
    inject_adapter_in_model(config, model)
    dtype = model.get_input_embeddings().weight.dtype
    trainable = {name: p for name, p in model.named_parameters() if any(part in name for part in ("lora_", "ia3_"))}
    for parameter in trainable.values():
        parameter.data = parameter.data.to(dtype)
        parameter.requires_grad_(True)
    join_adapters(model)
    return trainable


def _lora(model: Any, rank: int, options: Options) -> Any:
    """W + s·B·A on every linear layer but the output head, s = alpha / rank, or alpha / √rank with ``rslora``."""
    from peft import LoraConfig

    return LoraConfig(
        r=rank,
        lora_alpha=float(options["alpha"]),  # type: ignore[arg-type, unused-ignore]
        use_rslora=bool(options.get("rslora", False)),
        use_dora=bool(options.get("dora", False)),
        lora_dropout=0.0,
        target_modules="all-linear",
    )


def _dora(model: Any, rank: int, options: Options) -> Any:
    """As LoRA, with the length of each output's weights trained apart from their direction."""
    return _lora(model, rank, {**options, "dora": True})


def in_four_bits(model: Any) -> None:
    """Put every linear layer but the output head into 4-bit NormalFloat, doubly quantised, in place.

    Dettmers et al. 2023 (arXiv 2305.14314), section 3, by bitsandbytes; products are computed in the model's own type.

    Raises:
        InputError: bitsandbytes is missing, or the model has no plain linear layer.
    """
    from torch import nn

    try:
        from bitsandbytes.nn import Linear4bit, Params4bit
    except ImportError as error:
        raise InputError(Fault("method 'qlora'", "needs bitsandbytes", "pip install 'finescale[qlora]'")) from error
    head, dtype = model.get_output_embeddings(), model.get_input_embeddings().weight.dtype
    linear = [(name, one) for name, one in model.named_modules() if type(one) is nn.Linear and one is not head]
    if not linear:
        kind = model.config.model_type
        raise InputError(Fault("method 'qlora'", f"finds no linear layer in {kind!r}", "use lora, which knows more"))
    for name, one in linear:
        small = Linear4bit(one.in_features, one.out_features, one.bias is not None, dtype, quant_type="nf4")
        small.weight = Params4bit(one.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True)
        small.bias = one.bias
        model.set_submodule(name, small.to(one.weight.device))
    model.is_loaded_in_4bit = True  # by which PEFT knows its layers


def _ia3(model: Any, pet_size: int, options: Options) -> Any:
    """A factor on each key, each value and each input of the layer that closes the feed-forward.

    Raises:
        InputError: which layers these are is not known for this architecture.
    """
    from peft import IA3Config
    from peft.utils.constants import (
        TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING,
        TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
    )

    kind = model.config.model_type
    kind = "llama" if kind in LIKE_LLAMA else kind
    if kind not in TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING:
        known = ", ".join(sorted({*TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING, *LIKE_LLAMA}))
        raise InputError(Fault("method 'ia3'", f"does not know the layers of {kind!r}", f"it knows {known}"))
    return IA3Config(
        target_modules=TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING[kind],
        feedforward_modules=TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING[kind],
        fan_in_fan_out=kind == "gpt2",
    )


def _count_lora(shape: Shape, rank: int) -> int:
    return shape.layers * rank * sum(read + write for read, write in matrices(shape))


def _count_dora(shape: Shape, rank: int) -> int:
    return _count_lora(shape, rank) + shape.layers * sum(write for _, write in matrices(shape))


def _count_ia3(shape: Shape, pet_size: int) -> int:
    keys = shape.width // shape.heads * (shape.kv_heads or shape.heads)
    return shape.layers * (2 * keys + shape.ff)


LIKE_LLAMA = frozenset({"arcee", "olmo", "olmo2", "olmo3", "smollm3"})
"""Architectures whose layers have the names of Llama's, and that PEFT's own list for IA3 leaves out."""

ADAPTERS: dict[str, Adapter] = {
    "lora": Adapter(_lora, _count_lora),
    "qlora": Adapter(_lora, _count_lora, in_four_bits),
    "dora": Adapter(_dora, _count_dora),
    "ia3": Adapter(_ia3, _count_ia3),
}
"""Counts are exact for bases whose queries, keys and values are matrices of their own; a record holds what was counted
on the model itself."""
