"""The ``[tasks.NAME]`` tables: a task from the user's own JSONL files, or settings of a built-in one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import Field

from finescale import kinds, registry
from finescale.errors import Fault, Faults, InputError, near
from finescale.lab import own, probes
from finescale.lab.tasks import LANGUAGE_NAMES, Task, render, template_fields
from finescale.study.fields import Count, Section

Found = TypeVar("Found")

NAMELESS = "write fields as {name} and a brace as {{"


class BuiltInTask(Section):
    """A ``[tasks.NAME]`` table where NAME is a built-in task; what is left out is as the task has it."""

    languages: tuple[str, ...] = ()
    mirror: str | None = Field(default=None, description="folder laid out as the hub, in place of downloads")
    max_source_tokens: Count | None = None
    max_target_tokens: Count | None = None

    def paths(self, folder: Path) -> dict[str, Path]:
        """The mirror, if there is one, in the place of training examples."""
        return {} if self.mirror is None else {"train": folder / Path(self.mirror).expanduser()}


class FileTask(Section):
    """A ``[tasks.NAME]`` table of the user's own. Without ``dev`` or ``test``, that split is taken from ``file``.

    Without a template, rows are known by their columns: ``finescale.lab.own.LAYOUTS``.
    """

    file: str = Field(description="training examples, relative to the study folder")
    dev: str | None = None
    test: str | None = None
    template: str | None = Field(default=None, description="prompt with {fields}; the target follows it")
    target: str | None = Field(default=None, description="field that holds the target")
    languages: tuple[str, ...] = Field(default=(), description="codes of the target's language; metrics go by them")
    ignore: tuple[str, ...] = Field(default=(), description="columns left unused on purpose")
    max_source_tokens: Count = 64
    max_target_tokens: Count = 64
    chat: bool = Field(
        default=False,
        description="examples are written by the model's own chat template; a template of its own is the user's turn",
    )

    def form(self) -> own.Form:
        """How its rows are read.

        Raises:
            ValueError: it has no template yet (``spelled_out``).
        """
        if self.template is None or self.target is None:
            raise ValueError("its layout has not been spelled out")
        return own.Form(self.template, self.target, self.languages, self.ignore)

    def fields(self) -> tuple[str, ...]:
        """Fields each example must have.

        Raises:
            ValueError: braces in the template do not match, or it has no template yet.
        """
        return self.form().fields

    def paths(self, folder: Path) -> dict[str, Path]:
        """The files of this task by split."""
        named = {"train": self.file, "dev": self.dev, "test": self.test}
        return {split: folder / Path(name).expanduser() for split, name in named.items() if name is not None}


OwnOrBuiltIn = FileTask | BuiltInTask


def digest(task: FileTask, folder: Path) -> str:
    """Identity of a task's examples: over their content and split, never their paths."""
    return own.digest(task.paths(folder))


def digests(tasks: Mapping[str, OwnOrBuiltIn], names: Iterable[str], folder: Path) -> dict[str, str]:
    """Identity of the data of each own task, and of each hub task or FLORES probe among ``names``.

    Corpus tasks stand on the corpus.

    Raises:
        InputError: a data set of the hub is neither in the mirror nor in the cache, and cannot be reached.
    """
    from finescale.lab import hub

    found = {name: digest(task, folder) for name, task in tasks.items() if isinstance(task, FileTask)}
    for name in sorted({*names} - found.keys() - {probes.FLORES}):
        if name.startswith(f"{probes.FLORES}:"):
            probe, mirror = probes.parse(name), paths_by_task(tasks, folder).get(probes.FLORES)
            found[name] = hub.flores_digest((probe.src or "", probe.tgt or ""), mirror)
            continue
        task: Task = registry.get("task", name)
        if task.origin == "hub":
            settings = tasks.get(name, BuiltInTask())
            found[name] = hub.digest(name, settings.languages or task.usual, settings.paths(folder).get("train"))
    return found


def paths_by_task(tasks: Mapping[str, OwnOrBuiltIn], folder: Path) -> dict[str, Path]:
    """Files by task; a dev or test file of its own is keyed ``NAME:dev``, ``NAME:test``, a mirror by its task."""
    return {
        name if split == "train" else f"{name}:{split}": path
        for name, task in tasks.items()
        for split, path in task.paths(folder).items()
    }


def spelled_out(task: FileTask, folder: Path) -> FileTask:
    """The task with the template and target that its files' layout stands for; one that names them is left as it is.

    Raises:
        InputError: the files have no layout, or several.
    """
    if task.template is not None:
        return task
    faults = Faults()
    layout = _layout(task, folder, "tasks", faults)
    if layout is None:
        raise InputError(*(faults or [Fault("tasks", "have no layout", "name a template and a target")]))
    return task.model_copy(update={"template": layout.template, "target": layout.target})


def check_layout(name: str, task: FileTask, folder: Path, faults: Faults) -> None:
    """Note what keeps the files of a task without a template from a layout known by its columns."""
    _layout(task, folder, f"tasks.{name}", faults)


