"""Finetuning one run, and the declared search for a method's learning rate; both judge by the dev set alone."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from finescale import registry
from finescale.core import FinetuneRecipe, MethodSpec, RateSearch, RunSpec, Shape
from finescale.lab import evaluate, fastpath, ladder, model
from finescale.lab.answers import EvaluationSet
from finescale.lab.keep import Keep, keep_weights
from finescale.lab.methods import Attached, Method
from finescale.lab.packing import Example, pack
from finescale.lab.prepare import Tell
from finescale.lab.splits import load_split
from finescale.lab.subset import subset
from finescale.lab.train import Diverged, Optimiser, Step, cosine, train

PLAINLY = model.Opening()
WIDENINGS = 2
"""How often a rate search that ends at an edge of its grid may go one step further out."""


class Whole:
    """How a training is spread over processes: here it is one's alone. ``finescale.lab.sharded`` has the other way."""

    def spread(self, net: Any, attached: Attached) -> Attached:
        """What this process trains of what a method attached."""
        return attached

    def mine(self, batch: list[Example]) -> tuple[list[Example], int]:
        """This process's examples of a batch, and how many of them count."""
        return batch, len(batch)

    def optimiser(self, *args: Any, **options: Any) -> Optimiser:
        """An optimiser of what this process trains."""
        return Optimiser(*args, **options)


ALONE = Whole()


@dataclass(frozen=True)
class Job:
    """Where the examples of a training are, and in how many processes it is done."""

    base: str
    data: str
    task: str
    examples: int
    seed_subset: int
    shards: int
    opening: model.Opening


@dataclass
class Tuned:
    """What training on one subset left: the best weights by dev loss, and how it got there."""

    attached: Attached
    zero_dev: float
    best_dev: float = float("inf")
    best_step: int = 0
    steps: int = 0
    tokens: int = 0
    diverged: bool = False
    curve: list[dict[str, float]] = field(default_factory=list)

    @property
    def flag(self) -> str | None:
        """Why this run says nothing about the law, or None where it does."""
        if self.diverged:
            return "diverged"
        return "did-not-learn" if self.best_step == 0 else None


def finetune(
    spec: RunSpec,
    out: Path,
    data: Path,
    base: Path,
    rate: Path | None,
    tell: Tell,
    parts: int = 1,
    keep: Keep = "scores",
    shards: int = 1,
    opening: model.Opening = PLAINLY,
) -> dict[str, Any]:
    """Finetune and score one run.

    Args:
        spec: the run.
        out: folder that receives ``rows.parquet`` (per test example), ``log.jsonl`` (learning curve) and, where answers
            are decoded, ``decoded.parquet`` (per answer, probes included).
        data: prepared data folder.
        base: folder of the base.
        rate: folder of the rate search, where ``spec.learning_rate`` names one.
        tell: is told the fraction done.
        parts: in how many parts a batch is worked through, where memory is short; the numbers are the same.
        keep: which weights are left in ``out`` as well: none, adapters, or the best checkpoint.
        shards: processes that share the training, where a base is too large for one; the losses are the same.
        opening: how the base is opened: with its code trusted or not, with activations kept or not.

    Returns:
        The record; losses are nats per target token. A run that diverged or never beat the untouched base is flagged.
    """
    began = time.perf_counter(), time.process_time()
    shape = model.shape_of(net := _opened(base, opening, shards))
    base_record = json.loads((base / "record.json").read_text())
    method: Method = registry.get("method", spec.method.name)
    learning_rate = _rate(spec, rate, method, shape)
    train_set = subset(load_split(data, spec.task.name, "train"), spec.examples, spec.seed_subset)
    job = Job(str(base), str(data), spec.task.name, spec.examples, spec.seed_subset, shards, opening)
    sets = evaluate.sets_of(spec, data, parts)
    zero = [evaluate.untouched(net, base, one) for one in sets]
    zero_dev = evaluate.mean_nats(evaluate.untouched_rows(net, base, sets[0], "dev"))
    how, seeds = (spec.method, spec.recipe, learning_rate), (spec.seed_init, spec.seed_order)
    tuned = _tuned(job, out, net, *how, train_set, sets[0].examples("dev"), zero_dev, seeds, tell, parts)
    trained = time.perf_counter()
    judged = [evaluate.judge(net, one, tuned.attached.prefix) for one in sets]
    _keep(out, tuned, judged)
    keep_weights(out, keep, net, tuned.attached, base)
    share = 1.0 if method.whole else 2 / 3  # frozen weights need no gradient products of their own
    return {
        "flag": tuned.flag,
        **_scores(judged[0], zero[0]),
        **_beyond([one.name for one in sets], judged, zero),
        **{key: base_record[key] for key in ("model_params", "total_params", "pretrain_tokens")},
        **_training(spec, tuned, train_set),
        "learning_rate": learning_rate,
        "test_tokens": int(judged[0].rows.tokens.sum()),
        **_since(began),
        "evaluate_seconds": time.perf_counter() - trained,
        "flops": share * ladder.train_flops(shape, tuned.tokens),
        **_machine(net),
    }


