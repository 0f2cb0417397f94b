"""The public tables as frames of runs, and the rivals that every forecast is measured against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

DATA = Path(__file__).parent / "data"
FAMILIES = {
    "GPT-2": ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"],
    "OPT": ["facebook/opt-350m", "facebook/opt-1.3b", "facebook/opt-2.7b", "facebook/opt-6.7b"],
    "Cerebras-GPT": [f"cerebras/Cerebras-GPT-{size}" for size in ("111M", "256M", "1.3B", "2.7B")],
    "LaMini-GPT": [f"MBZUAI/LaMini-GPT-{size}" for size in ("124M", "774M", "1.5B")],
}


def chinchilla() -> pd.DataFrame:
    """240 pretraining runs (the 5 highest losses dropped, as is usual); ``examples`` are tokens."""
    raw = pd.read_csv(DATA / "chinchilla_epoch_svg.csv")
    frame = pd.DataFrame(
        {"model_params": raw["Model Size"], "examples": raw["Training FLOP"] / (6 * raw["Model Size"])}
    )
    return frame.assign(loss=raw["loss"]).sort_values("loss").iloc[:-5].reset_index(drop=True)


def gigaword() -> pd.DataFrame:
    """30 models × 14 sizes of finetuning on Gigaword; size 0 left out."""
    raw = pd.read_csv(DATA / "rectified_gigaword.csv").rename(columns={"config name": "base", "size": "model_params"})
    long = raw.melt(id_vars=["base", "model_params", "family"], var_name="examples", value_name="loss")
    long["examples"] = long["examples"].astype(float)
    return long[long["examples"] > 0].reset_index(drop=True)


def line(x: np.ndarray, log_y: np.ndarray, targets: np.ndarray, count: int = 3) -> np.ndarray:
    """Log loss by the log–log line through the last ``count`` points."""
    return np.polyval(np.polyfit(x[-count:], log_y[-count:], 1), targets)


def accept_then_stop(x: np.ndarray, log_y: np.ndarray, target: float, start: int = 3, width: float = 5.0) -> float:
    """Lin et al. 2024, Algorithm 1: extend the line backwards while points lie within ``width`` deviations."""
    first = len(x) - start
    while first > 0:
        fit = np.polyfit(x[first:], log_y[first:], 1)
        miss = log_y[first:] - np.polyval(fit, x[first:])
        spread = np.sqrt(np.sum(miss**2) / max(len(miss) - 2, 1))
        if abs(log_y[first - 1] - np.polyval(fit, x[first - 1])) > width * spread:
            break
        first -= 1
    return float(np.polyval(np.polyfit(x[first:], log_y[first:], 1), target))


def interval_score(observed: pd.Series, low: pd.Series, high: pd.Series, level: float = 0.9) -> float:
    """Mean interval score of log loss (Gneiting & Raftery 2007): width plus 2/(1-level) times what is missed."""
    y, a, b = np.log(observed), np.log(low), np.log(high)
    miss = np.maximum(a - y, 0) + np.maximum(y - b, 0)
    return float(np.mean(b - a + 2 / (1 - level) * miss))


def band_in_hindsight(miss: pd.Series, level: float = 0.9) -> float:
    """Interval score of the best band of one width: log errors ``miss`` known, so nobody could have chosen it."""
    size = np.abs(miss.to_numpy())
    over = np.maximum(size - size[:, None], 0).mean(axis=1)
    return float(np.min(2 * size + 2 / (1 - level) * over))


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return "" if np.isnan(value) else f"{value:.4g}"


def show(title: str, table: pd.DataFrame) -> str:
    """A titled Markdown table."""
    head = "| " + " | ".join(map(str, table.columns)) + " |\n|" + " --- |" * len(table.columns)
    rows = ["| " + " | ".join(_cell(v) for v in row) + " |" for row in table.to_numpy()]
    return f"### {title}\n\n" + "\n".join([head, *rows]) + "\n"
