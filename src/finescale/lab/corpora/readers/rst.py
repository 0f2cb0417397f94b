"""reStructuredText manuals: paragraphs and list items, without directives, tables, code and section rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from finescale.lab.corpora.archive import Archive
from finescale.lab.corpora.clean import one_line
from finescale.lab.corpora.languages import language_of
from finescale.lab.corpora.rows import Document

PAGE = r"\.(?:rst|txt)(?:\.gz)?$"
RULE = re.compile(r"\s*[=\-~^\"*#+.`_|]{3,}[\s=+|-]*$")
DIRECTIVE = re.compile(r"\s*(?:\.\.(?:\s|$)|\||\+[-=]|>>>|\$ )")
ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)]|#\.|[a-z]\))\s+")
FIELD = re.compile(r"\s*:\w[^:`]*:(?!`)")
INLINE = (
    (re.compile(r"``(.+?)``"), r"\1"),  # literals, first: their marks must not pair with others
    (re.compile(r":[\w:+.-]+:`([^`<]*?)(?:\s*<[^>]*>)?`"), r"\1"),  # roles
    (re.compile(r"`([^`<]+?)(?:\s*<[^>]*>)?`_{0,2}"), r"\1"),  # links and interpreted text
    (re.compile(r"\*\*?([^*\s][^*]*)\*\*?"), r"\1"),
)


def read(archives: Sequence[Archive]) -> Iterator[Document]:
    """One document per file; the folder says the language where an artefact has several."""
    for archive in archives:
        artefact = archive.artefact
        for name, text in archive.texts(PAGE):
            lang = language_of(name, artefact.languages)
            yield Document(lang, "\n".join(paragraphs_of(text)), artefact.name, f"rst:{name}")


def paragraphs_of(page: str) -> list[str]:
    """Paragraphs and list items of a page as plain text.

    A block that is indented under a directive or after a paragraph that ends in two colons is not running text.
    """
    out: list[str] = []
    literal = False
    for block in re.split(r"\n\s*\n", page.expandtabs()):
        lines = [line for line in block.split("\n") if line.strip() and not RULE.match(line)]
        if not lines or (literal and lines[0].startswith(" ")):
            continue
        literal = bool(DIRECTIVE.match(lines[0])) or lines[-1].rstrip().endswith("::")
        if not DIRECTIVE.match(lines[0]):
            out += [text for part in _parts(lines) if (text := one_line(_plain(part)))]
    return out


def _parts(lines: list[str]) -> list[str]:
    """Wrapped lines joined; a list item starts a new part, a field (``:Author: ...``) is left out."""
    parts: list[list[str]] = [[]]
    for line in lines:
        if FIELD.match(line):
            parts.append([])
        elif (item := ITEM.match(line)) is not None:
            parts.append([line[item.end() :]])
        else:
            parts[-1].append(line)
    return ["\n".join(part) for part in parts]


def _plain(text: str) -> str:
    for pattern, replacement in INLINE:
        text = pattern.sub(replacement, text)
    return text.removesuffix("::")
