"""What the engine itself costs: a study of runs that do nothing, driven by each backend; planning and tables at scale.

``python benchmarks/engine.py [RUNS]`` prints the tables of docs/benchmarks.md. A run here is all a real one is to the
engine (a process of its own, a verified record, a rename) with no work in it. ``finescale table`` is timed as what the
command does once it has started: open the study, plan it, bring the index up to date, write CSV.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from finescale.core import fingerprint
from finescale.study import config, index, store
from finescale.study.lock import Study, open_study, write_lock
from finescale.study.plan import Digests
from finescale.study.run import run
from finescale.study.serve import Teller, serve
from finescale.study.standing import standing

WORK = "engine:work"
TOML = """
schema = 1
[base]
ladder = ["2xs", "xs", "s", "m", "l"]
pretrain_tokens = [10_000, 20_000]
[finetune]
tasks = ["mt-en-de"]
examples = [100, 200, 400, 800, 1600]
seeds = {seeds}
[methods.full]
learning_rate = 1e-3
[methods.lora]
rank = 4
learning_rate = 1e-3
"""
RUNS_PER_SEED = 100
SCORE = {"metric": "nll", "value": 3.0, "low": 2.9, "high": 3.1}
RECORD: dict[str, Any] = {
    "model_params": 1000,
    "total_params": 2000,
    "pretrain_tokens": 10_000,
    "pet_params": 100,
    "steps": 1,
    "flag": None,
    "scores": [SCORE],
    "zero_scores": [SCORE],
    "seconds": 0.0,
    "flops": 0.0,
}
LARGE = 100_000


def work(folder: str, step_id: str) -> None:
    """What a worker calls: serve a step that does nothing."""
    serve(folder, step_id, execute)


def execute(root: Path, part: Path, tell: Teller) -> dict[str, Any]:
    """The record of a step that did nothing."""
    tell(1.0)
    return RECORD


def study(folder: Path, runs: int) -> Study:
    """A study of about ``runs`` runs in ``folder``, on a corpus that is only a digest."""
    folder.mkdir(parents=True, exist_ok=True)
    seeds = list(range(max(1, runs // RUNS_PER_SEED)))
    (folder / config.STUDY_FILE).write_text(TOML.format(seeds=seeds))
    return Study(folder, config.read(folder), Digests(corpus="0" * 64, tasks={}), {})


def drive(folder: Path, runs: int, backend: str, workers: int) -> None:
    """Drive a study of no-op runs and print what each cost."""
    one = study(folder, runs)
    steps = len(one.plan.steps)
    before, began = _cpu(), time.perf_counter()
    outcome = run(one, workers=workers, backend=backend, function=WORK)
    wall, cpu = time.perf_counter() - began, _cpu() - before
    assert outcome.complete
    print(
        f"{backend:8} {workers} workers {steps:7} steps  {1e3 * wall / steps:6.1f} ms of wall time a step, "
        f"{1e3 * cpu / steps:6.1f} ms of CPU time"
    )


def tables(folder: Path, what: str) -> None:
    """Time the table of a study that is done, with and without its index."""
    shutil.rmtree(folder / index.FOLDER, ignore_errors=True)
    for state in ("cold", "warm"):
        before, began = _cpu(), time.perf_counter()
        one = open_study(folder)
        frame = one.table()
        frame.to_csv(folder / "runs.csv", index=False)
        wall, cpu = time.perf_counter() - began, _cpu() - before
        print(f"table of {len(frame):7} {what} records, {state}: {wall:6.2f} s of wall time, {cpu:6.2f} s of CPU time")


def status(folder: Path) -> None:
    """Time what ``finescale status --json`` does once it has started."""
    before, began = _cpu(), time.perf_counter()
    one = open_study(folder)
    said = standing(one)
    wall, cpu = time.perf_counter() - began, _cpu() - before
    what = f"{said['total']} steps, {len(said['findings'])} findings"
    print(f"status of {what}: {wall:6.2f} s of wall time, {cpu:6.2f} s of CPU time")


def fill(folder: Path, runs: int) -> None:
    """A study of about ``runs`` runs whose records are simply written, as a worker would leave them."""
    one = study(folder, runs)
    write_lock(one)
    for step in one.plan.steps.values():
        made = {"id": step.id, "kind": step.kind, "label": step.label, "needs": step.needs}
        whole = {"made": made | {"spec": step.spec.model_dump(mode="json")}} | RECORD
        home = one.store.done(step)
        home.mkdir(parents=True)
        sealed = {"layout": store.RECORD_LAYOUT, "digest": fingerprint(whole)} | whole
        (home / "record.json").write_text(json.dumps(sealed))


def plan(runs: int) -> None:
    """Time the planning of a large study."""
    with tempfile.TemporaryDirectory() as folder:
        one = study(Path(folder), runs)
        before, began = _cpu(), time.perf_counter()
        steps = len(one.plan.steps)
        wall, cpu = time.perf_counter() - began, _cpu() - before
        print(f"plan of {steps} steps: {wall:.2f} s of wall time, {cpu:.2f} s of CPU time")


def _cpu() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def main() -> None:
    """Print the table."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(f"load of this machine: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
    plan(LARGE)
    for backend in ("local", "ray"):
        with tempfile.TemporaryDirectory() as folder:
            drive(Path(folder) / "study", runs, backend, workers=2)
            if backend == "local":
                tables(Path(folder) / "study", "no-op")
                status(Path(folder) / "study")
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder) / "study", LARGE)
        tables(Path(folder) / "study", "no-op")


if __name__ == "__main__":
    main()
