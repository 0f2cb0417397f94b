"""Results of PEFT's method comparison: a JSON file for each experiment, with ``run_info`` and ``train_info``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finescale.exchange.disk import Unreadable, files_named, json_of
from finescale.exchange.found import Found, Importer, Scores, Skipped, number, whole_number
from finescale.exchange.known import adapter, base, settings

SCORES = ("accuracy", "loss", "similarity")
SEEN = "“train samples” counts rows that were seen, again in every epoch, so it is not the number of examples"
NO_LOSS = "the comparison has no test loss: its losses are of training"


def runs(root: Path) -> Iterator[Found | Skipped]:
    """Every experiment at or under ``root``.

    Raises:
        InputError: there is no such file or folder.
    """
    for path in files_named(root, "*.json"):
        try:
            whole = json_of(path)
            parts = [whole.get(name) for name in ("run_info", "train_info")]
            if not all(isinstance(part, dict) for part in parts):
                raise Unreadable("has no run_info and train_info as the comparison writes them")
        except Unreadable as error:
            yield Skipped(path, str(error))
            continue
        yield _run(path, *(part for part in parts if isinstance(part, dict)))


def _run(path: Path, info: dict[str, Any], train: dict[str, Any]) -> Found:
    asked, peft = (_part(info, name) for name in ("train_config", "peft_config"))
    optimiser = asked.get("optimizer_kwargs")
    rate = optimiser.get("lr") if isinstance(optimiser, dict) else None
    facts = base(asked.get("model_id")) | settings({"learning_rate": rate, "seed": asked.get("seed")})
    facts |= {name: value for name, value in adapter(peft).items() if name != "base"} or {"method": "full"}
    for column, name in (("pet_params", "num_trainable_params"), ("total_params", "num_total_params")):
        if (value := whole_number(train.get(name))) is not None:
            facts[column] = value
    if (steps := whole_number(asked.get("max_steps"))) is not None:
        facts["steps"] = steps
    status = train.get("status")
    name = str(info.get("experiment_name") or path.stem)
    flag = "" if status == "success" else f"the comparison calls it {str(status)[:40]!r}"
    return Found(name, path, facts, _scores(train.get("metrics")), asked, notes=(SEEN, NO_LOSS), flag=flag)


def _part(info: dict[str, Any], name: str) -> dict[str, Any]:
    part = info.get(name)
    return part if isinstance(part, dict) else {}


def _scores(metrics: Any) -> Scores:
    """Scores over the steps at which they were taken: the entries are of training, the last one of the test too."""
    found: dict[str, list[tuple[float, float]]] = {}
    for entry in metrics if isinstance(metrics, list) else []:
        if not isinstance(entry, dict):
            continue
        step = number(entry.get("step")) or 0.0
        for name, value in entry.items():
            if str(name).rsplit(" ", 1)[-1] in SCORES and not isinstance(value, str):
                one = number(value)
                found.setdefault(str(name), []).extend([] if one is None else [(step, one)])
    return {name: tuple(points) for name, points in found.items() if points}


IMPORTER = Importer("peft-comparison", "result files of PEFT's method comparison, or folders with them", (), runs)
