"""From fetched artefacts to the files of a corpus: read, clean, split, check for leaks, write."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from finescale.core import sha256_of
from finescale.lab.corpora.archive import Archive
from finescale.lab.corpora.clean import good_pair, good_paragraph, normal, sentence_pairs
from finescale.lab.corpora.languages import count_words, size
from finescale.lab.corpora.multiway import join
from finescale.lab.corpora.readers import READERS
from finescale.lab.corpora.recipes import Recipe
from finescale.lab.corpora.rows import Document, Multiway, Pair, Row, Summary
from finescale.lab.corpora.split import LEAK_WORDS, WHOLE_TEXT_WORDS, LeakCheck, digest_of, split_of, split_rows

LEAST_DOCUMENT_WORDS = 8


@dataclass
class Raw:
    """Rows as the readers gave them."""

    pairs: list[Pair] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)

    def add(self, row: Row) -> None:
        if isinstance(row, Pair):
            self.pairs.append(row)
        elif isinstance(row, Summary):
            self.summaries.append(row)
        else:
            self.documents.append(row)


def read_all(archives: Sequence[Archive]) -> Raw:
    """Run each reader once over all archives that name it."""
    by_reader: defaultdict[str, list[Archive]] = defaultdict(list)
    for archive in archives:
        by_reader[archive.artefact.reader].append(archive)
    raw = Raw()
    for reader, theirs in by_reader.items():
        for row in READERS[reader](theirs):
            raw.add(row)
    return raw


def build(archives: Sequence[Archive], folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Write the corpus files (all but the manifest) into ``folder``.

    Returns:
        The part of the manifest that says what was made: counts and leaks.
    """
    raw = read_all(archives)
    counts: dict[str, Any] = {}
    held = _write_pairs(folder, raw.pairs, recipe, counts)
    if raw.summaries:
        texts, dropped = split_rows(raw.summaries, part_dev=recipe.parts_dev)
        held += _write_task(folder, "summaries", texts, dropped, counts)
    tasks = {row.group.partition(":")[0] for rows in (raw.pairs, raw.summaries) for row in rows}
    leaks = _write_documents(folder, raw.documents, tasks, LeakCheck(held), counts)
    return {"counts": counts, "leaks": leaks}


def _write_pairs(folder: Path, raw: Sequence[Pair], recipe: Recipe, counts: dict[str, Any]) -> list[str]:
    """Write the pairs of the recipe's directions and what is held out of them in many languages.

    Returns:
        The texts of dev and test.
    """
    wanted = recipe.directions
    kept = (pair for pair in raw if pair.langs in wanted or split_of(pair.group) != "train")
    clean: defaultdict[str, list[Pair]] = defaultdict(list)
    for pair in clean_pairs(kept):
        clean[pair.langs].append(pair)
    # The same English is held out for every language at once.
    held_first = {pair.src for pairs in clean.values() for pair in pairs if split_of(pair.group) != "train"}
    held: list[str] = []
    parted = {}
    for langs in [langs for langs in wanted if clean[langs]]:
        parted[langs], dropped = split_rows(clean[langs], held_first, recipe.parts_dev)
        held += _write_task(folder, f"pairs.{langs}", parted[langs], dropped, counts, leave_out="langs")
    others = [pair for langs in sorted(clean) if langs not in wanted for pair in clean[langs]]
    if others:
        held += _write_multiway(folder, join(parted, others), counts)
    return held


def _write_multiway(folder: Path, parts: dict[str, list[Multiway]], counts: dict[str, Any]) -> list[str]:
    counts["multiway"] = {}
    for split, rows in parts.items():
        _write(folder / f"multiway.{split}.jsonl", rows)
        by = Counter(lang for row in rows for lang in row.texts)
        counts["multiway"][split] = {"rows": len(rows), "by": dict(sorted(by.items()))}
    return [text for rows in parts.values() for row in rows for text in row.texts.values()]


def clean_pairs(pairs: Iterable[Pair]) -> Iterator[Pair]:
    """Good sentence pairs out of raw paragraph pairs."""
    for pair in pairs:
        if good_pair(pair.src, pair.tgt, pair.langs):
            for src, tgt in sentence_pairs(pair.src, pair.tgt):
                if src == pair.src or good_pair(src, tgt, pair.langs):
                    yield Pair(pair.langs, src, tgt, pair.source, pair.group)


