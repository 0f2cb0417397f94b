"""What a run pays to read its examples out of a large pool: read as they are asked for, against unpacking every split.

``python benchmarks/pool.py [--pairs 1000000] [--examples 64]``: a prepared file of made pairs of 10 to 40 tokens a
side, 200 of them for each of dev and test, which a run goes through four times. Each way runs in a process of its
own, in turn, with the file in the page cache; processor time and how far the peak memory rises. "Unpacked" reads the
whole file and makes an object of every example of a split, as finescale did before.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from finescale.lab.packing import Example
from finescale.lab.splits import load_split
from finescale.lab.subset import subset

OTHERS, READINGS = 200, 4
LEAST, MOST, VOCAB = 10, 40, 8192


def write(folder: Path, pairs: int) -> None:
    """The splits of a task called ``made``."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, rows in {"train": pairs, "dev": OTHERS, "test": OTHERS}.items():
        lengths = rng.integers(LEAST, MOST, 2 * rows).astype(np.int32)
        arrays[f"{split}/ids"] = rng.integers(0, VOCAB, lengths.sum()).astype(np.uint16)
        arrays[f"{split}/lengths"] = lengths
        arrays[f"{split}/bytes"] = 4 * lengths[1::2]
        arrays[f"{split}/stratum"] = np.zeros(rows, np.int16)
    save_file(arrays, folder / "made.safetensors")


def read(folder: Path, examples: int, unpacked: bool) -> tuple[float, float]:
    """Processor seconds, and MiB that the peak memory rose by."""
    began, held = time.process_time(), _peak()
    way = unpack if unpacked else partial(load_split, name="made")
    kept = [subset(way(folder, split="train"), examples, 0)]
    kept += [list(way(folder, split=split)) for split in ["dev"] * (READINGS - 1) + ["test"]]
    return time.process_time() - began, _peak() - held


def unpack(folder: Path, split: str) -> list[Example]:
    """Every example of a split."""
    arrays = load_file(folder / "made.safetensors")
    cuts = np.concatenate([[0], np.cumsum(arrays[f"{split}/lengths"])])
    pieces = [arrays[f"{split}/ids"][a:b].astype(np.int64) for a, b in itertools.pairwise(cuts)]
    rows = zip(pieces[::2], pieces[1::2], arrays[f"{split}/bytes"], arrays[f"{split}/stratum"], strict=True)
    return [Example(p, t, int(n), int(s)) for p, t, n, s in rows]


def apart(work: Callable[..., Any], *args: Any) -> Any:
    """What a function returns in a process of its own; a child starts with its parent's peak memory."""
    with multiprocessing.get_context("spawn").Pool(1) as alone:
        return alone.apply(work, args)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print a row for each way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--examples", type=int, default=64)
    args = parser.parse_args()
    print("| way | processor, s | MiB |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        apart(write, Path(folder), args.pairs)
        for way, unpacked in {"unpacked": True, "as asked for": False}.items():
            seconds, held = apart(read, Path(folder), args.examples, unpacked)
            print(f"| {way} | {seconds:.2f} | {held:.0f} |", flush=True)


if __name__ == "__main__":
    main()
