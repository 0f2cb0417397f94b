"""The Jargon File as plain text: one document per entry, paragraphs separated by blank lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from finescale.lab.corpora.archive import Archive
from finescale.lab.corpora.clean import SPACE
from finescale.lab.corpora.rows import Document

HEADWORD = re.compile(r"^ {3}:(.+?): .*$", re.M)
TABLE = re.compile("[\u2500-\u257f]")


def read(archives: Sequence[Archive]) -> Iterator[Document]:
    """Entries without their headword line; braces that mark links are removed, tables left out."""
    for archive in archives:
        artefact = archive.artefact
        for _, text in archive.texts(r"\.txt(?:\.gz)?$"):
            _, *parts = HEADWORD.split(text)
            for headword, entry in zip(parts[::2], parts[1::2], strict=True):
                yield Document(artefact.languages[0], _plain(entry), artefact.name, f"jargon:{headword}")


def _plain(entry: str) -> str:
    paragraphs = [SPACE.sub(" ", part).strip() for part in re.split(r"\n\s*\n", entry) if not TABLE.search(part)]
    return re.sub(r"[{}]", "", "\n".join(paragraphs))
