"""Runs of axolotl and LLaMA-Factory, by the tools themselves, each in an environment of its own on a CPU.

``python kin_runs.py llama_factory`` needs llamafactory 0.9.5. Where torchaudio's compiled part does not fit torch, take
it away (``torchaudio/lib/*.so``): the tool imports that package whether or not there is sound.
``python kin_runs.py axolotl`` needs axolotl 0.19.0. Either writes its folder beside this file: LoRA on 64 numbers.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

HOME = Path(__file__).resolve().parent
KEPT = (
    *("README.md", "adapter_config.json", "adapter_model.safetensors", "trainer_state.json", "training_args.yaml"),
    *("all_results.json", "train_results.json", "eval_results.json", "trainer_log.jsonl"),
)
AXOLOTL = """base_model: tiny
adapter: lora
lora_r: 2
lora_alpha: 4
lora_target_modules: [q_proj, v_proj]
sequence_len: 64
datasets:
  - path: numbers.json
    ds_type: json
    type: &form
      system_prompt: ""
      field_instruction: instruction
      field_output: output
      format: "{instruction}"
      no_input_format: "{instruction}"
test_datasets:
  - path: numbers_test.json
    ds_type: json
    type: *form
    split: train
output_dir: out/lora-64
learning_rate: 0.02
num_epochs: 2
micro_batch_size: 8
gradient_accumulation_steps: 1
evals_per_epoch: 1
saves_per_epoch: 1
logging_steps: 4
optimizer: adamw_torch
lr_scheduler: linear
seed: 7
dataset_num_proc: 1
bf16: false
fp16: false
tf32: false
"""


def prepare() -> None:
    """A tiny model of characters, and its examples: instruction, an empty input, output."""
    import trainer_sweep
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    trainer_sweep.model().save_pretrained("tiny")
    words = Tokenizer(models.WordLevel({chr(code): code for code in range(128)}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    marks = {"unk_token": "?", "eos_token": "\x02", "bos_token": "\x01", "pad_token": "\x00"}
    PreTrainedTokenizerFast(tokenizer_object=words, **marks).save_pretrained("tiny")
    for name, numbers in (("numbers", range(5000, 5064)), ("numbers_test", range(7000, 7050))):
        rows = [{"instruction": f"{n}:", "input": "", "output": trainer_sweep.word(n)} for n in numbers]
        Path(f"{name}.json").write_text(json.dumps(rows))


def llama_factory() -> None:
    """As the tool's board starts a run: settings saved by its own function, then trained by its own."""
    from llamafactory.train.tuner import run_exp
    from llamafactory.webui.common import save_cmd

    files = {name: {"file_name": f"{name}.json"} for name in ("numbers", "numbers_test")}
    Path("dataset_info.json").write_text(json.dumps(files))
    asked = {"stage": "sft", "do_train": True, "do_eval": True, "model_name_or_path": "tiny", "template": "empty"}
    asked |= {"finetuning_type": "lora", "lora_rank": 2, "lora_target": "q_proj,v_proj", "dataset_dir": "."}
    asked |= {"dataset": "numbers", "eval_dataset": "numbers_test", "max_samples": 64, "cutoff_len": 64}
    asked |= {
        "output_dir": "out/lora-64",
        "learning_rate": 2e-2,
        "num_train_epochs": 2.0,
        "seed": 7,
        "report_to": "none",
    }
    asked |= {"per_device_train_batch_size": 8, "per_device_eval_batch_size": 8, "gradient_accumulation_steps": 1}
    asked |= {"eval_strategy": "epoch", "logging_steps": 4, "use_cpu": True}
    save_cmd(asked)
    run_exp(asked)


def axolotl() -> None:
    """As its command trains."""
    from axolotl.cli.train import do_cli

    Path("config.yaml").write_text(AXOLOTL)
    do_cli("config.yaml")


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    sys.path.insert(0, str(HOME))
    name = sys.argv[1]
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        prepare()
        {"llama_factory": llama_factory, "axolotl": axolotl}[name]()
        shutil.rmtree(HOME / name, ignore_errors=True)
        made = Path("out/lora-64")
        last = max(made.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
        for file in (*map(made.joinpath, KEPT), last / "trainer_state.json"):
            if file.is_file():
                place = HOME / name / file.relative_to("out")
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, place)
