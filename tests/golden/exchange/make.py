"""Make the fixtures of the importers by running the tools themselves.

``python make.py [NAME …]`` in an environment with transformers, peft, tensorboard, mlflow, wandb and lm-eval.

trainer       13 runs of ``trainer_sweep.py``; the base, most pickles and cards and two runs are left out for their size
trackers      3 of those runs again, reporting to TensorBoard, MLflow and W&B (offline) at once: the same losses thrice
mlflow        a small file store, logged as a plain script does
lm_eval       two results of a tiny model on a task of one file, one of them limited
table         a table with names of its own
comparison    PEFT's method comparison is neither in its wheel nor in its source distribution: its layout by hand,
              around PEFT's own settings and a real run's losses and sizes; its accuracies are made up

axolotl and LLaMA-Factory need other versions of the same packages: ``kin_runs.py`` runs them.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HOME = Path(__file__).resolve().parent
TOKENS = 128


def trainer(work: Path) -> None:
    """The sweep, trimmed."""
    import trainer_sweep

    trainer_sweep.sweep(Path("sweep"), (32, 64, 128, 256, 512), {"lora": (0, 1), "full": (0,)})
    out = fresh("trainer")
    shutil.copytree("sweep/runs", out, dirs_exist_ok=True)
    for folder in sorted(out.iterdir()):
        if folder.name in ("lora-n64-s1", "lora-n256-s1"):
            shutil.rmtree(folder)
            continue
        drop = ["generation_config.json", *([] if "-n32-s0" in folder.name else ["training_args.bin", "README.md"])]
        for name in drop:
            (folder / name).unlink(missing_ok=True)


def trackers(work: Path) -> None:
    """Three runs that report to three trackers; of W&B's folder only what it keeps in the open."""
    import mlflow
    import pandas as pd
    import trainer_sweep

    os.environ |= {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "MLFLOW_TRACKING_URI": (work / "tracked-mlruns").as_uri(),
    }
    os.environ |= {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_EXPERIMENT_NAME": "numbers", "WANDB_PROJECT": "numbers"}
    numbers = list(range(1000, 10_000))
    random.Random(0).shuffle(numbers)
    test, pool = trainer_sweep.rows(numbers[:100]), numbers[100:]
    if not Path("sweep/base").is_dir():
        trainer_sweep.sweep(Path("sweep"), (), {})
    out = fresh("tensorboard")
    for n in (32, 64, 128):
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(out / f"lora-n{n}")
        reported = {"report_to": ["tensorboard", "mlflow", "wandb"], "run_name": f"lora-n{n}-s0"}
        trainer_sweep.one(Path("sweep/base"), Path(f"tracked/lora-n{n}"), "lora", n, 0, test, pool, **reported)
        import wandb

        wandb.finish()
        mlflow.end_run()
    frame = mlflow.search_runs(experiment_names=["numbers"])
    keep = [name for name in frame if frame[name].notna().any() and "artifact_uri" not in name]
    folder = fresh("mlflow")
    frame[keep].to_csv(folder / "search_runs.csv", index=False)
    logs = sorted(Path("wandb").glob("offline-run-*/run-*.wandb"))
    kept = fresh("wandb")
    shutil.copy(logs[0], kept)
    rows = [exported(path) for path in logs]
    pd.DataFrame(rows).to_csv(kept / "project.csv", index=False)
    states = HOME / "trainer"
    for n in (32,):
        target = states / f"tracked-lora-n{n}"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(f"tracked/lora-n{n}", target)
        shutil.copytree(out / f"lora-n{n}", target / "runs" / "logs")
        for name in ("training_args.bin", "README.md"):
            (target / name).unlink()


def exported(path: Path) -> dict[str, object]:
    """A row as W&B's documented export of ``api.runs()`` makes it, from what the run itself wrote."""
    from finescale.exchange.offline import read_offline

    run = read_offline(path)
    plain = {name: value for name, value in run.config.items() if not name.startswith("_wandb")}
    return {"summary": {name: points[-1][1] for name, points in run.history.items()}, "config": plain, "name": run.name}


def table(work: Path) -> None:
    """Somebody's own table: other names, one row a run; numbers of the sweep above."""
    import pandas as pd

    rows = []
    for folder in [*sorted((HOME / "trainer").glob("full-*")), HOME / "trainer" / "lora-n32-s0"]:
        log = json.loads((folder / "trainer_state.json").read_text())["log_history"]
        losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
        rows.append({"how": folder.name.split("-")[0], "n": int(folder.name.split("-")[1][1:]), "nll": losses[-1]})
    pd.DataFrame(rows).to_csv(fresh("table") / "runs.csv", index=False)


def store(work: Path) -> None:
    """A file store: a finished run with a history, one that failed, one that was deleted."""
    import mlflow

    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    mlflow.set_tracking_uri((work / "mlruns").as_uri())
    mlflow.set_experiment("lora over data")
    made = []
    for n, losses in ((100, (2.5, 2.1, 2.2)), (400, (2.3, 1.9, 1.8)), (1600, (2.0,)), (50, (3.0,))):
        with mlflow.start_run(run_name=f"lora-{n}") as run:
            mlflow.log_params({"n_train": n, "lora_r": 8, "learning_rate": 1e-3, "method": "lora", "seed": 3})
            for step, loss in enumerate(losses):
                mlflow.log_metric("eval/loss", loss, step=10 * step)
        made.append(run.info.run_id)
    mlflow.MlflowClient().set_terminated(made[2], "FAILED")
    mlflow.delete_run(made[3])
    target = fresh("mlflow_store") / "mlruns"
    shutil.copytree("mlruns", target, ignore=shutil.ignore_patterns("artifacts", "models", ".trash"))


def lm_eval(work: Path) -> None:
    """A tiny model of characters, scored by the harness's own command."""
    import trainer_sweep
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    model = trainer_sweep.model()
    words = {chr(code): code for code in range(TOKENS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    model.save_pretrained("tiny-n500")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?", eos_token="\x02", bos_token="\x01")
    fast.save_pretrained("tiny-n500")
    texts = [{"text": f"{n}: {trainer_sweep.word(n)}."} for n in range(2000, 2012)]
    Path("texts.json").write_text("\n".join(json.dumps(row) for row in texts))
    task = {"task": "numbers", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": f"{work}/texts.json"}}}
    task |= {
        "output_type": "loglikelihood_rolling",
        "test_split": "test",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
    }
    task |= {"metric_list": [{"metric": "bits_per_byte"}, {"metric": "byte_perplexity"}]}
    Path("tasks").mkdir(exist_ok=True)
    Path("tasks/numbers.yaml").write_text(json.dumps(task))
    out = fresh("lm_eval")
    asked = ["--model", "hf", "--model_args", "pretrained=tiny-n500,max_length=32", "--tasks", "numbers"]
    asked += ["--include_path", "tasks", "--device", "cpu", "--batch_size", "4"]
    for name, more in (("whole", []), ("limited", ["--limit", "5"])):
        command = [sys.executable, "-m", "lm_eval", *asked, "--output_path", f"out-{name}", *more]
        subprocess.run(command, check=True)
        for path in Path(f"out-{name}").rglob("results_*.json"):
            (out / name).mkdir()
            shutil.copy(path, out / name)


def comparison(work: Path) -> None:
    """PEFT's comparison, which is in no package: its layout as it is known, around a real run's numbers."""
    import trainer_sweep
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM, Trainer, set_seed

    if not Path("sweep/base").is_dir():
        trainer_sweep.sweep(Path("sweep"), (), {})
    set_seed(7)
    peft = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"])
    net = get_peft_model(LlamaForCausalLM.from_pretrained("sweep/base"), peft)
    asked = trainer_sweep.arguments(Path("compared"), num_train_epochs=2, learning_rate=2e-2, seed=7)
    data, test = (trainer_sweep.rows(list(range(*span))) for span in ((5000, 5064), (7000, 7050)))
    run = Trainer(net, asked, train_dataset=data, eval_dataset=test)
    run.train()
    results = fresh("peft_comparison")
    for name, config, last in (("lora", peft.to_dict(), run.state.log_history), ("full", None, run.state.log_history)):
        final = {"step": 16, "train loss": last[-1]["train_loss"], "train samples": 128, "test accuracy": 0.25}
        trained = sum(p.numel() for p in net.parameters() if p.requires_grad or config is None)
        info = {"created_at": "2026-01-01", "experiment_name": f"{name}/llama", "peft_config": config, "error_msg": ""}
        info["train_config"] = {"model_id": "sweep/base", "seed": 0, "max_steps": 16, "optimizer_kwargs": {"lr": 2e-2}}
        train = {"num_trainable_params": trained, "num_total_params": net.num_parameters(), "status": "success"}
        train["metrics"] = [{"step": 8, "valid accuracy": 0.2, "train loss": 1.5}, final]
        body = {"run_info": info, "train_info": train, "meta_info": {"model_info": {"sha": None}}}
        (results / f"{name}.json").write_text(json.dumps(body, indent=1, default=sorted))


def neutral(scratch: str) -> None:
    """Take out what the tools wrote down of the machine; in a framed file by words of the same length."""
    import pandas as pd

    for path in sorted(HOME.rglob("events.out.tfevents.*")):
        path.rename(path.with_name(".".join([*path.name.split(".")[:4], "host", "1", path.name.split(".")[-1]])))
    for path in HOME.rglob("mlflow.user"):
        path.unlink()
    for path in HOME.glob("lm_eval/*/*.json"):
        body = json.loads(path.read_text())
        for name in ("pretty_env_info", "git_hash", "upper_git_hash"):
            body.pop(name, None)
        path.write_text(json.dumps(body, indent=1))
    table = HOME / "mlflow" / "search_runs.csv"
    frame = pd.read_csv(table, dtype=str)
    drop = ["tags.mlflow.user", "tags.mlflow.source.name", "tags.mlflow.source.git.commit"]
    frame.drop(columns=drop, errors="ignore").to_csv(table, index=False)
    machine = {word for word in (scratch, str(HOME), str(HOME.parents[2]), sys.executable, os.uname().nodename) if word}
    for path in sorted(file for file in HOME.rglob("*") if file.is_file() and file.suffix != ".py"):
        content = path.read_bytes()
        for word in sorted(machine, key=len, reverse=True):
            if len(word) > 3 or path.suffix == ".wandb":
                content = content.replace(word.encode(), b"x" * len(word))
        path.write_bytes(content)


def fresh(name: str) -> Path:
    """An empty folder for one kind of fixture."""
    shutil.rmtree(HOME / name, ignore_errors=True)
    (HOME / name).mkdir()
    return HOME / name


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    sys.path.insert(0, str(HOME))
    makers = {
        "trainer": trainer,
        "trackers": trackers,
        "mlflow": store,
        "lm_eval": lm_eval,
        "comparison": comparison,
        "table": table,
    }
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        for name in sys.argv[1:] or makers:
            makers[name](Path(scratch))
        neutral(scratch)
