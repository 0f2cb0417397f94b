"""Folders that Hugging Face's Trainer wrote, with or without PEFT: history, adapter, card, logs; never its pickles."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finescale.exchange.disk import Unreadable, folders, json_of, tensor_sizes, text_of, yaml_of
from finescale.exchange.events import FILES
from finescale.exchange.found import Fact, Found, Importer, Scores, Skipped, number, whole_number
from finescale.exchange.history import arguments, card, gaps, interval_of, logged, rows_from_speed
from finescale.exchange.known import adapter, base, settings, weights

STATE, PICKLE = "trainer_state.json", "training_args.bin"
ARGUMENTS = ("training_args.json", "training_args.yaml", "training_args.yml")
TIMES = re.compile(r"eval_(.*_)?(runtime|samples|samples_per_second|steps_per_second|model_preparation_time)")
RESULTS = ("all_results.json", "train_results.json", "eval_results.json")
CHECKPOINT = re.compile(r"checkpoint-(\d+)")
MEAN = "eval_loss is Trainer's: a mean over batches, not over target tokens, of whatever its labels leave unmasked"
WHOLE = "no adapter beside the weights, so it is taken as full finetuning; --set method=… says otherwise"


@dataclass(frozen=True)
class Told:
    """What lies in a run's folder besides its history: arguments under the trainer's names, facts under ours."""

    config: dict[str, Any]
    facts: dict[str, Fact]


More = Callable[[Path], Told]


def nothing(folder: Path) -> Told:
    """Nothing besides what every Trainer leaves."""
    return Told({}, {})


def runs(root: Path, more: More = nothing) -> Iterator[Found | Skipped]:
    """Every folder at or under ``root`` in which a Trainer left its state, or a checkpoint with one.

    Raises:
        InputError: there is no such folder.
    """
    root = root.parent if root.is_file() else root
    for folder in folders(root):
        if CHECKPOINT.fullmatch(folder.name) and folder != root:
            continue
        states = _states(folder)
        if states:
            yield _run(folder, root, states, more)
        elif (folder / PICKLE).is_file() or (folder / "adapter_config.json").is_file():
            yield Skipped(folder, f"has no {STATE}, nor a checkpoint with one; trainer.save_state() writes it")


def _states(folder: Path) -> list[Path]:
    """State files, the newest first: the folder's own, then its checkpoints' from the last."""
    kept = [path for path in folder.glob(f"checkpoint-*/{STATE}") if CHECKPOINT.fullmatch(path.parent.name)]
    kept.sort(key=lambda path: -int(path.parent.name.partition("-")[2]))
    return [path for path in (folder / STATE, *kept) if path.is_file()]


def _run(folder: Path, root: Path, states: list[Path], more: More) -> Found | Skipped:
    state, place, notes = None, folder, []
    for path in states:
        try:
            read = json_of(path)
            if not isinstance(read.get("log_history"), list):
                raise Unreadable("has no log_history")
        except Unreadable as error:
            why = f"{path.relative_to(folder)} {error}"
            notes.append("a trainer_state.json could not be read; an older one was taken")
            continue
        if state is None or _step(read) > _step(state):
            state, place = read, path.parent
        if path.parent != folder:
            break  # checkpoints come newest first
    if state is None:
        return Skipped(folder, why)
    scores = _scores(state)
    told = more(folder)
    config = _config(folder) | {name: value for name, value in told.config.items() if value is not None}
    results = _results(folder)
    for name, value in results.items():
        if _is_score(name, value) and (one := number(value)) is not None:
            scores[name] = (*scores.get(name, ()), (float(_step(state)), one))
    facts = _model(folder, place, config, notes) | settings(config) | _sizes(state, results, told.facts)
    notes += _notes(folder, state, scores, facts, config)
    name = str(folder.relative_to(root)) if folder != root else (folder.name or folder.resolve().name)
    offers = _offers(state, facts, notes)
    return Found(name, folder, facts | told.facts, scores, config, offers, tuple(dict.fromkeys(notes)), _flag(state))


def _is_score(name: str, value: Any) -> bool:
    return name.startswith("eval_") and not TIMES.fullmatch(name) and not isinstance(value, str)


def _step(state: dict[str, Any]) -> int:
    return whole_number(state.get("global_step")) or 0


def _entries(state: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in state["log_history"] if isinstance(entry, dict)]


def _scores(state: dict[str, Any]) -> Scores:
    found: dict[str, list[tuple[float, float]]] = {}
    for entry in _entries(state):
        step = number(entry.get("step"))
        for name, value in entry.items():
            if _is_score(name, value) and (one := number(value)) is not None:
                found.setdefault(str(name), []).append((step or 0.0, one))
    return {name: tuple(points) for name, points in found.items()}


def _scored(entry: dict[str, Any]) -> bool:
    return "eval_loss" in entry


def _last(state: dict[str, Any]) -> dict[str, Any]:
    """What ``train()`` logged when it returned; empty if it never did."""
    return next((entry for entry in reversed(_entries(state)) if "train_runtime" in entry), {})


def _flag(state: dict[str, Any]) -> str:
    """That a run did not end, as far as its state tells."""
    control = state.get("stateful_callbacks")
    control = control.get("TrainerControl") if isinstance(control, dict) else None
    control = control.get("args") if isinstance(control, dict) else None
    stopped = isinstance(control, dict) and control.get("should_training_stop") is True
    done, asked = _step(state), whole_number(state.get("max_steps"))
    if _last(state) or stopped or asked is None or done >= asked:
        return ""
    return f"unfinished: step {done} of {asked}"


def _results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in RESULTS:
        try:
            found = (json_of(folder / name) if (folder / name).is_file() else {}) | found
        except Unreadable:
            continue
    return found


def _config(folder: Path) -> dict[str, Any]:
    """Training arguments from wherever they are written in the open: the card, the logs, a file of their own."""
    found = card(folder / "README.md")
    for home in sorted({path.parent for path in (folder / "runs").glob(f"**/{FILES}")}):
        events, _ = logged(home)
        found |= arguments(events)
    for name in ARGUMENTS:
        if (folder / name).is_file():
            try:
                found |= yaml_of(text_of(folder / name))
            except Unreadable:
                continue
    return found


def _model(folder: Path, place: Path, config: dict[str, Any], notes: list[str]) -> dict[str, Fact]:
    """Base, method and sizes, from the adapter or the weights in the folder or in its newest checkpoint."""
    for home in (folder, place):
        if (home / "adapter_config.json").is_file():
            try:
                found = adapter(json_of(home / "adapter_config.json"))
            except Unreadable as error:
                notes.append(f"adapter_config.json {error}")
                continue
            return found | _trained(home)
    named = base(config.get("base_model") or config.get("model_name_or_path"))
    for home in (folder, place):
        own = weights(home)
        if own:
            notes.append(WHOLE)
            return named | own | {"method": "full", "pet_params": own["total_params"]}
    return named


def _trained(home: Path) -> dict[str, Fact]:
    """Numbers in the adapter's file: what was trained."""
    try:
        total = sum(tensor_sizes(home / "adapter_model.safetensors").values())
    except Unreadable:
        return {}
    return {"pet_params": total} if total else {}


