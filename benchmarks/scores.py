"""The scores behind docs/benchmarks.md; ``python benchmarks/run.py`` prints them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import ttest_1samp
from tables import FAMILIES, accept_then_stop, band_in_hindsight, gigaword, interval_score, line

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
            law: pd.Series(
                fs.fit(seen, law, by="base", draws=100).forecast(final, kind="curve")["median"].to_numpy(), truth.index
            )
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
    worst, best = truth.max(), truth.min()
    return {
        "coverage of 90 %": float(inside.mean()),
        "interval score": interval_score(ahead["loss"], said["low"], said["high"]),
        "one band, in hindsight": band_in_hindsight(miss),
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
CASES = ("largest model", "two largest sizes", "corner (only it is held out)", "corner (model and sizes unseen)")
LINE = "nearest base's line"


def families() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Errors (%) per hold-out and forecaster over four families; intervals beside bands; auto against the line."""
    runs = gigaword()
    parts = [
        _family_case(name, case, runs[runs["base"].isin(bases)]) for case in CASES for name, bases in FAMILIES.items()
    ]
    points = pd.concat(parts, ignore_index=True)
    points["error %"] = 100 * np.abs(np.exp(-points["miss"]) - 1)
    each = points.groupby(["held out", "family", "forecaster"], sort=False)["error %"].mean().unstack()
    errors = each.groupby(level="held out", sort=False)[[*JOINT, LINE]].mean().reset_index()
    return errors, _widths(points), _paired(each)


def _split(frame: pd.DataFrame, case: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is seen and what is asked; late are the two largest sizes of the largest model."""
    big = frame["model_params"] == frame["model_params"].max()
    late = frame["examples"] >= np.unique(frame.loc[big, "examples"])[-2]
    out = {CASES[0]: big, CASES[1]: late, CASES[2]: big & late, CASES[3]: big | late}[case]
    return frame[~out], frame[out if case in CASES[:2] else big & late]


def _family_case(name: str, case: str, family: pd.DataFrame) -> pd.DataFrame:
    """Log errors of every forecaster at every point asked, its interval, and errors that a band can be learnt from."""
    seen, held = _split(family, case)
    parts = []
    for law in JOINT:
        said = fs.fit(seen, law, "model_params", draws=200).forecast(held)
        parts.append(_points(held, said["median"]).assign(forecaster=law, low=said["low"], high=said["high"]))
    parts.append(_points(held, _nearest_line(seen, held)).assign(forecaster=LINE))
    # The same question asked inside what is seen: what a band of one width could be learnt from.
    before, after = _split(seen, case)
    inner = fs.fit(before, "auto", "model_params", draws=200).forecast(after)["median"]
    parts.append(_points(after, inner).assign(forecaster="inside"))
    return pd.concat(parts).assign(family=name, **{"held out": case})


def _points(held: pd.DataFrame, median: pd.Series) -> pd.DataFrame:
    return pd.DataFrame({"loss": held["loss"], "median": median, "miss": np.log(held["loss"] / median)})


def _widths(points: pd.DataFrame) -> pd.DataFrame:
    """Coverage and interval score, means over families, beside three bands of one width about the same medians."""
    rows = []
    for case in CASES:
        here = points[points["held out"] == case]
        learnt = np.quantile(np.abs(here.loc[here["forecaster"] == "inside", "miss"]), 0.9)
        for law in JOINT:
            own = here[here["forecaster"] == law]
            parts = [part for _, part in own.groupby("family")]
            # Families differ in their number of points, and each counts once.
            width = min(np.abs(own["miss"]), key=lambda half: np.mean([_band(part, half) for part in parts]))
            rows.append(
                {
                    "held out": case,
                    "forecaster": law,
                    "coverage": np.mean([np.mean((p["loss"] >= p["low"]) & (p["loss"] <= p["high"])) for p in parts]),
                    "interval score": np.mean([interval_score(p["loss"], p["low"], p["high"]) for p in parts]),
                    "one band, learnt": np.mean([_band(p, learnt) for p in parts]) if law == "auto" else np.nan,
                    "one band, in hindsight": np.mean([_band(p, width) for p in parts]),
                    "a band per family, in hindsight": np.mean([band_in_hindsight(p["miss"]) for p in parts]),
                }
            )
    return pd.DataFrame(rows)


def _band(part: pd.DataFrame, half: float) -> float:
    return interval_score(part["loss"], part["median"] * np.exp(-half), part["median"] * np.exp(half))


def _paired(each: pd.DataFrame) -> pd.DataFrame:
    """Error (%) of auto less that of the line, per family, and a paired t-test over the families (two-sided p)."""
    gap = (each["auto"] - each[LINE]).unstack("family").reindex(CASES)[list(FAMILIES)]
    test = [float(ttest_1samp(row, 0.0).pvalue) for row in gap.to_numpy()]
    return gap.assign(mean=gap.mean(axis=1), p=test).reset_index()


def _nearest_line(seen: pd.DataFrame, held: pd.DataFrame) -> pd.Series:
    """The humble rival: the nearest base's own points, and beyond them the line through its last three."""
    out = pd.Series(np.nan, index=held.index)
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
        out[part.index] = np.exp(said)
    return out
