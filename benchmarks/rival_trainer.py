"""One cell of a sweep as a careful user of transformers' Trainer and PEFT would run it: a process of its own.

``python benchmarks/rival_trainer.py CELL.json``: reads what to do, prints its result as JSON. Two recipes: ``sensible``
pads a batch to its longest example, groups examples of like length and evaluates in larger batches; ``plain`` pads all
to the context. Both check the dev set as often and keep the best state, as the cell says. They compute in fp32, the
sensible one in bf16 on a GPU that has it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PromptTuningConfig, PromptTuningInit, TaskType, get_peft_model
from torch.utils.data import Dataset
from transformers import AutoModelForCausalLM, EarlyStoppingCallback, Trainer, TrainingArguments, set_seed

from finescale.lab.train import cosine

IGNORED = -100
EVALUATED = 32


class Pairs(Dataset[dict[str, list[int]]]):
    """Tokenised examples; the prompt carries no loss."""

    def __init__(self, pairs: list[list[list[int]]]) -> None:
        self.rows = [
            {"input_ids": prompt + target, "labels": [IGNORED] * len(prompt) + target, "length": len(prompt + target)}
            for prompt, target in pairs
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return self.rows[index]


def collate(width: int | None) -> Any:
    """Pad a batch to its longest row, or to ``width``."""

    def batch(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        long = width or max(len(row["input_ids"]) for row in rows)
        pad = {"input_ids": 0, "attention_mask": 0, "labels": IGNORED}
        rows = [row | {"attention_mask": [1] * len(row["input_ids"])} for row in rows]
        return {
            name: torch.tensor([row[name] + [fill] * (long - len(row[name])) for row in rows])
            for name, fill in pad.items()
        }

    return batch


def with_method(model: Any, method: str, size: int | None) -> Any:
    """The model with PEFT's own adapter, a prompt begun from sampled vocabulary as here; PEFT's defaults otherwise."""
    if method == "full":
        return model
    if method == "lora":
        return get_peft_model(
            model, LoraConfig(r=size, lora_alpha=32, target_modules="all-linear", task_type=TaskType.CAUSAL_LM)
        )
    begun = PromptTuningInit.SAMPLE_VOCAB
    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=size, prompt_tuning_init=begun)
    return get_peft_model(model, config)


def arguments(cell: dict[str, Any], out: Path) -> TrainingArguments:
    """The cell's recipe in the Trainer's words."""
    plain, every = cell["recipe"] == "plain", max(1, round(cell["steps"] / cell["dev_checks"]))
    return TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=cell["batch_examples"],
        per_device_eval_batch_size=cell["batch_examples"] if plain else EVALUATED,
        max_steps=cell["steps"],
        learning_rate=cell["learning_rate"],
        weight_decay=cell["weight_decay"],
        max_grad_norm=cell["clip"],
        train_sampling_strategy="random" if plain else "group_by_length",
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_only_model=True,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        logging_strategy="no",
        report_to=[],
        use_cpu=cell["device"] == "cpu",
        bf16=not plain and cell["device"] == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False),
        seed=cell["seed"],
        disable_tqdm=True,
        remove_unused_columns=False,
    )


class SameSchedule(Trainer):
    """The Trainer with finescale's rate at every step; its own warm-up starts from 0, one step behind."""

    cell: dict[str, Any]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Warm-up, then a cosine down to a tenth."""
        if self.lr_scheduler is None:
            share = cosine(1.0, self.cell["steps"], self.cell["warmup_steps"])
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, share)
        return self.lr_scheduler


@torch.no_grad()
def loss_of(model: Any, data: Pairs, batch: Any, size: int, prefix: int) -> float:
    """Nats per target token over a whole set."""
    model.eval()
    device = next(model.parameters()).device
    rows = sorted(data.rows, key=lambda row: row["length"])
    nats, tokens = 0.0, 0
    for start in range(0, len(rows), size):
        inputs = {name: part.to(device) for name, part in batch(rows[start : start + size]).items()}
        labels = inputs.pop("labels")
        logits = model(**inputs).logits[:, prefix:][:, :-1].float()
        wanted = labels[:, 1:]
        nats += float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="sum"))
        tokens += int((wanted != IGNORED).sum())
    return nats / tokens


def main() -> None:
    """Finetune, keep the best by dev loss, score the test set."""
    cell = json.loads(Path(sys.argv[1]).read_text())
    set_seed(cell["seed"])
    sets = {name: Pairs(pairs) for name, pairs in json.loads(Path(cell["pairs"]).read_text()).items()}
    model = AutoModelForCausalLM.from_pretrained(cell["base"], attn_implementation="sdpa", dtype=torch.float32)
    model = with_method(model, cell["method"], cell["pet_size"])
    batch = collate(cell["context"] if cell["recipe"] == "plain" else None)
    trainer = SameSchedule(
        model=model,
        args=arguments(cell, Path(sys.argv[1]).with_suffix("")),
        train_dataset=sets["train"],
        eval_dataset=sets["dev"],
        data_collator=batch,
        callbacks=[EarlyStoppingCallback(cell["patience"])],
    )
    trainer.cell = cell
    trainer.train()
    size = cell["batch_examples"] if cell["recipe"] == "plain" else EVALUATED
    prefix = cell["pet_size"] if cell["method"] == "prompt" else 0
    loss = loss_of(model, sets["test"], batch, size, prefix)
    peak = torch.cuda.max_memory_allocated() if cell["device"] == "cuda" else None
    print(json.dumps({"loss": loss, "steps": trainer.state.global_step, "peak_bytes": peak}))


if __name__ == "__main__":
    main()
