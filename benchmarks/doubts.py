"""Tables that real life makes and the theory of a fit does not: do 90 % intervals hold, and is a word of caution said?

``python benchmarks/doubts.py [CASE …]``: 40 curves of known truth a case, each its own group of one fit. Intervals that
hold clearly less often than 36 times in 40, without a word, are a finding. ``twins``, ``confounded`` and ``equals`` ask
of crossings, of factors that go together, and of the law that is named.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from tables import show  # noqa: E402

import finescale as fs  # noqa: E402
from finescale.stats.select import rank_held  # noqa: E402

GROUPS, DRAWS = 40, 200
SIZES = tuple(250 * 2.0 ** np.arange(7))
Noise = Callable[[np.random.Generator, pd.DataFrame], np.ndarray]


@dataclass(frozen=True)
class Case:
    """One table: its sizes and seeds, the noise of log loss of a run, where it is asked, and the noise there."""

    noise: Noise
    seeds: int = 1
    sizes: tuple[float, ...] = SIZES
    asked: tuple[float, ...] = (2000.0, 16000.0, 64000.0)
    copies: int = 1


def _each(sd: float) -> Noise:
    return lambda rng, runs: sd * rng.standard_normal(len(runs))


def _shared(sd: float, own: float) -> Noise:
    """A seed lies off by as much at every size: it draws one nested subset, one order, one start."""

    def noise(rng: np.random.Generator, runs: pd.DataFrame) -> np.ndarray:
        of_seed = dict(zip(runs["seed"].unique(), sd * rng.standard_normal(runs["seed"].nunique()), strict=True))
        return runs["seed"].map(of_seed).to_numpy() + own * rng.standard_normal(len(runs))

    return noise


def _by_size(at_first: float, power: float) -> Noise:
    def noise(rng: np.random.Generator, runs: pd.DataFrame) -> np.ndarray:
        return at_first * (runs["examples"].to_numpy() / SIZES[0]) ** power * rng.standard_normal(len(runs))

    return noise


CASES = {
    "plain": Case(_each(0.005)),
    "seeds": Case(_each(0.02), seeds=5),
    "shared seeds": Case(_shared(0.02, 0.003), seeds=3),
    "shared seeds, 5": Case(_shared(0.01, 0.005), seeds=5),
    "repeated rows": Case(_each(0.01), copies=3),
    "noise falls": Case(_by_size(0.03, -0.5), seeds=2),
    "noise rises": Case(_by_size(0.003, 0.5), seeds=2),
    "four sizes": Case(_each(0.005), sizes=SIZES[:4], asked=(500.0, 2000.0, 8000.0)),
    "half a decade": Case(_each(0.005), 2, (400.0, 600.0, 800.0, 1000.0, 1200.0), (800.0, 1200.0, 4800.0)),
}


def loss(examples: np.ndarray) -> np.ndarray:
    """The truth of every case: the power law."""
    return 8.0 * examples**-0.25 + 1.2


def table(case: Case, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs of all groups, and one new run a group at each size asked; of a seed of its own, ``truth`` beside it."""
    seen, new = [], []
    for group in range(GROUPS):
        rng = np.random.default_rng([seed, group])
        cells = [(size, float(s)) for s in range(case.seeds) for size in case.sizes]
        runs = pd.DataFrame(cells, columns=["examples", "seed"])
        runs["loss"] = loss(runs["examples"].to_numpy()) * np.exp(case.noise(rng, runs))
        seen += [runs.assign(base=f"c{group:02}")] * case.copies
        asked = pd.DataFrame({"examples": case.asked, "seed": 99.0, "base": f"c{group:02}"})
        asked["truth"] = loss(asked["examples"].to_numpy())
        new.append(asked.assign(loss=asked["truth"] * np.exp(case.noise(rng, asked))))
    return pd.concat(seen, ignore_index=True), pd.concat(new, ignore_index=True)


def answered(name: str, law: str) -> dict[str, object]:
    """How often truth and new run lay inside, per size asked, and what was said beside it."""
    runs, asked = table(CASES[name])
    read = fs.read_runs(runs)
    fits = fs.fit(read, law, by="base", draws=DRAWS)
    inside = {}
    for kind, column in (("curve", "truth"), ("run", "loss")):
        said = fits.forecast(asked[["examples", "base"]], kind=kind)
        held = (asked[column] >= said["low"]) & (asked[column] <= said["high"])
        inside[kind] = " ".join(f"{share:.2f}" for share in held.groupby(asked["examples"]).mean())
    status = Counter(fit.status.name for fit in fits.groups)
    words = Counter(finding.kind for finding in read.findings)
    said = [*fits.about["notes"], *(f"{kind} ({count})" for kind, count in words.items())]
    return {"case": name, "law": law, **inside, "status": str(dict(status)), "words": "; ".join(said)}


