"""Read other tools' files as what they may be: missing, cut off, huge, in circles, hostile; no pickle is opened."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from finescale.errors import Fault, InputError
from finescale.stats.load import load_frame
from finescale.stats.paths import there

MOST_BYTES = 256 * 2**20
"""A larger file is not one that these tools write for one run."""

MOST_FOLDERS = 100_000


class Unreadable(Exception):
    """A file that is there cannot be read; the text says why, without the file's name."""


def content_of(path: Path) -> bytes:
    """What is in a file.

    Raises:
        Unreadable: it cannot be opened, or is too large.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise Unreadable(f"is larger than {MOST_BYTES // 2**20} MB")
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(f"cannot be opened: {error.strerror}") from error


def text_of(path: Path) -> str:
    """The text of a file, with line ends as Python has them.

    Raises:
        Unreadable: it is none, or too large.
    """
    try:
        return content_of(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise Unreadable("is not UTF-8 text") from error


def json_of(path: Path) -> dict[str, Any]:
    """The JSON object in a file; NaN and infinities are numbers, as Python writes them.

    Raises:
        Unreadable: it is no whole JSON object.
    """
    try:
        value = json.loads(text_of(path))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"is no whole JSON: {str(error) or 'nested too deep'}") from error
    return _object(value, "JSON")


def yaml_of(text: str) -> dict[str, Any]:
    """The mapping that YAML text holds; plain values only, no tag makes an object.

    Raises:
        Unreadable: it is no such text.
    """
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Unreadable(f"is no YAML: {' '.join(str(error).split())[:200]}") from error
    return _object(value, "YAML")


def _object(value: Any, kind: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unreadable(f"holds a {type(value).__name__} where {kind} of named values is expected")
    return {str(name): item for name, item in value.items()}


def folders(root: Path) -> Iterator[Path]:
    """A folder and those in it, in order; a link is followed once, so that circles end.

    Raises:
        InputError: there is no such folder, or there are too many in it.
    """
    seen: set[tuple[int, int]] = set()
    for home, inside, _ in os.walk(there(root, "a folder of runs"), followlinks=True):
        info = os.stat(home)
        mark = (info.st_dev, info.st_ino)
        if mark in seen:
            inside.clear()
            continue
        seen.add(mark)
        if len(seen) > MOST_FOLDERS:
            what = f"holds more than {MOST_FOLDERS:,} folders"
            raise InputError(Fault(str(root), what, "give the folders of the runs themselves"))
        inside.sort()
        yield Path(home)


def files_named(root: Path, pattern: str) -> list[Path]:
    """Files whose names are like ``pattern``: the path itself if it is a file, else those in it at any depth."""
    if there(root).is_file():
        return [root]
    return [file for folder in folders(root) for file in sorted(folder.glob(pattern)) if file.is_file()]


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a table, by the names of its columns.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    rows = load_frame(path).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def tensor_sizes(path: Path) -> dict[str, int]:
    """Numbers in each tensor of a safetensors file, from its header; the weights are not read.

    Raises:
        Unreadable: it is no such file.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(100 * 2**20, path.stat().st_size):
                raise Unreadable("has no header of safetensors")
            header = _object(json.loads(file.read(length)), "a header")
    except OSError as error:
        raise Unreadable(f"cannot be opened: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise Unreadable("has a damaged header of safetensors") from error
    return {name: _size(entry) for name, entry in header.items() if name != "__metadata__"}


def _size(entry: Any) -> int:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    if not isinstance(shape, list) or not all(isinstance(side, int) and 0 <= side < 2**40 for side in shape):
        raise Unreadable("has a tensor without a shape")
    total = 1
    for side in shape:
        total *= side
    return total
