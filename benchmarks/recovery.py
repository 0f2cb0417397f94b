"""Section 4: simulate from every law, and see whether fits find, cover and name truths they were not told."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

import finescale as fs
from finescale.stats.evidence import UNDECIDED, evidence
from finescale.stats.fits import law_named
from finescale.stats.groups import Group, log_factors

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


# Tables are made until coverage is known to this standard error, for curves and for new runs; at least and at most:
_ERROR, _FEWEST, _MOST = 0.015, 40, 400
BAR = (0.88, 0.92)
# A parameter is identified in a fit whose 90 % interval spans less than this factor.
_SPANS = 4.0


@dataclass
class Recovered:
    """What fits to tables of one law found: shares inside 90 % intervals per table, and estimates over the truth."""

    law: str
    base_noise: float
    curve: list[float] = field(default_factory=list)
    run: list[float] = field(default_factory=list)
    estimates: list[pd.DataFrame] = field(default_factory=list)

    def errors(self) -> tuple[float, float]:
        """Standard errors of the two coverages."""
        n = np.sqrt(len(self.curve))
        return float(np.std(self.curve, ddof=1) / n), float(np.std(self.run, ddof=1) / n)

    def enough(self) -> bool:
        """Whether coverage is known well enough, or too many tables were made already."""
        known = len(self.curve) >= _FEWEST and max(self.errors()) <= _ERROR
        return known or len(self.curve) >= _MOST

    def coverage(self) -> dict[str, Any]:
        """Both coverages beside the bar."""
        shares, errors = [float(np.mean(self.curve)), float(np.mean(self.run))], self.errors()
        met = ["met" if BAR[0] <= share <= BAR[1] else "missed" for share in shares]
        return {
            "true law": self.law,
            "base noise": self.base_noise,
            "tables": len(self.curve),
            "curve inside 90 %": shares[0],
            "s.e.": errors[0],
            "bar .88 to .92": met[0],
            "new run inside 90 %": shares[1],
            "s.e. ": errors[1],
            "bar .88 to .92 ": met[1],
        }

    def bias(self) -> dict[str, Any]:
        """Median of estimate over truth of every parameter, and in what share of fits it is identified."""
        factors, values = TRUTHS[self.law]
        table = pd.concat(self.estimates)
        said = []
        for p in law_named(self.law).parameters(factors):
            own = table[table["parameter"] == p.name]
            known = float(np.mean((own["low"] > 0) & (own["high"] < _SPANS * own["low"])))
            said.append(f"{p.name} {own['estimate'].median() / values[p.name]:.3f} ({known:.0%})")
        return {
            "true law": self.law,
            "base noise": self.base_noise,
            "median ratio to truth (identified)": ", ".join(said),
        }


def recovery(names: Sequence[str] = tuple(TRUTHS)) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Simulate from these laws: coverage of 90 % intervals, and bias of every parameter."""
    found = []
    for name in names:
        factors = TRUTHS[name][0]
        for base_noise in (0.0, 0.01) if factors else (0.0,):
            found.append(_recovered(name, base_noise))
            print(found[-1].coverage(), file=sys.stderr, flush=True)
    return pd.DataFrame([one.coverage() for one in found]), pd.DataFrame([one.bias() for one in found])


def _recovered(name: str, base_noise: float) -> Recovered:
    factors, _ = TRUTHS[name]
    by, frame, found = () if factors else ("base",), design(factors), Recovered(name, base_noise)
    wanted = truth(name, frame)
    bases = frame.groupby(list(factors)).ngroup() if factors else pd.Series(0, index=frame.index)
    while not found.enough():
        seed = len(found.curve)
        rng = np.random.default_rng([seed, sum(map(ord, name))])
        deviation = base_noise * rng.standard_normal(int(bases.max()) + 1)[bases]
        runs = frame.assign(loss=wanted * np.exp(deviation + NOISE * rng.standard_normal(len(frame))))
        again = wanted * np.exp(deviation + NOISE * rng.standard_normal(len(frame)))
        fits = fs.fit(runs, name, factors, by=by, draws=200, seed=seed)
        asked = frame[frame["examples"] >= frame["examples"].max() / 4.1] if name == "loglog-line" else frame
        for kind, truths, hits in (("curve", wanted, found.curve), ("run", again, found.run)):
            at = fits.forecast(asked, kind=kind)
            seen = truths[asked.index]
            hits.append(float(np.mean((seen >= at["low"]) & (seen <= at["high"]))))
        found.estimates.append(fits.table()[["parameter", "estimate", "low", "high"]])
    return found


def compared(repeats: int = 5) -> pd.DataFrame:
    """What ``compare`` says of tables without noise between bases: the true law, undecided, or another."""
    rows = []
    for name, (factors, _) in TRUTHS.items():
        by, frame, said = () if factors else ("base",), design(factors), []
        wanted = truth(name, frame)
        for seed in range(repeats):
            rng = np.random.default_rng([seed, sum(map(ord, name)), 2])
            runs = frame.assign(loss=wanted * np.exp(NOISE * rng.standard_normal(len(frame))))
            said.append(fs.compare(runs, rivals(name), factors, by=by, seed=seed).verdict)
        right = sum(verdict.startswith(f"{name} forecasts") for verdict in said)
        undecided = sum(verdict.startswith("undecided") for verdict in said)
        rows.append([name, right, undecided, len(said) - right - undecided, len(said)])
    total: list[Any] = ["all", *(sum(row[i] for row in rows) for i in (1, 2, 3, 4))]
    return pd.DataFrame([*rows, total], columns=["true law", "named", "undecided", "wrong", "of"])


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
