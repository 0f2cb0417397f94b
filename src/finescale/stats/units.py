"""The unit of a table's losses: as its column ``loss_unit`` says, as a column's name tells, or not known."""

from __future__ import annotations

import re

import pandas as pd

COLUMN = "loss_unit"
STUDY = "nats per target token"
"""What a study's own losses are in (``finescale.core``)."""
TOKENIZER = "tokenizer"
"""Column with a digest of what tokens are counted by."""
_NAMED = re.compile(r"(?:.* )?(bits|nats) per (byte|token|char|character|word)")
_PERPLEXITY = re.compile(r"(?:.*?\b)??(?:(byte|token|word) )?(?:perplexity|ppl)")
_LAWS = "nats/token"
"""The unit in which laws state their parameters."""


def unit_named(name: str) -> str:
    """The unit that a score's name tells (``bits_per_byte``, ``word_perplexity,none``), or nothing."""
    words = " ".join(re.findall(r"[a-z]+", name.casefold().partition(",")[0]))
    if (found := _NAMED.fullmatch(words)) is not None:
        return f"{found[1]} per {found[2]}"
    if (found := _PERPLEXITY.fullmatch(words)) is not None:
        return "perplexity" + (f" per {found[1]}" if found[1] else "")
    return ""


def units_of(frame: pd.DataFrame) -> list[str]:
    """The units that a table's column names, each once; empty where it names none."""
    if list(frame.columns).count(COLUMN) != 1:
        return []
    told = frame[COLUMN].dropna().astype(str).str.strip()
    return list(dict.fromkeys(told[told != ""]))


def tokenizers_of(frame: pd.DataFrame) -> list[str]:
    """The tokenizers whose tokens losses are counted by, where the unit counts tokens; empty where none is named."""
    if list(frame.columns).count(TOKENIZER) != 1 or not any("token" in unit for unit in units_of(frame)):
        return []
    return list(frame[TOKENIZER].dropna().astype(str).unique())


def unit_of(frame: pd.DataFrame) -> str:
    """The unit of all losses of a table; nothing where it is not known or not the same for all."""
    units = units_of(frame)
    return units[0] if len(units) == 1 else ""


def said(unit: str) -> str:
    """A loss with its unit in words: ``loss in nats per byte``, or ``loss`` alone."""
    return f"loss in {unit}" if unit else "loss"


def of_parameter(laws: str, unit: str) -> str:
    """A parameter's unit where losses are in another than the laws state it in."""
    return laws if unit == STUDY else laws.replace(_LAWS, unit or "loss")
