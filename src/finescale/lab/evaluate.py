"""Scores of a model on a split: summed nats per example, then the metrics over them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from finescale import registry
from finescale.core import Score, TaskSpec
from finescale.lab import model
from finescale.lab.metrics import Rows
from finescale.lab.packing import Example, pack
from finescale.lab.prepare import load_split

BATCH = 64


@torch.no_grad()
def rows(net: Any, examples: Sequence[Example], row: int, prefix: torch.Tensor | None = None) -> Rows:
    """Per-example sums over ``examples``; ``prefix`` is a soft prompt, (length, width)."""
    length = 0 if prefix is None else len(prefix)
    sums = []
    for start in range(0, len(examples), BATCH):
        packed = pack(examples[start : start + BATCH], row, length)
        nats = model.nats(net, packed, prefix)[1].double()
        sums.append(torch.zeros(packed.examples, dtype=torch.float64).index_add_(0, packed.owner_N, nats).numpy())
    return Rows(
        nats=np.concatenate(sums),
        tokens=np.array([len(e.target) for e in examples], float),
        bytes=np.array([e.target_bytes for e in examples], float),
    )


def untouched(net: Any, base: Path, data: Path, task: TaskSpec, split: str) -> Rows:
    """Per-example sums of a base nobody has finetuned, worked out once and kept beside its weights for later runs.

    The file is derived and may be deleted; it is renamed into place, so two workers that make it at once agree.
    """
    kept = base / f"untouched-{task.fingerprint()}-{split}.parquet"
    if not kept.exists():
        found = rows(net, load_split(data, task.name, split), net.config.max_position_embeddings)
        aside = kept.with_suffix(f".{os.getpid()}.aside")
        pd.DataFrame(vars(found)).to_parquet(aside)
        os.replace(aside, kept)
    frame = pd.read_parquet(kept)
    return Rows(*(frame[name].to_numpy(float) for name in ("nats", "tokens", "bytes")))


def mean_nats(of: Rows) -> float:
    """Nats per target token, token-weighted over the whole set."""
    return float(of.nats.sum() / of.tokens.sum())


def scores(of: Rows, data: Path, metrics: Sequence[str] = ("nll", "perplexity", "bits-per-byte")) -> list[Score]:
    """Each metric with its interval; the signature names the tokenizer, without which nats cannot be compared."""
    signature = f"target-only|eos:counted|tokenizer:{_digest(data / 'tokenizer.json')}"
    return [registry.get("metric", name).score(of, signature) for name in metrics]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
