"""The broad set on which the forecaster's settings are chosen: simulated tables of curves and of families.

``python benchmarks/choose.py [curves|families] [tables]`` prints, per kind of table and question, the mean log error,
coverage and interval score of ``auto`` beside a humble line and a band of one width chosen in hindsight. A setting is
proposed when it helps here, and kept if the tables of ``run.py`` do not object. Laws, noise, bends and the quirks of
bases are drawn from wide priors, so that no one table decides.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

# One thread: two BLAS threads beside a neighbour cost several times the processor time of one.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from tables import band_in_hindsight, interval_score, line, show  # noqa: E402

import finescale as fs  # noqa: E402
from finescale.stats.fits import law_named  # noqa: E402

Question = tuple[str, pd.DataFrame, pd.DataFrame]
TABLES = 60


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """A scale anywhere between two, evenly in its logarithm."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _bends(rng: np.random.Generator, sizes: int) -> np.ndarray:
    """Slow wander of log loss that no law has: a slope that walks, from nothing to 0.4 % per doubling."""
    return np.cumsum(np.cumsum(rng.uniform(0, 0.004) * rng.standard_normal(sizes)))


# -------------------------------------------------------------------------------------------------------------- curves


def curve_table(seed: int) -> pd.DataFrame:
    """1 to 20 curves of one task over 6 to 13 doublings: power, rectified or straight in log–log, some flat."""
    rng = np.random.default_rng([seed, 1])
    count, sizes = int(rng.integers(1, 21)), int(rng.integers(6, 14))
    D = 200.0 * 2.0 ** np.arange(sizes)
    beta, knee = _between(rng, 0.05, 0.7), rng.uniform(3.0, 11.0)
    floor, noise = rng.choice([0.0, rng.uniform(0.05, 0.8)]), _between(rng, 5e-4, 0.03)
    own = rng.uniform(0.0, 0.4)
    rows = []
    for index in range(count):
        b, k = beta * np.exp(own * rng.standard_normal()), knee + 2 * own * rng.standard_normal()
        y = 1 / (1 + np.exp(b * (np.log(D) - k))) + floor * np.exp(own * rng.standard_normal())
        log_y = np.log(y) + own * rng.standard_normal() + _bends(rng, sizes) + noise * rng.standard_normal(sizes)
        rows.append(pd.DataFrame({"base": f"curve {index}", "examples": D, "loss": np.exp(log_y)}))
    return pd.concat(rows, ignore_index=True)


def curve_questions(seed: int) -> Iterator[Question]:
    """One, two and four sizes ahead, where at least three are left to see."""
    runs = curve_table(seed)
    sizes = np.unique(runs["examples"])
    for ahead in (1, 2, 4):
        if len(sizes) - ahead >= 3:
            late = runs["examples"] > sizes[-ahead - 1]
            yield f"{ahead} ahead", runs[~late], runs[late]


# ------------------------------------------------------------------------------------------------------------- families

_LAWS = ("multiplicative", "additive", "rectified-multiplicative", "rectified-moving")


def family_table(seed: int) -> pd.DataFrame:
    """Families of 3 to 6 bases: a joint law, each base a little off it in level, slope and bend, noisy runs."""
    rng = np.random.default_rng([seed, 2])
    families, sizes = int(rng.integers(1, 5)), int(rng.integers(6, 14))
    D, law = 200.0 * 2.0 ** np.arange(sizes), law_named(str(rng.choice(_LAWS)))
    noise, level, tilt = _between(rng, 1e-3, 0.02), _between(rng, 3e-3, 0.1), _between(rng, 1e-3, 0.015)
    start = {"exponent": (0.05, 0.4), "place": (5.0, 10.0), "offset": (4.0, 9.0), "slope": (-0.2, 0.2)}
    shapes = [rng.uniform(*start[p.start]) for p in law.shapes(("model_params",))]
    heights = np.exp(rng.normal(0, 0.7, len(law.coefficients)))
    rows = []
    for family in range(families):
        X = 1e8 * np.cumprod(rng.uniform(1.5, 4.0, int(rng.integers(3, 7))))
        z = np.log(np.stack(np.meshgrid(X, D, indexing="ij"), axis=-1).reshape(-1, 2))
        theta = np.array([shapes]) * np.exp(0.15 * rng.standard_normal((1, len(shapes))))
        middle = law.columns(np.log([[3e8, 1e4]]), theta)[0, 0]
        loss = np.log(law.predict(z, theta, (heights / middle)[None])[0]).reshape(len(X), sizes)
        ahead = (np.log(D) - np.log(D).mean())[None]
        loss = loss + level * rng.standard_normal((len(X), 1)) + tilt * rng.standard_normal((len(X), 1)) * ahead
        loss = loss + np.stack([_bends(rng, sizes) for _ in X]) + noise * rng.standard_normal(loss.shape)
        grid = {"model_params": np.repeat(X, sizes), "examples": np.tile(D, len(X)), "loss": np.exp(loss).ravel()}
        rows.append(pd.DataFrame(grid).assign(family=f"family {family}"))
    return pd.concat(rows, ignore_index=True)


