"""Print docs/smollm2.md from the tables of the study of SmolLM2-135M-Instruct.

The tables were made by ``finescale run studies/smollm2.toml``, ``finescale table smollm2 --out docs/smollm2/runs.csv``
and ``finescale table smollm2 --rates --out docs/smollm2/rates.csv``. ``docs/images/smollm2.png`` is the head of the
page that ``finescale report smollm2`` writes; what the fits say here is what that page and ``finescale advise`` say.
Run: python docs/smollm2_study.py > docs/smollm2.md
"""

from __future__ import annotations

from itertools import combinations, pairwise
from math import exp, log
from pathlib import Path

import pandas as pd

from finescale.report.answer import held_against
from finescale.stats.runs import read_runs
from finescale.study import config
from finescale.study.compare import crossings_in_words
from finescale.study.of_table import analyse_table

HERE = Path(__file__).parent / "smollm2"
STUDY = Path(__file__).parent.parent / "studies" / "smollm2.toml"
INTRO = """# A real model: SmolLM2-135M-Instruct

{runs} real runs of `studies/smollm2.toml`: English to German on pairs of at most 24 tokens a side, from a package's
4-bit weights turned into fp32. Losses are nats per target token on 128 test examples; a cell is the mean over {seeds}
seeds, which draw subset, initialisation and order, with half their range after ±: the noise of the test examples, which
all runs share, is not in it. The untouched model gets {zero:.2f}. More pairs than these were not run.
Learning rates were searched per method at 128 examples, on the dev set alone. {hours:.1f} processor hours.
Every number below was printed by `python docs/smollm2_study.py` from `docs/smollm2/`.

![The head of the study's page](images/smollm2.png)
"""


def row(cells: list[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def cell(losses: pd.Series) -> str:
    """Mean and half the range."""
    return f"{losses.mean():.3f} ± {(losses.max() - losses.min()) / 2:.3f}"


def losses(runs: pd.DataFrame) -> str:
    """Loss by method and examples."""
    levels = sorted(runs["examples"].unique())
    lines = [
        row(["method", "trained parameters", *(f"{level:,.0f}" for level in levels)]),
        row(["---"] * (2 + len(levels))),
    ]
    for method, part in runs.groupby("method"):
        by = part.groupby("examples")["loss"]
        shown = [cell(by.get_group(level)) if level in by.groups else "" for level in levels]
        lines.append(row([str(method), f"{part['pet_params'].iloc[0]:,.0f}", *shown]))
    return "\n".join(lines) + "\n"


def crossings(wide: pd.DataFrame) -> list[float]:
    """Examples at which two methods' losses cross, on straight lines between the levels over log examples."""
    gap = (wide.iloc[:, 0] - wide.iloc[:, 1]).dropna()
    found = []
    for (left, before), (right, after) in pairwise(gap.items()):
        if before * after < 0:
            share = before / (before - after)
            found.append(exp(log(left) + share * (log(right) - log(left))))
    return found


def crossing(runs: pd.DataFrame) -> str:
    """Each pair of methods: who is ahead at which level, by seed, and where they cross."""
    lines = [row(["pair", "seed", "difference of loss by examples", "crossing"]), row(["---"] * 4)]
    for one, other in combinations(sorted(runs["method"].unique()), 2):
        for seed, part in runs[runs["method"].isin([one, other])].groupby("seed"):
            wide = part.pivot_table(index="examples", columns="method", values="loss")[[one, other]]
            gaps = ", ".join(f"{level:,.0f}: {gap:+.3f}" for level, gap in (wide[one] - wide[other]).dropna().items())
            where = ", ".join(f"{at:,.0f} examples" for at in crossings(wide)) or "none within what was seen"
            lines.append(row([f"{one} less {other}", str(seed), gaps, where]))
    return "\n".join(lines) + "\n"


def answer() -> str:
    """What the study answers, what its page holds against that, where methods cross, and each fit's status."""
    asked = config.read(STUDY).fit
    found = analyse_table(
        read_runs(HERE / "runs.csv"),
        "runs.csv",
        law=asked.laws[0],
        hold_out=asked.hold_out,
        level=asked.level,
        seed=asked.seed,
    )
    lines = [one.sentence for one in found.advice]
    lines += [*held_against(found, found.advice[0]), *crossings_in_words(found.crossings)]
    lines += [f"{label}: {status}" for label, status in found.final.status.items()]
    return "\n".join(f"- {line}" for line in lines) + "\n"


def main() -> None:
    """Print the page."""
    runs = pd.read_csv(HERE / "runs.csv", keep_default_na=False, na_values=[""])
    rates = pd.read_csv(HERE / "rates.csv")
    spent = (runs["cpu_seconds"].sum() + rates.groupby("method")["cpu_seconds"].first().sum()) / 3600
    zero, seeds, sizes = runs["zero_loss"].iloc[0], runs["seed"].nunique(), runs["examples"].nunique()
    print(INTRO.format(runs=len(runs), seeds=seeds, zero=zero, hours=spent))
    if (flagged := runs["flag"].notna().sum()) > 0:
        print(f"{flagged} runs are flagged ({', '.join(runs['flag'].dropna().unique())}) and are shown all the same.\n")
    print("## Loss\n\n" + losses(runs))
    print("## Who is ahead, and where they cross\n\nA difference below 0: the first is ahead.\n\n" + crossing(runs))
    print(
        f"## What the fits say\n\nA power law in examples for each method, {sizes} sizes and {seeds} seeds.\n"
        "Where a pair is undecided though one method led in every run, that is the width of a law from so few sizes.\n"
    )
    print(answer())
    print("## Learning rates\n\nDev loss of each trial; the lowest was taken.\n")
    lines = [row(["method", "rate", "dev loss", "chosen"]), row(["---"] * 4)]
    lines += [
        row([str(trial.method), f"{trial.learning_rate:g}", f"{trial.dev_loss:.3f}", "yes" * bool(trial.chosen)])
        for trial in rates.itertuples()
    ]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
