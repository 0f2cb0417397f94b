"""Studies simulated from the constants of Zhang et al. 2024, Table 4, where the truth about every claim is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from finescale.stats.published import METHODS, TABLE_4, TASKS
from finescale.stats.runs import Runs

LARGEST = 283e9
DEFAULT = {"prompt": 100.0, "lora": 4.0, "full": 0.0}


@dataclass(frozen=True)
class Grid:
    """Sizes of each factor; ``examples`` per method, the same for all tasks unless keyed ``method, task``."""

    model: Sequence[float]
    pretrain: Sequence[float]
    pet: Mapping[str, Sequence[float]]
    examples: Mapping[object, Sequence[float]]
    seeds: int = 3

    def sizes(self, method: str, task: str) -> Sequence[float]:
        return self.examples.get((method, task), self.examples[method])


_FEW = tuple(1e3 * n for n in (8, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100))
PAPER = Grid(
    (1e9, 2e9, 4e9, 8e9, 16e9),
    (84e9, 126e9, 167e9, 209e9, LARGEST),
    {"prompt": (50, 100, 150, 200, 300, 400, 600), "lora": (4, 8, 16, 32, 48, 64, 128)},
    {
        "prompt": _FEW,
        "lora": _FEW,
        ("full", "wmt14-en-de"): tuple(1e5 * n for n in (1, 5, 10, 15, 20, 25, 30, 35, 40, 45)),
        ("full", "wmt19-en-zh"): tuple(1e6 * n for n in (1, 2, 3, 4, 5, 10, 15, 20, 25)),
        ("full", "mlsum"): tuple(1e5 * n for n in range(1, 10)),
        "full": _FEW,
    },
)
"""The paper's own grid (its Table 1)."""
_COMMON = (1e4, 3e4, 1e5, 3e5)
SMALL = Grid(
    (1e9, 2e9, 4e9),
    (84e9, 167e9, LARGEST),
    {"prompt": (50, 100, 300), "lora": (4, 16, 64)},
    {"full": _COMMON, "lora": _COMMON, "prompt": _COMMON},
)
"""A grid that small studies can afford: one common ladder of examples for all methods."""


@dataclass(frozen=True)
class Truth:
    """Constants per task and method: those of Table 4, with changes that make a claim false or void."""

    changes: Mapping[str, float] = field(default_factory=dict)
    additive: bool = False

    def value(self, name: str, task: str, method: str) -> float:
        for key in (f"{name}:{method}", name):
            if key in self.changes:
                return self.changes[key]
        return float(TABLE_4[name][3 * TASKS.index(task) + METHODS.index(method)] or 0.0)

    def loss(self, task: str, method: str, place: tuple[float, float, float], examples: float) -> float:
        """Loss in nats per token at (model size, pretraining size, PET size) and a number of examples.

        A is given at the reference place (1e9 parameters, largest pretraining, default PET size) by Table 4's own A
        and alpha, so that a change of alpha turns the law about that place.
        """
        model, pretrain, pet = place
        value = {name: self.value(name, task, method) for name in ("alpha_m", "alpha_p", "alpha_t", "beta", "E")}
        table = Truth()
        height = table.value("A_m", task, method) * 1e9 ** -table.value("alpha_m", task, method)
        height *= 3e4 ** (value["beta"] - table.value("beta", task, method))
        of_place = (model / 1e9) ** -value["alpha_m"] * (pretrain / LARGEST) ** -value["alpha_p"]
        of_place *= (pet / DEFAULT[method]) ** -value["alpha_t"] if pet else 1.0
        if self.additive:
            reducible = 0.5 * height * (of_place * 3e4 ** -value["beta"] + examples ** -value["beta"])
            return reducible + value["E"]
        return height * of_place * examples ** -value["beta"] + value["E"]


def simulate(
    grid: Grid,
    seed: int,
    truth: Truth | None = None,
    noise: float = 0.005,
    tasks: Sequence[str] = TASKS,
    curve_noise: float = 0.0,
) -> Runs:
    """A study's runs: three slices per task and method, seed noise in nats, and noise common to a curve (relative)."""
    truth, rng, rows = truth or Truth(), np.random.default_rng(seed), []
    for task in tasks:
        for method in METHODS:
            for place in places(grid, method):
                off = np.exp(curve_noise * rng.standard_normal())
                for examples in grid.sizes(method, task):
                    said = truth.loss(task, method, place, examples) * off
                    head = {"task": task, "method": method, "base": f"{place[0]:g}@{place[1]:g}", "pet_size": place[2]}
                    head |= {"model_params": place[0], "pretrain_tokens": place[1], "examples": examples}
                    rows += [
                        head | {"loss": said + noise * rng.standard_normal(), "seed": s} for s in range(grid.seeds)
                    ]
    frame = pd.DataFrame(rows)
    # A name for each run, as a study's table has.
    return Runs(frame.assign(run=[f"run-{row:05d}" for row in range(len(frame))]), ())


def places(grid: Grid, method: str) -> list[tuple[float, float, float]]:
    """Where the slices lie: model sizes at the largest pretraining; pretraining and PET sizes on the smallest base."""
    default, smallest = DEFAULT[method], min(grid.model)
    spots = [(size, LARGEST, default) for size in grid.model]
    spots += [(smallest, size, default) for size in grid.pretrain]
    spots += [(smallest, LARGEST, float(size)) for size in grid.pet.get(method, ())]
    return list(dict.fromkeys(spots))
