"""The plan's estimate of memory against the peak of real steps: pretraining and finetuning, in a process each.

Every case pretrains or finetunes a freshly drawn base for a few steps on a prepared data folder of a study, evaluation
included, and compares the peak of resident memory with ``cost.step_memory`` and the libraries. Examples of the task are
counted at their longest, as in a plan, so that the estimate is high where they are shorter.
    python benchmarks/memory.py finescale-demo/data/*
    python benchmarks/memory.py finescale-demo/data/* --rungs xs m xl --methods full lora prompt --batch 8 32
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

from rich.console import Console
from rich.table import Table

SIZES = {"full": None, "lora": 8, "prompt": 16}
MIB = 2**20


def peak(data: Path, rung: str, method: str, batch: int, context: int, task: str, fitted: bool) -> dict[str, float]:
    """Peak and estimate of one case, MiB; run in a process of its own."""
    import resource

    from finescale.core import (
        BaseSpec,
        EvaluateSpec,
        FinetuneRecipe,
        MethodSpec,
        PretrainRecipe,
        RateSearch,
        RunSpec,
        TaskSpec,
    )
    from finescale.lab import ladder, model, steps
    from finescale.lab import tokenizer as words
    from finescale.lab.splits import load_split
    from finescale.study.cost import step_memory

    vocab = words.load(data).get_vocab_size()
    shape = ladder.shape(rung, vocab, context)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        recipe = PretrainRecipe(batch_tokens=batch * context, warmup_tokens=1)
        tokens = 6 * batch * context
        base = BaseSpec(name=rung, shape=shape, data="-", pretrain_tokens=tokens, recipe=recipe, seed=0)
        spec: BaseSpec | RunSpec | RateSearch = base
        if method == "pretraining":
            steps.pretrain(base, out, data, None, lambda _: None)
        else:
            model.save(model.build(shape, seed=0), out)
            size = ladder.count(shape)
            record = {"model_params": size.non_embedding, "total_params": size.total, "pretrain_tokens": 0}
            (out / "record.json").write_text(json.dumps(record))
            rows = load_split(data, task, "train")
            longest = [
                max(len(part) for part in parts) for parts in zip(*((e.prompt, e.target) for e in rows), strict=True)
            ]
            mean = [
                sum(map(len, parts)) / len(parts) for parts in zip(*((e.prompt, e.target) for e in rows), strict=True)
            ]
            limits = [round(size) for size in (mean if fitted else longest)]
            asked = TaskSpec(
                name=task, source="corpus", digest="-", template="-", target="-", dev_examples=64, test_examples=64,
                max_source_tokens=limits[0], max_target_tokens=limits[1],
            )  # fmt: skip
            del rows
            spec = RunSpec(
                base=base.fingerprint(), task=asked, method=MethodSpec(name=method, pet_size=SIZES[method]),
                learning_rate=1e-3, examples=6 * batch, seed_subset=0, seed_init=0, seed_order=0,
                recipe=FinetuneRecipe(batch_examples=batch, epochs=1, min_steps=6, max_steps=6, dev_checks=2),
                evaluate=EvaluateSpec(),
            )  # fmt: skip
            steps.finetune(spec, out, data, out, None, lambda _: None)
        estimate = step_memory(spec, {base.fingerprint(): shape})
    assert estimate is not None, "what is made here has an estimate"
    seen = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "peak": seen / MIB,
        "estimate": (estimate.total + ladder.LIBRARIES) / MIB,
        "libraries": ladder.LIBRARIES / MIB,
    }


def main() -> None:
    """Print peak, estimate and their ratio, with the libraries and without, for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", default="mt-en-de")
    parser.add_argument("--rungs", nargs="+", default=["xs", "m", "l", "xl"])
    parser.add_argument("--methods", nargs="+", default=["pretraining", *SIZES])
    parser.add_argument("--batch", type=int, nargs="+", default=[16])
    parser.add_argument("--context", type=int, default=192)
    parser.add_argument("--fitted", action="store_true", help="count examples at their mean length, not their longest")
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.case:
        rung, method, batch = asked.case
        found = peak(asked.data, rung, method, int(batch), asked.context, asked.task, asked.fitted)
        print(json.dumps(found))
        return
    table = Table("rung", "method", "batch", "peak, MiB", "estimate", "ratio", "ratio without libraries")
    for rung, batch, method in product(asked.rungs, asked.batch, asked.methods):
        done = subprocess.run(
            [sys.executable, *sys.argv, "--case", rung, method, str(batch)], capture_output=True, text=True, check=True
        )
        one = json.loads(done.stdout.splitlines()[-1])
        own = (one["estimate"] - one["libraries"]) / (one["peak"] - one["libraries"])
        cells = (f"{one['peak']:.0f}", f"{one['estimate']:.0f}", f"{one['estimate'] / one['peak']:.2f}", f"{own:.2f}")
        table.add_row(rung, method, str(batch), *cells)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
