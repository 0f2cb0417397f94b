"""From text to tokens: the tokenizer, the pretraining stream, every task's examples and every probe's.

The stream alternates documents of the languages so that each has the same share of tokens, and ends where the first
language runs out or at the size a study asks for; a larger pretraining size reads it again, and its record says how
often (epochs).

A prepared folder holds the files of ``finescale.lab.splits`` for each task and probe; a probe has the one split
``test``.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from finescale.core import DataSpec, ProbeSpec, TaskSpec
from finescale.errors import Fault, Faults, InputError
from finescale.lab import corpora, probes, tokenizer
from finescale.lab.chat import DAY
from finescale.lab.duplicates import overlaps
from finescale.lab.pools import SPLITS, Pool, pool
from finescale.lab.splits import Encoded, Ids, narrow, write_sets
from finescale.lab.subset import in_proportion
from finescale.lab.tasks import Rendered
from finescale.lab.tokenizer import OWN, Marks

Tell = Callable[[float], None]
TOKENIZER_CHARACTERS = 1_500_000
"""Characters of each language the vocabulary is learned from."""
BATCH = 4096
MANY = 0.2
"""Share of a split that is left out as too long from which on a finding says so."""


def prepare(
    spec: DataSpec, out: Path, files: Mapping[str, Path], tell: Tell, given: tuple[Tokenizer, Marks] | None = None
) -> dict[str, Any]:
    """Write tokenizer, stream, tasks and probes into ``out``; returns their sizes and what was found out about them.

    Args:
        spec: what to prepare.
        out: folder to write into.
        files: local JSONL by task name, with ``NAME:dev`` and ``NAME:test`` where a study brings its own splits; for a
            hub task (and for ``flores``) its mirror.
        tell: is told the fraction done.
        given: a published model's tokenizer, already in ``out``, with its marks; without it one is learned.

    Raises:
        InputError: a row lacks a field, a split of a task or a probe ends up empty, or a data set cannot be had.
    """
    _check_probes(spec)
    corpus = corpora.find(spec.corpus_digest)
    texts = {language: [d.text for d in corpus.documents(language)] for language in spec.languages}
    words, marks = given or (_learned(texts, spec, out), OWN)
    tell(0.3)
    read = [_encoded(texts[language], words) for language in spec.languages]
    stream, owner = _stream(read, spec.stream_tokens, marks.end)
    held = int(len(stream) * probes.HELD_OUT)
    save_file({"train": narrow(stream[held:]), "valid": narrow(stream[:held])}, out / "stream.safetensors")
    tell(0.6)
    findings: list[str] = list(_mixed_forms(spec))
    tasks, tests = {}, {}
    for task in spec.tasks:
        sets, facts = _task(task, pool(task, corpus, files), words, marks, findings)
        write_sets(out, task.name, sets)
        tasks[task.name], tests[task.name] = facts, sets["test"]
    tell(0.8)
    clean = {task.name for task in spec.tasks if task.source == "corpus" and corpus.manifest["leaks"]["remaining"] == 0}
    _report_overlap(tasks, tests, clean, itertools.chain.from_iterable(texts.values()), findings)
    tell(0.9)
    valid = {language: stream[:held][owner[:held] == place] for place, language in enumerate(spec.languages)}
    probed = {}
    for probe in spec.probes:
        rows = _probe(probe, spec, corpus, files, words, marks, tests, valid)
        kept = _kept(rows, (spec.context, spec.context), probe.examples, together=spec.context)
        probed[probe.name] = {"test": _counts(f"probe {probe.name!r}", "test", rows, kept, probe.examples, findings)}
        write_sets(out, probe.name, {"test": kept[1]})
    tell(1.0)
    return {
        "vocab": words.get_vocab_size(),
        "stream_tokens": len(stream) - held,
        "valid_tokens": held,
        "characters": {language: sum(map(len, texts[language])) for language in spec.languages},
        "tasks": tasks,
        "probes": probed,
        "findings": findings,
    }


def _learned(texts: Mapping[str, list[str]], spec: DataSpec, out: Path) -> Tokenizer:
    """A tokenizer learned from the study's text and written to ``out``."""
    sample = itertools.chain.from_iterable(_first(texts[language], TOKENIZER_CHARACTERS) for language in spec.languages)
    words = tokenizer.train(sample, spec.vocab)
    words.save(str(out / "tokenizer.json"))
    return words


