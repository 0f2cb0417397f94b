"""Print docs/quick.md from the tables of the quick study.

The tables were made by ``finescale run studies/quick.toml``, ``finescale table quick --out docs/quick/runs.csv`` and
``finescale table quick --probes --out docs/quick/probes.parquet`` and ``finescale table quick --languages --out
docs/quick/languages.csv``; those of five-shot likewise by ``finescale run
studies/zero-few-shot.toml`` and ``finescale table few-shot --probes --out docs/quick/few-shot-probes.parquet``.
Run: python docs/quick_study.py > docs/quick.md
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

import finescale as fs

HERE = Path(__file__).parent / "quick"
INTRO = """# The quick study

188 real runs and 7 bases, made by `finescale run studies/quick.toml` on two cores that other work also used. One seed,
tiny bases (0.06 to 0.8 million parameters without embeddings) that read 0.3 to 1.2 million tokens, so no number here
says anything about large models; what it shows is that the factors, the tasks, and zero- and one-shot probes run here
and are judged.
Losses are nats per target token on 200 test examples; BLEU, chrF++ and ROUGE-L (0 to 100) are over 60 decoded answers.
Every number below was printed by `python docs/quick_study.py` from `docs/quick/`.
"""


def grid(frame: pd.DataFrame, rows: Sequence[str], column: str, value: str, digits: int = 3) -> str:
    """A Markdown table: ``value`` over ``rows`` by the levels of ``column``."""
    wide = frame.pivot_table(index=list(rows), columns=column, values=value, sort=True)
    lines = [[*rows, *(f"{level:g}" if isinstance(level, float | int) else str(level) for level in wide.columns)]]
    lines.append(["---"] * len(lines[0]))
    for index, cells in zip(wide.index, wide.to_numpy(), strict=True):
        names = index if isinstance(index, tuple) else (index,)
        shown = ["" if cell != cell else f"{cell:.{digits}f}" for cell in cells]
        lines.append([*(f"{name:g}" if isinstance(name, float) else str(name) for name in names), *shown])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def summaries() -> str:
    """Loss of summaries by language at the most examples, and how many of the test examples are in each."""
    rows = pd.read_csv(HERE / "languages.csv", keep_default_na=False, na_values=[""])
    seen = rows[(rows["task"] == "summarise") & (rows["examples"] == rows["examples"].max())]
    shown = seen.assign(language=seen["language"] + " (" + seen["test_examples"].astype(str) + ")")
    return grid(shown, ("method", "model_params"), "language", "loss", 2)


def few_shot() -> str:
    """Losses of the few-shot study by probe, beside those of the untouched base."""
    probes = pd.read_parquet(HERE / "few-shot-probes.parquet")
    seen = probes[(probes["metric"] == "nll") & (probes["examples"] == probes["examples"].max())]
    bare = seen[seen["method"] == "full"].assign(method="untouched", value=lambda frame: frame["zero_value"])
    return grid(pd.concat([bare, seen]), ("method", "model_params"), "probe", "value", 2)


def main() -> None:
    """Print the page."""
    runs = pd.read_csv(HERE / "runs.csv", keep_default_na=False, na_values=[""])
    probes = pd.read_parquet(HERE / "probes.parquet")
    usual = runs["pet_size"].isna() | runs["pet_size"].isin([4, 16]) & (
        runs["pet_size"] == runs["method"].map({"lora": 4, "prompt": 16})
    )
    full = runs["pretrain_tokens"] == runs["pretrain_tokens"].max()
    print(INTRO)
    print("## Loss by model size and examples\n\nLargest pretraining size, rank 4, prompt length 16.\n")
    print(grid(runs[usual & full], ("task", "method", "model_params"), "examples", "loss"))
    print("## Loss by pretraining size\n\nEnglish to German.\n")
    german = runs["task"] == "mt-en-de"
    print(grid(runs[usual & german], ("method", "model_params", "pretrain_tokens"), "examples", "loss"))
    print("## Loss by PET size\n\nEnglish to German, largest pretraining size, on two bases.\n")
    print(
        grid(runs[german & full & runs["pet_size"].notna()], ("method", "model_params", "pet_size"), "examples", "loss")
    )
    print(
        "## Summaries by language\n\n"
        "Loss at the most examples; in brackets how many of the test examples: two or four say little.\n"
    )
    print(summaries())
    print("## What the models write\n\nThe largest base at the most examples, beside the untouched base.\n")
    best = runs[usual & full & (runs["model_params"] == runs["model_params"].max()) & (runs["examples"] == 1800)]
    written = best.melt(["task", "method"], ["bleu", "chrf", "rouge_l", "degenerate_rate"], "metric")
    bare = best.melt(["task", "method"], ["zero_bleu", "zero_chrf", "zero_rouge_l", "zero_degenerate_rate"], "metric")
    bare = bare[bare["method"] == "full"].assign(method="untouched", metric=bare["metric"].str.removeprefix("zero_"))
    print(grid(pd.concat([written, bare]), ("task", "method"), "metric", "value", 2))
    print(
        "## Zero-shot, one-shot and forgetting\n\n"
        "Change of loss on each probe against the untouched base; above 0 is lost.\n"
    )
    seen = probes[(probes["metric"] == "nll") & (probes["model_params"] == probes["model_params"].max())]
    top = seen[(seen["pretrain_tokens"] == seen["pretrain_tokens"].max()) & (seen["examples"] == 1800)]
    top = top[top["pet_size"].isna() | (top["pet_size"] == top["method"].map({"lora": 4, "prompt": 16}))]
    print(grid(top.assign(change=top["value"] - top["zero_value"]), ("task", "method"), "probe", "change"))
    print(
        "## Five-shot\n\nAnother 18 runs on bases of 1.5 million tokens (`studies/zero-few-shot.toml`): loss on 40 "
        "examples a\nprobe after finetuning on 3,200 English-German pairs, one seed.\n"
    )
    print(few_shot())
    print(
        "## The paper's claims on these runs\n\n```\n"
        + str(fs.claims(runs, probes)).partition("\n\nSlices")[0]
        + "\n```"
    )


if __name__ == "__main__":
    main()
