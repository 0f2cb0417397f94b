"""From text to tokens: the tokenizer, the pretraining stream, and every task's train, dev and test examples.

The stream alternates documents of the languages so that each has the same share of tokens, and ends where the first
language runs out or at the size a study asks for; a larger pretraining size reads it again, and its record says how
often (epochs).
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from finescale import registry
from finescale.core import DataSpec, TaskSpec
from finescale.errors import Fault, InputError
from finescale.lab import corpora, tokenizer
from finescale.lab.packing import Example
from finescale.lab.tasks import render

Tell = Callable[[float], None]
Rendered = tuple[str, str]
SPLITS = ("train", "dev", "test")
VALID_SHARE = 0.02
TOKENIZER_CHARACTERS = 1_500_000
"""Characters of each language the vocabulary is learned from."""


def prepare(spec: DataSpec, out: Path, files: dict[str, Path], tell: Tell) -> dict[str, Any]:
    """Write tokenizer, stream and tasks into ``out``; returns their sizes.

    Args:
        spec: what to prepare.
        out: folder to write into.
        files: local JSONL by task name, with ``NAME:dev`` and ``NAME:test`` where a study brings its own splits.
        tell: is told the fraction done.

    Raises:
        InputError: a row lacks a field, or a split of a task ends up empty.
    """
    corpus = corpora.find(spec.corpus_digest)
    texts = {language: [d.text for d in corpus.documents(language)] for language in spec.languages}
    sample = itertools.chain.from_iterable(_first(texts[language], TOKENIZER_CHARACTERS) for language in spec.languages)
    words = tokenizer.train(sample, spec.vocab)
    words.save(str(out / "tokenizer.json"))
    tell(0.3)
    stream = _stream([_encoded(texts[language], words) for language in spec.languages], spec.stream_tokens)
    held = int(len(stream) * VALID_SHARE)
    save_file({"train": stream[held:], "valid": stream[:held]}, out / "stream.safetensors")
    tell(0.7)
    counts = {}
    for task in spec.tasks:
        rendered = _from_files(task, files) if task.source == "jsonl" else _from_corpus(task, corpus)
        counts[task.name] = _tokenise(task, rendered, words, out / f"{task.name}.safetensors")
    tell(1.0)
    return {
        "vocab": words.get_vocab_size(),
        "stream_tokens": len(stream) - held,
        "valid_tokens": held,
        "characters": {language: sum(map(len, texts[language])) for language in spec.languages},
        "tasks": counts,
    }


def load_stream(folder: Path) -> dict[str, NDArray[np.uint16]]:
    """``train`` and ``valid`` token streams of a prepared folder."""
    return dict(load_file(folder / "stream.safetensors"))


def load_split(folder: Path, task: str, split: str) -> list[Example]:
    """Tokenised examples of one split, in the corpus's shuffled order."""
    arrays = load_file(folder / f"{task}.safetensors")
    ids, lengths, sizes = (arrays[f"{split}/{part}"] for part in ("ids", "lengths", "bytes"))
    cuts = np.concatenate([[0], np.cumsum(lengths)]).astype(int)
    pieces = [ids[a:b].astype(np.int64) for a, b in itertools.pairwise(cuts)]
    return [Example(p, t, int(n)) for p, t, n in zip(pieces[::2], pieces[1::2], sizes, strict=True)]


def _first(texts: Iterable[str], characters: int) -> Iterator[str]:
    for text in texts:
        if characters <= 0:
            return
        characters -= len(text)
        yield text


def _encoded(texts: list[str], words: Tokenizer) -> Iterator[list[int]]:
    """Token ids of each text, encoded a few hundred at a time and only as far as they are asked for."""
    for start in range(0, len(texts), 256):
        yield from (encoding.ids for encoding in words.encode_batch(texts[start : start + 256]))


