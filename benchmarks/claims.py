"""How often is a verdict on a claim right? Studies simulated from known constants, judged by ``fs.claims``.

Worlds: the constants of Zhang et al. 2024, Table 4 (``table-4``); every claim exactly at its border, where at most 5 %
of verdicts may be ``holds`` and at most 5 % ``fails`` (``border``); the same with whole curves off by 1 %
(``off-curves``); every claim turned round (``reversed``); the additive law (``additive``); so much noise and so few
seeds that nothing can be told (``noisy``). Run: python benchmarks/claims.py [studies] [draws] [world …]

With ``unrelated`` for studies it prints what real but unrelated sentences score, where ``stats.ability.CHANCE`` has its
numbers from: 400 multi-way test rows of the ``standard`` tier, each held against the next row's reference.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from paper_world import PAPER, SMALL, Truth, simulate

import finescale as fs
from finescale.stats.ability import CHANCE
from finescale.stats.claims import MARGIN

TASK = ("wmt14-en-de",)
BORDER = {"alpha_m": 0.15, "alpha_p": 0.15, "beta": 0.15, "alpha_t": MARGIN, "E": 0.7}
REVERSED = {"alpha_m": 0.1, "alpha_p": 0.3, "alpha_t": 0.05, "E": 0.7, "beta:full": 0.1, "beta:lora": 0.2}
REVERSED |= {"beta:prompt": 0.35}
WORLDS: dict[str, dict[str, Any]] = {
    "table-4, paper's grid": {"grid": PAPER},
    "table-4, small grid": {"grid": SMALL},
    "border": {"grid": SMALL, "truth": Truth(BORDER)},
    "off-curves": {"grid": SMALL, "truth": Truth(BORDER), "curve_noise": 0.01},
    "reversed": {"grid": SMALL, "truth": Truth(REVERSED)},
    "additive": {"grid": SMALL, "truth": Truth(additive=True)},
    "noisy": {"grid": replace(SMALL, seeds=1), "noise": 0.05},
}
CLAIMS = (
    "multiplicative-beats-additive",
    "model-over-pretraining",
    "pet-size-flat",
    "order-of-beta",
    "scale-over-examples",
    "crossings-exist",
)


LANGUAGES, SENTENCES = ("de", "zh", "fr", "es", "it", "en"), 400


def unrelated() -> None:
    """Print the score of every metric in ``CHANCE`` on sentences paired at random."""
    from finescale import registry
    from finescale.lab.corpora import fetch
    from finescale.lab.metrics.text import Answers

    path = fetch(tier="standard").root / "multiway.test.jsonl"
    rows = [json.loads(line)["texts"] for line in path.read_text(encoding="utf-8").splitlines()]
    print(f"| language | {' | '.join(CHANCE)} |\n|---|{'---|' * len(CHANCE)}")
    for language in LANGUAGES:
        said = tuple(row[language] for row in rows if language in row)[:SENTENCES]
        n = len(said)
        answers = Answers(("",) * n, said[1:] + said[:1], said, (language,) * n, (True,) * n, "next row")
        scores = [registry.get("metric", name).grade(answers).score.value for name in CHANCE]
        print(f"| {language} | {' | '.join(f'{score:.2f}' for score in scores)} |")


def main(studies: int, draws: int, worlds: list[str]) -> None:
    """Print one line per world and claim: verdicts of studies, and of the single pieces of evidence."""
    print("| world | claim | holds | fails | undecided | pieces: holds | fails | of |")
    print("|---|---|---|---|---|---|---|---|")
    for world in worlds or list(WORLDS):
        began, many = time.process_time(), studies // 5 if WORLDS[world]["grid"] is PAPER else studies
        verdicts: dict[str, Counter[str]] = {name: Counter() for name in CLAIMS}
        pieces: dict[str, Counter[str]] = {name: Counter() for name in CLAIMS}
        for seed in range(many):
            judged = fs.claims(simulate(seed=seed, tasks=TASK, **WORLDS[world]), draws=draws, seed=seed)
            for name in CLAIMS:
                verdicts[name][judged[name].overall.verdict] += 1
                if len(judged[name].evidence):
                    pieces[name].update(judged[name].evidence["verdict"])
        for name in CLAIMS:
            v, p = verdicts[name], pieces[name]
            total = max(sum(p.values()), 1)
            each = f"{p['holds'] / total:.0%} | {p['fails'] / total:.0%} | {sum(p.values())}"
            print(f"| {world} | {name} | {v['holds']} | {v['fails']} | {v['undecided']} | {each} |", flush=True)
        print(f"<!-- {world}: {many} studies, {time.process_time() - began:.0f} CPU-seconds -->", flush=True)


if __name__ == "__main__":
    given = sys.argv[1:]
    if given == ["unrelated"]:
        sys.exit(unrelated())
    main(int(given[0]) if given else 60, int(given[1]) if len(given) > 1 else 100, given[2:])
