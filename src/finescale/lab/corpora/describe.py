"""The provenance and the contents of a corpus as tables in plain text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from finescale.lab.corpora.corpus import Corpus
from finescale.lab.corpora.split import SPLITS

PACKAGES = ("package", "version", "licence", "used for", "languages", "kB", "SHA-256")
CONTENTS = ("pool", "language", *SPLITS, "words", "MB")


def describe(corpus: Corpus) -> str:
    """A table of every package with version, licence, size and digest; then what was made of it, leaks and warnings.

    Words are those between white space; each Chinese or Japanese character counts as one.
    """
    manifest = corpus.manifest
    partial = ", partial" if manifest.get("partial") else ""
    leaks = manifest["leaks"]
    lines = [f"Corpus {manifest['tier']} from {manifest['source']}{partial}, digest {corpus.digest[:12]}", ""]
    lines += _table([PACKAGES, *(_provenance(artefact) for artefact in manifest["artefacts"])])
    lines += [
        "",
        *_table([CONTENTS, *(row for name, count in manifest["counts"].items() for row in _rows(name, count))]),
    ]
    lines += [
        "",
        f"Held-out text in the documents ({leaks['words']} words in a row): "
        f"{leaks['found']} paragraphs found and removed, {leaks['remaining']} remaining.",
    ]
    lines += _dropped(manifest["counts"])
    return "\n".join([*lines, *manifest["messages"], *(f"Warning: {text}" for text in manifest["warnings"])])


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _provenance(artefact: dict[str, Any]) -> tuple[str, ...]:
    used = "+".join(artefact["pools"]) or "grouping"
    size = f"{artefact['bytes'] / 1e3:.0f}"
    langs = "+".join(artefact["languages"]) or "-"
    return artefact["name"], artefact["version"], artefact["licence"], used, langs, size, artefact["sha256"][:12]


def _rows(name: str, count: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Rows of the table of contents for one pool: one for each language it has."""
    pool, _, lang = name.partition(".")
    if pool == "documents":
        yield pool, lang, f"{count['rows']:,}", "", "", f"{count['words']:,}", f"{count['bytes'] / 1e6:.1f}"
        return
    there = [split for split in SPLITS if split in count]
    words = f"{sum(map(sum, (count[split].get('words', []) for split in there))):,}" if "train" in there else ""
    yield pool, lang or "all", *_by_split({split: count[split]["rows"] for split in there}), words, ""
    if lang:  # of the directions of pairs, the manifest says what they come from
        return
    for one in sorted({lang for split in there for lang in count[split]["by"]}):
        yield pool, one, *_by_split({split: count[split]["by"].get(one, 0) for split in there}), "", ""


def _by_split(numbers: dict[str, int]) -> Iterator[str]:
    return (f"{numbers[split]:,}" if split in numbers else "" for split in SPLITS)


def _dropped(counts: dict[str, Any]) -> list[str]:
    """What the split of each task left out, and why."""
    reasons = {
        name: ", ".join(f"{many:,} {why}" for why, many in count["dropped"].items() if many)
        for name, count in counts.items()
        if "dropped" in count
    }
    return [f"Left out of {name}: {said}." for name, said in reasons.items() if said]