def _write_task(
    folder: Path,
    name: str,
    parts: dict[str, list[Any]],
    dropped: Counter[str],
    counts: dict[str, Any],
    leave_out: str = "",
) -> list[str]:
    """Write one task's splits; return the texts of dev and test."""
    counts[name] = {"dropped": dict(sorted(dropped.items()))}
    for split, rows in parts.items():
        _write(folder / f"{name}.{split}.jsonl", rows, leave_out)
        by = Counter(getattr(row, "lang", row.source) for row in rows)
        sides = [sum(count_words(row.sides[i]) for row in rows) for i in (0, 1)]
        counts[name][split] = {"rows": len(rows), "words": sides, "by": dict(sorted(by.items()))}
    return [side for split in ("dev", "test") for row in parts[split] for side in row.sides]


def _write_documents(
    folder: Path, documents: Sequence[Document], tasks: set[str], check: LeakCheck, counts: dict[str, Any]
) -> dict[str, Any]:
    """Write pretraining text without anything held out; returns the leak counts."""
    found = remaining = 0
    for lang in sorted({document.lang for document in documents}):
        seen: set[str] = set()
        kept: list[Document] = []
        for document in documents:
            if document.lang == lang and not _held_out(document.group, tasks):
                good = list(_good_paragraphs(document, seen))
                clean = _without_leaks(good, check)
                found += len(good) - len(clean)
                text = "\n".join(clean)
                if size(text) >= LEAST_DOCUMENT_WORDS:
                    kept.append(Document(lang, text, document.source, document.group))
        kept = _balanced(sorted(kept, key=lambda document: digest_of(document.text)))
        path = folder / f"documents.{lang}.jsonl"
        _write(path, kept, "lang")
        remaining += _leaks_in(path, check)
        counts[f"documents.{lang}"] = _document_counts(kept)
    return {"words": LEAK_WORDS, "whole_texts_from_words": WHOLE_TEXT_WORDS, "found": found, "remaining": remaining}


def _held_out(group: str, tasks: set[str]) -> bool:
    return group.partition(":")[0] in tasks and split_of(group) != "train"


def _good_paragraphs(document: Document, seen: set[str]) -> Iterator[str]:
    for paragraph in document.text.split("\n"):
        key = normal(paragraph)
        if key not in seen and good_paragraph(paragraph, document.lang):
            seen.add(key)
            yield paragraph


def _without_leaks(paragraphs: list[str], check: LeakCheck) -> list[str]:
    """Paragraphs without held-out text; none at all if it spans what is left of them."""
    if not check.leaks("\n".join(paragraphs)):
        return paragraphs
    clean = [paragraph for paragraph in paragraphs if not check.leaks(paragraph)]
    return [] if check.leaks("\n".join(clean)) else clean


def _leaks_in(path: Path, check: LeakCheck) -> int:
    """Documents of a written file that still hold held-out text."""
    with path.open(encoding="utf-8") as file:
        return sum(check.leaks(json.loads(line)["text"]) for line in file)


def _balanced(documents: Sequence[Document]) -> list[Document]:
    """Cut the largest source to the size of all others together, so that none gives more than half of the text."""
    sizes = _bytes_by_source(documents)
    largest, size = sizes.most_common(1)[0] if sizes else ("", 0)
    room = sizes.total() - size
    if room == 0:
        return list(documents)
    kept = []
    for document in documents:
        if document.source == largest:
            room -= len(document.text.encode())
            if room < 0:
                continue
        kept.append(document)
    return kept


def _bytes_by_source(documents: Sequence[Document]) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for document in documents:
        sizes[document.source] += len(document.text.encode())
    return sizes


def _document_counts(documents: Sequence[Document]) -> dict[str, Any]:
    by = _bytes_by_source(documents)
    words = sum(count_words(document.text) for document in documents)
    return {"rows": len(documents), "words": words, "bytes": by.total(), "bytes_by_source": dict(by.most_common())}


def _write(path: Path, rows: Sequence[Row | Multiway], leave_out: str = "") -> None:
    names = [one.name for one in fields(rows[0]) if one.name != leave_out] if rows else []
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            record = {name: getattr(row, name) for name in names}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def files_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Digest and size of every JSONL file in ``folder``, by name."""
    return {
        path.name: {"sha256": sha256_of(path), "bytes": path.stat().st_size} for path in sorted(folder.glob("*.jsonl"))
    }
