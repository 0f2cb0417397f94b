"""What runs keep of their weights: it opens with the libraries' own loaders and gives the loss of the record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from test_lab_training import SHAPE, base, data, run_spec  # noqa: F401
from transformers import AutoModelForCausalLM

from finescale.lab import keep
from finescale.lab.finetune import finetune
from finescale.lab.splits import load_split
from finescale.study.cost import kept_disk

RATES = {"full": 3e-3, "lora": 1e-2, "prompt": 3e-2}


@torch.no_grad()
def loss_of(net: Any, folder: Path) -> float:
    """Token-weighted test loss by the library's own forward pass, an example at a time."""
    nats, tokens = 0.0, 0
    for example in load_split(folder, "copy", "test"):
        ids = torch.from_numpy(np.concatenate([example.prompt, example.target]))[None]
        labels = ids.clone()
        labels[:, : len(example.prompt)] = -100
        nats += float(net(input_ids=ids, labels=labels).loss) * len(example.target)
        tokens += len(example.target)
    return nats / tokens


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("method", ["lora", "prompt"])
def test_an_adapter_opens_in_peft_and_gives_the_records_loss(
    base: Path,  # noqa: F811
    data: Path,  # noqa: F811
    tmp_path: Path,
    method: str,
) -> None:
    spec = run_spec(method, RATES[method])
    record = finetune(spec, tmp_path, data, base, None, lambda _: None, keep="adapters")
    assert record["flag"] is None
    net = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    untouched = loss_of(net, data)
    opened = PeftModel.from_pretrained(net, tmp_path / keep.ADAPTER).eval()
    assert loss_of(opened, data) == pytest.approx(record["scores"][0]["value"], rel=1e-5)
    assert abs(untouched - record["scores"][0]["value"]) > 0.01, "the adapter does something"
    assert files(tmp_path / keep.ADAPTER) == {keep.WEIGHTS, keep.CONFIG}
    said = json.loads((tmp_path / keep.ADAPTER / keep.CONFIG).read_text())
    assert said["base_model_name_or_path"] == f"bases/{base.name}"
    weights = (tmp_path / keep.ADAPTER / keep.WEIGHTS).stat().st_size
    assert 4 * record["pet_params"] <= weights < 4 * record["pet_params"] + 4000, "as the plan reckons, and a header"


def test_the_best_checkpoint_opens_in_transformers_and_gives_the_records_loss(
    base: Path,  # noqa: F811
    data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    record = finetune(run_spec("full", RATES["full"]), tmp_path, data, base, None, lambda _: None, keep="best")
    net = AutoModelForCausalLM.from_pretrained(tmp_path / keep.BEST, dtype=torch.float32).eval()
    assert loss_of(net, data) == pytest.approx(record["scores"][0]["value"], rel=1e-5)
    assert not [name for name in files(tmp_path) if name.endswith((".bin", ".pt", ".pkl"))]


def test_by_default_only_scores_are_kept_and_the_record_is_the_same(
    base: Path,  # noqa: F811
    data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    records = []
    for name in keep.KEEP:
        out = tmp_path / name
        out.mkdir()
        records.append(finetune(run_spec("full", 3e-3, 32), out, data, base, None, lambda _: None, keep=name))
    for name in ("scores", "adapters"):
        assert files(tmp_path / name) == {"rows.parquet", "log.jsonl"}, "every weight was trained: there is no adapter"
    told = [{key: record[key] for key in ("scores", "zero_scores", "steps", "dev_loss")} for record in records]
    assert told[0] == told[1] == told[2]


def test_the_plan_reckons_with_what_is_kept() -> None:
    full, lora = run_spec("full", 1e-3).method, run_spec("lora", 1e-3).method
    assert [kept_disk(full, SHAPE, name) > 0 for name in keep.KEEP] == [False, False, True]
    assert [kept_disk(lora, SHAPE, name) > 0 for name in keep.KEEP] == [False, True, True]