def family_questions(runs: pd.DataFrame, ahead: int = 2) -> Iterator[Question]:
    """The four hold-outs of a table of families: their largest models, their largest sizes, the corner, and both."""
    big = runs["model_params"] == runs.groupby("family")["model_params"].transform("max")
    late = runs["examples"] > np.unique(runs["examples"])[-ahead - 1]
    cases = {
        "largest model": (big, big),
        "two largest sizes": (late, late),
        "corner (only it is held out)": (big & late, big & late),
        "corner (model and sizes unseen)": (big | late, big & late),
    }
    for name, (out, asked) in cases.items():
        yield name, runs[~out], runs[asked]


# -------------------------------------------------------------------------------------------------------------- scoring


def scored(kind: str, question: Question, family: bool) -> dict[str, object]:
    """Errors of auto and a humble line, and what auto's intervals are worth beside a band of one width."""
    name, seen, asked = question
    fits = fs.fit(seen, "auto", "model_params", by="family") if family else fs.fit(seen, "auto", by="base")
    said = fits.forecast(asked)
    y, miss = np.log(asked["loss"]), np.log(asked["loss"] / said["median"])
    inside = (asked["loss"] >= said["low"]) & (asked["loss"] <= said["high"])
    return {
        "tables": kind,
        "asked": name,
        "log error of auto": float(np.log(np.mean(np.abs(miss)) + 1e-4)),
        "of the line": float(np.log(np.mean(np.abs(y - _lines(seen, asked, family))) + 1e-4)),
        "coverage": float(inside.mean()),
        "interval score": interval_score(asked["loss"], said["low"], said["high"]),
        "hindsight band": band_in_hindsight(miss),
    }


def _lines(seen: pd.DataFrame, asked: pd.DataFrame, family: bool) -> np.ndarray:
    """Log loss by the log–log line through the last three points of a curve, or of the nearest base's curve."""
    out = pd.Series(np.nan, index=asked.index)
    curve = "model_params" if family else "base"
    for key, part in asked.groupby(["family", curve] if family else [curve]):
        own = seen[seen["family"] == key[0]] if family else seen
        known = own[curve].unique()
        near = known[np.argmin(np.abs(np.log(known / key[-1])))] if family else key[-1]
        one = own[own[curve] == near].sort_values("examples")
        x, y, t = (np.log(v.to_numpy()) for v in (one["examples"], one["loss"], part["examples"]))
        out[part.index] = np.where(t <= x[-1], np.interp(t, x, y), line(x, y, t))
    return out.to_numpy()


def summary(tables: int = TABLES, kinds: tuple[str, ...] = ("curves", "families")) -> pd.DataFrame:
    """Means over tables, one row per kind of table and question."""
    rows = []
    for seed in range(tables):
        if "curves" in kinds:
            rows += [scored("curves", question, False) for question in curve_questions(seed)]
        if "families" in kinds:
            rows += [scored("families", question, True) for question in family_questions(family_table(seed))]
    table = pd.DataFrame(rows)
    for name in ("interval score", "hindsight band"):
        table[f"log {name}"] = np.log(table[name])
    means = table.groupby(["tables", "asked"], sort=False).mean(numeric_only=True)
    means.insert(0, "n", table.groupby(["tables", "asked"]).size())
    return means.reset_index()


def main() -> None:
    kinds = tuple(word for word in sys.argv[1:] if not word.isdigit()) or ("curves", "families")
    tables = next((int(word) for word in sys.argv[1:] if word.isdigit()), TABLES)
    print(show(f"{tables} simulated tables of each kind", summary(tables, kinds)), flush=True)


if __name__ == "__main__":
    main()
