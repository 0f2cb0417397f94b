"""Byte-level BPE over a study's languages (Sennrich et al. 2016; the byte alphabet of GPT-2), by ``tokenizers``.

A text that spells a special token (``<eos>``) is text: only this package puts the token itself anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from finescale.lab.chat import Chat

SPECIAL = ("<pad>", "<bos>", "<eos>")
PAD, BOS, EOS = range(3)


@dataclass(frozen=True)
class Marks:
    """Tokens that a tokenizer's model expects before a text (``before``) and reads as its end (``end``).

    ``chat`` is its chat template, where it has one.
    """

    before: tuple[int, ...]
    end: int
    chat: Chat | None = field(default=None, compare=False)


OWN = Marks((BOS,), EOS)
"""Marks of the tokenizers trained here."""


def train(texts: Iterable[str], vocab: int) -> Tokenizer:
    """Learn a vocabulary of ``vocab`` tokens; every byte is in it, so that no text is unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.encode_special_tokens = True
    return tokenizer


def byte_count(ids: Iterable[int], tokenizer: Tokenizer) -> int:
    """UTF-8 bytes that tokens stand for: a letter of the byte alphabet each, and none for the special tokens."""
    return sum(len(tokenizer.id_to_token(int(i)) or "") for i in ids if int(i) >= len(SPECIAL))


def load(folder: Path) -> Tokenizer:
    """Open the tokenizer of a prepared data folder."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    return tokenizer
