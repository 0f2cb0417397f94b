"""The scores behind docs/benchmarks.md; ``python benchmarks/run.py`` prints them."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from tables import FAMILIES, accept_then_stop, chinchilla, gigaword, interval_score, line

import finescale as fs
from finescale.stats.fit import OBJECTIVES
from finescale.stats.groups import Cell, Group, resolve, solve
from finescale.stats.laws import ADDITIVE, RECTIFIED_LAW
from finescale.stats.solve import Objective

CUTS = [200.0 * 2**k for k in range(4, 13)]


def best_time(call, repeats: int = 5) -> float:  # noqa: ANN001
    """Shortest of several timings, seconds."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


# 1 -------------------------------------------------------------------------------------------------------------------


def chinchilla_fit(starts: int = 450) -> pd.DataFrame:
    """Objective, parameters and times on the Chinchilla points, against a grid of L-BFGS starts in the same run."""
    runs = chinchilla()
    group = Group({}, ("model_params", "examples"), runs, runs.iloc[:0])
    cell = Cell(ADDITIVE, [group], (), OBJECTIVES["chinchilla"])
    point = solve(cell)
    one = best_time(lambda: solve(cell))
    codes = pd.factorize(runs["model_params"].round(-3))[0]
    counts = np.random.default_rng(0).multinomial(
        codes.max() + 1, np.full(codes.max() + 1, 1 / (codes.max() + 1)), 1000
    )
    weights, y = counts[:, codes].astype(float), np.tile(group.y, (1000, 1))
    thousand = best_time(lambda: resolve(cell, point, y, weights), 2)
    grid_time, grid_best = _lbfgs_grid(group, starts)
    A, B, E = point.coef
    values = [
        ("objective (sum of Huber, delta 1e-3)", point.objective, "at most 1.0183e-3"),
        ("A", A, "477.8"),
        ("B", B, "2143.4"),
        ("E", E, "1.8172"),
        ("alpha", point.theta[0], "0.3473"),
        ("beta", point.theta[1], "0.3672"),
        ("one fit, s", one, "at most 0.020"),
        ("1000 cluster-bootstrap refits, s", thousand, "at most 1"),
        (f"L-BFGS, {starts} of 4500 starts, s", grid_time, "(same machine, same run)"),
        ("L-BFGS, best objective", grid_best, ""),
        ("4500 starts (scaled up) over one fit", grid_time * 4500 / starts / one, "ratio"),
    ]
    return pd.DataFrame(values, columns=["quantity", "here", "wanted"])


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
    begin = time.perf_counter()
    best = min(minimize(loss, start, method="L-BFGS-B").fun for start in picked)
    return time.perf_counter() - begin, float(best)


# 2 -------------------------------------------------------------------------------------------------------------------


def gigaword_cuts() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean relative error (%) at 1,638,400 per cut and forecaster; and what auto's intervals and choices were worth."""
    runs = gigaword()
    truth = runs[runs["examples"] == 1638400].set_index("base")["loss"]
    errors, quality = [], []
    for cut in CUTS:
        seen = runs[runs["examples"] <= cut]
        ahead = runs[runs["examples"] > cut]
        final = pd.DataFrame({"base": truth.index, "examples": 1638400.0})
        said = {
            law: pd.Series(fs.fit(seen, law, by="base", draws=20).forecast(final)["median"].to_numpy(), truth.index)
            for law in ("power", "rectified")
        }
        auto = fs.fit(seen, "auto", by="base")
        said["auto"] = pd.Series(auto.forecast(final)["median"].to_numpy(), truth.index)
        said |= _rivals(seen, truth.index)
        errors.append(
            {"cut": int(cut), **{name: 100 * float((p / truth - 1).abs().mean()) for name, p in said.items()}}
        )
        quality.append({"cut": int(cut), **_quality(auto, ahead, said["auto"], truth)})
    table = pd.DataFrame(errors)[["cut", "auto", "line through last 3", "accept-then-stop", "power", "rectified"]]
    mean = {"cut": "mean", **table.iloc[:, 1:].mean().to_dict()}
    return pd.concat([table, pd.DataFrame([mean])]), pd.DataFrame(quality)


def _rivals(seen: pd.DataFrame, bases: pd.Index) -> dict[str, pd.Series]:
    target = np.log(1638400.0)
    out: dict[str, list[float]] = {"line through last 3": [], "accept-then-stop": []}
    for base in bases:
        one = seen[seen["base"] == base].sort_values("examples")
        x, y = np.log(one["examples"].to_numpy()), np.log(one["loss"].to_numpy())
        out["line through last 3"].append(float(np.exp(line(x, y, np.array([target]))[0])))
        out["accept-then-stop"].append(float(np.exp(accept_then_stop(x, y, target))))
    return {name: pd.Series(values, bases) for name, values in out.items()}


def _quality(auto: fs.Fits, ahead: pd.DataFrame, final: pd.Series, truth: pd.Series) -> dict[str, float]:
    said = auto.forecast(ahead)
    inside = (ahead["loss"] >= said["low"]) & (ahead["loss"] <= said["high"])
    miss = np.log(ahead["loss"]) - np.log(said["median"])
    half = np.quantile(np.abs(miss), 0.9)
    band = interval_score(ahead["loss"], said["median"] * np.exp(-half), said["median"] * np.exp(half))
    worst, best = truth.max(), truth.min()
    return {
        "coverage of 90 %": float(inside.mean()),
        "interval score": interval_score(ahead["loss"], said["low"], said["high"]),
        "best constant band": band,
        "Pearson x100": 100 * float(np.corrcoef(final, truth)[0, 1]),
        "RelAcc": 100 * float((worst - truth[final.idxmin()]) / (worst - best)),
    }


