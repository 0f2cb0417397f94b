"""The file that a W&B run writes on its own disk (``run-….wandb``), read without W&B: settings, history, end.

The framing is LevelDB's log (google/leveldb, doc/log_format.md) after seven bytes of W&B's own; a record is a protobuf
``Record`` (``wandb_internal.proto``; numbers of fields as in wandb 0.31, which protobuf's rules keep as they are).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finescale.exchange.disk import Unreadable, content_of
from finescale.exchange.found import number
from finescale.exchange.protobuf import bytes_of, fields

MAGIC, BLOCK, HEAD = b":W&B", 32768, 7
_HISTORY, _CONFIG, _RUN, _EXIT = 2, 5, 17, 18


@dataclass
class Offline:
    """What an offline run's file holds; ``exit`` is None where the run never ended."""

    name: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    history: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    exit: int | None = None
    cut: bool = False


def read_offline(path: Path) -> Offline:
    """A run's file, up to where it is cut off or damaged.

    Raises:
        Unreadable: it is no such file, or too large.
    """
    content = content_of(path)
    if content[:4] != MAGIC:
        raise Unreadable("is no file of a W&B run")
    run = Offline()
    for record in _records(content):
        try:
            _take(record, run)
        except (ValueError, struct.error, RecursionError):
            run.cut = True
    return run


def _records(content: bytes) -> Iterator[bytes]:
    """Whole records: pieces of kinds first, middle and last are joined, and the rest of a block is padding."""
    at, pieces = HEAD, b""
    while at + HEAD <= len(content):
        if BLOCK - at % BLOCK < HEAD:
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + HEAD])
        piece = content[at + HEAD : at + HEAD + length]
        at += HEAD + length
        if kind in (1, 2):
            pieces = b""
        pieces += piece
        if kind in (1, 4):
            yield pieces


def _take(record: bytes, run: Offline) -> None:
    for kind, value in fields(record):
        if kind == _HISTORY:
            _history(bytes_of(value), run)
        elif kind == _CONFIG:
            run.config |= _items(bytes_of(value))
        elif kind == _EXIT:
            run.exit = next((code for name, code in fields(bytes_of(value)) if name == 1 and isinstance(code, int)), 0)
        elif kind == _RUN:
            for name, part in fields(bytes_of(value)):
                if name == 4:
                    run.config |= _items(bytes_of(part))
                elif name == 8:
                    run.name = bytes_of(part).decode("utf-8", "replace")


def _history(message: bytes, run: Offline) -> None:
    values = _items(message)
    steps = [bytes_of(value) for kind, value in fields(message) if kind == 2]
    own = [step for part in steps for kind, step in fields(part) if kind == 1 and isinstance(step, int)]
    step = number(values.get("train/global_step", values.get("_step", own[0] if own else 0)))
    for key, value in values.items():
        one = None if isinstance(value, str) and value not in NOT_FINITE else number(value)
        if one is not None and not key.startswith("_"):
            run.history.setdefault(key, []).append((step or 0.0, one))


NOT_FINITE = ("NaN", "Infinity", "-Infinity")
"""W&B's words for numbers that JSON has none for."""


def _items(message: bytes) -> dict[str, Any]:
    """Names and values of a message's items: field 1, each with a key, or the parts of one, and a value."""
    found: dict[str, Any] = {}
    for kind, item in fields(message):
        if kind != 1:
            continue
        keys, value = [], None
        for name, part in fields(bytes_of(item)):
            if name in (1, 2):
                keys.append(bytes_of(part).decode("utf-8", "replace"))
            elif name in (8, 16):
                value = json.loads(bytes_of(part))
            elif name == 6:
                (value,) = struct.unpack("<d", bytes_of(part))
            elif name == 5 and isinstance(part, int):
                value = part - 2**64 if part >= 2**63 else part
            elif name == 7:
                value = bytes_of(part).decode("utf-8", "replace")
        if keys:
            found[".".join(keys)] = value
    return found
