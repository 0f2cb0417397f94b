"""Several examples in one row, each blind to the others, so that short pairs do not pay for padding.

The loss and its gradients are those of the examples on their own (tested). Batch size stays a number of examples; a row
is only how they are laid out.

Shape suffixes: B rows, T positions, N positions that carry loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class Example:
    """One rendered, tokenised example: the prompt (given) and the target (learned), with the target's UTF-8 bytes.

    ``stratum`` is the place of its language among the task's languages.
    """

    prompt: NDArray[np.int64]
    target: NDArray[np.int64]
    target_bytes: int
    stratum: int = 0


@dataclass(frozen=True)
class Packed:
    """Rows ready for a model; ``slots_BT`` is the soft-prompt position of a token, or -1 where it is a real token."""

    ids_BT: torch.Tensor
    slots_BT: torch.Tensor
    positions_BT: torch.Tensor
    mask_B1TT: torch.Tensor
    at_N: torch.Tensor
    targets_N: torch.Tensor
    owner_N: torch.Tensor
    examples: int

    @property
    def tokens(self) -> int:
        """Positions that hold a token or a soft-prompt vector, padding left out."""
        return int((self.mask_B1TT.diagonal(dim1=-2, dim2=-1)[:, 0] == 0).sum())


def pack(examples: Sequence[Example], row: int, prefix: int = 0) -> Packed:
    """Lay examples out in rows of ``row`` tokens (longer if one example is longer), first fit by falling length.

    Args:
        examples: the batch; order is kept in ``owner_N``.
        row: tokens per row.
        prefix: length of a soft prompt put before every example.
    """
    lengths = [prefix + len(e.prompt) + len(e.target) for e in examples]
    row = max(row, *lengths)
    homes, rows = _first_fit(lengths, row)
    ids, slots, positions = (np.zeros((rows, row), np.int64) for _ in range(3))
    slots -= 1
    segment = np.full((rows, row), -1, np.int64)
    at, targets, owner = [], [], []
    for index, (example, (b, start)) in enumerate(zip(examples, homes, strict=True)):
        length, first = lengths[index], prefix + len(example.prompt)
        ids[b, start + prefix : start + length] = np.concatenate([example.prompt, example.target])
        slots[b, start : start + prefix] = np.arange(prefix)
        positions[b, start : start + length] = np.arange(length)
        segment[b, start : start + length] = index
        at.append(b * row + start + np.arange(first - 1, length - 1))
        targets.append(example.target)
        owner.append(np.full(len(example.target), index))
    return Packed(
        ids_BT=torch.from_numpy(ids),
        slots_BT=torch.from_numpy(slots),
        positions_BT=torch.from_numpy(positions),
        mask_B1TT=_block_diagonal(segment),
        at_N=torch.from_numpy(np.concatenate(at)),
        targets_N=torch.from_numpy(np.concatenate(targets)),
        owner_N=torch.from_numpy(np.concatenate(owner)),
        examples=len(examples),
    )


def rows_of_text(ids_BT: NDArray[np.int64]) -> Packed:
    """Rows of running text, every token but the first of a row predicted from those before it."""
    B, T = ids_BT.shape
    ids = torch.from_numpy(ids_BT)
    flat = torch.arange(B * T).view(B, T)[:, :-1]
    return Packed(
        ids_BT=ids,
        slots_BT=torch.full_like(ids, -1),
        positions_BT=torch.arange(T).expand(B, T),
        mask_B1TT=_block_diagonal(np.zeros((1, T), np.int64)),
        at_N=flat.flatten(),
        targets_N=ids[:, 1:].flatten(),
        owner_N=torch.arange(B).repeat_interleave(T - 1),
        examples=B,
    )


def _first_fit(lengths: Sequence[int], row: int) -> tuple[list[tuple[int, int]], int]:
    """Give each length a (row, start); returns the homes in the given order and the number of rows."""
    used: list[int] = []
    homes = [(0, 0)] * len(lengths)
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        need = lengths[index]
        b = next((b for b, full in enumerate(used) if full + need <= row), len(used))
        if b == len(used):
            used.append(0)
        homes[index] = (b, used[b])
        used[b] += need
    return homes, len(used)


def _block_diagonal(segment_BT: NDArray[np.int64]) -> torch.Tensor:
    """Additive mask: 0 where the same example looks back at itself, the lowest fp32 elsewhere."""
    segment = torch.from_numpy(segment_BT)
    same = (segment[:, :, None] == segment[:, None, :]) & (segment >= 0)[:, :, None]
    allowed = same & torch.ones(same.shape[1:], dtype=torch.bool).tril()
    return torch.zeros(allowed.shape).masked_fill_(~allowed, -1e9)[:, None]
