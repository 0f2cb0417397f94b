"""A sweep trained here by Hugging Face's Trainer and PEFT, then imported, fitted and forecast by one command each."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

import finescale as fs
from finescale.cli import call

GOLDEN = Path(__file__).parent.parent / "golden" / "exchange"


@pytest.mark.slow
def test_a_real_sweep_is_imported_fitted_and_forecast(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.syspath_prepend(str(GOLDEN))
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    import torch
    import trainer_sweep

    torch.set_num_threads(1)
    trainer_sweep.sweep(Path("sweep"), (32, 64, 128, 256), {"lora": (0, 1)})
    trainer_sweep.sweep(Path("larger"), (1024,), {"lora": (0,)})
    table = str(tmp_path / "runs.csv")
    capsys.readouterr()
    assert call(["import", "trainer", "sweep/runs", "-o", table, "--accept", "examples", "--set", "task=numbers"]) == 0
    assert "8 runs" in capsys.readouterr().out
    runs = fs.read_runs(table).frame
    assert (runs["base"] == "sweep/base").all()
    assert (runs["model_params"] == 2608).all(), "counted on the base, whose folder is here"
    assert call(["fit", table, "--law", "power", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"]["all runs"]["name"]
    assert call(["forecast", table, "--at", "examples=1024", "--json", "--level", "0.99"]) == 0
    said = json.loads(capsys.readouterr().out)[0]
    state = json.loads(Path("larger/runs/lora-n1024-s0/trainer_state.json").read_text())
    truth = min(entry["eval_loss"] for entry in state["log_history"] if "eval_loss" in entry)
    assert said["low"] < truth < said["high"], "four times the data: the run that was then made lies in the interval"
    assert "trainer_sweep" in sys.modules
