"""What a run keeps of the weights it ended with: nothing, the adapter in PEFT's own format, or the best checkpoint.

``adapter/`` opens with ``peft.PeftModel.from_pretrained(base, adapter)``; ``best/`` with ``from_pretrained`` of
transformers. Both hold safetensors only. What is kept is no part of a run's record, nor of its identity.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import save_file

from finescale.lab.methods import Attached

Keep = Literal["scores", "adapters", "best"]
KEEP: tuple[Keep, ...] = get_args(Keep)
ADAPTER, BEST = "adapter", "best"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_INJECTED = "base_model.model."
"""What PEFT puts before the names of a model's modules when it wraps the model."""


def keep_weights(out: Path, keep: Keep, net: Any, attached: Attached, base: Path) -> None:
    """Write what a run keeps into its folder.

    Args:
        out: the run's folder.
        keep: ``scores`` writes nothing; ``adapters`` what a method added to a frozen base, and nothing where every
            weight was trained; ``best`` the whole model in that case as well.
        net: the model at its best dev check.
        attached: what the method trained.
        base: folder of the base, named in the adapter's config as ``bases/ID``.
    """
    if keep == "scores":
        return
    if attached.prefix is not None:
        _prompt(out / ADAPTER, attached.prefix, net, base)
    elif hasattr(net, "peft_config"):
        _adapter(out / ADAPTER, net, base)
    elif keep == "best":
        net.save_pretrained(out / BEST)


def _adapter(home: Path, net: Any, base: Path) -> None:
    """The adapter that was injected into the model."""
    from peft import get_peft_model_state_dict

    (config,) = net.peft_config.values()
    weights = get_peft_model_state_dict(net)
    config.inference_mode, config.task_type = True, "CAUSAL_LM"
    _write(home, {f"{_INJECTED}{name}": weight for name, weight in weights.items()}, config, base)


def _prompt(home: Path, prefix: torch.Tensor, net: Any, base: Path) -> None:
    """A soft prompt, as PEFT's prompt tuning."""
    from peft import PromptTuningConfig

    config = PromptTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=len(prefix),
        token_dim=prefix.shape[1],
        num_transformer_submodules=1,
        num_attention_heads=net.config.num_attention_heads,
        num_layers=net.config.num_hidden_layers,
        inference_mode=True,
    )
    _write(home, {"prompt_embeddings": prefix}, config, base)


def _write(home: Path, weights: dict[str, torch.Tensor], config: Any, base: Path) -> None:
    home.mkdir(exist_ok=True)
    whole = {name: weight.detach().float().cpu().contiguous() for name, weight in weights.items()}
    save_file(whole, home / WEIGHTS, metadata={"format": "pt"})
    config.base_model_name_or_path = f"bases/{base.name}"
    config.save_pretrained(home)
