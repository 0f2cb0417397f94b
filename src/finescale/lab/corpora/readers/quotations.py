"""Collections of jokes and quotations (the fortune format): entries separated by a line with a percent sign."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from finescale.lab.corpora.archive import Archive
from finescale.lab.corpora.clean import one_line
from finescale.lab.corpora.rows import Document
from finescale.lab.corpora.split import digest_of

ATTRIBUTION = re.compile(r"^\s*--.*", re.M | re.S)
COLOURS = re.compile(r"\x1b\[[\d;]*m")


def read(archives: Sequence[Archive]) -> Iterator[Document]:
    """One document per entry, without the line that says who said it."""
    for archive in archives:
        artefact = archive.artefact
        for _, text in archive.texts():
            for entry in re.split(r"\n%+\n", COLOURS.sub("", text)):
                said = one_line(ATTRIBUTION.sub("", entry))
                yield Document(artefact.languages[0], said, artefact.name, f"quote:{digest_of(said)[:16]}")