def search_rate(
    spec: RateSearch,
    out: Path,
    data: Path,
    base: Path,
    tell: Tell,
    parts: int = 1,
    shards: int = 1,
    opening: model.Opening = PLAINLY,
) -> dict[str, Any]:
    """Find a method's learning rate by dev loss over the declared grid, widened where the best lies at an edge.

    Returns:
        ``learning_rate``, the ``trials`` (rate, dev loss or None where it diverged, flag), whether the best is still at
        an edge, and the shape it was found on, from which ``Method.rate_at`` carries it to other bases.
    """
    began = time.perf_counter(), time.process_time()
    train_set = subset(load_split(data, spec.task.name, "train"), spec.examples, spec.seed)
    dev_set = load_split(data, spec.task.name, "dev")
    own = EvaluationSet(data, spec.task.name, parts=parts)
    zero_dev = evaluate.mean_nats(evaluate.untouched_rows(_opened(base, opening, shards), base, own, "dev"))
    job = Job(str(base), str(data), spec.task.name, spec.examples, spec.seed, shards, opening)
    trials: dict[float, Tuned] = {}
    todo = list(spec.grid)
    budget = len(todo) + WIDENINGS
    while todo:
        rate = todo.pop(0)
        seeds = spec.seed, spec.seed
        net = _opened(base, opening, shards)
        how = spec.method, spec.recipe, rate
        trials[rate] = _tuned(job, out, net, *how, train_set, dev_set, zero_dev, seeds, lambda _: None, parts)
        tell(len(trials) / budget)
        if not todo and len(trials) < budget:
            todo = _wider(sorted(trials), _best(trials))
    best = _best(trials)
    return {
        "learning_rate": best,
        "at_edge": best in (min(trials), max(trials)),
        "trials": [
            {"rate": r, "dev_loss": None if t.diverged else t.best_dev, "best_step": t.best_step, "flag": t.flag}
            for r, t in sorted(trials.items())
        ],
        "found_size": spec.method.pet_size,
        "found_at": model.shape_of(_opened(base, opening, shards)).model_dump(),
    } | _since(began)


def _opened(base: Path, opening: model.Opening, shards: int) -> Any:
    """The base, on the CPU where processes share its training, as that is done there."""
    return model.load(base, opening, torch.device("cpu") if shards > 1 else None)


def _tuned(job: Job, out: Path, net: Any, *how: Any) -> Tuned:
    """``tune`` in this process, or in as many as the job says."""
    if job.shards == 1:
        return tune(net, *how)
    from finescale.lab import sharded  # it stands on this module

    return sharded.tune(job, out, net, *how)


