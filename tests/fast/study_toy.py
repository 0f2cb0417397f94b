"""A small study whose steps train nothing: real processes, real files, and accidents on order."""

from __future__ import annotations

import os
import signal
import time
from math import exp
from pathlib import Path
from typing import Any

from finescale.core import Shape
from finescale.errors import Fault, InputError
from finescale.lab.ladder import count
from finescale.study import config, store
from finescale.study.lock import Study
from finescale.study.plan import Digests
from finescale.study.serve import Teller, serve

WORK = "study_toy:work"
TOML = """
schema = 1
question = "Which method?"
[base]
ladder = ["xs", "s"]
pretrain_tokens = [10_000, 20_000]
[finetune]
tasks = ["mt-en-de"]
examples = [100, 200, 400, 800]
[methods.full]
learning_rate = 1e-3
[methods.lora]
rank = 4
"""


def toy_study(folder: Path, toml: str = TOML) -> Study:
    """The toy study in ``folder``, on a corpus that is only a digest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / config.STUDY_FILE).write_text(toml)
    return Study(folder, config.read(folder), Digests(corpus="0" * 64, tasks={}), {})


def work(folder: str, step_id: str) -> None:
    serve(folder, step_id, execute)


def execute(root: Path, part: Path, tell: Teller) -> dict[str, Any]:
    """Leave a mark of the attempt and obey ``orders/<kind or id>``: slow, memory, fail, input, kill or kill-once."""
    asked = store.read_json(part / "spec.json")
    with (root / "attempts").open("a") as file:
        file.write(asked["id"] + "\n")
    with (root / "parts").open("a") as file:
        file.write(f"{asked['how']['parts']} {asked['id']}\n")
    for needed in asked["needs"].values():
        assert any((root / name / needed / "record.json").exists() for name in store.FOLDERS.values()), needed
    tell(0.5)
    for name in (asked["kind"], asked["id"]):
        order = root / "orders" / name
        if order.exists():
            obey(order.read_text(), part)
    return record(asked, root)


def obey(order: str, part: Path) -> None:
    if order == "slow":
        time.sleep(30)
    if order == "memory" and store.read_json(part / "spec.json")["how"]["parts"] < 4:
        raise MemoryError("ordered to want more")
    if order == "fail":
        raise ValueError("ordered to fail")
    if order == "input":
        raise InputError(Fault("pairs.jsonl", "has no rows"))
    if order == "kill" or (order == "kill-once" and not (part / "killed").exists()):
        (part / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)


def order(folder: Path, name: str, what: str) -> None:
    (folder / "orders").mkdir(exist_ok=True)
    (folder / "orders" / name).write_text(what)


def attempts(folder: Path) -> list[str]:
    path = folder / "attempts"
    return path.read_text().split() if path.exists() else []


def record(asked: dict[str, Any], root: Path) -> dict[str, Any]:
    """What the step of this kind leaves behind; a run's loss follows ``toy_loss`` exactly."""
    spec = asked["spec"]
    if asked["kind"] == "run":
        base = store.read_json(root / "bases" / asked["needs"]["base"] / "record.json")
        return run_record(spec, base["model_params"])
    if asked["kind"] == "base":
        size = count(Shape.model_validate(spec["shape"])).non_embedding
        return {"model_params": size, "pretrain_tokens": spec["pretrain_tokens"], "branch_tokens": 1000, "seconds": 0.2}
    trials = [{"rate": 0.01, "dev_loss": 2.5, "flag": None}, {"rate": 1.0, "dev_loss": None, "flag": "diverged"}]
    return {"learning_rate": 0.01, "trials": trials, "seconds": 0.1, "cpu_seconds": 0.2}


def toy_loss(method: str, model_params: int, examples: int) -> float:
    """c · (N / 10^5)^-0.1 · D^-0.2 + 2 nats per token."""
    return {"full": 6.0, "lora": 3.0}[method] * (model_params / 1e5) ** -0.1 * examples**-0.2 + 2.0


def run_record(spec: dict[str, Any], model_params: int) -> dict[str, Any]:
    """Record of a run, without the scores that a toy has no text for."""
    loss = toy_loss(spec["method"]["name"], model_params, spec["examples"])

    def score(metric: str, value: float) -> dict[str, Any]:
        return {"metric": metric, "value": value, "low": value - 0.1, "high": value + 0.1}

    return {
        "flag": None,
        "scores": [score("nll", loss), score("perplexity", exp(loss))],
        "zero_scores": [score("nll", 9.0)],
        "model_params": model_params,
        "pretrain_tokens": 10_000,
        "pet_params": 1000,
        "learning_rate": 0.01,
        "seconds": 0.1,
        "flops": 1e6,
    }


def main(folder: Path) -> None:
    """Drive the toy study that is in ``folder`` in a process of its own, for tests that kill it."""
    from finescale.study.run import run

    run(toy_study(folder, (folder / config.STUDY_FILE).read_text()), workers=2, function=WORK)


if __name__ == "__main__":
    import sys

    main(Path(sys.argv[1]))
