"""A task from the user's own JSONL files: one example a line, a JSON object whose fields the template names."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from finescale.core import fingerprint
from finescale.errors import Faults
from finescale.lab.tasks import template_fields
from finescale.study.fields import Count, Section

MOST_BAD_LINES = 3


class FileTask(Section):
    """A ``[tasks.NAME]`` table. Without ``dev`` or ``test`` of its own, that split is taken from ``file``."""

    file: str = Field(description="training examples, relative to the study folder")
    dev: str | None = None
    test: str | None = None
    template: str = Field(description="prompt with {fields}; the target follows it")
    target: str = Field(description="field that holds the target")
    max_source_tokens: Count = 64
    max_target_tokens: Count = 64

    def fields(self) -> list[str]:
        """Fields each example must have.

        Raises:
            ValueError: braces in the template do not match.
        """
        return list(dict.fromkeys([*template_fields(self.template), self.target]))

    def paths(self, folder: Path) -> dict[str, Path]:
        """The files of this task by split."""
        named = {"train": self.file, "dev": self.dev, "test": self.test}
        return {split: folder / Path(name).expanduser() for split, name in named.items() if name is not None}


def digest(task: FileTask, folder: Path) -> str:
    """Identity of a task's examples: over their content and split, never their paths."""
    return fingerprint({split: _sha256(path) for split, path in task.paths(folder).items()})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_task(name: str, task: FileTask, folder: Path, faults: Faults) -> dict[str, int]:
    """Examples in each file of a task; what is wrong with the template or the files goes to ``faults``."""
    where = f"tasks.{name}"
    try:
        fields = task.fields()
    except ValueError as error:
        faults.add(f"{where}.template", f"cannot be read: {error}", "write fields as {name} and a brace as {{")
        return {}
    shown = template_fields(task.template)
    if re.search(r"(?<!{){[!:}]", task.template):
        faults.add(f"{where}.template", "has a field without a name", "write fields as {name} and a brace as {{")
    elif not shown:
        faults.add(f"{where}.template", "names no field", 'write at least one, as in "{source}"')
    if task.target in shown:
        faults.add(f"{where}.template", f"shows the target field {task.target!r} to the model", "leave it out")
    counts = {}
    for split, path in task.paths(folder).items():
        key = f"{where}.{'file' if split == 'train' else split}"
        counts[split] = _check_file(path, key, fields, faults)
    return counts


def _check_file(path: Path, where: str, fields: list[str], faults: Faults) -> int:
    try:
        count = 0
        bad: list[tuple[int, str]] = []
        for number, what in _lines(path, fields):
            count += 1
            if what and len(bad) < MOST_BAD_LINES:
                bad.append((number, what))
    except FileNotFoundError:
        faults.add(where, f"{path} does not exist", "paths are relative to the study folder")
        return 0
    except (OSError, UnicodeDecodeError) as error:
        faults.add(where, f"{path} cannot be read: {error}", "it must be a UTF-8 text file")
        return 0
    for number, what in bad:
        faults.add(
            where, f"{path.name}, line {number}: {what}", f"each line is a JSON object with text in {', '.join(fields)}"
        )
    if not count:
        faults.add(where, f"{path.name} holds no examples", "write one JSON object a line")
    return count


def _lines(path: Path, fields: list[str]) -> Iterator[tuple[int, str]]:
    """Number of each line that is not blank, and what is wrong with it ("" if nothing)."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _wrong(line, fields)


def _wrong(line: str, fields: list[str]) -> str:
    try:
        example: Any = json.loads(line)
    except (ValueError, RecursionError):
        return "is not JSON"
    if not isinstance(example, dict):
        return "is not a JSON object"
    missing = [field for field in fields if not isinstance(example.get(field), str) or not example[field].strip()]
    return f"has no text in {', '.join(missing)}" if missing else ""