def tune(
    net: Any,
    spec: MethodSpec,
    recipe: FinetuneRecipe,
    rate: float,
    train_set: Sequence[Example],
    dev_set: Sequence[Example],
    zero_dev: float,
    seeds: tuple[int, int],
    tell: Tell,
    parts: int = 1,
    whole: Whole = ALONE,
) -> Tuned:
    """Train ``net`` in place by a method and leave it at its best dev check, or as it was if none beats ``zero_dev``.

    ``seeds`` are of initialisation and order; a batch is worked through in ``parts`` with the same outcome.
    ``whole`` says how the training is spread over processes.
    """
    method: Method = registry.get("method", spec.name)
    row = model.row(net)
    attached = attach(net, spec, seeds[0])
    attached = whole.spread(net, attached)
    tuned = Tuned(attached, zero_dev, best_dev=zero_dev)
    optimiser = _optimiser(attached, method, recipe, whole)
    steps = recipe.steps(len(train_set))
    checks = {round(steps * (i + 1) / recipe.dev_checks) for i in range(recipe.dev_checks)}
    batches = _Batches(train_set, recipe.batch_examples, seeds[1])
    best = optimiser.weights()
    stale = 0

    def losses_of(step: int) -> Iterator[tuple[torch.Tensor, int]]:
        return losses(net, batches.at(step), row, attached.prefix, parts, whole)

    def after(step: Step) -> bool:
        nonlocal best, stale
        tuned.steps, tuned.tokens = step.number, tuned.tokens + step.tokens
        line: dict[str, float] = {"step": step.number, "loss": step.loss, "rate": step.rate}
        tell(step.number / steps)
        if step.number in checks:
            line["dev_loss"] = dev = evaluate.mean_nats(evaluate.rows(net, dev_set, row, attached.prefix, parts))
            stale += 1
            if dev < tuned.best_dev:
                tuned.best_dev, tuned.best_step, stale = dev, step.number, 0
                best = optimiser.weights()
        tuned.curve.append(line)
        return stale >= recipe.patience

    schedule = cosine(rate, steps, max(1, round(steps * recipe.warmup_fraction)))
    try:
        train(optimiser, losses_of, schedule, range(steps), after)
    except Diverged:
        tuned.diverged = True
    with torch.no_grad():
        for name, parameter in attached.trainable.items():
            parameter.copy_(best[name])
    return tuned


def attach(net: Any, spec: MethodSpec, seed: int) -> Attached:
    """Make ``net`` trainable by a method at one PET size, initialised by ``seed``."""
    method: Method = registry.get("method", spec.name)
    return method.attach(net, spec.pet_size or 0, {**method.options, **spec.options}, seed)


def _optimiser(attached: Attached, method: Method, recipe: FinetuneRecipe, whole: Whole) -> Optimiser:
    return whole.optimiser(
        attached.trainable,
        recipe.weight_decay,
        recipe.clip,
        betas=(0.9, 0.999),
        kind=recipe.optimiser,
        relative=method.whole,
    )


