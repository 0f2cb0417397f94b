"""Output folders of axolotl: a Trainer's, whose model card holds axolotl's own settings as YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finescale.exchange.disk import Unreadable, text_of, yaml_of
from finescale.exchange.found import Fact, Found, Importer, Skipped
from finescale.exchange.importers.trainer import Told, runs
from finescale.exchange.known import base

BLOCK = re.compile(r"axolotl version: .*?```yaml\n(.*?)\n```", re.S)
CONFIGS = ("axolotl_config.yaml", "axolotl_config.yml", "config.yaml", "config.yml")


def told(folder: Path) -> Told:
    """Axolotl's settings: from the card it writes, or a copy of its file that was put beside the weights."""
    for text in _texts(folder):
        try:
            config = yaml_of(text)
        except Unreadable:
            continue
        plain = {name: value for name, value in config.items() if not isinstance(value, list | dict)}
        return Told(plain, _method(config) | base(config.get("base_model"), config.get("revision_of_model")))
    return Told({}, {})


def _texts(folder: Path) -> Iterator[str]:
    for name in ("README.md", *CONFIGS):
        try:
            text = text_of(folder / name) if (folder / name).is_file() else ""
        except Unreadable:
            continue
        yield from BLOCK.findall(text) if name == "README.md" else [text]


def _method(config: dict[str, Any]) -> dict[str, Fact]:
    """The method where these settings alone tell it; DoRA and rsLoRA are told apart by the adapter's own file."""
    if "base_model" not in config or config.get("peft_use_dora") or config.get("peft_use_rslora"):
        return {}
    return {"method": str(config.get("adapter") or "full")}


def axolotl(root: Path) -> Iterator[Found | Skipped]:
    """Every run at or under ``root``.

    Raises:
        InputError: there is no such folder.
    """
    return runs(root, told)


IMPORTER = Importer("axolotl", "output folders of axolotl", ("eval_loss",), axolotl, unit="nats per token")
