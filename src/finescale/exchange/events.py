"""TensorBoard's event files, read without TensorBoard: records framed as TFRecord, each a protobuf ``Event``.

The framing is length (8 bytes), its checksum (4), data, its checksum (4); the checksum is masked CRC-32C (RFC 3720,
appendix B.4). Of an event only step and scalar or text summaries are looked at (tensorflow/core/util/event.proto).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from finescale.exchange.disk import Unreadable, content_of
from finescale.exchange.protobuf import bytes_of, fields

FILES = "events.out.tfevents.*"
_FLOAT, _DOUBLE, _STRING = 1, 2, 7


@dataclass
class Events:
    """What an event file holds: scalars and texts by tag, and whether its end is missing."""

    scalars: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    cut: bool = False


def read_events(path: Path) -> Events:
    """The scalars and texts of one event file, up to where it is cut off or damaged.

    Raises:
        Unreadable: it is no event file, or too large.
    """
    content = content_of(path)
    events = Events()
    for number, record in enumerate(_records(content)):
        if record is None:
            if number == 0:
                raise Unreadable("is no event file of TensorBoard")
            events.cut = True
            break
        try:
            _take(record, events)
        except (ValueError, struct.error, IndexError):
            events.cut = True
    return events


def _records(content: bytes) -> Iterator[bytes | None]:
    """Each whole record; None at the end if there is something that is not one."""
    at = 0
    while at < len(content):
        head = content[at : at + 12]
        length = int.from_bytes(head[:8], "little")
        data = content[at + 12 : at + 12 + length]
        check = content[at + 12 + length : at + 16 + length]
        if len(check) < 4 or _masked(head[:8]) != head[8:] or _masked(data) != check:
            yield None
            return
        yield data
        at += 16 + length


@cache
def _table() -> tuple[int, ...]:
    """Remainders of CRC-32C (Castagnoli's polynomial, reversed) for every byte."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


def _masked(data: bytes) -> bytes:
    table, crc = _table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8 & 0xFFFFFFFF).to_bytes(4, "little")


def _take(record: bytes, events: Events) -> None:
    step, summaries = 0, []
    for number, value in fields(record):
        if number == 2 and isinstance(value, int):
            step = value
        elif number == 5:
            summaries.append(bytes_of(value))
    for summary in summaries:
        for number, value in fields(summary):
            if number == 1:
                _summary(bytes_of(value), float(step), events)


def _summary(message: bytes, step: float, events: Events) -> None:
    tag = ""
    for number, value in fields(message):
        if number == 1:
            tag = bytes_of(value).decode("utf-8", "replace")
        elif number == 2:
            events.scalars.setdefault(tag, []).append((step, *struct.unpack("<f", bytes_of(value))))
        elif number == 8:
            _tensor(tag, bytes_of(value), step, events)


def _tensor(tag: str, message: bytes, step: float, events: Events) -> None:
    """A scalar or a text kept as a tensor, as newer writers do (tensorflow/core/framework/tensor.proto)."""
    kind, numbers = 0, list(fields(message))
    for number, value in numbers:
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 8 and kind == _STRING:
            events.texts.setdefault(tag, bytes_of(value).decode("utf-8", "replace"))
        elif number in (4, 5, 6) and kind in (_FLOAT, _DOUBLE):
            data, code = bytes_of(value), "<f" if kind == _FLOAT else "<d"
            if len(data) == struct.calcsize(code):
                events.scalars.setdefault(tag, []).append((step, *struct.unpack(code, data)))
