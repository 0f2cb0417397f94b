"""What lm-evaluation-harness wrote: ``results_*.json``, a row for each model and task."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finescale.exchange.disk import Unreadable, files_named, json_of
from finescale.exchange.found import Fact, Found, Importer, Scores, Skipped, number, whole_number
from finescale.exchange.known import adapter, base, settings

NATS = "nats_per_byte"
PER_BYTE = "loss is nats per byte of text (bits_per_byte times ln 2), not per target token"


def runs(root: Path) -> Iterator[Found | Skipped]:
    """Every task of every results file at or under ``root``.

    Raises:
        InputError: there is no such file or folder.
    """
    for path in files_named(root, "results_*.json"):
        try:
            whole = json_of(path)
            results, config = whole.get("results"), whole.get("config")
            if not isinstance(results, dict) or not isinstance(config, dict):
                raise Unreadable("has no results and config as lm-eval writes them")
        except Unreadable as error:
            yield Skipped(path, str(error))
            continue
        for task, scores in results.items():
            if isinstance(scores, dict):
                yield _run(path, whole, config, str(task), scores)


def _run(path: Path, whole: dict[str, Any], config: dict[str, Any], task: str, scores: dict[str, Any]) -> Found:
    args = _arguments(config.get("model_args"))
    told = {"model": whole.get("model_name") or args.get("pretrained"), **args}
    facts = _model(args, whole) | {"task": task} | settings({"seed": config.get("random_seed")})
    if (shots := number(_inside(whole, "n-shot", task))) is not None:
        facts["shots"] = shots
    notes = []
    of, used = (whole_number(_inside(whole, "n-samples", task, name)) for name in ("original", "effective"))
    if used is not None:
        facts["eval_examples"] = used
    if of is not None and used is not None and used < of:
        notes.append(f"scored on the first {used} of {of} examples only (limit)")
    found = _scores(scores)
    if NATS in found:
        notes.append(PER_BYTE)
    name = f"{str(told['model'] or path.stem).rstrip('/').rsplit('/', 1)[-1]}/{task}"
    return Found(name, path, facts, found, told, notes=tuple(notes))


def _inside(whole: dict[str, Any], *names: str) -> Any:
    value: Any = whole
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _arguments(given: Any) -> dict[str, Any]:
    """``model_args``: a mapping, or ``name=value,…``."""
    if isinstance(given, dict):
        return {str(name): value for name, value in given.items()}
    parts = (part.partition("=") for part in str(given or "").split(",") if "=" in part)
    return {name.strip(): value for name, _, value in parts}


def _model(args: dict[str, Any], whole: dict[str, Any]) -> dict[str, Fact]:
    """The base, and the method where an adapter's own folder tells it."""
    found = base(args.get("pretrained"), args.get("revision"))
    peft = args.get("peft")
    if isinstance(peft, str) and os.path.isfile(os.path.join(peft, "adapter_config.json")):
        try:
            found = adapter(json_of(Path(peft) / "adapter_config.json")) | found
        except Unreadable:
            return found
    return found


def _scores(scores: dict[str, Any]) -> Scores:
    """Metrics by lm-eval's keys (``acc,none``) without errors of them; bits per byte in nats too."""
    found: Scores = {}
    for name, value in scores.items():
        metric, _, filtered = str(name).partition(",")
        if isinstance(value, str) or metric.endswith("_stderr") or not filtered or (one := number(value)) is None:
            continue
        found[str(name)] = ((0.0, one),)
        if metric == "bits_per_byte":
            found[NATS] = ((0.0, one * math.log(2)),)
    return found


IMPORTER = Importer("lm-eval", "results_*.json of lm-evaluation-harness, or folders with them", (NATS,), runs)
