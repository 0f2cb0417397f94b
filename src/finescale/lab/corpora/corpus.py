"""A corpus on disk: typed access to its rows, and its provenance in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finescale.core import sha256_of
from finescale.errors import Fault, InputError, StudyError, near
from finescale.lab.corpora.rows import Document, Multiway, Pair, Summary

MANIFEST = "manifest.json"
NO_TEXT = "none"
"""Digest of the corpus of a study that reads no text but its own examples."""


@dataclass(frozen=True)
class Corpus:
    """Cleaned, split text with its provenance; ``digest`` is the SHA-256 over the files it consists of."""

    root: Path
    manifest: dict[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 over names and SHA-256 digests of the files: equal text, equal digest, wherever it lies."""
        return str(self.manifest["digest"])

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that something of this corpus is in."""
        return tuple(self.manifest["languages"])

    def pairs(self, src: str, tgt: str, split: str) -> Iterator[Pair]:
        """Translation pairs from ``src`` to ``tgt``, either way round.

        Raises:
            InputError: the corpus has no such languages or split.
        """
        turned = f"pairs.{tgt}-{src}.{split}.jsonl" in self.manifest["files"]
        langs = f"{src}-{tgt}"
        for row in self._rows(f"pairs.{tgt}-{src}.{split}" if turned else f"pairs.{langs}.{split}"):
            given, wanted = (row["tgt"], row["src"]) if turned else (row["src"], row["tgt"])
            yield Pair(langs, given, wanted, row["source"], row["group"])

    def summaries(self, split: str, lang: str | None = None) -> Iterator[Summary]:
        """Texts with their one-line summaries, of one language or all.

        Raises:
            InputError: the corpus has no such split or language.
        """
        if lang is not None:
            self._known_language(lang)
        return (Summary(**row) for row in self._rows(f"summaries.{split}") if lang in (None, row["lang"]))

    def multiway(self, split: str = "test") -> Iterator[Multiway]:
        """Held-out texts in three languages and more, of which the first is English; no such row is ever trained on.

        Raises:
            InputError: the corpus has no texts in many languages, or no such split of them.
        """
        return (Multiway(**row) for row in self._rows(f"multiway.{split}"))

    def documents(self, lang: str) -> Iterator[Document]:
        """Text for pretraining; nothing of it is held out by a task.

        Raises:
            InputError: the corpus has no such language.
        """
        return (Document(lang=lang, **row) for row in self._rows(f"documents.{lang}"))

    def verify(self) -> None:
        """Read all files and compare them with the manifest.

        Raises:
            StudyError: a file was changed or is missing; says expected and found.
        """
        for name, wanted in self.manifest["files"].items():
            path = self.root / name
            found = sha256_of(path) if path.is_file() else "no file"
            if found != wanted["sha256"]:
                raise StudyError(f"{path}: expected SHA-256 {wanted['sha256']}, found {found}; delete {self.root}")

    def _rows(self, name: str) -> Iterator[dict[str, Any]]:
        files = self.manifest["files"]
        if f"{name}.jsonl" not in files:
            known = [file.removesuffix(".jsonl") for file in files]
            raise InputError(Fault(f"corpus {self.manifest['tier']}", f"has no {name!r}", near(name, known)))
        with (self.root / f"{name}.jsonl").open(encoding="utf-8") as file:
            yield from map(json.loads, file)

    def _known_language(self, lang: str) -> None:
        if lang not in self.languages:
            raise InputError(Fault(f"language {lang!r}", "is unknown here", near(lang, self.languages)))


NOTHING = Corpus(Path(), {"digest": NO_TEXT, "tier": NO_TEXT, "languages": [], "files": {}})
"""The corpus without a text."""
