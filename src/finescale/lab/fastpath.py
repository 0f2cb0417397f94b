"""What makes transformers' own model classes fast on a CPU without changing what they compute.

Freed memory is kept instead of being returned page by page; attention over short rows is two batched products with a
softmax between them; the vocabulary projection and its cross-entropy are one node that works in chunks and sees only
the positions that carry loss. ``docs/lab-log.md`` has the measurements.

Shape suffixes: B rows, H heads, T positions, K head width, N tokens with loss, D width, V vocabulary.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any, cast

import torch
from torch import nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, eager_mask

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


def compute_dtype() -> torch.dtype:
    """bf16 where this CPU multiplies it in hardware (AMX), else fp32: emulated, bf16 was two to three times slower."""
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
        ctx: Any, h_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor, weights_N: torch.Tensor
    ) -> torch.Tensor:
        nats_N = torch.empty(len(targets_N), dtype=torch.float32)
        d_h = torch.empty_like(h_ND) if ctx.needs_input_grad[0] else None
        d_weight = torch.zeros_like(weight_VD) if ctx.needs_input_grad[1] else None
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
        )


def linear_cross_entropy(
    h_ND: torch.Tensor, weight_VD: torch.Tensor, targets_N: torch.Tensor, weights_N: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weighted sum of nats (differentiable in ``h`` and ``weight``) and the nats of each token (not differentiable)."""
    node = cast(Any, _LinearCrossEntropy)
    return cast("tuple[torch.Tensor, torch.Tensor]", node.apply(h_ND, weight_VD, targets_N, weights_N))


def install() -> None:
    """Register the attention with transformers; safe to call more than once."""
    AttentionInterface.register(ATTENTION, _bmm_attention)
    AttentionMaskInterface.register(ATTENTION, eager_mask)