def check_built_in(name: str, task: BuiltInTask, faults: Faults) -> None:
    """Note what is wrong with the settings of a built-in task; of FLORES, which is none, only the mirror can be set."""
    if name == probes.FLORES:
        for key in task.model_fields_set - {"mirror"}:
            faults.add(f"tasks.{name}.{key}", "is for tasks, and FLORES is read by probes alone", "leave it out")
        return
    known: Task = registry.get("task", name)
    known.check_languages(task.languages, f"tasks.{name}.languages", faults)
    if len(set(task.languages)) < len(task.languages):
        faults.add(f"tasks.{name}.languages", "lists a language more than once", "list each once")
    if task.mirror is not None and known.origin != "hub":
        faults.add(
            f"tasks.{name}.mirror", "is for data sets of the hub, and this task reads the corpus", "leave it out"
        )


def check_task(
    name: str, task: FileTask, folder: Path, faults: Faults, spare: list[str] | None = None
) -> dict[str, int]:
    """Examples in each file of a task; what is wrong with the template or the files goes to ``faults``.

    Columns that nothing uses are faults too, unless there is a list to put them into (``spare``).
    """
    where = f"tasks.{name}"
    for language in task.languages:
        if language not in LANGUAGE_NAMES:
            faults.add(f"{where}.languages", f"{language!r} is no known language", near(language, LANGUAGE_NAMES))
    if (task.template is None) != (task.target is None):
        missing = "template" if task.template is None else "target"
        faults.add(f"{where}.{missing}", "is missing", "name both, or neither for a layout known by its columns")
        return {}
    if task.template is None:
        layout = _layout(task, folder, where, faults)
        if layout is None:
            return {}
        task = task.model_copy(update={"template": layout.template, "target": layout.target})
    elif not _check_template(task.form(), where, faults):
        return {}
    paths, form, before = task.paths(folder), task.form(), len(faults.found)
    counts = {split: _rows(path, form, _key(where, split), faults, spare) for split, path in paths.items()}
    if (
        task.chat
        and len(faults.found) == before
        and any(own.leaves_out_template(path, form) for path in paths.values())
    ):
        what = f"would be left out: its rows are conversations, which the chat template writes ({where}.chat = true)"
        faults.add(f"{where}.template", what, "leave out template and target, or chat")
    return counts


def _check_template(form: own.Form, where: str, faults: Faults) -> bool:
    """Whether a template can be read at all."""
    try:
        shown = template_fields(form.template)
    except ValueError as error:
        faults.add(f"{where}.template", f"cannot be read: {error}", NAMELESS)
        return False
    if re.search(r"(?<!{){[!:}]", form.template):
        faults.add(f"{where}.template", "has a field without a name", NAMELESS)
    elif not shown:
        faults.add(f"{where}.template", "names no field", 'write at least one, as in "{source}"')
    else:
        _check_filling(form, where, faults)
    if form.target in shown:
        faults.add(f"{where}.template", f"shows the target field {form.target!r} to the model", "leave it out")
    return True


def _check_filling(form: own.Form, where: str, faults: Faults) -> None:
    try:
        render(form.template, form.target, dict.fromkeys(form.fields, "text"), f"{where}.template")
    except InputError as error:
        for fault in error.faults:
            faults.add(fault.where, fault.what, fault.fix)


def _key(where: str, split: str) -> str:
    return f"{where}.{'file' if split == 'train' else split}"


def _layout(task: FileTask, folder: Path, where: str, faults: Faults) -> own.Layout | None:
    """The layout that all files of a task have."""
    before = len(faults.found)
    found = {
        split: layout
        for split, path in task.paths(folder).items()
        if (layout := _readable(path, _key(where, split), faults, own.recognise)) is not None
    }
    if len(set(found.values())) > 1:
        told = "; ".join(f"{_key(where, split)} has {layout.name}" for split, layout in found.items())
        faults.add(where, f"its files have different layouts: {told}", "use one layout in all")
    elif not found and len(faults.found) == before:
        faults.add(_key(where, "train"), "holds no examples", "write one JSON object a line")
    return next(iter(found.values())) if found and len(faults.found) == before else None


def _rows(path: Path, form: own.Form, where: str, faults: Faults, spare: list[str] | None) -> int:
    return _readable(path, where, faults, lambda path, where, faults: own.check(path, form, where, faults, spare)) or 0


def _readable(path: Path, where: str, faults: Faults, read: Callable[[Path, str, Faults], Found]) -> Found | None:
    try:
        if (other := kinds.no_lines(path)) is not None:
            faults.add(where, f"{path} {other[0]}", other[1])
            return None
        return read(path, where, faults)
    except FileNotFoundError:
        faults.add(where, f"{path} does not exist", "paths are relative to the study folder")
    except UnicodeDecodeError as error:
        faults.add(where, f"{path} cannot be read: {error}", kinds.UTF8)
    except (OSError, ValueError) as error:
        faults.add(where, f"{path} cannot be read: {error}", "it must be a UTF-8 text file")
    return None
