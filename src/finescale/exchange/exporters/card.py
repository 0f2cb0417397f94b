"""A section for a model card: the runs behind a choice, with the best one's loss as ``model-index`` metadata."""

from __future__ import annotations

import math
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from finescale.errors import Fault, InputError
from finescale.exchange.hand_on import Exporter, check_place, check_runs, lacking
from finescale.stats import units
from finescale.stats.runs import read_runs

START, END = "<!-- finescale -->", "<!-- /finescale -->"
SECTION = re.compile(rf"{re.escape(START)}.*?{re.escape(END)}", re.S)
BARE = f"---\n{{{{ card_data }}}}\n---\n\n{START}{END}\n"
METRIC, NAME = "loss", "Test loss of finescale's table"


UNIT = "Test {}. Spread: standard deviation in a row."


def write(frame: pd.DataFrame, title: str, to: str) -> str:
    """Write a card, or bring the section of one that is there up to date; its other results and its name are kept.

    Raises:
        Refused: ``huggingface_hub`` is not installed.
        InputError: no run can be used, or the file is no card.
    """
    try:
        from huggingface_hub import EvalResult, ModelCard, ModelCardData
    except ImportError:
        raise lacking("huggingface_hub", "lab") from None
    path = check_place(to)
    check_runs(frame)
    usable = read_runs(frame).usable
    if not len(usable):
        raise InputError(Fault("table", "has no usable run", "flagged runs are not for a card"))
    best = _best(usable)
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=str(row.get("task", title)),
            dataset_name=str(row.get("task", title)),
            metric_type=METRIC,
            metric_name=NAME,
            metric_value=float(row["loss"]),
        )
        for row in best
    ]
    try:
        card: Any = (
            ModelCard.load(path)
            if path.is_file()
            else ModelCard.from_template(ModelCardData(), template_str=START + END)
        )
        others = [one for one in card.data.eval_results or [] if one.metric_name != NAME]
        card.data.model_name, card.data.eval_results = card.data.get("model_name") or title, [*others, *results]
        section = _section(usable, best)
        text = SECTION.sub(lambda _: section, card.text) if SECTION.search(card.text) else f"{card.text}\n\n{section}\n"
        card.text = text
        _save(path, str(card))
    except (OSError, ValueError) as error:
        raise InputError(Fault(to, f"cannot be a model card: {error}", "name another file")) from error
    return f"the section of {len(usable)} runs in {to}"


def _save(path: Path, text: str) -> None:
    """Write a card, whole or not at all, with one kind of line ends: those it had."""
    ends = "\r\n" if path.is_file() and b"\r\n" in path.read_bytes() else "\n"
    aside = path.with_name(f"{path.name}.part")
    try:
        aside.unlink(missing_ok=True)  # a link of that name is not written through
        with aside.open("w", encoding="utf-8", newline="") as file:
            file.write(text.replace("\r\n", "\n").replace("\n", ends))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        with suppress(OSError):  # there is none to take away
            aside.unlink()


def _best(usable: pd.DataFrame) -> list[dict[str, Any]]:
    """The run with the lowest loss of each task."""
    groups = usable.groupby("task", dropna=False) if "task" in usable else [("", usable)]
    lowest = [part.sort_values("loss").iloc[0].dropna() for _, part in groups]
    return [{str(name): value for name, value in row.items()} for row in lowest]


def _section(usable: pd.DataFrame, best: list[dict[str, Any]]) -> str:
    by = [name for name in ("task", "base", "method", "pet_size", "examples") if name in usable]
    rows = usable.groupby(by, dropna=False)["loss"].agg(["mean", "std", "size"]).reset_index()
    lines = ["## Finetuning runs", ""]
    for row in best:
        said = [f"{name} {_cell(row[name])}" for name in by if name in row]
        lines.append(f"Lowest test loss: {row['loss']:.4f} ({', '.join(said)}).")
    lines += ["", f"| {' | '.join([*by, 'loss', 'spread', 'runs'])} |", f"|{'---|' * (len(by) + 3)}"]
    for level in rows.to_dict("records"):
        spread = f"{level['std']:.4f}" if level["size"] > 1 else "one run"
        cells = [*(_cell(level[name]) for name in by), f"{level['mean']:.4f}", spread, str(level["size"])]
        lines.append(f"| {' | '.join(cells)} |")
    unit = units.unit_of(usable)
    lines += [
        "",
        UNIT.format(units.said(unit) if unit else "loss as the runs have it, in a unit that they do not name"),
    ]
    return "\n".join([START, *lines, END])


def _cell(value: object) -> str:
    """A value inside a Markdown table: no bar, no line break, no tag; numbers as they are read."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:,.10g}"
    text = " ".join(str(value).split())
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def check(to: str) -> None:
    """A file that is a card, or is not there yet.

    Raises:
        InputError: it is a folder, or in one that is not there.
    """
    if check_place(to).is_dir():
        raise InputError(Fault(to, "is a folder", "name the card in it: README.md"))


EXPORTER = Exporter("card", "a model card's section, with model-index metadata", check, write)
