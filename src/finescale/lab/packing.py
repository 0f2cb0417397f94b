"""Several examples in one row, each blind to the others, so that short pairs do not pay for padding.

A soft prompt stands once at the head of a row, since it sees nothing but itself: every example of the row looks back at
it, and its positions are those it would have before that example. The loss and its gradients are those of the examples
on their own (tested). Batch size stays a number of examples; a row
is only how they are laid out.

Shape suffixes: B rows, T positions, N positions that carry loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

EMPTY, SHARED = -1, -2
"""Marks of positions that belong to no example: padding, and a soft prompt that all of a row look back at."""


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

    def to(self, device: torch.device) -> Packed:
        """The same rows on a device."""
        moved: dict[str, Any] = {k: part.to(device) for k, part in vars(self).items() if isinstance(part, torch.Tensor)}
        return replace(self, **moved)

    @property
    def tokens(self) -> int:
        """Positions that hold a token or a soft-prompt vector, padding left out."""
        return int((self.mask_B1TT.diagonal(dim1=-2, dim2=-1)[:, 0] == 0).sum())


def pack(examples: Sequence[Example], row: int, prefix: int = 0) -> Packed:
    """Lay examples out in rows of ``row`` tokens (longer if one example is longer), first fit by falling length.

    Args:
        examples: the batch; order is kept in ``owner_N``.
        row: tokens per row, a soft prompt not counted.
        prefix: length of the soft prompt at the head of every row.
    """
    lengths = [len(e.prompt) + len(e.target) for e in examples]
    homes, rows, row = _layout(lengths, max(row, *lengths))
    ids, slots, positions = (np.zeros((rows, prefix + row), np.int64) for _ in range(3))
    slots -= 1
    slots[:, :prefix] = positions[:, :prefix] = np.arange(prefix)
    segment = np.full((rows, prefix + row), EMPTY, np.int64)
    segment[:, :prefix] = SHARED
    at, targets, owner = [], [], []
    for index, (example, (b, start)) in enumerate(zip(examples, homes, strict=True)):
        start, length, first = start + prefix, lengths[index], len(example.prompt)
        ids[b, start : start + length] = np.concatenate([example.prompt, example.target])
        positions[b, start : start + length] = prefix + np.arange(length)
        segment[b, start : start + length] = index
        at.append(b * (prefix + row) + start + np.arange(first - 1, length - 1))
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


def _layout(lengths: Sequence[int], row: int) -> tuple[list[tuple[int, int]], int, int]:
    """Homes, rows and their width: as few rows as a width of ``row`` allows, then as narrow as these rows can be."""
    homes, rows = _first_fit(lengths, row)
    for narrower in range(max(-(-sum(lengths) // rows), *lengths), row):
        found, needed = _first_fit(lengths, narrower)
        if needed == rows:
            return found, rows, narrower
    return homes, rows, row


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
    """Additive mask: 0 where an example looks back at itself or at the soft prompt, far below 0 elsewhere."""
    segment = torch.from_numpy(segment_BT)
    seen = (segment[:, :, None] == segment[:, None, :]) | (segment == SHARED)[:, None, :]
    same = seen & (segment != EMPTY)[:, :, None]
    allowed = same & torch.ones(same.shape[1:], dtype=torch.bool).tril()
    return torch.zeros(allowed.shape).masked_fill_(~allowed, -1e9)[:, None]