def load_stream(folder: Path) -> dict[str, NDArray[Any]]:
    """``train`` and ``valid`` token streams of a prepared folder."""
    return dict(load_file(folder / "stream.safetensors"))


def _first(texts: Iterable[str], characters: int) -> Iterator[str]:
    for text in texts:
        if characters <= 0:
            return
        characters -= len(text)
        yield text


def _encoded(texts: list[str], words: Tokenizer) -> Iterator[list[int]]:
    """Token ids of each text, encoded a few hundred at a time and only as far as they are asked for."""
    for start in range(0, len(texts), 256):
        found = words.encode_batch(texts[start : start + 256], add_special_tokens=False)
        yield from (encoding.ids for encoding in found)


def _stream(languages: list[Iterator[list[int]]], most: int, end: int) -> tuple[Ids, NDArray[np.int16]]:
    """Documents of all languages in one stream, always the next of the language that has the fewest tokens so far.

    Returns:
        The tokens, and the place of each token's language.
    """
    pieces: list[Ids] = []
    owners: list[int] = []
    have = [0] * len(languages)
    if not languages:
        return np.zeros(0, np.uint32), np.zeros(0, np.int16)
    while sum(have) < most:
        language = have.index(min(have))
        document = next(languages[language], None)
        if document is None:
            break
        pieces.append(np.array([*document, end], np.uint32))
        owners.append(language)
        have[language] += len(pieces[-1])
    owner = np.repeat(np.array(owners, np.int16), [len(piece) for piece in pieces])
    return np.concatenate(pieces)[:most], owner[:most]


def _task(
    task: TaskSpec, found: Pool, words: Tokenizer, marks: Marks, findings: list[str]
) -> tuple[dict[str, list[Encoded]], dict[str, Any]]:
    """A task's splits as they are kept, and the facts about them."""
    where = f"task {task.name!r}"
    sets: dict[str, list[Encoded]] = {}
    facts: dict[str, Any] = {}
    for split in SPLITS:
        rows = list(encode(found.splits[split], task.languages, words, marks, where if task.chat else ""))
        wanted = {"dev": task.dev_examples, "test": task.test_examples}.get(split)
        kept = _kept(rows, (task.max_source_tokens, task.max_target_tokens), wanted)
        facts[split] = _counts(where, split, rows, kept, wanted, findings)
        sets[split] = kept[1]
    if task.chat and marks.chat is not None and marks.chat.dated:
        findings.append(f"{where}: the chat template writes the day, which is {DAY:%d %B %Y} in every row")
    removed = found.facts.get("duplicates", {})
    if gone := sum(count for key, count in removed.items() if key != "within train"):
        findings.append(f"{where}: {gone} rows that repeat a held-out example were left out")
    if found.facts.get("empty"):
        findings.append(f"{where}: {found.facts['empty']} rows with an empty field were left out")
    mix = Counter(one.text.language for one in sets["train"])
    return sets, facts | found.facts | {"languages": dict(sorted(mix.items()))}


def encode(
    rows: Sequence[Rendered], languages: Sequence[str], words: Tokenizer, marks: Marks = OWN, chat: str = ""
) -> Iterator[Encoded]:
    """Tokens of rendered examples.

    A prompt begins with what the model expects before a text. A target is encoded with a leading space and closed by
    the end-of-text token, which counts as a target token. Where ``chat`` names a task, its examples are written by the
    model's own chat template (``lab.chat``).

    Raises:
        InputError: the model has no chat template, or it refuses a row.
    """
    if chat:
        if marks.chat is None:
            fix = "leave chat out: conversations are then written as lines"
            raise InputError(Fault(chat, "asks for a chat template, and the model's tokenizer has none", fix))
        for row, prompt_ids, target_ids in marks.chat.encode(rows, chat):
            place = languages.index(row.language) if row.language in languages else 0
            yield Encoded(row, prompt_ids, target_ids, len(row.target.encode()), place)
        return
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        prompts = words.encode_batch([row.prompt for row in batch], add_special_tokens=False)
        targets = words.encode_batch([" " + row.target for row in batch], add_special_tokens=False)
        for row, prompt, target in zip(batch, prompts, targets, strict=True):
            yield Encoded(
                row,
                np.array([*marks.before, *prompt.ids], np.uint32),
                np.array([*target.ids, marks.end], np.uint32),
                len(row.target.encode()),
                languages.index(row.language) if row.language in languages else 0,
            )


