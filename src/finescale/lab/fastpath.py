"""What makes transformers' own model classes fast on a CPU without changing what they compute.

Freed memory is kept instead of being returned page by page; attention over short rows is two batched products with a
softmax between them; the vocabulary projection and its cross-entropy are one node that works in chunks and sees only
the positions that carry loss. ``docs/lab-log.md`` has the measurements.

Shape suffixes: B rows, H heads, T positions, K head width, N tokens with loss, D width, V vocabulary.
"""

from __future__ import annotations

import ctypes
import sys
from types import MethodType
from typing import Any, cast

import torch
from torch import nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.models.arcee.modeling_arcee import ArceeDecoderLayer
from transformers.models.llama import modeling_llama
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

ATTENTION = "finescale_bmm"
CHUNK = 512

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed pages, or page faults dominate a step. Returns whether the C library took it."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    taken = (mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, 2**31 - 1), mallopt(_M_TOP_PAD, 64 * 2**20))
    return all(taken)


def device() -> torch.device:
    """Where models are put: a GPU that CUDA (or ROCm) sees, else the CPU. ``CUDA_VISIBLE_DEVICES`` can hide it."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_dtype(at: torch.device | None = None) -> torch.dtype:
    """bf16 where ``at`` (by default ``device()``) multiplies it in hardware, else fp32.

    A CPU does with AMX: emulated, bf16 was two to three times slower.
    """
    if (at or device()).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if cast(Any, torch.cpu)._is_amx_tile_supported() else torch.float32


class _Attention(torch.autograd.Function):
    """softmax(scale · q kᵀ + mask) v, keeping only the probabilities for the way back."""

    @staticmethod
    def forward(
        ctx: Any, q_NTK: torch.Tensor, k_NTK: torch.Tensor, v_NTK: torch.Tensor, mask_BTT: torch.Tensor, scale: float
    ) -> torch.Tensor:
        rows = mask_BTT.shape[0]
        p_NTT = torch.bmm(q_NTK, k_NTK.transpose(1, 2)).mul_(scale)
        p_NTT.view(rows, -1, *mask_BTT.shape[1:]).add_(mask_BTT[:, None])
        p_NTT = torch.softmax(p_NTT, dim=-1)
        ctx.save_for_backward(q_NTK, k_NTK, v_NTK, p_NTT)
        ctx.scale = scale
        return torch.bmm(p_NTT, v_NTK)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (d_out,) = grads
        q_NTK, k_NTK, v_NTK, p_NTT = ctx.saved_tensors
        d_v = torch.bmm(p_NTT.transpose(1, 2), d_out)
        d_p = torch.bmm(d_out, v_NTK.transpose(1, 2))
        d_s = torch._softmax_backward_data(d_p, p_NTT, -1, p_NTT.dtype).mul_(ctx.scale)
        return torch.bmm(d_s, k_NTK), torch.bmm(d_s.transpose(1, 2), q_NTK), d_v, None, None


def _bmm_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention in the signature of transformers' ``AttentionInterface``; q, k, v are (B, H, T, K)."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    B, H, T, K = query.shape
    S = key.shape[2]
    if attention_mask is None:
        mask = torch.zeros(T, S, dtype=query.dtype, device=query.device)
        mask = mask.masked_fill(torch.ones_like(mask, dtype=torch.bool).triu(S - T + 1), torch.finfo(query.dtype).min)
        mask = mask.expand(B, T, S)
    else:
        mask = attention_mask[:, 0].to(query.dtype).expand(B, -1, -1)
    q, k, v = (x.reshape(B * H, -1, K) for x in (query, key, value))
    out = cast(torch.Tensor, cast(Any, _Attention).apply(q, k, v, mask, scaling))
    return out.view(B, H, T, K).transpose(1, 2), None


class _LinearCrossEntropy(torch.autograd.Function):
    """Per-token nats of ``softmax(h Wᵀ)``; gradients are made on the way forward, so logits are never kept."""

    @staticmethod
    def forward(
        ctx: Any,
        h_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        targets_N: torch.Tensor,
        weights_N: torch.Tensor,
        learns: bool,
    ) -> torch.Tensor:
        nats_N = torch.empty(len(targets_N), dtype=torch.float32, device=h_ND.device)
        d_h = torch.empty_like(h_ND) if learns and ctx.needs_input_grad[0] else None
        d_weight = torch.zeros_like(weight_VD) if learns and ctx.needs_input_grad[1] else None
        for start in range(0, len(targets_N), CHUNK):
            part = slice(start, start + CHUNK)
            h, targets = h_ND[part], targets_N[part, None]
            logits = (h @ weight_VD.T).float()
            peak = logits.amax(1, keepdim=True)
            hit = logits.gather(1, targets)
            total = logits.sub_(peak).exp_().sum(1, keepdim=True)
            nats_N[part] = (total.log() + peak - hit).squeeze(1)
            if d_h is None and d_weight is None:
                continue
            scale = weights_N[part, None]
            d_logits = logits.mul_(scale / total).scatter_add_(1, targets, -scale).to(h.dtype)
            if d_h is not None:
                torch.mm(d_logits, weight_VD, out=d_h[part])
            if d_weight is not None:
                d_weight.addmm_(d_logits.T, h)
        ctx.save_for_backward(d_h, d_weight)
        ctx.mark_non_differentiable(nats_N)
        return torch.stack([(nats_N * weights_N).sum()]).squeeze(0), nats_N  # type: ignore[return-value]

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        d_h, d_weight = ctx.saved_tensors
        scale = grads[0]
        return (
            None if d_h is None else d_h * scale.to(d_h.dtype),
            None if d_weight is None else d_weight * scale.to(d_weight.dtype),
            None,
            None,
            None,
        )


def linear_cross_entropy(
    h_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor, weights_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted sum of nats (differentiable in ``h`` and ``weight``) and the nats of each token (not differentiable)."""
    node = cast(Any, _LinearCrossEntropy)
    learns = (
        torch.is_grad_enabled()
    )  # inside the node it never is, and a weight says that it needs a gradient regardless
    return cast("tuple[torch.Tensor, torch.Tensor]", node.apply(h_ND, weight_VD, targets_N, weights_N, learns))


