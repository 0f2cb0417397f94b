"""Decoding: greedy with a cache of keys and values, batched by prompt length; beam search is transformers' own.

Prompts of a batch are padded on the left, so that all rows end at the same slot; a padded slot is never attended to and
takes no position. Greedy answers equal those of transformers' ``generate`` on each prompt alone (tested, soft prompts
included).

Shape suffixes: B rows, T slots of the prompts, S slots so far, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from finescale.lab import model

BATCH = 64
MASKED = -1e9

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Decoded:
    """What a model wrote after a prompt: its tokens without the end-of-text one, and whether it ended by itself."""

    ids: Ids
    ended: bool


@torch.no_grad()
def decode(
    net: Any,
    prompts: Sequence[Ids],
    limit: int,
    prefix: torch.Tensor | None = None,
    beams: int = 1,
    parts: int = 1,
) -> list[Decoded]:
    """Answer every prompt with the likeliest tokens, at most ``limit`` of them.

    Args:
        net: a causal LM in evaluation mode.
        prompts: token ids, each of shape (length,), none empty.
        limit: most tokens of an answer, the end-of-text token included.
        prefix: soft prompt put before every prompt, (length, width).
        beams: 1 is greedy; more is beam search with length penalty 1.
        parts: in how many parts a batch is worked through, where memory is short.

    Returns:
        Answers in the order of ``prompts``.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers: dict[int, Decoded] = {}
    size = max(1, BATCH // parts)
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        laid = _lay_out(net, [prompts[i] for i in chosen], prefix)
        found = _greedy(net, laid, limit) if beams == 1 else _beams(net, laid, limit, beams)
        answers |= dict(zip(chosen, (_until_end(row, net.config.eos_token_id) for row in found), strict=True))
    return [answers[i] for i in range(len(prompts))]


@dataclass(frozen=True)
class _Laid:
    """Prompts of a batch, padded on the left: their vectors, and which slots are real."""

    embedded_BTD: torch.Tensor
    real_BT: torch.Tensor


def _lay_out(net: Any, prompts: Sequence[Ids], prefix: torch.Tensor | None) -> _Laid:
    """The soft prompt stands directly before the prompt's first token, behind the padding."""
    length = 0 if prefix is None else len(prefix)
    width = length + max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), net.config.eos_token_id)
    slots = torch.full_like(ids, -1)
    starts = [width - len(prompt) for prompt in prompts]
    for row, (start, prompt) in enumerate(zip(starts, prompts, strict=True)):
        ids[row, start:] = torch.from_numpy(prompt)
        slots[row, start - length : start] = torch.arange(length)
    real = torch.arange(width) >= torch.tensor(starts)[:, None] - length
    at = net.device
    return _Laid(model.embed(net, ids.to(at), slots.to(at), prefix), real.to(at))


def _greedy(net: Any, laid: _Laid, limit: int) -> list[list[int]]:
    """Step by step over the rows that have not ended; a row that ends leaves the batch and its cache."""
    rows = len(laid.real_BT)
    written: list[list[int]] = [[] for _ in range(rows)]
    alive = torch.arange(rows, device=laid.real_BT.device)
    cache = DynamicCache()
    embedded, real = laid.embedded_BTD, laid.real_BT
    positions = (real.cumsum(1) - 1).clamp(min=0)
    mask = _causal(real)
    for _ in range(limit):
        logits = model.last_logits(
            net,
            inputs_embeds=embedded,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        token = logits.argmax(-1)
        for row, piece in zip(alive.tolist(), token.tolist(), strict=True):
            written[row].append(piece)
        going = (token != net.config.eos_token_id).nonzero().flatten()
        if not len(going):
            break
        positions = positions[:, -1:] + 1
        if len(going) < len(token):
            alive, token, real, positions = alive[going], token[going], real[going], positions[going]
            cache.batch_select_indices(going)
        real = torch.cat([real, real.new_ones(len(real), 1)], 1)
        embedded = net.get_input_embeddings()(token[:, None])
        mask = _additive(real[:, None, None, :])
    return written


def _beams(net: Any, laid: _Laid, limit: int, beams: int) -> list[list[int]]:
    found = net.generate(
        inputs_embeds=laid.embedded_BTD,
        attention_mask=laid.real_BT.long(),
        do_sample=False,
        num_beams=beams,
        max_new_tokens=limit,
        eos_token_id=net.config.eos_token_id,
        pad_token_id=net.config.eos_token_id,
    )
    return [row.tolist() for row in found]


def _causal(real_BT: torch.Tensor) -> torch.Tensor:
    T = real_BT.shape[1]
    back = torch.ones(T, T, dtype=torch.bool, device=real_BT.device).tril()
    return _additive(back & real_BT[:, None, None, :])


def _additive(allowed: torch.Tensor) -> torch.Tensor:
    return torch.zeros(allowed.shape, device=allowed.device).masked_fill_(~allowed, MASKED)


def _until_end(row: list[int], end: int) -> Decoded:
    ended = end in row
    return Decoded(np.array(row[: row.index(end)] if ended else row, np.int64), ended)


def texts(answers: Sequence[Decoded], words: Any, one_line: bool) -> Iterator[tuple[str, bool]]:
    """Text of each answer, and whether it is complete.

    Args:
        answers: decoded tokens.
        words: the tokenizer.
        one_line: every reference is a single line, so an answer ends at its first line break too: a base that nobody
            finetuned does not know the end-of-text token's use and would otherwise be scored on what it rambles.
    """
    for answer in answers:
        text, ended = words.decode(answer.ids.tolist()).lstrip(), answer.ended
        if one_line and "\n" in text:
            text, ended = text.partition("\n")[0], True
        yield text.strip(), ended
