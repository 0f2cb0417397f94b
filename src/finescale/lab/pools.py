"""A task's splits as text, with nothing shared: from the corpus, the user's own files or the hub."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finescale import registry
from finescale.core import TaskSpec
from finescale.errors import Fault, Faults, InputError
from finescale.lab import hub, own
from finescale.lab.corpora import Corpus
from finescale.lab.duplicates import apart
from finescale.lab.tasks import Origin, Rendered, Task, render, source_of

SPLITS = ("train", "dev", "test")
MOST_FAULTS = 20
SHARED = "share a held-out prompt"


@dataclass(frozen=True)
class Pool:
    """Rendered examples by split, and what was found out about them."""

    splits: dict[str, list[Rendered]]
    facts: dict[str, Any]


def pool(task: TaskSpec, corpus: Corpus, files: Mapping[str, Path]) -> Pool:
    """Everything a task can learn from and be judged on; corpus tasks were split and cleaned with the corpus.

    Raises:
        InputError: rows are at fault, the data has changed since it was planned, or a language has no rows.
    """
    if task.source == "corpus":
        found = Pool(_built_in(task, Origin(corpus=corpus))[0], {})
    else:
        own_files = task.source == "jsonl"
        splits, beside = _from_files(task, files) if own_files else _from_hub(task, files.get(task.name))
        kept, duplicates = apart(splits)
        _refuse_only_repeats(task, splits, kept)
        found = Pool(kept, {"duplicates": duplicates} | beside)
    _refuse_missing_languages(task, found.splits["train"])
    return found


def by_hash(rows: Iterable[Rendered]) -> list[Rendered]:
    """Rows in the order of a hash of their prompts: equal prompts together, otherwise as good as random."""
    return sorted(rows, key=lambda row: hashlib.sha256(row.prompt.encode()).digest())


def _built_in(task: TaskSpec, origin: Origin) -> tuple[dict[str, list[Rendered]], int]:
    """Splits of a built-in task, and how many rows had an empty field (there are such on the hub)."""
    known: Task = registry.get("task", task.name)
    splits: dict[str, list[Rendered]] = {}
    empty = 0
    for split in SPLITS:
        splits[split] = []
        for number, (language, fields) in enumerate(known.rows(origin, split, task.languages), 1):
            if not all(text.strip() for text in fields.values()):
                empty += 1
                continue
            where = f"{task.name} {split} example {number}"
            rendered = render(task.template, task.target, fields, where)
            splits[split].append(Rendered(*rendered, language, source_of(task.template, fields)))
    return splits, empty


def _from_hub(task: TaskSpec, mirror: Path | None) -> tuple[dict[str, list[Rendered]], dict[str, int]]:
    """As the data set has them; dev and test by hash, so that the first of them are a sample of all its documents."""
    _refuse_changed(task, hub.digest(task.name, task.languages, mirror))
    splits, empty = _built_in(task, Origin(mirror=mirror))
    return splits | {split: by_hash(splits[split]) for split in ("dev", "test")}, {"empty": empty}


def _from_files(task: TaskSpec, files: Mapping[str, Path]) -> tuple[dict[str, list[Rendered]], dict[str, int]]:
    """Splits of the user's own data: given files, or cut by the hash of the prompt, one row of each held-out prompt.

    Other rows with a held-out prompt are in no split; they are counted as ``share a held-out prompt``.
    """
    keys = {split: task.name if split == "train" else f"{task.name}:{split}" for split in SPLITS}
    paths = {split: files[key] for split, key in keys.items() if key in files}
    _refuse_changed(task, own.digest(paths))
    splits = {split: _read(task, path) for split, path in paths.items()}
    left_out = 0
    if len(splits) < len(SPLITS):
        groups = [list(group) for _, group in itertools.groupby(by_hash(splits["train"]), key=lambda row: row.prompt)]
        for split, wanted in (("dev", task.dev_examples), ("test", task.test_examples)):
            if split not in splits:
                splits[split] = [group[0] for group in groups[:wanted]]
                left_out += sum(len(group) - 1 for group in groups[:wanted])
                groups = groups[wanted:]
        splits["train"] = [row for group in groups for row in group]
    return {split: splits[split] for split in SPLITS}, {"empty": 0, SHARED: left_out}


def _read(task: TaskSpec, path: Path) -> list[Rendered]:
    form = own.Form(task.template, task.target, task.languages)
    rows, faults = [], Faults()
    for number, row in own.lines(path):
        where = f"{path.name}, line {number}"
        try:
            if isinstance(row, str):
                raise ValueError(row)
            fields = own.fields_of(row, form)
            rendered = render(task.template, task.target, fields, where)
            turns = own.turns_of(row, form) if task.chat else ()
            source = source_of(task.template, fields)
            rows.append(Rendered(*rendered, own.language_of(fields, task.languages), source, turns))
        except ValueError as problem:
            faults.add(where, str(problem))
        except InputError as problem:
            faults.found.extend(problem.faults)
    if faults.found:
        more = (
            [Fault(path.name, f"{len(faults.found)} lines in all are wrong")] if len(faults.found) > MOST_FAULTS else []
        )
        raise InputError(*faults.found[:MOST_FAULTS], *more)
    return rows


def _refuse_changed(task: TaskSpec, found: str) -> None:
    if found != task.digest:
        what = f"its examples have changed since the study was planned: expected {task.digest}, found {found}"
        raise InputError(
            Fault(f"task {task.name!r}", what, "run the study again; runs on the old examples stay as they are")
        )


def _refuse_only_repeats(task: TaskSpec, before: dict[str, list[Rendered]], after: dict[str, list[Rendered]]) -> None:
    faults = Faults()
    for split, other in (("dev", "test"), ("train", "dev or test")):
        if before[split] and not after[split]:
            what = f"all {len(before[split])} rows of its {split} split repeat a row of {other}, nearly or exactly"
            faults.add(f"task {task.name!r}", what, "give it examples of its own")
    faults.raise_if_any()


def _refuse_missing_languages(task: TaskSpec, train: list[Rendered]) -> None:
    have = {row.language for row in train}
    missing = [language for language in task.languages if language not in have]
    if missing and train:
        what = f"has no training examples in {', '.join(missing)}"
        fix = f"there are {', '.join(language for language in task.languages if language in have)}"
        raise InputError(Fault(f"task {task.name!r}", what, fix))
