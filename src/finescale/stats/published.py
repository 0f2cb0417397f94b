"""Published laws as a labelled library: forecasts from other people's constants, and a check of their tables.

Draws are the rounding of the printed constants, nothing else: the paper gives no intervals.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from finescale.errors import Fault, InputError, near
from finescale.stats import units
from finescale.stats.critical import eq3
from finescale.stats.fits import Fits, GroupFit, Member, Status
from finescale.stats.groups import Group
from finescale.stats.laws import MULTIPLICATIVE, Array

TASKS = ("wmt14-en-de", "wmt19-en-zh", "mlsum")
METHODS = ("full", "prompt", "lora")
# Zhang et al. 2024, Table 4, as printed; task by task: full, prompt, lora. "" is not given.
TABLE_4: dict[str, tuple[str, ...]] = {
    "A_m": ("1.2e5", "3.9e3", "2.1e3", "3.3e3", "8.5e2", "6.6e2", "3.3e2", "23", "26"),
    "alpha_m": ("0.52", "0.40", "0.36", "0.34", "0.33", "0.31", "0.24", "0.10", "0.11"),
    "A_p": ("6.3e2", "2.7e2", "1.4e2", "2.4e2", "2e2", "1.3e2", "42", "16", "17"),
    "alpha_p": ("0.21", "0.21", "0.18", "0.17", "0.20", "0.18", "0.11", "0.069", "0.073"),
    "A_t": ("", "1", "1.4", "", "1", "1.2", "", "2.6", "2.4"),
    "alpha_t": ("", "0.0027", "-0.0017", "", "0.0019", "0.0044", "", "0.0026", "0.00022"),
    "E": ("0.75", "0.62", "0.62", "1", "0.77", "0.73", "0.98", "0.00051", "0.2"),
    "beta": ("0.15", "0.051", "0.081", "0.14", "0.015", "0.025", "0.087", "0.025", "0.03"),
}
# Table 5, as printed; per task: full/prompt, full/lora, prompt/lora.
TABLE_5: dict[str, tuple[str, ...]] = {
    "H_m": ("3.7e14", "2e24", "1.6e-9", "6.1e4", "1.6e6", "1.8e-11", "3.6e18", "1.2e17", "0.00045"),
    "gamma_m": ("-1.2", "-2.4", "1.5", "-0.12", "-0.3", "1.9", "-2.1", "-1.8", "2.3"),
    "H_p": ("3.7e3", "6.9e8", "7.7e-10", "5", "2.7e2", "8.6e-19", "3.7e6", "1e7", "1.6e2"),
    "gamma_p": ("-0.0015", "-0.5", "1.2", "0.26", "0.093", "2.1", "-0.63", "-0.63", "-0.63"),
}
PAIRS = (("full", "prompt"), ("full", "lora"), ("prompt", "lora"))
_AXIS = {"model_params": "m", "pretrain_tokens": "p", "pet_params": "t"}
_EXAMPLES = {("full", "wmt14-en-de"): (1e5, 4.5e6), ("full", "wmt19-en-zh"): (1e6, 25e6), ("full", "mlsum"): (1e5, 9e5)}
_TOKENS = {"wmt14-en-de": (84e9, 283e9), "wmt19-en-zh": (84e9, 206e9), "mlsum": (84e9, 283e9)}
_PET = {"prompt": (50.0, 600.0), "lora": (4.0, 128.0)}
LIBRARIES = ("zhang2024",)


def published(name: str, factor: str = "model_params", draws: int = 400, seed: int = 0) -> Fits:
    """A published law as fits that forecast, cross and advise like any others.

    Args:
        name: ``zhang2024`` (multiplicative law, Table 4; by ``task`` and ``method``).
        factor: ``model_params`` (parameters), ``pretrain_tokens``, or ``pet_params``, which in this paper is the
            rank or the prompt length itself.
        draws: how often the printed constants are redrawn inside their rounding.

    Raises:
        InputError: unknown library or factor.
    """
    if name not in LIBRARIES:
        raise InputError(Fault(f"published {name!r}", "is unknown", near(name, LIBRARIES)))
    if factor not in _AXIS:
        raise InputError(Fault(f"factor {factor!r}", "is unknown", near(factor, _AXIS)))
    rng = np.random.default_rng(seed)
    groups = [
        _group(task, method, factor, draws, rng)
        for task in TASKS
        for method in METHODS
        if _printed(f"alpha_{_AXIS[factor]}", task, method)
    ]
    about = {"library": name, "unit": units.STUDY, "draws": "rounding of the printed constants"}
    return Fits("multiplicative", (factor,), ("task", "method"), groups, seed, about=about)


def _printed(parameter: str, task: str, method: str) -> str:
    return TABLE_4[parameter][3 * TASKS.index(task) + METHODS.index(method)]


def half_unit(printed: str) -> float:
    """Half a unit of the last digit printed: ``half_unit("1.2e5") == 5000``."""
    digits, _, exponent = printed.partition("e")
    places = len(digits.partition(".")[2])
    return float(0.5 * 10.0 ** (int(exponent or 0) - places))


def _drawn(printed: str, draws: int, rng: np.random.Generator) -> Array:
    value, half = float(printed), half_unit(printed)
    return rng.uniform(value - half, value + half, draws)


def _group(task: str, method: str, factor: str, draws: int, rng: np.random.Generator) -> GroupFit:
    axis = _AXIS[factor]
    printed = [_printed(parameter, task, method) for parameter in (f"alpha_{axis}", "beta", f"A_{axis}", "E")]
    point = np.array([float(text) for text in printed])
    drawn = np.column_stack([_drawn(text, draws, rng) for text in printed])
    drawn[:, 2:] = np.maximum(drawn[:, 2:], 0.0)
    factors = (factor, "examples")
    member = Member(MULTIPLICATIVE, factors, point[:2], point[2:], drawn[:, :2], drawn[:, 2:], np.ones(draws))
    support = {
        "model_params": (1e9, 16e9),
        "pretrain_tokens": _TOKENS[task],
        "pet_params": _PET.get(method, (1.0, 1.0)),
    }
    corners = pd.DataFrame({factor: support[factor], "examples": _EXAMPLES.get((method, task), (8e3, 1e5))})
    group = Group({"task": task, "method": method}, factors, corners.assign(loss=np.nan), corners.iloc[:0])
    status = Status("Unidentified", "printed constants of a paper without intervals; use as a prior, not as a fit.")
    nothing = np.zeros(draws)
    return GroupFit(group, "multiplicative", [member], status, nothing, nothing, nothing, {"scheme": "rounding"})


def table_5(draws: int = 20_000, seed: int = 0) -> pd.DataFrame:
    """Table 5 recomputed from Table 4 by Eq. 3, beside what is printed.

    Returns:
        One row per task, factor and pair: ``H, gamma`` recomputed, ``H_low … gamma_high`` (all that the rounding of
        Table 4 allows), ``H_printed, gamma_printed``, ``determined`` (False if that rounding leaves the sign of the
        difference of the betas open, so that anything would follow), and ``follows``: whether both lie in that range.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for t, task in enumerate(TASKS):
        for factor, axis in (("model_params", "m"), ("pretrain_tokens", "p")):
            for p, (a, b) in enumerate(PAIRS):
                printed = float(TABLE_5[f"H_{axis}"][3 * t + p]), TABLE_5[f"gamma_{axis}"][3 * t + p]
                rows.append(
                    {"task": task, "factor": factor, "a": a, "b": b, **_entry(task, axis, a, b, *printed, draws, rng)}
                )
    return pd.DataFrame(rows)