def gigaword_in_sample() -> float:
    """Mean over the 30 curves of the root mean square log residual of the rectified law, fitted by least squares."""
    squares = []
    for _, one in gigaword().groupby("base"):
        cell = Cell(RECTIFIED_LAW, [Group({}, ("examples",), one, one.iloc[:0])], (), Objective("log", 1e3))
        fit = solve(cell)
        said = RECTIFIED_LAW.predict(cell.problem().z, fit.theta[None], fit.coef[None])
        squares.append(np.mean((np.log(one["loss"].to_numpy()) - np.log(said[0])) ** 2))
    return float(np.mean(np.sqrt(squares)))


# 3 -------------------------------------------------------------------------------------------------------------------

JOINT = ("multiplicative", "additive", "rectified-multiplicative", "auto")


def families() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean relative error (%) per hold-out and forecaster over four families; coverage and interval scores."""
    runs, rows = gigaword(), []
    for name, bases in FAMILIES.items():
        family = runs[runs["base"].isin(bases)]
        big, late = family["model_params"] == family["model_params"].max(), family["examples"] >= 819200
        cases = {
            "largest model": (big, big),
            "two largest sizes": (late, late),
            "corner (only it is held out)": (big & late, big & late),
            "corner (model and sizes unseen)": (big | late, big & late),
        }
        for case, (out, asked) in cases.items():
            rows += _family_case(name, case, family[~out], family[asked])
    table = pd.DataFrame(rows)
    errors = table.pivot_table(index="held out", columns="forecaster", values="error %", sort=False).reset_index()
    widths = table[table["forecaster"].isin(JOINT)]
    widths = widths.groupby(["held out", "forecaster"])[["coverage", "interval score", "best constant band"]].mean()
    return errors, widths.reset_index()


def _family_case(name: str, case: str, seen: pd.DataFrame, held: pd.DataFrame) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for law in JOINT:
        said = fs.fit(seen, law, "model_params", draws=200).forecast(held)
        inside = (held["loss"] >= said["low"]) & (held["loss"] <= said["high"])
        half = np.quantile(np.abs(np.log(held["loss"] / said["median"])), 0.9)
        band = interval_score(held["loss"], said["median"] * np.exp(-half), said["median"] * np.exp(half))
        score = interval_score(held["loss"], said["low"], said["high"])
        error = 100 * float((said["median"] / held["loss"] - 1).abs().mean())
        rows.append(
            {
                "forecaster": law,
                "error %": error,
                "coverage": inside.mean(),
                "interval score": score,
                "best constant band": band,
            }
        )
    rows.append({"forecaster": "nearest base's line", "error %": 100 * _nearest_line(seen, held)})
    return [{"family": name, "held out": case, **row} for row in rows]


def _nearest_line(seen: pd.DataFrame, held: pd.DataFrame) -> float:
    """The humble rival: the nearest base's own points, and beyond them the line through its last three."""
    errors = []
    bases = seen["model_params"].unique()
    for size, part in held.groupby("model_params"):
        near = bases[np.argmin(np.abs(np.log(bases / size)))]
        one = seen[seen["model_params"] == near].sort_values("examples")
        x, y, t = (
            np.log(one["examples"].to_numpy()),
            np.log(one["loss"].to_numpy()),
            np.log(part["examples"].to_numpy()),
        )
        said = np.where(t <= x[-1], np.interp(t, x, y), line(x, y, t))
        errors += list(np.abs(np.exp(said) / part["loss"] - 1))
    return float(np.mean(errors))


# 4 -------------------------------------------------------------------------------------------------------------------


def recovery(repeats: int = 40, noise: float = 0.005) -> pd.DataFrame:
    """Simulate from laws on a realistic grid: bias of beta, coverage of the curve, the law that compare names."""
    truths = {
        "multiplicative": lambda X, D: 60 * X**-0.25 * D**-0.15 + 1.2,
        "additive": lambda X, D: 20 * X**-0.25 + 6 * D**-0.2 + 1.0,
        "rectified-multiplicative": lambda X, D: 40 * X**-0.2 / (1 + (D / 1500) ** 0.4) + 1.0,
    }
    beta = {"multiplicative": 0.15, "additive": 0.2, "rectified-multiplicative": 0.4}
    X, D = (axis.ravel() for axis in np.meshgrid(1e5 * 3.0 ** np.arange(5), 250 * 2.0 ** np.arange(7)))
    rows = []
    for law, truth in truths.items():
        hits, betas, named = [], [], []
        for seed in range(repeats):
            rng = np.random.default_rng([seed, len(law)])
            loss = truth(X, D) * np.exp(noise * rng.standard_normal(X.shape))
            runs = pd.DataFrame({"model_params": X, "examples": D, "loss": loss})
            fit = fs.fit(runs, law, "model_params", draws=150, seed=seed)
            said = fit.forecast(runs, kind="curve")
            hits.append(np.mean((truth(X, D) >= said["low"]) & (truth(X, D) <= said["high"])))
            betas.append(fit.table().set_index("parameter")["estimate"]["beta"])
            if seed < 10:
                named.append(fs.compare(runs, list(truths), factor="model_params").verdict)
        right = sum(verdict.startswith(f"{law} forecasts") for verdict in named)
        open_ones = sum(verdict.startswith("undecided") for verdict in named)
        rows.append([law, beta[law], float(np.median(betas)), float(np.mean(hits)), right, open_ones, len(named)])
    names = ["true law", "beta", "median estimate", "coverage of 90 %", "named", "undecided", "of"]
    return pd.DataFrame(rows, columns=names)
