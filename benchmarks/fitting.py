"""Sections 1 and 4: how fast a fit is, and whether it finds and covers truths it was not told."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from tables import chinchilla

import finescale as fs
from finescale.stats.evidence import UNDECIDED, evidence
from finescale.stats.fit import OBJECTIVES
from finescale.stats.fits import law_named
from finescale.stats.groups import Cell, Group, grid_of, log_factors, resolve, solve
from finescale.stats.laws import ADDITIVE
from finescale.stats.solve import Solution, refine, scan

# 1 -------------------------------------------------------------------------------------------------------------------


def best_time(call: Callable[[], Any], repeats: int = 7) -> tuple[float, float]:
    """Shortest of several timings: wall and processor seconds. On a shared machine only the second is ours."""
    times = []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        call()
        times.append((time.perf_counter() - wall, time.process_time() - processor))
    return min(t for t, _ in times), min(t for _, t in times)


def chinchilla_fit(starts: int = 150) -> pd.DataFrame:
    """Objective, parameters and times on the Chinchilla points, against a grid of L-BFGS starts in the same run."""
    runs = chinchilla()
    group = Group({}, ("model_params", "examples"), runs, runs.iloc[:0])
    cell = Cell(ADDITIVE, [group], (), OBJECTIVES["chinchilla"])
    point = solve(cell)
    one = best_time(lambda: solve(cell))
    codes = pd.factorize(runs["model_params"].round(-3))[0]
    K = int(codes.max()) + 1
    counts = np.random.default_rng(0).multinomial(K, np.full(K, 1 / K), 1000)
    weights, y = counts[:, codes].astype(float), np.tile(group.y, (1000, 1))
    thousand = best_time(lambda: resolve(cell, point, y, weights), 3)
    same, gap = _against_many_starts(cell, resolve(cell, point, y, weights), y, weights)
    grid_time, grid_best = _lbfgs_grid(group, starts)
    A, B, E = point.coef
    values = [
        ("objective (sum of Huber, delta 1e-3)", point.objective, "at most 1.0183e-3"),
        ("A", A, "477.8"),
        ("B", B, "2143.4"),
        ("E", E, "1.8172"),
        ("alpha", point.theta[0], "0.3473"),
        ("beta", point.theta[1], "0.3672"),
        ("one fit, wall s", one[0], "at most 0.020"),
        ("one fit, processor s", one[1], "at most 0.020"),
        ("1000 cluster-bootstrap refits, wall s", thousand[0], "at most 1"),
        ("1000 cluster-bootstrap refits, processor s", thousand[1], "at most 1"),
        ("share of 60 refits as good as 64 starts each (1e-6)", same, "1"),
        ("worst of these 60: objective over the best, less 1", gap, "0"),
        (f"L-BFGS, {starts} of 4500 starts, processor s", grid_time, "(same machine, same run)"),
        ("L-BFGS, best objective", grid_best, ""),
        ("4500 starts (scaled up) over one fit, processor time", grid_time * 4500 / starts / one[1], "ratio"),
    ]
    return pd.DataFrame(values, columns=["quantity", "here", "wanted"])


def _against_many_starts(cell: Cell, refits: Solution, y: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Share of a sample of refits that no refinement of their 64 best grid cells beats, and the worst gap."""
    problem, gaps = cell.problem(), []
    grid = grid_of(cell.law, cell.groups[0].factors, cell.groups[0].z)
    for b in range(0, 960, 16):
        theta, coef = scan(problem, grid, y[b : b + 1], weights[b : b + 1], keep=64)
        many = [np.tile(part[b], (64, 1)) for part in (y, weights)]
        best = refine(problem, *many, theta[0], coef[0], 1e-3, iterations=200).objective.min()
        gaps.append(refits.objective[b] / best - 1)
    return float(np.mean(np.array(gaps) <= 1e-6)), float(max(gaps))


