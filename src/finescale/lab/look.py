"""What a file of examples holds, looked at before anything is trained on it: lengths, repeats, leaks, languages."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from finescale.core import TaskSpec
from finescale.errors import InputError
from finescale.lab.corpora import NOTHING
from finescale.lab.corpora.languages import guess
from finescale.lab.pools import SHARED, pool
from finescale.lab.tasks import LANGUAGE_NAMES, Rendered

BYTES_A_TOKEN = 4
"""Of English text in most published tokenizers, about; used only where a model's own tokenizer is not to be had."""
SAMPLED = 400
"""Examples that languages are guessed from."""


@dataclass(frozen=True)
class Look:
    """What was seen.

    Attributes:
        rows: examples of each split once what repeats a held-out one is taken out of training.
        repeats: rows left out since they share a held-out prompt, examples taken out as exact and near repeats of
            held-out ones, and exact repeats left in training.
        undecided: prompts that stand more than once in training, with different targets.
        languages: guesses for prompts and targets, by name; None where nothing tells.
        lengths: tokens of prompts and of targets, the target's end counted, (examples, 2), training examples first.
        counted: what lengths were counted with.
        template: whether the model's tokenizer is here and has a chat template.
        chat: whether examples were counted as that template writes them.
    """

    rows: dict[str, int]
    repeats: dict[str, int]
    undecided: int
    languages: tuple[str | None, str | None]
    lengths: np.ndarray[tuple[int, int], np.dtype[np.int64]]
    counted: str
    template: bool = False
    chat: bool = False

    def longest(self, share: float) -> tuple[int, int]:
        """Tokens that this share of prompts, and of targets, stays within."""
        prompt, target = np.quantile(self.lengths, share, axis=0, method="higher")
        return int(prompt), int(target)

    def within(self, limits: tuple[int, int]) -> int:
        """Training examples that are no longer than both limits."""
        return int((self.lengths[: self.rows["train"]] <= limits).all(axis=1).sum())

    def sentences(self) -> list[str]:
        """What a person wants to know, a line each."""
        half, most = self.longest(0.5), self.longest(1.0)
        rows = ", ".join(f"{count:,} {split}" for split, count in self.rows.items())
        said = [
            f"examples: {rows}",
            f"tokens of a prompt: half have {half[0]} or fewer, the longest {most[0]:,}; "
            f"of a target: {half[1]}, {most[1]:,} ({self.counted})",
            f"language of prompts: {self.languages[0] or 'not told'}, of targets: {self.languages[1] or 'not told'}",
        ]
        exact, near = self.repeats["exact across splits"], self.repeats["near across splits"]
        said.append(f"leaks: {exact} rows repeat a held-out example, {near} nearly do; they are left out of training")
        if self.repeats[SHARED]:
            said.append(f"{self.repeats[SHARED]} rows share the prompt of a held-out example; they are left out")
        if self.repeats["within train"]:
            said.append(f"repeats: {self.repeats['within train']} training examples stand there more than once")
        if self.undecided:
            said.append(f"{self.undecided} prompts stand there with different targets: no model can learn both")
        return said


def look(task: TaskSpec, files: Mapping[str, Path], model: str) -> Look:
    """Look at a task's own files as a study would read them.

    Args:
        task: how they are read and how many examples are held out.
        files: by task name, ``NAME:dev`` and ``NAME:test``.
        model: whose tokens lengths are counted in, as a study names it.

    Raises:
        InputError: rows are at fault, all of a split repeat another, or a chat template refuses a row.
    """
    found = pool(task, NOTHING, files)
    rows = [row for split in ("train", "dev", "test") for row in found.splits[split]]
    lengths, counted, template = _lengths(rows, model, f"task {task.name!r}" if task.chat else "")
    targets: dict[str, set[str]] = defaultdict(set)
    for row in found.splits["train"]:
        targets[row.prompt].add(row.target)
    some = rows[:: max(1, len(rows) // SAMPLED)]
    return Look(
        rows={split: len(found.splits[split]) for split in ("train", "dev", "test")},
        repeats={SHARED: found.facts[SHARED]} | found.facts["duplicates"],
        undecided=sum(len(told) > 1 for told in targets.values()),
        languages=(_language([row.prompt for row in some]), _language([row.target for row in some])),
        lengths=lengths,
        counted=counted,
        template=template,
        chat=template and task.chat,
    )


def _language(texts: Sequence[str]) -> str | None:
    code = guess("\n".join(texts))
    return None if code is None else LANGUAGE_NAMES.get(code, code)


def _lengths(
    rows: Sequence[Rendered], model: str, chat: str
) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.int64]], str, bool]:
    """Tokens of each example in the model's own tokens, what they were counted with, whether it has a chat template.

    By bytes where its tokenizer is not to be had. ``chat`` names a task that asks for the template, where there is one.
    """
    from finescale.lab.checkpoint import words
    from finescale.lab.prepare import encode

    try:
        with TemporaryDirectory() as aside:
            own, marks = words(model, Path(aside))
    except InputError:
        sizes = [(_about(row.prompt), _about(row.target)) for row in rows]
        how = f"the tokenizer of {model} is not here: {BYTES_A_TOKEN} bytes a token are assumed"
        return np.array(sizes).reshape(-1, 2), how, False
    template = marks.chat is not None
    sizes = [(len(one.prompt), len(one.target)) for one in encode(rows, (), own, marks, chat if template else "")]
    return np.array(sizes).reshape(-1, 2), f"counted by the tokenizer of {model}", template


def _about(text: str) -> int:
    return math.ceil(len(text.encode()) / BYTES_A_TOKEN) + 1