def _entry(
    task: str, axis: str, a: str, b: str, H: float, gamma: str, draws: int, rng: np.random.Generator
) -> dict[str, float | bool]:
    texts = {(m, q): _printed(q, task, m) for m in (a, b) for q in (f"A_{axis}", f"alpha_{axis}", "beta")}
    value = {key: float(text) for key, text in texts.items()}
    log_h, g = eq3(
        value[a, f"A_{axis}"],
        value[b, f"A_{axis}"],
        value[a, "beta"],
        value[b, "beta"],
        np.array([value[a, f"alpha_{axis}"]]),
        np.array([value[b, f"alpha_{axis}"]]),
    )
    d = {key: _drawn(text, draws, rng) for key, text in texts.items()}
    slope = d[a, "beta"] - d[b, "beta"]
    log_hs = (np.log(d[a, f"A_{axis}"]) - np.log(d[b, f"A_{axis}"])) / slope
    gs = (d[b, f"alpha_{axis}"] - d[a, f"alpha_{axis}"]) / slope
    slack = half_unit(gamma)
    inside = gs.min() - slack <= float(gamma) <= gs.max() + slack and log_hs.min() <= np.log(H) <= log_hs.max()
    with np.errstate(over="ignore"):
        return {
            "H": float(np.exp(log_h)),
            "gamma": float(g[0]),
            "H_low": float(np.exp(log_hs.min())),
            "H_high": float(np.exp(log_hs.max())),
            "gamma_low": float(gs.min()),
            "gamma_high": float(gs.max()),
            "H_printed": H,
            "gamma_printed": float(gamma),
            "determined": bool(np.all(slope > 0) or np.all(slope < 0)),
            "follows": bool(inside),
        }
