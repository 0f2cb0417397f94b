"""Runs per hour of one sweep: finescale's engine against transformers' Trainer with PEFT, cell by cell in one run.

``python benchmarks/sweep.py [--rungs l,2xl] [--examples 64,256,1024] [--methods full,lora,prompt] [--rounds 1]
[--rivals sensible,plain]``

Every cell (base, method, number of examples) is run by each contestant in turn on one thread of one core: the rivals
(``rival_trainer.py``) as a process of their own per run, from its start to its end; finescale as its engine does, a
step submitted to a worker process that stands ready, from the order to the finished record. The text, the tokens, the
subset, batch size, steps, schedule, dev checks and stopping are the same; bases and data are prepared beforehand and
not counted, nor is the start of finescale's workers, which is said apart. finescale runs every cell with another seed
as well, of subset, initialisation and order, which says how far apart losses are by chance. Times on the clock; a busy
machine hits all contestants of a cell alike, so read the ratios.
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
from finescale.lab import ladder
from finescale.lab.methods import Method
from finescale.lab.prepare import load_split
from finescale.lab.subset import subset
from finescale.study.backends import Setup
from finescale.study.backends.local import ENVIRONMENT, LocalBackend
from finescale.study.lock import Study, read_study
from finescale.study.plan import Step
from finescale.study.run import WORK, run

TOML = """
schema = 1
[data]
tier = "{tier}"
stream_tokens = 400_000
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
AGAIN = "finescale, another seed"


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
    carried = method.rate_at(rate, *(ladder.shape(one, 1, 1) for one in (RATED, rung)))
    return f"[methods.{name}]\n{size}learning_rate = {carried:.3g}\n"


def prepared(folder: Path, rung: str, args: argparse.Namespace) -> Study:
    """The sweep over a rung as a study whose data and base are there and whose runs are not."""
    toml = TOML.format(rung=rung, examples=", ".join(map(str, args.examples)), tokens=args.tokens, tier=args.tier)
    folder.mkdir()
    (folder / "study.toml").write_text(toml + "".join(table(name, rung) for name in args.methods))
    study = read_study(folder)
    needed = {step.id for step in study.plan.steps.values() if step.kind != "run"}
    outcome = run(study, workers=1, only=needed)
    assert needed <= outcome.done
    return study


class Engine:
    """finescale's own way to run a step: an order to a worker that stands ready."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.backend = LocalBackend(Setup(preload=(WORK.partition(":")[0],)))

    def __call__(self, step: Step) -> Result:
        store = self.study.store
        began = time.perf_counter()
        store.begin(step)
        self.backend.submit(WORK, store.address, step.id)
        while not (ended := self.backend.poll(1.0)):
            pass
        seconds = time.perf_counter() - began
        assert ended[0].exit == 0, store.failure(step)
        record = store.record(step)
        loss = next(score["value"] for score in record["scores"] if score["metric"] == "nll")
        return Result(seconds, record["cpu_seconds"], loss, record["steps"], record["peak_memory_bytes"])


def trainer(study: Study, recipe: str, scratch: Path) -> Callable[[Step], Result]:
    """A rival: a process per run."""

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
        }
        (scratch / "cell.json").write_text(json.dumps(cell))
        began = time.perf_counter()
        script = Path(__file__).with_name("rival_trainer.py")
        process = subprocess.Popen(
            [sys.executable, str(script), str(scratch / "cell.json")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | ENVIRONMENT,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        assert status == 0, process.stderr.read().decode()[-2000:]
        found = json.loads(said.splitlines()[-1])
        spent = usage.ru_utime + usage.ru_stime
        return Result(seconds, spent, found["loss"], found["steps"], usage.ru_maxrss * 1024)

    return one


def measure(study: Study, args: argparse.Namespace, scratch: Path) -> dict[str, dict[str, list[Result]]]:
    """Every contestant's results by cell."""
    engine = Engine(study)
    contestants: dict[str, Callable[[Step], Result]] = {OURS: engine}
    contestants |= {name: trainer(study, name, scratch) for name in args.rivals}
    found: dict[str, dict[str, list[Result]]] = {}
    cells = study.plan.of("run")
    warm = engine(cells[0])  # starts the workers, which a sweep does once
    print(f"finescale's workers were ready, and a first run done, after {warm.seconds:.1f} s", flush=True)
    for _ in range(args.rounds):
        for step in cells:
            spec: Any = step.spec
            base = study.plan.steps[step.needs["base"]].label
            cell = f"{base}, {spec.method.name}, {spec.examples}"
            for name, contestant in (contestants if spec.seed_order == 0 else {AGAIN: engine}).items():
                again(study, step)
                result = contestant(step)
                found.setdefault(cell, {}).setdefault(name, []).append(result)
            if {OURS, AGAIN} <= set(found[cell]):
                print(line(cell, found[cell], args.rivals), flush=True)
    engine.backend.close()
    return found


def again(study: Study, step: Step) -> None:
    """Have a run to do over."""
    if study.store.done(step).exists():
        study.store.put_aside([step])


def line(cell: str, results: dict[str, list[Result]], rivals: list[str]) -> str:
    """A row of the table: medians over the rounds."""
    ours = results[OURS]
    loss = middle(ours, "loss")
    chance = 100 * (middle(results[AGAIN], "loss") / loss - 1)
    shown = [cell, f"{middle(ours, 'seconds'):.1f}", f"{loss:.4f}", f"{chance:+.2f} %", f"{peak(ours):.0f}"]
    for name in rivals:
        theirs = results[name]
        ratio, cpu = (middle(theirs, of) / middle(ours, of) for of in ("seconds", "cpu_seconds"))
        apart = 100 * (loss / middle(theirs, "loss") - 1)
        shown += [f"{middle(theirs, 'seconds'):.1f}", f"{ratio:.2f}", f"{cpu:.2f}", f"{apart:+.2f} %"]
        shown.append(f"{peak(theirs):.0f}")
    return f"| {' | '.join(shown)} |"


def middle(results: list[Result], of: str) -> float:
    """Median over rounds."""
    return statistics.median(getattr(result, of) for result in results)


def peak(results: list[Result]) -> float:
    """Largest memory over rounds, MiB."""
    return max(result.peak_bytes for result in results) / 2**20


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
    for name, number in (("rounds", 1), ("tokens", 200_000)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--tier", default="core")
    args = parser.parse_args()
    print(f"load of this machine: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")
    with tempfile.TemporaryDirectory() as folder:
        head = ["cell", "s", "test loss", "other seed", "MiB"]
        for name in args.rivals:
            head += [f"{name}: s", "ratio", "of CPU time", "our loss less theirs", "MiB"]
        print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
        found: dict[str, dict[str, list[Result]]] = {}
        for rung in args.rungs:
            found |= measure(prepared(Path(folder) / rung, rung, args), args, Path(folder))
    for name in args.rivals:
        ratios = [middle(cell[name], "seconds") / middle(cell[OURS], "seconds") for cell in found.values()]
        print(
            f"{name}: runs per hour {statistics.median(ratios):.2f} times in the median over {len(ratios)} cells, "
            f"{min(ratios):.2f} at least, {max(ratios):.2f} at most"
        )


if __name__ == "__main__":
    main()