class _Rotary(torch.autograd.Function):
    """x · cos + (x turned by a quarter) · sin over the halves of K; its gradient turns the other way."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _turned(grads[0], cos, sin, -1), None, None


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, way: int) -> torch.Tensor:
    out, half = x * cos, x.shape[-1] // 2
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-way)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:], value=way)
    return out


def _rotate(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, unsqueeze_dim: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotary positions (Su et al. 2021, arXiv 2104.09864) in the signature of transformers' Llama."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    turn = cast(Any, _Rotary).apply
    return turn(q, cos, sin), turn(k, cos, sin)


class _LowRank(torch.autograd.Function):
    """x Wᵀ + b + s · (x Aᵀ) Bᵀ in one node, W frozen: no pass over the output for the scale, none for the sum."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a_RD: torch.Tensor,
        b_ER: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        x_ND = x.reshape(-1, x.shape[-1])
        out = x_ND @ weight.T if bias is None else torch.addmm(bias, x_ND, weight.T)
        low_NR = x_ND @ a_RD.T
        out.addmm_(low_NR, b_ER.T, alpha=scale)
        ctx.save_for_backward(x_ND, low_NR, weight, a_RD, b_ER)
        ctx.scale, ctx.shape = scale, x.shape
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x_ND, low_NR, weight, a_RD, b_ER = ctx.saved_tensors
        d_NE = grads[0].reshape(-1, grads[0].shape[-1])
        d_low = (d_NE @ b_ER).mul_(ctx.scale)
        d_x = (d_NE @ weight).addmm_(d_low, a_RD).view(ctx.shape) if ctx.needs_input_grad[0] else None
        return d_x, None, None, d_low.T @ x_ND, (d_NE.T @ low_NR).mul_(ctx.scale), None


def _low_rank(layer: Any, x: torch.Tensor, *args: Any, **rest: Any) -> torch.Tensor:
    """What PEFT's LoRA layer computes: as one node where one adapter works and nothing else, else by PEFT itself."""
    name = _alone(layer)
    if name is None or args or rest:
        return cast(torch.Tensor, type(layer).forward(layer, x, *args, **rest))
    base, a, b = layer.base_layer, layer.lora_A[name].weight, layer.lora_B[name].weight
    found = cast(Any, _LowRank).apply(x, base.weight, base.bias, a, b, layer.scaling[name])
    return cast(torch.Tensor, found)


def _alone(layer: Any) -> str | None:
    """The one adapter that works on a layer, neither switched off nor merged into it nor with dropout."""
    names = layer.active_adapters
    if layer.disable_adapters or layer.merged or len(names) != 1 or names[0] not in layer.lora_A:
        return None
    (name,) = names
    plain = isinstance(layer.lora_dropout[name], nn.Identity) and layer.lora_B[name].bias is None
    return str(name) if plain and name not in layer.lora_variant else None


def join_adapters(model: nn.Module) -> None:
    """Have plain LoRA layers compute base and adapter as one node; others are left as PEFT has them."""
    from peft.tuners.lora.layer import Linear

    for layer in model.modules():
        if type(layer) is Linear and type(layer.base_layer) is nn.Linear and not layer.lora_variant:
            layer.forward = MethodType(_low_rank, layer)


def _last_layer(layer: Any, hidden_states: torch.Tensor, loss_at: torch.Tensor | None = None, **rest: Any) -> Any:
    """A Llama layer whose feed-forward works at the positions in ``loss_at`` alone, as nothing reads the others."""
    attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **rest)
    h = hidden_states + attended
    if loss_at is not None:
        h = h.flatten(0, 1)[None, loss_at]
    return h + layer.mlp(layer.post_attention_layernorm(h))


def end_at_loss(model: Any) -> None:
    """Have a Llama's last layer end at the positions that carry loss, where ``loss_at`` names them; others are left."""
    layers = getattr(model.base_model, "layers", None)
    if not layers or hasattr(layers[-1], "_hf_hook"):  # accelerate's, that moves inputs to the layer's device
        return
    if isinstance(layers[-1], (LlamaDecoderLayer, ArceeDecoderLayer)):
        layers[-1].forward = MethodType(_last_layer, layers[-1])


def trunk(model: Any, at_N: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
    """Last hidden states at the positions ``at_N`` of the flattened rows, (N, D), of any model with a trunk."""
    layers = getattr(model.base_model, "layers", None)
    if layers and getattr(layers[-1].forward, "__func__", None) is _last_layer:
        return cast(torch.Tensor, model.base_model(**inputs, loss_at=at_N).last_hidden_state[0])
    h_ND = model.base_model(**inputs).last_hidden_state.flatten(0, 1)
    return cast(torch.Tensor, h_ND[at_N.to(h_ND.device)])


def install() -> None:
    """Register the attention with transformers and give its Llama the joined rotation; safe to call more than once."""
    AttentionInterface.register(ATTENTION, _bmm_attention)
    AttentionMaskInterface.register(ATTENTION, eager_mask)
    modeling_llama.apply_rotary_pos_emb = _rotate
