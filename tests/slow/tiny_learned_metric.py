"""Makes a tiny checkpoint of a learned metric, random weights, in the layout of the published ones.

Run by the Python of the metric's own environment: tiny_learned_metric.py METRIC FOLDER PAIRS. Prints as JSON the scores
that the metric's documented calls give, one pair at a time, to hold the worker to.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

TEXT = ["das fenster schließen", "close all the windows", "关闭所有窗口", "über diese anwendung", "open a new file"]


def pieces(folder: Path) -> Path:
    """A sentencepiece model over a few words."""
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT * 50),
        model_prefix=str(folder / "spm"),
        vocab_size=70,
        hard_vocab_limit=False,
        character_coverage=1.0,
        user_defined_symbols=["[CLS]", "[SEP]", "[PAD]", "[MASK]"],
        unk_piece="[UNK]",
    )
    (folder / "spm.vocab").unlink()
    return folder / "spm.model"


def bleurt(folder: Path, pairs: list[dict[str, str]]) -> list[float]:
    import torch
    from bleurt_pytorch import BleurtConfig, BleurtForSequenceClassification
    from bleurt_pytorch.bleurt.tokenization_bleurt_sp import BleurtSPTokenizer

    tokenizer = BleurtSPTokenizer(str(pieces(folder)))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BleurtConfig(
        vocab_size=80,
        embedding_size=16,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    BleurtForSequenceClassification(config).save_pretrained(folder)
    model = BleurtForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return [
            model(
                **tokenizer(
                    [pair["reference"]], [pair["prediction"]], truncation=True, max_length=64, return_tensors="pt"
                )
            ).logits.item()
            for pair in pairs
        ]


def comet(folder: Path, pairs: list[dict[str, str]]) -> list[float]:
    import torch
    import yaml
    from comet.models import RegressionMetric
    from transformers import XLMRobertaConfig, XLMRobertaModel, XLMRobertaTokenizerFast

    encoder = folder / "encoder"
    encoder.mkdir()
    XLMRobertaTokenizerFast(vocab_file=str(pieces(encoder))).save_pretrained(encoder)
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=90,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=514,
        type_vocab_size=1,
        initializer_range=0.5,
    )
    XLMRobertaModel(config).save_pretrained(encoder)
    asked = {"encoder_model": "XLM-RoBERTa", "pretrained_model": str(encoder), "hidden_sizes": [64, 32]}
    model = RegressionMetric(**asked, local_files_only=True).eval()
    (folder / "checkpoints").mkdir()
    torch.save(
        {
            "state_dict": model.state_dict(),
            "hyper_parameters": dict(model.hparams),
            "pytorch-lightning_version": "2.0.0",
        },
        folder / "checkpoints" / "model.ckpt",
    )
    (folder / "hparams.yaml").write_text(yaml.safe_dump({"class_identifier": "regression_metric", **asked}))
    triples = [{"src": p["source"], "mt": p["prediction"], "ref": p["reference"]} for p in pairs]
    return [model.predict([one], batch_size=1, gpus=0, num_workers=0, progress_bar=False).scores[0] for one in triples]


if __name__ == "__main__":
    place = Path(sys.argv[2])
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        made = {"bleurt": bleurt, "comet": comet}[sys.argv[1]](place, json.loads(sys.argv[3]))
        out.write(json.dumps(made))
