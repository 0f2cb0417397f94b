"""gettext catalogues (.mo): the message id is the English text, so one package gives pairs."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache

from finescale.lab.corpora.archive import Archive
from finescale.lab.corpora.clean import CODE, no_accelerator, normal, plain
from finescale.lab.corpora.languages import folders, language_of
from finescale.lab.corpora.rows import Document, Pair

MAGIC = 0x950412DE
CATALOGUE = r"/(?:{folders})/LC_MESSAGES/[^/]+\.mo$"


def read(archives: Sequence[Archive]) -> Iterator[Pair]:
    """English pairs with each other language of the artefact; the group is the normalised English string."""
    for archive in archives:
        source = archive.artefact.languages[0]
        for lang, src, tgt in _strings(archive):
            yield Pair(f"{source}-{lang}", src, tgt, archive.artefact.name, f"mo:{normal(src)}")


def read_sides(archives: Sequence[Archive]) -> Iterator[Document]:
    """The strings of a catalogue as text of each language by itself, unaligned; the group is the normalised string."""
    for archive in archives:
        source = archive.artefact.languages[0]
        for lang, src, tgt in _strings(archive):
            for side, text in ((source, src), (lang, tgt)):
                if not CODE.search(text):
                    yield Document(side, text, archive.artefact.name, f"text:{normal(text)}")


def _strings(archive: Archive) -> Iterator[tuple[str, str, str]]:
    """(language, message, translation) of all catalogues, in one pass over the package."""
    targets = archive.artefact.languages[1:]
    names = "|".join(name for lang in targets for name in folders(lang))
    for path, content in archive.members(CATALOGUE.format(folders=names)):
        lang = language_of(path.rpartition("/LC_MESSAGES/")[0].rpartition("/")[2], targets)
        for message, translation in messages(content):
            yield lang, _message(message), plain(no_accelerator(translation))


@lru_cache(maxsize=100_000)
def _message(message: str) -> str:
    """A clean message; remembered, for it comes again with every language."""
    return plain(no_accelerator(message))


def messages(content: bytes) -> Iterator[tuple[str, str]]:
    """(message, translation) of a .mo file, contexts removed; the header, plurals and fuzzy bytes are left out.

    Format: GNU gettext manual, section "The Format of GNU MO Files".
    """
    order = "<" if content[:4] == struct.pack("<I", MAGIC) else ">"
    count, originals, translations = struct.unpack_from(f"{order}3I", content, 8)

    def string(table: int, i: int) -> bytes:
        length, start = struct.unpack_from(f"{order}2I", content, table + 8 * i)
        return content[start : start + length]

    charset = "utf-8"
    for i in range(count):
        message, translation = string(originals, i), string(translations, i)
        if not message:
            declared = re.search(rb"charset=([\w-]+)", translation)
            charset = declared.group(1).decode() if declared else charset
        elif b"\0" not in message:
            try:
                yield message.decode(charset).rpartition("\x04")[2], translation.decode(charset)
            except (LookupError, UnicodeDecodeError):
                continue
