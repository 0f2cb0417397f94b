"""Runs per hour of one sweep: finescale's engine against transformers' Trainer with PEFT, cell by cell in one run.

``python benchmarks/sweep.py [--rungs l,2xl] [--examples 64,256,1024,2048] [--methods full,lora,prompt] [--workers 1]
[--rivals sensible,plain] [--tier core] [--tokens 200000] [--folder KEPT] [--device cpu]``

Every cell (base, method, number of examples) is run by each contestant in turn: the rivals (``rival_trainer.py``) as a
process of their own per run, from its start to its end, with as many threads as there are workers; finescale as its
engine does, a step submitted to a worker process of one thread that stands ready, from the order to the finished
record. So ``--workers 1`` compares on one core, and ``--workers 2`` what a machine of two cores gets done, as a user's
loop over the Trainer would use it. The text, the tokens, the subset, batch size, steps, schedule, dev checks and
stopping are the same; bases and data are prepared beforehand and not counted (``--folder`` keeps them for another
time), nor is the start of finescale's workers, which is said apart. finescale runs every cell with two seeds of subset,
initialisation and order, which says how far apart losses are by chance; its time is that of both, halved. Times on the
clock; a busy machine hits all contestants of a cell alike, so read the ratios. All compute on the machine's GPU if it
has one, or on the ``--device`` named; there the sensible rival computes in bf16 where the GPU does, and memory is its.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from finescale import registry
from finescale.lab import fastpath, ladder
from finescale.lab.methods import Method
from finescale.lab.splits import load_split
from finescale.lab.subset import subset
from finescale.study.backends import Setup
from finescale.study.backends.local import ENVIRONMENT, LocalBackend
from finescale.study.lock import Study, read_study
from finescale.study.plan import Step
from finescale.study.run import WORK

TOML = """
schema = 1
[data]
tier = "{tier}"
stream_tokens = {stream}
[base]
ladder = ["{rung}"]
pretrain_tokens = [{tokens}]
context = 128
[finetune]
tasks = ["mt-en-de"]
examples = [{examples}]
seeds = [0, 1]
dev_examples = 64
test_examples = 200
recipe = {{ batch_examples = 16, epochs = 1, min_steps = 16, dev_checks = 4 }}
[tasks.mt-en-de]
max_source_tokens = 40
max_target_tokens = 40
"""
METHODS = {
    "full": ("", 1e-3),
    "lora": ("rank = 8\n", 3e-3),
    "prompt": ("length = 20\n", 3e-2),
}
"""What a study file says of each, and its rate on the rung ``RATED``."""
RATED = "l"
OURS = "finescale"
EQUAL = 0.5
"""Per cent that two test losses may differ and be called equal."""


@dataclass(frozen=True)
class Result:
    """What one contestant took for one cell."""

    seconds: float
    cpu_seconds: float
    loss: float
    steps: int
    peak_bytes: int


def table(name: str, rung: str) -> str:
    """A method's part of the study file, its rate carried to a rung by the method's own rule."""
    size, rate = METHODS[name]
    method: Method = registry.get("method", name)
    rated, wanted = (ladder.shape(one, 1, 1) for one in (RATED, rung))
    carried = method.rate_at(rate, rated, wanted)
    return f"[methods.{name}]\n{size}learning_rate = {carried:.3g}\n"


class Engine:
    """finescale's own way to run steps: orders to workers that stand ready."""

    def __init__(self, study: Study, workers: int) -> None:
        self.study, self.workers = study, workers
        self.backend = LocalBackend(Setup(preload=(WORK.partition(":")[0],)))

    def __call__(self, steps: list[Step]) -> list[Result]:
        """Results by step; each took an equal share of the time of all."""
        began = time.perf_counter()
        self.work(steps)
        seconds = (time.perf_counter() - began) / len(steps)
        return [self.result(step, seconds) for step in steps]

    def work(self, steps: list[Step]) -> None:
        """Have steps done, as many at a time as there are workers."""
        store, waiting, running = self.study.store, list(steps), 0
        while waiting or running:
            while waiting and running < self.workers:
                step = waiting.pop(0)
                store.begin(step)
                self.backend.submit(WORK, store.address, step.id)
                running += 1
            for ended in self.backend.poll(1.0):
                assert ended.exit == 0, store.failure(self.study.plan.steps[ended.step])
                running -= 1

    def result(self, step: Step, seconds: float) -> Result:
        """What a step's record says."""
        record = self.study.store.record(step)
        loss = next(score["value"] for score in record["scores"] if score["metric"] == "nll")
        return Result(seconds, record["cpu_seconds"], loss, record["steps"], record["peak_memory_bytes"])


