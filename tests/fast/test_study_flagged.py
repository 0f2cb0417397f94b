"""A method whose runs all failed to learn is said to have, and does not take the rest of the analysis with it."""

from __future__ import annotations

import pandas as pd

from finescale.stats.fit import fit
from finescale.study.analyse import advice
from finescale.study.compare import crossings


def runs() -> pd.DataFrame:
    """Three methods on three bases; no run of ``prompt`` learned."""
    rows = []
    for params in (1e5, 1e6, 1e7):
        for examples in (100, 200, 400, 800, 1600):
            for method, height in (("full", 20.0), ("lora", 15.0), ("prompt", 10.0)):
                loss = 1 + height * params**-0.1 * examples ** (-0.2 if method == "full" else -0.1)
                rows.append(
                    {
                        "task": "t",
                        "base": f"b{params:g}",
                        "family": "f",
                        "model_params": params,
                        "pretrain_tokens": 1e6,
                        "method": method,
                        "pet_size": None,
                        "pet_params": 10.0,
                        "examples": examples,
                        "loss": loss,
                        "seed": 0,
                        "flag": "did-not-learn" if method == "prompt" else "",
                    }
                )
    return pd.DataFrame(rows)


def test_the_others_are_still_compared_and_advised() -> None:
    table = runs()
    fits = fit(table, law="multiplicative", factor="model_params", by=["task", "method"], seed=0)
    found = crossings(fits, table, 0.9)
    silent = found[(found["a"] == "prompt") | (found["b"] == "prompt")]
    assert len(silent) == 6
    assert set(silent["verdict"]) == {"no run of prompt learned anything here"}
    assert found[(found["a"] == "full") & (found["b"] == "lora")]["verdict"].str.len().gt(0).all()
    every = list(advice(fits, table, 0.9))
    assert all(one.best is not None and one.best["method"] != "prompt" for one in every)
    assert all("prompt" not in set(one.table["method"]) for one in every)
