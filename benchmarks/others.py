"""Other public curves: where does "nothing changes any more" (the last value) beat every law?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from tables import DATA, line

import finescale as fs
from finescale.errors import FinescaleError

Curves = Iterator[tuple[str, str, pd.DataFrame, pd.DataFrame]]


def language_curves() -> Curves:
    """revisiting_benchmark_lang.csv: the published split into fit and extrapolation."""
    raw = pd.read_csv(DATA / "revisiting_benchmark_lang.csv").drop_duplicates()
    raw = raw.rename(columns={"Seen Examples": "examples", "Loss": "loss"})
    for (domain, task, model), part in raw.groupby(["Domain", "Task", "Model"]):
        yield str(domain), f"{task} {model}", part[part["Training"] == 1], part[part["Training"] == 0]


def overtraining_curves() -> Curves:
    """gadre_overtraining_104models.csv: loss on C4 over tokens, per corpus and shape; two sizes held out."""
    raw = pd.read_csv(DATA / "gadre_overtraining_104models.csv")
    raw = raw.rename(columns={"tokens": "examples", "loss::c4_val": "loss"})[["dataset", "params", "examples", "loss"]]
    for (dataset, params), part in raw.dropna().groupby(["dataset", "params"]):
        part = part.sort_values("examples")
        if len(part) >= 5:
            yield "overtraining", f"{dataset} {params}", part.iloc[:-2], part.iloc[-2:]


def isoflop_curves() -> Curves:
    """isoflops_openathena.csv: the best loss at each budget, over budgets; the two largest budgets held out."""
    raw = pd.read_csv(DATA / "isoflops_openathena.csv")
    raw = raw[~raw["outlier"].astype(bool)]
    for study, part in raw.groupby("experiment"):
        best = part.groupby("budget")["loss"].min().reset_index().rename(columns={"budget": "examples"})
        if len(best) >= 5:
            yield "isoFLOP frontier", str(study), best.iloc[:-2], best.iloc[-2:]


def others() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean relative error (%) per group of curves and forecaster; and the curves where the last value wins."""
    rows = []
    for curves in (language_curves(), overtraining_curves(), isoflop_curves()):
        by_group: dict[str, list[tuple[str, pd.DataFrame, pd.DataFrame]]] = {}
        for group, name, seen, ahead in curves:
            by_group.setdefault(group, []).append((name, seen, ahead))
        for group, members in by_group.items():
            rows += _score(group, members)
    table = pd.DataFrame(rows)
    forecasters = ["auto", "line through last 3", "power", "rectified", "last value"]
    means = table.groupby("curves", sort=False)[[*forecasters, "coverage"]].mean()
    means.insert(0, "n", table.groupby("curves").size())
    best = table[forecasters].idxmin(axis=1)
    return means.reset_index(), table[best == "last value"][["curves", "curve", *forecasters]]


def _score(group: str, members: list[tuple[str, pd.DataFrame, pd.DataFrame]]) -> list[dict[str, object]]:
    seen = pd.concat([part.assign(base=name) for name, part, _ in members])
    own = seen[["base", "examples", "loss"]]
    fits = {law: fs.fit(own, law, by="base", draws=100) for law in ("power", "rectified")}
    auto = fs.fit(own, "auto", by="base")
    rows = []
    for name, part, future in members:
        asked = pd.DataFrame({"base": name, "examples": future["examples"].to_numpy()})
        truth = future["loss"].to_numpy()
        ordered = part.groupby("examples")["loss"].mean()
        x, y = np.log(ordered.index.to_numpy(dtype=float)), np.log(ordered.to_numpy())
        said = {
            "line through last 3": np.exp(line(x, y, np.log(asked["examples"].to_numpy()))),
            "last value": np.full(len(truth), np.exp(y[-1])),
            **{law: _median(fit, asked) for law, fit in fits.items()},
        }
        forecast = auto.forecast(asked)
        said["auto"] = forecast["median"].to_numpy()
        inside = float(np.mean((truth >= forecast["low"]) & (truth <= forecast["high"])))
        errors = {law: 100 * float(np.mean(np.abs(values / truth - 1))) for law, values in said.items()}
        rows.append({"curves": group, "curve": name, "coverage": inside, **errors})
    return rows


def _median(fit: fs.Fits, asked: pd.DataFrame) -> np.ndarray:
    try:
        return fit.forecast(asked, kind="curve")["median"].to_numpy()
    except FinescaleError:
        return np.full(len(asked), np.nan)