def twins(law: str) -> dict[str, object]:
    """Two methods that are one and the same: what is said of where they cross, on 40 bases."""
    runs, _ = table(CASES["plain"])
    again, _ = table(CASES["plain"], seed=1)
    fits = fs.fit(
        pd.concat([runs.assign(method="a"), again.assign(method="b")]), law, by=["base", "method"], draws=DRAWS
    )
    said = fs.critical_size(fits, "a", "b", at=pd.DataFrame({"base": sorted(runs["base"].unique())}))
    sure = ~said["verdict"].str.contains("if at all") & (said["outcome"] == "overtakes")
    return {"law": law, **said["outcome"].value_counts().to_dict(), "said without doubt": int(sure.sum())}


def confounded(law: str) -> dict[str, object]:
    """Larger bases finetuned on more examples only: every base asked at the most examples any was given, 12 families.

    The truth is the multiplicative law; bases have no noise of their own.
    """
    seen, asked, sizes = [], [], 1e6 * 4.0 ** np.arange(4)
    for family in range(12):
        rng = np.random.default_rng([2, family])
        cells = [(size, 250 * 2.0 ** (2 * k + j)) for k, size in enumerate(sizes) for j in range(3)]
        runs = pd.DataFrame(cells, columns=["model_params", "examples"]).assign(family=f"f{family:02}")
        runs["loss"] = _family(runs) * np.exp(0.005 * rng.standard_normal(len(runs)))
        seen.append(runs)
        asked.append(
            pd.DataFrame({"model_params": sizes, "examples": runs["examples"].max(), "family": f"f{family:02}"})
        )
    fits, asked_all = fs.fit(pd.concat(seen), law, "model_params", by="family", draws=100), pd.concat(asked)
    said, truth = fits.forecast(asked_all, kind="curve"), _family(asked_all)
    held = pd.Series((truth >= said["low"]) & (truth <= said["high"])).groupby(asked_all["model_params"].to_numpy())
    reach = said["reach"].groupby(asked_all["model_params"].to_numpy()).mean()
    status = Counter(fit.status.name for fit in fits.groups)
    words = {f"{size:.0e}": f"{share:.2f} (reach {reach[size]:.3g})" for size, share in held.mean().items()}
    return {"law": law, **words, "status": str(dict(status))}


def _family(runs: pd.DataFrame) -> np.ndarray:
    return (60.0 * runs["model_params"] ** -0.25 * runs["examples"] ** -0.15 + 1.2).to_numpy()


def equals(curves: int, repeats: int = 200) -> dict[str, object]:
    """Two laws that err alike, by as much at all of a curve's held-out sizes or nearly so: how often is one named?"""
    rng, found = np.random.default_rng([3, curves]), 0
    for _ in range(repeats):
        gap = np.repeat(rng.standard_normal(curves), 3) + 0.2 * rng.standard_normal(3 * curves)
        one = pd.DataFrame({"curve": np.repeat(np.arange(curves), 3), "place": np.arange(3 * curves)})
        one = one.assign(along="examples", inside=True, law="a", relative_error=9.0 + gap)
        found += "forecasts best" in rank_held(pd.concat([one, one.assign(law="b", relative_error=9.0)]))[1]
    return {"curves": curves, "named, of two equal laws": found / repeats}


def main() -> None:
    pd.set_option("display.width", 200)
    names = sys.argv[1:] or [*CASES, *MORE]
    rows = [answered(name, law) for name in names if name in CASES for law in ("power", "auto")]
    if rows:
        print(show("Share of 90 % intervals that held, by size asked", pd.DataFrame(rows)))
    for name in names:
        if name in MORE:
            heading, ask, given = MORE[name]
            print(show(heading, pd.DataFrame([ask(one) for one in given])))


MORE: dict[str, tuple[str, Callable[[Any], dict[str, object]], tuple[Any, ...]]] = {
    "twins": ("Two methods that are one: crossings on 40 bases", twins, ("power", "auto")),
    "confounded": ("Larger bases with more examples only", confounded, ("multiplicative", "auto")),
    "equals": ("How often `compare` names one of two equal laws", equals, (1, 2, 3, 4, 8)),
}

if __name__ == "__main__":
    main()
