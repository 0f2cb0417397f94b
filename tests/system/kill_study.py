"""A study of many short steps, each with phases in which it can be killed, and the driver that tests kill.

The work of a step takes some tens of milliseconds, leaves a half-written file behind while it works, and its result
follows from its spec alone, so that a study that was killed a hundred times must equal one that never was.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any

from finescale.core import fingerprint
from finescale.study import config, store
from finescale.study.lock import Study
from finescale.study.plan import Digests
from finescale.study.run import run
from finescale.study.serve import Teller, serve

WORK = "kill_study:work"
TOML = """
schema = 1
[base]
ladder = ["2xs", "xs", "s"]
pretrain_tokens = [10_000, 20_000]
[finetune]
tasks = ["mt-en-de"]
examples = [100, 200, 400, 800, 1600]
seeds = [0, 1, 2]
[methods.full]
[methods.lora]
rank = [4, 8]
"""
SECONDS_A_PHASE = 0.03


def killed_study(folder: Path) -> Study:
    """The study in ``folder``, on a corpus that is only a digest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / config.STUDY_FILE).write_text(TOML)
    return Study(folder, config.read(folder), Digests(corpus="0" * 64, tasks={}), {})


def work(folder: str, step_id: str) -> None:
    """What a worker calls."""
    serve(folder, step_id, execute)


def execute(root: Path, part: Path, tell: Teller) -> dict[str, Any]:
    """Wait, leave half a file, wait, complete it; a base resumes from what it finds, as pretraining does."""
    asked = store.read_json(part / "spec.json")
    for needed in asked["needs"].values():
        assert any((root / name / needed / "record.json").exists() for name in store.FOLDERS.values()), needed
    time.sleep(random.random() * SECONDS_A_PHASE)
    value = int(fingerprint(asked["spec"]), 16)
    (part / "rows.bin").write_bytes(b"half")
    tell(0.5)
    time.sleep(random.random() * SECONDS_A_PHASE)
    (part / "rows.bin").write_bytes(value.to_bytes(8, "big") * 100)
    return {"value": value % 10**6, "learning_rate": 0.01, "seconds": time.perf_counter()}


def main(folder: Path, backend: str) -> None:
    """Drive the study in a process of its own; exit code 1 where steps were killed too often to be tried again."""
    outcome = run(killed_study(folder), workers=2, backend=backend, function=WORK)
    sys.exit(not outcome.complete)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
