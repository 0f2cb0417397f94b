"""The scores behind docs/benchmarks.md; ``python benchmarks/run.py`` prints them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from tables import FAMILIES, accept_then_stop, gigaword, interval_score, line

import finescale as fs
from finescale.stats.groups import Cell, Group, solve
from finescale.stats.laws import RECTIFIED_LAW
from finescale.stats.solve import Objective

CUTS = [200.0 * 2**k for k in range(4, 13)]


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
