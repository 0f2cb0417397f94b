"""A sweep of Hugging Face Trainer + PEFT runs on a tiny model: what people's folders look like, made by the real tools.

``python trainer_sweep.py FOLDER`` writes ``FOLDER/base`` and ``FOLDER/runs/<method>-n<examples>-s<seed>``. The
task is to spell a number in words, as bytes; the model is a Llama of one layer of 16, pretrained for a moment on
numbers without the digits 5 to 9. Needs transformers and peft.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, set_seed

ONES = ["null", "eins", "zwei", "drei", "vier", "funf", "sechs", "sieben", "acht", "neun"]
TENS = ["zehn", "zwanzig", "dreissig", "vierzig", "funfzig", "sechzig", "siebzig", "achtzig", "neunzig"]
WIDTH, LENGTH, TEST = 16, 32, 100


def word(number: int) -> str:
    """A German-like word for a number, digit by digit."""
    return " ".join(ONES[int(digit)] if int(digit) % 2 else TENS[int(digit) - 1] for digit in str(number))


def rows(numbers: list[int]) -> list[dict[str, list[int]]]:
    """Prompt and completion as bytes; the prompt is masked."""
    made = []
    for number in numbers:
        prompt, target = f"{number}:".encode(), f"{word(number)}\n".encode()
        ids = (prompt + target)[:LENGTH]
        labels = ([-100] * len(prompt) + list(target))[:LENGTH]
        rest = LENGTH - len(ids)
        mask = [1] * len(ids) + [0] * rest
        made.append({"input_ids": list(ids) + [0] * rest, "labels": labels + [-100] * rest, "attention_mask": mask})
    return made


def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=128, max_position_embeddings=LENGTH, tie_word_embeddings=True, **shape)
    return LlamaForCausalLM(config)


def arguments(folder: Path, **more) -> TrainingArguments:
    same = {"per_device_train_batch_size": 8, "per_device_eval_batch_size": 25, "eval_strategy": "epoch"}
    same |= {"save_strategy": "no", "logging_strategy": "no", "report_to": "none", "use_cpu": True}
    same |= {"disable_tqdm": True}
    return TrainingArguments(output_dir=str(folder), **(same | more))


def one(base: Path, folder: Path, method: str, n: int, seed: int, test, pool: list[int], **more) -> None:
    """One run, as a plain script makes it: seed, train, save the model, save the state."""
    set_seed(seed)
    net = LlamaForCausalLM.from_pretrained(base)
    if method == "lora":
        net = get_peft_model(net, LoraConfig(r=2, lora_alpha=4, target_modules="all-linear"))
    chosen = random.Random(seed).sample(pool, n)
    rate = {"lora": 2e-2, "full": 5e-3}[method]
    asked = {"num_train_epochs": 4, "learning_rate": rate, "seed": seed} | more
    trainer = Trainer(net, arguments(folder, **asked), train_dataset=rows(chosen), eval_dataset=test)
    trainer.train()
    trainer.save_model()
    trainer.save_state()


def sweep(home: Path, sizes: tuple[int, ...], seeds: dict[str, tuple[int, ...]]) -> None:
    """The base and every run of the grid."""
    numbers = list(range(1000, 10_000))
    random.Random(0).shuffle(numbers)
    test, pool = rows(numbers[:TEST]), numbers[TEST:]
    seen = [number for number in range(10_000) if not set(str(number)) & set("56789")]
    base, scratch = home / "base", home / "scratch"
    trainer = Trainer(
        model(),
        arguments(scratch, num_train_epochs=6, learning_rate=1e-2, eval_strategy="no"),
        train_dataset=rows(seen),
    )
    trainer.train()
    trainer.save_model(str(base))
    (base / "training_args.bin").unlink()
    for method, chosen in seeds.items():
        for n in sizes:
            for seed in chosen:
                one(base, home / "runs" / f"{method}-n{n}-s{seed}", method, n, seed, test, pool)
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    home = Path(sys.argv[1])
    os.chdir(home.parent)
    home = Path(home.name)
    sweep(home, (32, 64, 128, 256, 512), {"lora": (0, 1), "full": (0,)})
    print(json.dumps(sorted(path.name for path in (home / "runs").iterdir())))
