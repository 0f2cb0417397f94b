"""What a prepared folder holds of a task or probe: token ids by split, and the text of dev and test rows.

``NAME.safetensors`` has, by split, token ids, lengths of prompts and targets in turn, UTF-8 bytes of targets and
strata; ``NAME-text.parquet`` has source, prompt, reference and language of dev and test rows, in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from finescale.lab.packing import Example
from finescale.lab.tasks import Rendered

Ids = NDArray[Any]
TEXT = ["source", "prompt", "reference", "language"]
"""What is kept of a dev or test row as text: what it is about, what the model is given, what it should say, in what."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A rendered example with its tokens, the target's UTF-8 bytes and its language's place among the task's."""

    text: Rendered
    prompt: Ids
    target: Ids
    bytes: int
    stratum: int = 0


class Split(Sequence[Example]):
    """The examples of a split in their prepared order, each read from the mapped file when it is asked for.

    A run of 64 examples neither unpacks a pool of a million nor holds it, and workers share the pages they read.

    Attributes:
        tokens: prompt and target tokens of each example.
        strata: place of each example's language among the task's.
    """

    def __init__(self, path: Path, split: str) -> None:
        with safe_open(path, framework="numpy") as file:
            lengths = file.get_tensor(f"{split}/lengths").astype(np.int64)
            self._bytes = file.get_tensor(f"{split}/bytes")
            # Folders prepared before strata were kept have none.
            name, there = f"{split}/stratum", set(file.keys())
            self.strata: Ids = file.get_tensor(name) if name in there else np.zeros(len(self._bytes), np.int16)
            self._ids = file.get_slice(f"{split}/ids")
        self._cuts = np.concatenate([[0], np.cumsum(lengths)])
        self.tokens: Ids = lengths[::2] + lengths[1::2]

    def __len__(self) -> int:
        return len(self._bytes)

    @overload
    def __getitem__(self, at: int) -> Example: ...
    @overload
    def __getitem__(self, at: slice) -> list[Example]: ...
    def __getitem__(self, at: int | slice) -> Example | list[Example]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        place = range(len(self))[at]
        start, middle, end = (int(cut) for cut in self._cuts[2 * place : 2 * place + 3])
        ids = self._ids[start:end].astype(np.int64)
        both = ids[: middle - start], ids[middle - start :]
        return Example(*both, int(self._bytes[place]), int(self.strata[place]))


def strata_of(examples: Sequence[Example]) -> list[int]:
    """The stratum of each example, without making those of a ``Split``."""
    return list(examples.strata.tolist()) if isinstance(examples, Split) else [one.stratum for one in examples]


def load_split(folder: Path, name: str, split: str) -> Split:
    """Tokenised examples of one split of a task or probe, in their prepared order."""
    return Split(_file(folder, name, ".safetensors"), split)


def load_text(folder: Path, name: str, split: str) -> pd.DataFrame:
    """Columns ``TEXT`` of a dev or test split, row by row as in ``load_split``.

    ``source`` is "" throughout where the folder was prepared before sources were kept.
    """
    frame = pd.read_parquet(_file(folder, name, "-text.parquet"))
    return frame[frame["split"] == split].reindex(columns=TEXT, fill_value="").reset_index(drop=True)


def write_sets(out: Path, name: str, sets: Mapping[str, list[Encoded]]) -> None:
    """The files of a task or probe."""
    arrays: dict[str, NDArray[Any]] = {}
    frames = []
    for split, rows in sets.items():
        flat = [piece for row in rows for piece in (row.prompt, row.target)]
        arrays[f"{split}/ids"] = narrow(np.concatenate(flat))
        arrays[f"{split}/lengths"] = np.array([len(piece) for piece in flat], np.int32)
        arrays[f"{split}/bytes"] = np.array([row.bytes for row in rows], np.int32)
        arrays[f"{split}/stratum"] = np.array([row.stratum for row in rows], np.int16)
        if split != "train":
            told = [(split, row.text.source, row.text.prompt, row.text.target, row.text.language) for row in rows]
            frames.append(pd.DataFrame(told, columns=["split", *TEXT]))
    save_file(arrays, _file(out, name, ".safetensors"))
    pd.concat(frames, ignore_index=True).to_parquet(_file(out, name, "-text.parquet"))


def narrow(ids: Ids) -> Ids:
    """Token ids as they are stored: in two bytes where the vocabulary allows it."""
    return ids.astype(np.uint16) if ids.max(initial=0) < 2**16 else ids


def _file(folder: Path, name: str, ending: str) -> Path:
    """A file of a task or probe; no task's name has an ``@``, so that ``text:en`` becomes nobody else's file."""
    return folder / f"{name.replace(':', '@')}{ending}"
