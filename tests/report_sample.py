"""A small study with a known truth: losses drawn from the multiplicative law, fitted by the real statistics."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from finescale.lab import ladder
from finescale.stats.advise import advise
from finescale.stats.fit import fit
from finescale.stats.units import STUDY
from finescale.study.analyse import Analysis
from finescale.study.compare import crossings

RUNGS = {"xs": 2, "s": 3, "m": 5, "l": 7}
EXAMPLES = (250, 500, 1000, 2000, 4000)
PET = {"full": None, "lora": 8, "prompt": 20}
RATES = {"full": 1e-3, "lora": 4e-3, "prompt": 0.1}
TRUTH = {  # A, alpha, beta, E of L = A X^-alpha D^-beta + E
    "full": (74.0, 0.11, 0.41, 3.6),
    "lora": (10.5, 0.06, 0.13, 2.9),
    "prompt": (3.6, 0.03, 0.03, 3.2),
}


def sample_runs(seeds: tuple[int, ...] = (0, 1), task: str = "mt-en-de", noise: float = 0.006) -> pd.DataFrame:
    """The table of runs of the simulated study; one run of the smallest base did not learn, one diverged."""
    rng = np.random.default_rng(20240227)
    rows = [
        _run(rung, method, examples, seed, task, float(np.exp(noise * rng.standard_normal())))
        for rung in RUNGS
        for method in TRUTH
        for examples in EXAMPLES
        for seed in seeds
    ]
    runs = pd.DataFrame(rows)
    idle = (runs["base"] == "xs@2.5M") & (runs["method"] == "prompt") & (runs["examples"] == 250) & (runs["seed"] == 0)
    runs.loc[idle, "flag"], runs.loc[idle, "loss"] = "did-not-learn", runs.loc[idle, "zero_loss"]
    wild = (runs["base"] == "m@2.5M") & (runs["method"] == "lora") & (runs["examples"] == 500) & (runs["seed"] == 0)
    runs.loc[wild, "flag"], runs.loc[wild, "loss"] = "diverged", float("nan")
    return runs


def small_runs(task: str = "mt-en-de") -> pd.DataFrame:
    """Two bases, two methods, one seed: for what does not depend on there being more."""
    runs = sample_runs(seeds=(0,), task=task)
    return runs[runs["base"].isin(["xs@2.5M", "s@2.5M"]) & runs["method"].isin(["full", "prompt"])].reset_index(
        drop=True
    )


def other_factors() -> pd.DataFrame:
    """The sample on bases of two pretraining sizes, LoRA with two ranks."""
    runs = small_runs()
    longer = runs.assign(
        pretrain_tokens=10_000_000, base=runs["base"].str.replace("2.5M", "10M"), loss=runs["loss"] - 0.1
    )
    ranks = [
        runs.assign(method="lora", pet_size=float(rank), pet_params=640 * rank, loss=runs["loss"] - 0.01 * rank)
        for rank in (4, 16)
    ]
    whole = pd.concat([runs, longer, *ranks], ignore_index=True)
    return whole.assign(run=[f"run-{place}" for place in range(len(whole))])


def _run(rung: str, method: str, examples: int, seed: int, task: str, noise: float) -> dict[str, Any]:
    size = ladder.count(ladder.shape(rung, vocab=6144, context=128))
    A, alpha, beta, E = TRUTH[method]
    loss = (A * size.non_embedding**-alpha * examples**-beta + E) * noise
    return {
        "task": task,
        "method": method,
        "base": f"{rung}@2.5M",
        "family": "ladder",
        "model_params": size.non_embedding,
        "pretrain_tokens": 2_500_000,
        "pet_params": {"full": size.total, "lora": size.non_embedding // 20, "prompt": 640}[method],
        "examples": examples,
        "loss": loss,
        "loss_unit": STUDY,
        "seed": seed,
        "run": f"{rung}-2.5M-{method}-{examples}-s{seed}",
        "pet_size": PET[method],
        "learning_rate": RATES[method],
        "flag": "",
        "zero_loss": 6.2 - 0.035 * np.log(size.non_embedding),
        "loss_low": loss - 0.03,
        "loss_high": loss + 0.03,
        "perplexity": float(np.exp(loss)),
        "bits_per_byte": loss / 3.1,
        "total_params": size.total,
        "epochs": 4.0,
        "steps": max(60, examples // 4),
        "best_step": max(60, examples // 4),
        "seconds": 0.4 + examples / 800,
        "flops": 6.0 * size.total * examples * 40 * 4,
    }


def sample_analysis(runs: pd.DataFrame | None = None, **changes: Any) -> Analysis:
    """An analysis of the simulated runs; ``changes`` replace fields."""
    runs = sample_runs() if runs is None else runs
    held_out = {name: 1 for name in ("examples", "model_params") if runs[name].nunique() > 3}
    by = ["task", "method", *(["pretrain_tokens"] if runs["pretrain_tokens"].nunique() > 1 else [])]
    law: dict[str, Any] = {"law": "multiplicative", "factor": "model_params", "by": by, "draws": 100}
    final = fit(runs, **law)
    analysis = Analysis(
        name="demo",
        question="With 4,000 sentence pairs, which method and which base?",
        runs=runs,
        fits=fit(runs, hold_out=held_out, **law),
        final=final,
        others={},
        crossings=crossings(final, runs, 0.9),
        advice=[advise(final, _candidates(runs, size)) for size in (4000, 16000)],
        provenance=PROVENANCE,
        bases=_bases(runs),
        rates=_rates(),
        cost=COST,
        versions={"finescale": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "transformers": "5.23.0"},
    )
    return replace(analysis, **changes)


def rival(runs: pd.DataFrame) -> dict[str, Any]:
    """Another law tested on the same held-out runs."""
    law = fit(
        runs, "additive", "model_params", ["task", "method"], hold_out={"examples": 1, "model_params": 1}, draws=50
    )
    return {"additive": law}


HOSTILE = (
    "</script><script>window.hacked = 1</script>",
    '<img src=x onerror="window.hacked = 1">',
    "'\"><svg onload=window.hacked=1>",
    "__proto__",
    "{{x}} ${window.hacked=1} %{x} $\\frac{1}",
    "</title></style><!--",
)


def hostile_analysis() -> Analysis:
    """The sample with every name a user can give replaced by an attack."""
    names = dict(zip(("mt-en-de", "full", "lora", "prompt"), HOSTILE, strict=False))
    runs = small_runs().replace({"task": names, "method": names})
    runs["base"] = runs["base"] + HOSTILE[1]
    runs["run"] = runs["run"] + HOSTILE[0]
    runs.loc[runs["flag"] != "", "flag"] = HOSTILE[5]
    analysis = sample_analysis(runs)
    manifest = json.loads(json.dumps(analysis.provenance))
    manifest["warnings"] = [HOSTILE[2]]
    manifest["artefacts"][0] |= {"name": HOSTILE[0], "version": HOSTILE[1], "licence": HOSTILE[2], "sha256": HOSTILE[5]}
    changes = {"name": HOSTILE[5], "question": HOSTILE[4], "provenance": manifest, "versions": {HOSTILE[1]: HOSTILE[0]}}
    return replace(analysis, rates=analysis.rates.assign(flag=HOSTILE[2]), **changes)


def _candidates(runs: pd.DataFrame, examples: int) -> pd.DataFrame:
    columns = ["task", "method", "base", "model_params", "pretrain_tokens", "pet_size"]
    return runs[columns].drop_duplicates().assign(examples=examples)


def _bases(runs: pd.DataFrame) -> pd.DataFrame:
    bases = runs[["base", "model_params", "total_params", "pretrain_tokens"]].drop_duplicates().reset_index(drop=True)
    flops = 6.0 * bases["total_params"] * bases["pretrain_tokens"]
    loss = 7.4 - 0.13 * np.log(bases["model_params"].astype(float))
    return bases.assign(pretrain_loss=loss, flops=flops, branch_share=0.2, seconds=flops / 4e10)


def _rates() -> pd.DataFrame:
    rows = [
        {
            "task": "mt-en-de",
            "method": method,
            "base": "xs@2.5M",
            "examples": 1000,
            "learning_rate": rate * step,
            "dev_loss": 4.9 + 0.1 * np.log10(step) ** 2 if step < 9 else float("nan"),
            "chosen": step == 1.0,
            "flag": "diverged" if step > 9 else "",
        }
        for method, rate in RATES.items()
        for step in (0.1, 1.0, 10.0)
    ]
    return pd.DataFrame(rows)


COST = {
    "kinds": {
        "data": {"steps": 1, "seconds": 21.0, "cpu_seconds": 20.0, "flops": 0.0},
        "base": {"steps": 4, "seconds": 260.0, "cpu_seconds": 255.0, "flops": 5.1e13},
        "rate": {"steps": 3, "seconds": 31.0, "cpu_seconds": 30.0, "flops": 2.3e11},
        "run": {"steps": 120, "seconds": 412.0, "cpu_seconds": 405.0, "flops": 1.2e13},
    },
    "wall_seconds": 402.0,
    "sessions": 1,
    "workers": 2,
    "peak_memory_bytes": 1_310_000_000,
    "peak_memory_of_all_bytes": 2_450_000_000,
}

PROVENANCE = {
    "tier": "starter",
    "source": "apt",
    "languages": ["en", "de"],
    "digest": "53bd6cea06d8b89ee262b3b26343ae4ca08134c41bc487e75f1a60614f82d647",
    "artefacts": [
        {
            "name": name,
            "version": "4:7.4.7-1+deb12u14",
            "sha256": sha * 8,
            "licence": "MPL-2.0",
            "pools": pools,
            "languages": ["en", "de"],
            "bytes": 2_012_345,
        }
        for name, sha, pools in (
            ("libreoffice-help-de", "8faa8402", ["pairs"]),
            ("manpages-de", "0c4fee12", ["documents"]),
        )
    ],
    "counts": {
        "pairs.en-de": {
            "dropped": {"near": 12},
            "train": {"rows": 41_000, "words": [520_000, 480_000], "by": {"help": 41_000}},
            "dev": {"rows": 512, "words": [6_100, 5_700], "by": {"help": 512}},
            "test": {"rows": 1_024, "words": [12_400, 11_200], "by": {"help": 1_024}},
        },
        "documents.de": {
            "rows": 9_100,
            "words": 1_900_000,
            "bytes": 14_652_360,
            "bytes_by_source": {"manpages": 14_652_360},
        },
    },
    "leaks": {"words": 13, "whole_texts_from_words": 8, "found": 703, "remaining": 0},
    "warnings": [],
    "messages": ["From Debian packages, read in place; nothing was installed."],
}