def _lbfgs_grid(group: Group, starts: int) -> tuple[float, float]:
    """The usual recipe: L-BFGS from a grid of starts over (a, b, e, alpha, beta), numeric gradient."""
    z, log_y = group.z, np.log(group.y)

    def loss(p: np.ndarray) -> float:
        terms = np.stack([p[0] - p[3] * z[:, 0], p[1] - p[4] * z[:, 1], np.full(len(z), p[2])])
        r = np.abs(log_y - np.logaddexp.reduce(terms, axis=0))
        return float(np.sum(np.where(r <= 1e-3, 0.5 * r**2, 1e-3 * (r - 5e-4))))

    axes = [
        np.arange(0, 30, 5.0),
        np.arange(0, 30, 5.0),
        np.arange(-1, 1.5, 0.5),
        np.arange(0, 2.5, 0.5),
        np.arange(0, 2.5, 0.5),
    ]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 5)
    picked = grid[np.random.default_rng(0).permutation(len(grid))[:starts]]
    begin = time.process_time()
    best = min(minimize(loss, start, method="L-BFGS-B").fun for start in picked)
    return time.process_time() - begin, float(best)


# 4 -------------------------------------------------------------------------------------------------------------------

# Truths by law: factors besides examples, and the parameters by name in the order of the law.
TRUTHS: dict[str, tuple[tuple[str, ...], dict[str, float]]] = {
    "constant": ((), {"E": 2.0}),
    "power": ((), {"beta": 0.25, "A": 8.0, "E": 1.2}),
    "rectified": ((), {"beta": 0.5, "D_l": 60.0, "B": 90.0, "E": 1.2}),
    "loglog-line": ((), {"beta": 0.1, "A": 5.0}),
    "multiplicative": (("model_params",), {"alpha": 0.25, "beta": 0.15, "A": 60.0, "E": 1.2}),
    "additive": (("model_params",), {"alpha": 0.3, "beta": 0.25, "A": 40.0, "B": 8.0, "E": 1.0}),
    "rectified-multiplicative": (
        ("model_params",),
        {"alpha": 0.2, "beta": 0.4, "D0": 1500.0, "A": 40.0, "E": 1.0},
    ),
    "rectified-moving": (
        ("model_params",),
        {"alpha": 0.2, "beta": 0.4, "d": 1500.0, "delta": 0.3, "A": 40.0, "E": 1.0},
    ),
    "product": (
        ("model_params", "pretrain_tokens"),
        {"alpha_m": 0.25, "alpha_p": 0.15, "beta": 0.15, "A": 800.0, "E": 1.2},
    ),
}
_SIZES = {"model_params": 1e5 * 3.0 ** np.arange(5), "pretrain_tokens": 1e8 * 2.0 ** np.arange(3)}
_EXAMPLES = {0: 250 * 2.0 ** np.arange(10), 1: 250 * 2.0 ** np.arange(7), 2: 250 * 2.0 ** np.arange(5)}
NOISE, CURVES = 0.005, 4


def design(factors: tuple[str, ...]) -> pd.DataFrame:
    """A realistic grid: all factors crossed, or four curves of the same law where examples are the only one."""
    axes = [_SIZES[name] for name in factors] + [_EXAMPLES[len(factors)]]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    frame = pd.DataFrame(grid, columns=[*factors, "examples"])
    if factors:
        return frame
    return pd.concat([frame.assign(base=f"curve {index}") for index in range(CURVES)], ignore_index=True)


def truth(name: str, frame: pd.DataFrame) -> np.ndarray:
    """The true law's loss at the rows of ``frame``."""
    factors, values = TRUTHS[name]
    law = law_named(name)
    shapes = [np.log(values[p.name]) if p.log else values[p.name] for p in law.shapes(factors)]
    coef = [values[p.name] for p in law.coefficients]
    return law.predict(log_factors(frame, (*factors, "examples")), np.array([shapes]), np.array([coef]))[0]


def rivals(name: str) -> list[str]:
    """The true law and every other that takes its factors; ``product`` of one factor is the multiplicative law."""
    count = len(TRUTHS[name][0])
    taken = [law for law in TRUTHS if law_named(law).factors[0] <= count <= law_named(law).factors[1]]
    return [law for law in taken if law != "product" or count > 1]