def losses(
    net: Any, batch: list[Example], row: int, prefix: torch.Tensor | None, parts: int, whole: Whole
) -> Iterator[tuple[torch.Tensor, int]]:
    """Loss and tokens of each part of a batch; the losses add up to the mean over the batch's target tokens."""
    targets = sum(len(example.target) for example in batch)
    batch, counted = whole.mine(batch)
    length = 0 if prefix is None else len(prefix)
    size = -(-len(batch) // parts)
    for start in range(0, len(batch), size):
        packed = pack(batch[start : start + size], row, length)
        weights_N = (packed.owner_N < counted - start) / targets
        tokens = sum(length + len(e.prompt) + len(e.target) for e in batch[start : min(start + size, counted)])
        yield model.nats(net, packed, prefix, weights_N)[0], tokens


class _Batches:
    """Batches of a fixed number of examples; every pass is shuffled by (seed, pass)."""

    def __init__(self, examples: Sequence[Example], size: int, seed: int) -> None:
        self.examples, self.size, self.seed = examples, size, seed

    def at(self, step: int) -> list[Example]:
        wanted = range(step * self.size, (step + 1) * self.size)
        return [self.examples[self._order(i // len(self.examples))[i % len(self.examples)]] for i in wanted]

    def _order(self, epoch: int) -> np.ndarray[Any, Any]:
        if getattr(self, "_kept", (None,))[0] != epoch:
            self._kept = (epoch, np.random.default_rng([self.seed, 1, epoch]).permutation(len(self.examples)))
        return self._kept[1]


def _keep(out: Path, tuned: Tuned, judged: Sequence[evaluate.Judged]) -> None:
    pd.DataFrame(vars(judged[0].rows)).to_parquet(out / "rows.parquet")
    (out / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in tuned.curve))
    answers = [one.answers for one in judged if one.answers is not None]
    if answers:
        pd.concat(answers, ignore_index=True).to_parquet(out / "decoded.parquet")


def _scores(judged: evaluate.Judged, zero: evaluate.Judged) -> dict[str, Any]:
    return {
        "scores": [score.model_dump() for score in judged.scores],
        "zero_scores": [score.model_dump() for score in zero.scores],
    }


def _beyond(names: Sequence[str], judged: list[evaluate.Judged], zero: list[evaluate.Judged]) -> dict[str, Any]:
    """Scores of the probes, which come after the task's own set, and the metrics refused with what to install."""
    both = dict(zip(names, zip(judged, zero, strict=True), strict=True))
    return {
        "probes": {name: _scores(*both[name]) for name in names[1:]},
        "refused": {metric: why for one in (*judged, *zero) for metric, why in one.refused.items()},
    }


def _machine(net: Any) -> dict[str, Any]:
    """What the run was made with."""
    return {
        "peak_memory_bytes": _peak_memory(),
        "precision": str(net.dtype).removeprefix("torch."),
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "tokenizers", "numpy")},
    }


def _training(spec: RunSpec, tuned: Tuned, train_set: Sequence[Example]) -> dict[str, Any]:
    """How much was trained, on how much, and how far it came."""
    drawn = tuned.steps * spec.recipe.batch_examples
    return {
        "pet_params": sum(p.numel() for p in tuned.attached.trainable.values()),
        "steps": tuned.steps,
        "best_step": tuned.best_step,
        "epochs": drawn / spec.examples,
        "examples": spec.examples,
        "unique_examples": _unique(train_set, drawn, spec.seed_order),
        "train_tokens": tuned.tokens,
        "dev_loss": tuned.best_dev,
        "zero_dev_loss": tuned.zero_dev,
    }


def _unique(examples: Sequence[Example], drawn: int, seed: int) -> int:
    """Distinct examples among the first ``drawn`` that training reads; a short run does not see all it was given."""
    seen = _Batches(examples, min(drawn, len(examples)), seed).at(0)
    return len({(example.prompt.tobytes(), example.target.tobytes()) for example in seen})


def _rate(spec: RunSpec, folder: Path | None, method: Method, shape: Shape) -> float:
    if isinstance(spec.learning_rate, float):
        return spec.learning_rate
    if folder is None:
        raise ValueError("a searched learning rate needs the folder of its search")
    found = json.loads((folder / "record.json").read_text())
    found_at = Shape(**found["found_at"])
    options = {**method.options, **spec.method.options}
    sizes = found["found_size"], spec.method.pet_size
    return method.rate_at(found["learning_rate"], found_at, shape, *sizes, options, spec.recipe.optimiser)


def _best(trials: dict[float, Tuned]) -> float:
    return min(trials, key=lambda rate: (trials[rate].diverged, trials[rate].best_dev))


def _wider(tried: list[float], best: float) -> list[float]:
    """One rate further out, by the grid's own ratio, where the best lies at an edge."""
    if len(tried) < 2:
        return []
    if best == tried[0]:
        return [best * tried[0] / tried[1]]
    return [best * tried[-1] / tried[-2]] if best == tried[-1] else []


def _since(began: tuple[float, float]) -> dict[str, float]:
    """Wall and processor seconds since ``began``."""
    return {"seconds": time.perf_counter() - began[0], "cpu_seconds": time.process_time() - began[1]}


def _peak_memory() -> int:
    """Bytes of the device that holds the model, at the most."""
    if fastpath.device().type == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
