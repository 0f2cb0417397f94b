"""What a worker process does to time a cell of a study. Importing this loads the lab, ahead of the work."""

from __future__ import annotations

from pathlib import Path

from finescale.core import RunSpec, Shape
from finescale.lab import model, steps
from finescale.lab.stopwatch import measure
from finescale.study import store

__all__ = ["ASKED", "FOUND", "steps", "work"]

ASKED, FOUND = "{}.json", "{}.found.json"


def work(folder: str, cell: str) -> None:
    """Time the cell that ``folder/cell.json`` asks for, and leave what was found beside it.

    A base that has not been pretrained yet is drawn at random: how long it takes does not depend on its weights.
    """
    root = Path(folder)
    asked = store.read_json(root / ASKED.format(cell))
    base = Path(asked["base"])
    if not base.is_dir():
        base.mkdir(parents=True)
        model.save(model.build(Shape.model_validate(asked["shape"]), seed=0), base)
    found = measure(RunSpec.model_validate(asked["spec"]), Path(asked["data"]), base, model.Opening(**asked["opening"]))
    store.write_json(root / FOUND.format(cell), found, durable=False)