def prepared(folder: Path, rung: str, args: argparse.Namespace) -> Engine:
    """The sweep over a rung, its data and base there, before workers that stand ready."""
    examples = ", ".join(map(str, args.examples))
    toml = TOML.format(rung=rung, examples=examples, tokens=args.tokens, stream=2 * args.tokens, tier=args.tier)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text(toml + "".join(table(name, rung) for name in args.methods))
    study = read_study(folder)
    engine = Engine(study, args.workers)
    for step in (*study.plan.of("data"), *study.plan.of("base")):
        if not study.store.done(step).exists():
            engine.work([step])
    return engine


def trainer(study: Study, recipe: str, scratch: Path, threads: int) -> Callable[[Step], Result]:
    """A rival: a process per run."""
    environment = {name: str(threads) for name in ENVIRONMENT if name.endswith("_NUM_THREADS")}

    def one(step: Step) -> Result:
        spec: Any = step.spec
        data, base = (study.store.done(study.plan.steps[step.needs[role]]) for role in ("data", "base"))
        pairs = {
            "train": subset(load_split(data, spec.task.name, "train"), spec.examples, spec.seed_subset),
            "dev": load_split(data, spec.task.name, "dev"),
            "test": load_split(data, spec.task.name, "test"),
        }
        written = {name: [[e.prompt.tolist(), e.target.tolist()] for e in found] for name, found in pairs.items()}
        (scratch / "pairs.json").write_text(json.dumps(written))
        steps = spec.recipe.steps(spec.examples)
        cell = {
            **spec.recipe.model_dump(include={"batch_examples", "dev_checks", "patience", "weight_decay", "clip"}),
            "recipe": recipe,
            "base": str(base),
            "pairs": str(scratch / "pairs.json"),
            "examples": spec.examples,
            "steps": steps,
            "warmup_steps": max(1, round(steps * spec.recipe.warmup_fraction)),
            "learning_rate": spec.learning_rate,
            "method": spec.method.name,
            "pet_size": spec.method.pet_size,
            "context": 128,
            "seed": spec.seed_order,
            "device": fastpath.device().type,
        }
        (scratch / "cell.json").write_text(json.dumps(cell))
        began = time.perf_counter()
        script = Path(__file__).with_name("rival_trainer.py")
        process = subprocess.Popen(
            [sys.executable, str(script), str(scratch / "cell.json")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | environment,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        assert status == 0, process.stderr.read().decode()[-2000:]
        found = json.loads(said.splitlines()[-1])
        spent = usage.ru_utime + usage.ru_stime
        return Result(seconds, spent, found["loss"], found["steps"], found["peak_bytes"] or usage.ru_maxrss * 1024)

    return one


def measure(engine: Engine, args: argparse.Namespace, scratch: Path) -> dict[str, dict[str, list[Result]]]:
    """Every contestant's results by cell; finescale's are by seed."""
    study = engine.study
    rivals = {name: trainer(study, name, scratch, args.workers) for name in args.rivals}
    cells: dict[str, list[Step]] = {}
    for step in study.plan.of("run"):
        spec: Any = step.spec
        base = study.plan.steps[step.needs["base"]].label
        cells.setdefault(f"{base}, {spec.method.name}, {spec.examples}", []).append(step)
    began = time.perf_counter()
    engine([again(study, step) for step in next(iter(cells.values()))])  # starts the workers, which a sweep does once
    print(f"finescale's workers were ready, and first runs done, after {time.perf_counter() - began:.1f} s", flush=True)
    found = {}
    for cell, steps in cells.items():
        ours = engine([again(study, step) for step in steps])
        found[cell] = {OURS: ours} | {name: [rival(steps[0])] for name, rival in rivals.items()}
        print(line(cell, found[cell], args.rivals), flush=True)
    engine.backend.close()
    return found


def again(study: Study, step: Step) -> Step:
    """A run, to be done over where it was done before."""
    if study.store.done(step).exists():
        study.store.put_aside([step])
    return step


def line(cell: str, results: dict[str, list[Result]], rivals: list[str]) -> str:
    """A row of the table."""
    ours, other = results[OURS]
    chance = 100 * (other.loss / ours.loss - 1)
    shown = [cell, f"{ours.seconds:.1f}", f"{ours.loss:.4f}", f"{chance:+.2f} %", mib(ours)]
    for name in rivals:
        theirs = results[name][0]
        cpu = 2 * theirs.cpu_seconds / (ours.cpu_seconds + other.cpu_seconds)
        shown += [f"{theirs.seconds:.1f}", f"{theirs.seconds / ours.seconds:.2f}", f"{cpu:.2f}"]
        shown += [f"{apart(results, name):+.2f} %", mib(theirs)]
    return f"| {' | '.join(shown)} |"


def apart(results: dict[str, list[Result]], name: str) -> float:
    """Our test loss less a rival's with the same seed, per cent."""
    return 100 * (results[OURS][0].loss / results[name][0].loss - 1)


def mib(result: Result) -> str:
    """Memory of one process at its peak."""
    return f"{result.peak_bytes / 2**20:.0f}"


def summary(found: dict[str, dict[str, list[Result]]], name: str) -> str:
    """Runs per hour, losses and memory against a rival over all cells."""
    ratios = [cell[name][0].seconds / cell[OURS][0].seconds for cell in found.values()]
    near = sum(abs(apart(cell, name)) <= EQUAL for cell in found.values())
    lean = sum(cell[OURS][0].peak_bytes <= cell[name][0].peak_bytes for cell in found.values())
    return (
        f"{name}: runs per hour {statistics.median(ratios):.2f} times in the median over {len(ratios)} cells, "
        f"{min(ratios):.2f} at least, {max(ratios):.2f} at most; test losses within {EQUAL} % in {near}, "
        f"no more memory in {lean}"
    )


def split(kind: Callable[[str], Any], text: str) -> list[Any]:
    """A list that commas part."""
    return [kind(one) for one in text.split(",")]


def main() -> None:
    """Print the table and the ratios over all cells."""
    parser = argparse.ArgumentParser()
    listed: dict[str, tuple[Callable[[str], Any], list[Any]]] = {
        "rungs": (str, ["l", "2xl"]),
        "examples": (int, [64, 256, 1024, 2048]),
        "methods": (str, list(METHODS)),
        "rivals": (str, ["sensible", "plain"]),
    }
    for name, (kind, default) in listed.items():
        parser.add_argument(f"--{name}", type=partial(split, kind), default=default)
    for name, number in (("workers", 1), ("tokens", 200_000)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--tier", default="core")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--device", choices=["cpu", "cuda"], help="the machine's GPU, if it has one, by default")
    args = parser.parse_args()
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # for this process, which has not looked yet, and all it starts
    if args.device == "cuda" and fastpath.device().type != "cuda":
        parser.error("--device cuda: no GPU is seen here")
    print(f"load of this machine: {', '.join(f'{load:.1f}' for load in os.getloadavg())}; {args.workers} workers")
    with tempfile.TemporaryDirectory() as scratch:
        head = ["cell", "s", "test loss", "other seed", "MiB"]
        for name in args.rivals:
            head += [f"{name}: s", "ratio", "of CPU time", "our loss less theirs", "MiB"]
        print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
        found: dict[str, dict[str, list[Result]]] = {}
        for rung in args.rungs:
            engine = prepared((args.folder or Path(scratch)) / rung, rung, args)
            found |= measure(engine, args, Path(scratch))
    for name in args.rivals:
        print(summary(found, name))


if __name__ == "__main__":
    main()
