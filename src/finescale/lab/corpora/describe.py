"""The provenance of a corpus as a table in plain text."""

from __future__ import annotations

from typing import Any

from finescale.lab.corpora.corpus import Corpus

COLUMNS = ("package", "version", "licence", "used for", "languages", "kB", "SHA-256")


def describe(corpus: Corpus) -> str:
    """A table of every package with version, licence, size and digest; then what was made of it, leaks and warnings."""
    manifest = corpus.manifest
    rows = [COLUMNS, *(_provenance(artefact) for artefact in manifest["artefacts"])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = [f"Corpus {manifest['tier']} from {manifest['source']}, digest {corpus.digest[:12]}", ""]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ["", *_contents(manifest["counts"])]
    leaks = manifest["leaks"]
    lines.append(
        f"Held-out text in the documents ({leaks['words']} words in a row): "
        f"{leaks['found']} paragraphs found and removed, {leaks['remaining']} remaining."
    )
    return "\n".join([*lines, *manifest["messages"], *(f"Warning: {text}" for text in manifest["warnings"])])


def _provenance(artefact: dict[str, Any]) -> tuple[str, ...]:
    used = "+".join(artefact["pools"]) or "grouping"
    size = f"{artefact['bytes'] / 1e3:.0f}"
    langs = "+".join(artefact["languages"]) or "-"
    return artefact["name"], artefact["version"], artefact["licence"], used, langs, size, artefact["sha256"][:12]


def _contents(counts: dict[str, Any]) -> list[str]:
    lines = []
    for name, count in counts.items():
        if name.startswith("documents"):
            size = f"{count['bytes'] / 1e6:.1f} MB, {count['words']:,} words"
            lines.append(f"{name}: {count['rows']:,} documents, {size}")
        else:
            splits = ", ".join(f"{count[split]['rows']:,} {split}" for split in ("train", "dev", "test"))
            lines.append(f"{name}: {splits}")
    return lines
