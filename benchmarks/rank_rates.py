"""How the best learning rate moves with PET size, and what the rule that carries it costs against a search per size.

Pretrains small bases, finetunes each at every size over a grid of rates, and compares the loss at the rate carried from
the reference size by ``Method.rate_at`` with the best of each size's own search, over the same seeds. Needs a prepared
data folder of a study, for example the demo's:
    python benchmarks/rank_rates.py finescale-demo/data/* --method lora --sizes 1 4 16 64
    python benchmarks/rank_rates.py finescale-demo/data/* --method prompt --sizes 4 16 64 --reference 16 \
        --grid 0.03 0.1 0.3 1
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from finescale import registry
from finescale.core import BaseSpec, FinetuneRecipe, MethodSpec, PretrainRecipe
from finescale.lab import evaluate, ladder, model, steps
from finescale.lab import tokenizer as words
from finescale.lab.finetune import tune
from finescale.lab.splits import load_split


class Bench:
    """One base, one task's examples, and every loss found so far; losses are dev nats per target token."""

    def __init__(self, asked: argparse.Namespace, base: Path) -> None:
        self.asked, self.base = asked, base
        self.train = load_split(asked.data, asked.task, "train")[: asked.examples]
        self.dev = load_split(asked.data, asked.task, "dev")[: asked.dev]
        net = model.load(base)
        self.shape = model.shape_of(net)
        self.zero = evaluate.mean_nats(evaluate.rows(net, self.dev, self.shape.context))
        self.found: dict[tuple[str, int, float, int], float] = {}

    def loss(self, method: MethodSpec, rate: float) -> float:
        """Mean over seeds of the best dev loss."""
        return float(np.mean([self._one(method, rate, seed) for seed in self.asked.seeds]))

    def noise(self, method: MethodSpec, rate: float) -> float:
        """Standard deviation over seeds, NaN where there is one."""
        values = [self._one(method, rate, seed) for seed in self.asked.seeds]
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")

    def _one(self, method: MethodSpec, rate: float, seed: int) -> float:
        key = (str(method.options), method.pet_size or 0, round(rate, 12), seed)
        if key not in self.found:
            recipe = FinetuneRecipe(epochs=self.asked.epochs, dev_checks=4, patience=4)
            net = model.load(self.base)
            seeds = seed, seed
            tuned = tune(net, method, recipe, rate, self.train, self.dev, self.zero, seeds, lambda _: None)
            self.found[key] = tuned.best_dev
        return self.found[key]


def pretrained(asked: argparse.Namespace, rung: str, out: Path) -> Path:
    """A base of a rung at the asked size."""
    shape = ladder.shape(rung, words.load(asked.data).get_vocab_size(), 128)
    recipe = PretrainRecipe(batch_tokens=512, warmup_tokens=30_000)
    spec = BaseSpec(name=rung, shape=shape, data="-", pretrain_tokens=asked.tokens, recipe=recipe, seed=0)
    loss = steps.pretrain(spec, out, asked.data, None, lambda _: None)["valid_nats_per_token"]
    print(f"base {rung}: {loss:.3f} nats per token of held-out text after {asked.tokens:,} tokens", flush=True)
    return out


def compare(bench: Bench, options: dict[str, float | bool | str]) -> Table:
    """The losses of one choice of options over sizes and rates, and the rule's against the best."""
    asked, method = bench.asked, registry.get("method", bench.asked.method)
    on = f"{asked.method} {options or ''} on width {bench.shape.width}"
    title = f"{on}: dev nats per target token, untouched base {bench.zero:.4f}"
    table = Table(
        method.size_word, *(f"{rate:g}" for rate in asked.grid), "best", "rule", "excess", "seeds", title=title
    )
    specs = {size: MethodSpec(name=asked.method, pet_size=size, options=options) for size in asked.sizes}
    losses = {size: {rate: bench.loss(spec, rate) for rate in asked.grid} for size, spec in specs.items()}
    best = {size: min(by_rate, key=by_rate.__getitem__) for size, by_rate in losses.items()}
    for size, spec in specs.items():
        carried = method.rate_at(
            best[asked.reference], bench.shape, bench.shape, asked.reference, size, {**method.options, **options}
        )
        excess = bench.loss(spec, carried) - losses[size][best[size]]
        cells = [f"{losses[size][rate]:.4f}" for rate in asked.grid]
        table.add_row(
            str(size),
            *cells,
            f"{best[size]:g}",
            f"{carried:g}",
            f"{excess:+.4f}",
            f"{bench.noise(spec, best[size]):.4f}",
        )
    return table


def main() -> None:
    """Print, per choice of options, the loss at each size and rate and the cost of the rule."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", default="mt-en-de")
    parser.add_argument("--method", default="lora")
    parser.add_argument("--rungs", nargs="+", default=["xs", "s"])
    parser.add_argument("--tokens", type=int, default=400_000)
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--dev", type=int, default=200)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--reference", type=int, default=4)
    parser.add_argument("--scales", nargs="+", choices=["alpha", "rslora"], default=["alpha", "rslora"])
    parser.add_argument("--grid", type=float, nargs="+", default=[1e-3 * 2.0**power for power in range(6)])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    asked = parser.parse_args()
    console = Console(width=130)
    scales = [{"rslora": scale == "rslora"} for scale in asked.scales] if asked.method == "lora" else [{}]
    runs = 0
    for rung in asked.rungs:
        with tempfile.TemporaryDirectory() as out:
            bench = Bench(asked, pretrained(asked, rung, Path(out)))
            for options in scales:
                console.print(compare(bench, dict(options)))
            runs += len(bench.found)
    spent = f"{runs} runs on {asked.examples} examples, {asked.epochs:g} epochs, seeds {asked.seeds}"
    console.print(f"{spent}; excess: loss at the rule's rate less that at the best; seeds: their standard deviation")


if __name__ == "__main__":
    main()