def recovery(repeats: int = 20, compared: int = 5) -> pd.DataFrame:
    """Simulate from every law: bias of the exponents, coverage of 90 % intervals, the law that ``compare`` names."""
    rows = []
    for name, (factors, _) in TRUTHS.items():
        for base_noise in (0.0, 0.01) if factors else (0.0,):
            rows.append(_recovered(name, base_noise, repeats, compared if base_noise == 0 else 0))
            print(rows[-1], file=sys.stderr, flush=True)
    return pd.DataFrame(rows)


def named(repeats: int = 20) -> pd.DataFrame:
    """How often the hold-outs behind ``auto`` name the true law, name none, or name another, per true law."""
    rows = []
    for name, (factors, _) in TRUTHS.items():
        frame, said = design(factors), []
        wanted = truth(name, frame)
        for seed in range(repeats):
            rng = np.random.default_rng([seed, sum(map(ord, name)), 1])
            runs = frame.assign(loss=wanted * np.exp(NOISE * rng.standard_normal(len(frame))))
            parts = [runs] if factors else [part for _, part in runs.groupby("base")]
            known = (*factors, "examples")
            said.append(evidence([Group({}, known, part, part.iloc[:0]) for part in parts]).named)
        others = sorted({law for law in said if law not in (name, UNDECIDED)})
        right, none = said.count(name), said.count(UNDECIDED)
        rows.append([name, right, none, repeats - right - none, repeats, ", ".join(others)])
    total: list[Any] = ["all", *(sum(row[i] for row in rows) for i in (1, 2, 3, 4)), ""]
    return pd.DataFrame([*rows, total], columns=["true law", "named", "undecided", "wrong", "of", "wrongly named"])


def _recovered(name: str, base_noise: float, repeats: int, compared: int) -> dict[str, Any]:
    factors, values = TRUTHS[name]
    by = () if factors else ("base",)
    frame = design(factors)
    wanted = truth(name, frame)
    bases = frame.groupby(list(factors)).ngroup() if factors else pd.Series(0, index=frame.index)
    exponents = [p.name for p in law_named(name).shapes(factors) if p.start == "exponent"]
    curve, run, ratios, said = [], [], [], []
    for seed in range(repeats):
        rng = np.random.default_rng([seed, sum(map(ord, name))])
        deviation = base_noise * rng.standard_normal(int(bases.max()) + 1)[bases]
        runs = frame.assign(loss=wanted * np.exp(deviation + NOISE * rng.standard_normal(len(frame))))
        again = wanted * np.exp(deviation + NOISE * rng.standard_normal(len(frame)))
        fits = fs.fit(runs, name, factors, by=by, draws=200, seed=seed)
        asked = frame[frame["examples"] >= frame["examples"].max() / 4.1] if name == "loglog-line" else frame
        for kind, truths, hits in (("curve", wanted, curve), ("run", again, run)):
            at = fits.forecast(asked, kind=kind)
            seen = truths[asked.index]
            hits.append(float(np.mean((seen >= at["low"]) & (seen <= at["high"]))))
        table = fits.table()
        ratios += [table.loc[table["parameter"] == one, "estimate"].mean() / values[one] for one in exponents]
        if seed < compared:
            said.append(fs.compare(runs, rivals(name), factors, by=by, seed=seed).verdict)
    right = sum(verdict.startswith(f"{name} forecasts") for verdict in said)
    undecided = [verdict for verdict in said if verdict.startswith("undecided")]
    return {
        "true law": name,
        "base noise": base_noise,
        "exponents, median ratio to truth": float(np.median(ratios)) if ratios else float("nan"),
        "curve inside 90 %": float(np.mean(curve)),
        "new run inside 90 %": float(np.mean(run)),
        "named": right,
        "undecided": len(undecided),
        "wrong": len(said) - right - len(undecided),
        "of": len(said),
    }
