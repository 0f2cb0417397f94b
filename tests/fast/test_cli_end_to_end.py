"""A real study in miniature, through the command line: tokenizer, pretraining, finetuning, stop, resume, page."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tiny_corpus import write_tiny_corpus

from finescale.study import lock

TOML = """
schema = 1
question = "Does this work at all?"
[data]
stream_tokens = 20_000
[base]
ladder = ["2xs"]
pretrain_tokens = [4_000, 8_000]
vocab = 300
context = 128
recipe = { batch_tokens = 256, warmup_tokens = 512 }
[finetune]
tasks = ["mt-en-de"]
examples = [20, 60]
dev_examples = 20
test_examples = 30
recipe = { batch_examples = 4, min_steps = 5, max_steps = 20, dev_checks = 2 }
[methods.full]
learning_rate = [1e-3, 3e-3, 1e-2]
[methods.lora]
rank = 2
learning_rate = 1e-2
[methods.prompt]
length = 4
learning_rate = 3e-2
[rate_search]
examples = 20
"""


def test_a_real_study_in_miniature(tmp_path: Path) -> None:
    """Ctrl-C in the middle of pretraining leaves 130 and a study that the same command completes."""
    write_tiny_corpus(tmp_path / "cache")
    folder = tmp_path / "mini"
    folder.mkdir()
    (folder / "study.toml").write_text(TOML)
    environment = os.environ | {"FINESCALE_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", "from finescale.cli import main; main()", "run", str(folder), "--workers", "2"]
    with (tmp_path / "said").open("w") as said:
        first = subprocess.Popen(command, env=environment, stderr=said, start_new_session=True)
        deadline = time.monotonic() + 90
        while not list(folder.glob("bases/*.part/progress")):
            assert time.monotonic() < deadline, (tmp_path / "said").read_text()
            assert first.poll() is None, (tmp_path / "said").read_text()
            time.sleep(0.02)
        first.send_signal(signal.SIGINT)
        assert first.wait(20) == 130
    assert "the same command continues" in (tmp_path / "said").read_text()
    (folder / "study.toml").write_text(TOML.replace("examples = [20, 60]", "examples = [20, 60, 90]"))
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=170, check=False)
    assert second.returncode == 0, second.stderr
    assert "spec.finetune.examples: [20, 60] → [20, 60, 90]" in second.stderr
    study = lock.open_study(folder)
    table = study.table()
    assert len(table) == 2 * 3 * 3
    assert table["loss"].notna().all()
    assert (table["loss"] > 0).all()
    searched = json.loads(next(folder.glob("rates/*/record.json")).read_text())
    assert set(table[(table["method"] == "full") & (table["base"] == "2xs@4K")]["learning_rate"]) == {
        searched["learning_rate"]
    }
    assert not list(folder.rglob("*.part"))
    for verb in ("fit", "advise", "report"):
        said_now = subprocess.run(
            [*command[:3], verb, str(folder)], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert said_now.returncode == (3 if verb == "advise" and "No advice" in said_now.stdout else 0), said_now.stderr
    page = (folder / "report" / "index.html").read_text()
    assert all(run in page for run in table["run"])
    assert (folder / "report" / "figures" / "loss-against-examples.png").stat().st_size > 10_000