def _kept(
    rows: Sequence[Encoded], limits: tuple[int, int], wanted: int | None, together: int | None = None
) -> tuple[int, list[Encoded]]:
    """How many rows are short enough, and of them as many as are wanted, the mix of languages kept."""
    fits = [
        row
        for row in rows
        if len(row.prompt) <= limits[0]
        and len(row.target) <= limits[1]
        and (together is None or len(row.prompt) + len(row.target) <= together)
    ]
    if wanted is None:
        return len(fits), fits
    return len(fits), [fits[i] for i in in_proportion([row.stratum for row in fits], wanted)]


def _counts(
    where: str,
    split: str,
    rows: Sequence[Encoded],
    kept: tuple[int, list[Encoded]],
    wanted: int | None,
    findings: list[str],
) -> dict[str, int]:
    """Rows read, left out and kept; few kept are a finding, none at all a fault."""
    long = len(rows) - kept[0]
    if not kept[1]:
        what = f"{len(rows)} rows were read; {long} of them are too long"
        raise InputError(Fault(where, f"its {split} split is empty", what))
    if long > MANY * len(rows):
        findings.append(f"{where}: {long} of {len(rows)} {split} rows are too long and were left out")
    if wanted is not None and len(kept[1]) < wanted:
        findings.append(f"{where}: its {split} split has {len(kept[1])} examples, {wanted} were asked for")
    return {"read": len(rows), "too_long": long, "kept": len(kept[1])}


def _report_overlap(
    tasks: dict[str, Any],
    tests: Mapping[str, list[Encoded]],
    clean: set[str],
    texts: Iterable[str],
    findings: list[str],
) -> None:
    """Note how many test targets share a passage with the pretraining text.

    ``clean`` tasks have none: the same check, over all their held-out rows, was part of making the corpus.
    """
    targets = {name: [row.text.target for row in rows] for name, rows in tests.items() if name not in clean}
    found = overlaps(targets, texts) if targets else {}
    for name in tests:
        shared = found.get(name, 0)
        tasks[name]["overlap"] = {"test_targets_in_pretraining_text": shared, "of": len(tests[name])}
        if shared:
            findings.append(f"task {name!r}: {shared} of {len(tests[name])} test targets stand in the pretraining text")


def _check_probes(spec: DataSpec) -> None:
    names, faults = {task.name for task in spec.tasks}, Faults()
    for probe in spec.probes:
        where = f"probe {probe.name!r}"
        if probe.name in names:
            faults.add(where, "has the name of a task", "rename the task")
        if probe.kind == "task" and probe.task not in names:
            faults.add(where, f"is of a task this study does not have: {probe.task!r}", f"name one of {sorted(names)}")
        if probe.kind == "text" and probe.tgt not in spec.languages:
            fix = f"one of {', '.join(spec.languages)}"
            faults.add(where, f"there is no pretraining text in {probe.tgt!r}", fix)
    faults.raise_if_any()


def _mixed_forms(spec: DataSpec) -> Iterator[str]:
    """What is asked in plain text beside tasks that the model's chat template writes."""
    written = [task.name for task in spec.tasks if task.chat]
    plain = [f"task {task.name!r}" for task in spec.tasks if not task.chat]
    plain += [f"probe {probe.name!r}" for probe in spec.probes if probe.kind != "task"]
    if written and plain:
        yield f"{', '.join(plain)} in plain text, but {', '.join(map(repr, written))} by the model's chat template"


def _probe(
    probe: ProbeSpec,
    spec: DataSpec,
    corpus: corpora.Corpus,
    files: Mapping[str, Path],
    words: Tokenizer,
    marks: Marks,
    tests: Mapping[str, list[Encoded]],
    valid: Mapping[str, Ids],
) -> list[Encoded]:
    """All rows a probe could have, before those too long for the context are left out."""
    if probe.kind == "task":
        return tests[probe.task or ""]
    if probe.kind == "translation":
        return list(encode(probes.translation(probe, corpus, files.get(probes.FLORES)), (), words, marks))
    rows = probes.text_rows(valid[probe.tgt or ""], spec.context, probe.examples)
    prompt = np.array(marks.before or (marks.end,), np.uint32)
    return [
        Encoded(
            Rendered("", words.decode(row.tolist()), probe.tgt or ""), prompt, row, tokenizer.byte_count(row, words)
        )
        for row in rows
    ]