def _stream(languages: list[Iterator[list[int]]], most: int) -> NDArray[np.uint16]:
    """Documents of all languages in one stream, always the next of the language that has the fewest tokens so far."""
    pieces: list[NDArray[np.uint16]] = []
    have = [0] * len(languages)
    while sum(have) < most:
        language = have.index(min(have))
        document = next(languages[language], None)
        if document is None:
            break
        pieces.append(np.array([*document, tokenizer.EOS], np.uint16))
        have[language] += len(pieces[-1])
    return np.concatenate(pieces)[:most]


def _from_corpus(task: TaskSpec, corpus: corpora.Corpus) -> dict[str, list[Rendered]]:
    built_in = registry.get("task", task.name)
    limits = {"train": None, "dev": task.dev_examples * 2, "test": task.test_examples * 2}
    return {
        split: [
            render(task.template, task.target, fields, f"{task.name} {split} example {number}")
            for number, fields in enumerate(itertools.islice(built_in.fields(corpus, split), limits[split]), 1)
        ]
        for split in SPLITS
    }


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file of objects; every line that is not one is listed in the error."""
    rows, faults = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            faults.append(Fault(f"{path.name} line {number}", f"is not JSON: {error.msg}"))
            continue
        if isinstance(row, dict):
            rows.append(row)
        else:
            faults.append(Fault(f"{path.name} line {number}", "is not an object"))
    if faults:
        raise InputError(*faults[:20])
    return rows


def _from_files(task: TaskSpec, files: dict[str, Path]) -> dict[str, list[Rendered]]:
    """Splits of the user's own data: given files, or cut by the hash of the prompt; equal prompts stay together."""
    splits: dict[str, list[Rendered]] = {}
    for split in SPLITS:
        path = files.get(task.name if split == "train" else f"{task.name}:{split}")
        if path:
            rows = read_jsonl(path)
            splits[split] = [
                render(task.template, task.target, r, f"{path.name} row {n}") for n, r in enumerate(rows, 1)
            ]
    by_hash = sorted(dict(splits["train"]).items(), key=lambda pair: hashlib.sha256(pair[0].encode()).digest())
    for split, wanted in (("dev", task.dev_examples), ("test", task.test_examples)):
        if split not in splits:
            splits[split], by_hash = by_hash[:wanted], by_hash[wanted:]
    seen = {text for split in ("dev", "test") for pair in splits[split] for text in pair}
    splits["train"] = [pair for pair in by_hash if not seen.intersection(pair)]
    return splits


def _tokenise(task: TaskSpec, splits: dict[str, list[Rendered]], words: Tokenizer, path: Path) -> dict[str, Any]:
    """Tokenise, drop what is too long, keep what the task asks for; returns kept and dropped counts by split.

    A target is encoded with a leading space and closed by the end-of-text token, which counts as a target token.
    """
    arrays: dict[str, NDArray[Any]] = {}
    counts: dict[str, Any] = {}
    for split, rendered in splits.items():
        prompts = [[tokenizer.BOS, *e.ids] for e in words.encode_batch([p for p, _ in rendered])]
        targets = [[*e.ids, tokenizer.EOS] for e in words.encode_batch([" " + t for _, t in rendered])]
        limits = (task.max_source_tokens, task.max_target_tokens)
        fits = [i for i in range(len(rendered)) if len(prompts[i]) <= limits[0] and len(targets[i]) <= limits[1]]
        keep = fits[: {"dev": task.dev_examples, "test": task.test_examples}.get(split)]
        if not keep:
            raise InputError(
                Fault(
                    f"task {task.name!r}", f"its {split} split is empty", f"{len(rendered)} rows were read; none fits"
                )
            )
        flat = [piece for i in keep for piece in (prompts[i], targets[i])]
        arrays[f"{split}/ids"] = np.array(list(itertools.chain.from_iterable(flat)), np.uint16)
        arrays[f"{split}/lengths"] = np.array([len(piece) for piece in flat], np.int32)
        arrays[f"{split}/bytes"] = np.array([len(rendered[i][1].encode()) for i in keep], np.int32)
        counts[split] = {"read": len(rendered), "too_long": len(rendered) - len(fits), "kept": len(keep)}
    save_file(arrays, path)
    return counts
