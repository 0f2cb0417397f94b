"""The worker of a learned metric, run by the Python of that metric's own environment and never imported.

python outside_worker.py METRIC score FOLDER: one {source, prediction, reference} a line in, one {score} a line out.
python outside_worker.py METRIC fetch NAME: downloads a checkpoint; one {path} out.
"""

from __future__ import annotations

import json
import os
import sys

BATCH = 16

Row = dict[str, str]


def bleurt_fetch(name: str) -> str:
    """Download a BLEURT checkpoint; returns its folder."""
    from huggingface_hub import snapshot_download

    return str(snapshot_download(name))


def bleurt_score(folder: str, rows: list[Row]) -> list[float]:
    """BLEURT of each prediction; texts beyond the model's positions are cut.

    The tokenizer is chosen by the checkpoint's files. ``BleurtTokenizer`` chooses by trying, and what it tries first on
    a sentencepiece model (BLEURT-20) fails with an error that it does not expect.
    """
    import torch
    from bleurt_pytorch import BleurtForSequenceClassification
    from bleurt_pytorch.bleurt.tokenization_bleurt_fast import BleurtTokenizerFast
    from bleurt_pytorch.bleurt.tokenization_bleurt_sp import BleurtSPTokenizer

    kind = BleurtSPTokenizer if os.path.exists(os.path.join(folder, "spm.model")) else BleurtTokenizerFast
    model = BleurtForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = kind.from_pretrained(folder, local_files_only=True)
    scores: list[float] = []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        inputs = tokenizer(
            [row["reference"] for row in part],
            [row["prediction"] for row in part],
            padding="longest",
            truncation=True,
            max_length=model.config.max_position_embeddings,
            return_tensors="pt",
        )
        with torch.no_grad():
            scores += model(**inputs).logits.flatten().tolist()
    return scores


def comet_fetch(name: str) -> str:
    """Download a COMET checkpoint, its encoder's configuration and tokenizer; returns the checkpoint's folder."""
    from comet import download_model, load_from_checkpoint

    path = download_model(name)
    load_from_checkpoint(path)
    return os.path.dirname(os.path.dirname(str(path)))


def comet_score(folder: str, rows: list[Row]) -> list[float]:
    """COMET of each prediction, which sees the source too."""
    from comet import load_from_checkpoint

    model = load_from_checkpoint(os.path.join(folder, "checkpoints", "model.ckpt"), local_files_only=True)
    triples = [{"src": row["source"], "mt": row["prediction"], "ref": row["reference"]} for row in rows]
    return list(model.predict(triples, batch_size=BATCH, gpus=0, num_workers=1, progress_bar=False).scores)


def main(metric: str, action: str, place: str) -> None:
    """Answer on what was stdout; whatever the libraries print goes to stderr."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        if action == "fetch":
            path = {"bleurt": bleurt_fetch, "comet": comet_fetch}[metric](place)
            out.write(json.dumps({"path": path}) + "\n")
            return
        rows = [json.loads(line) for line in sys.stdin.buffer.read().decode("utf-8").splitlines()]
        scores = {"bleurt": bleurt_score, "comet": comet_score}[metric](place, rows)
        out.writelines(json.dumps({"score": float(score)}) + "\n" for score in scores)


if __name__ == "__main__":
    main(*sys.argv[1:])
