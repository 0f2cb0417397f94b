"""Output folders of LLaMA-Factory: a Trainer's, with ``training_args.yaml`` where its board started the run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from finescale.exchange.disk import Unreadable, text_of, yaml_of
from finescale.exchange.found import Fact, Found, Importer, Skipped
from finescale.exchange.history import card
from finescale.exchange.importers.trainer import Told, runs
from finescale.exchange.known import base

SETTINGS = "training_args.yaml"


def told(folder: Path) -> Told:
    """LLaMA-Factory's settings as far as they are written in the open: by its board, or in the model card."""
    try:
        config = yaml_of(text_of(folder / SETTINGS)) if (folder / SETTINGS).is_file() else {}
    except Unreadable:
        config = {}
    facts: dict[str, Fact] = {}
    if config.get("finetuning_type") in ("full", "freeze"):
        facts["method"] = str(config["finetuning_type"])
    if isinstance(config.get("dataset"), str):
        facts["task"] = str(config["dataset"])
    named = config.get("model_name_or_path") or card(folder / "README.md").get("base_model")
    plain = {name: value for name, value in config.items() if not isinstance(value, list | dict)}
    return Told(plain, facts | base(named, config.get("model_revision")))


def llama_factory(root: Path) -> Iterator[Found | Skipped]:
    """Every run at or under ``root``.

    Raises:
        InputError: there is no such folder.
    """
    return runs(root, told)


IMPORTER = Importer(
    "llama-factory", "output folders of LLaMA-Factory", ("eval_loss",), llama_factory, unit="nats per token"
)