def _sizes(state: dict[str, Any], results: dict[str, Any], told: dict[str, Fact]) -> dict[str, Fact]:
    asked = {"epochs": state.get("epoch"), "epochs_asked": state.get("num_train_epochs"), "steps": _step(state)}
    found: dict[str, Fact] = {name: value for name, raw in asked.items() if (value := number(raw))}
    if (rows := whole_number(results.get("train_samples"))) is not None and "examples" not in told:
        found["examples"] = rows
    if (rows := whole_number(results.get("eval_samples"))) is not None:
        found["eval_examples"] = rows
    return found


def _notes(
    folder: Path, state: dict[str, Any], scores: Scores, facts: dict[str, Fact], config: dict[str, Any]
) -> Iterator[str]:
    if "eval_loss" in scores:
        yield MEAN
        made = [(number(one.get("step")) or 0.0, number(one.get("epoch"))) for one in _entries(state) if _scored(one)]
        every = interval_of(made, number(state.get("eval_steps")))
        missing = gaps([step for step, _ in scores["eval_loss"]], _step(state), every)
        if missing:
            yield f"the history {missing}"
    if (folder / PICKLE).is_file() and not config:
        yield f"{PICKLE} is a pickle and is not opened; training_args.json, a model card or TensorBoard logs would do"
    if "examples" in facts:
        yield "examples is train_samples of the results: rows, after any packing"


def _offers(state: dict[str, Any], facts: dict[str, Fact], notes: list[str]) -> dict[str, Fact]:
    rows = rows_from_speed(_last(state), state.get("num_train_epochs"))
    if rows is None or "examples" in facts:
        return {}
    if rows[0] == rows[1]:
        return {"examples": rows[0]}
    notes.append("examples: the logged speeds are too coarse to tell it exactly")
    return {}


IMPORTER = Importer("trainer", "folders that Hugging Face's Trainer wrote", ("eval_loss",), runs, unit="nats per token")
