"""HTML, DocBook and Mallard manuals: the text of block elements, without code, navigation and tables of contents."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser

from finescale.lab.corpora.archive import Archive
from finescale.lab.corpora.clean import one_line
from finescale.lab.corpora.languages import language_of
from finescale.lab.corpora.rows import Document

BLOCKS = re.compile(
    r"html|body|div|p|h[1-6]|[uod]l|li|d[td]|table|t[rdh]|thead|tbody|blockquote|section|article|caption|figure"
    r"|figcaption|header|footer|aside|main|hr|address|form|br"
    # DocBook and Mallard
    r"|(?:sim|formal)?para|(?:list)?item|(?:itemized|ordered|variable|simple|gloss)list"
    r"|varlistentry|term|sect\d|chapter|book|bookinfo|info|note|tip|warning|caution|important|entry|row|tgroup"
    r"|informaltable|(?:media|image|text)object|step|steps|procedure|abstract|question|answer|qandaentry|qandaset"
    r"|glossterm|glossdef|member|page|desc|terms|title|subtitle|list|media|example|synopsis|comment"
)
SKIPPED = re.compile("script|style|pre|nav|head|svg|textarea|select|screen|programlisting|credit|legalnotice|listing")
PAGE = r"\.(?:html?|page|docbook|xml)(?:\.gz)?$"
VOID = frozenset({"br", "hr", "img", "meta", "link", "input", "col", "area", "base", "wbr"})
SKIPPED_CLASSES = re.compile(r"\b(?:toc|nav|nav_table|navheader|navfooter|index|lilypond|settitle|contents)\b")


def read(archives: Sequence[Archive]) -> Iterator[Document]:
    """One document per page; where an artefact has several languages, the page's folder says which."""
    for archive in archives:
        artefact = archive.artefact
        for name, text in archive.texts(PAGE):
            lang = language_of(name, artefact.languages)
            yield Document(lang, "\n".join(paragraphs_of(text)), artefact.name, f"html:{name}")


def paragraphs_of(page: str) -> list[str]:
    """Texts of the block elements of an HTML page, in order."""
    parser = _Blocks()
    parser.feed(page)
    parser.close()
    return parser.finish()


class _Blocks(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._done: list[str] = []
        self._open: list[str] = []
        self._skipped: list[str] = []  # open elements from the outermost skipped one inwards

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if BLOCKS.fullmatch(tag):
            self._flush()
        if tag in VOID:
            return
        skip = SKIPPED.fullmatch(tag) or SKIPPED_CLASSES.search(dict(attrs).get("class") or "")
        if self._skipped or skip:
            self._skipped.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if BLOCKS.fullmatch(tag):
            self._flush()

    def handle_endtag(self, tag: str) -> None:
        if BLOCKS.fullmatch(tag):
            self._flush()
        if tag in self._skipped:
            while self._skipped.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self._open.append(data)

    def _flush(self) -> None:
        text = one_line("".join(self._open))
        self._open.clear()
        if text:
            self._done.append(text)

    def finish(self) -> list[str]:
        self._flush()
        return self._done
