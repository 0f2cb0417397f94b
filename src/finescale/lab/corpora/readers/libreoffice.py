"""LibreOffice help: every paragraph has the same id in every language, so alignment is exact."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from finescale.lab.corpora.archive import Archive
from finescale.lab.corpora.clean import plain
from finescale.lab.corpora.rows import Pair

PARAGRAPH = re.compile(r'<(p|h[1-6]) id="((?:par|hd)_[^"]+)"([^>]*)>(.*?)</\1>', re.S)
TAGS = re.compile(r"(<[^>]*>)")
NOT_PROSE = re.compile(r'class="\w*code')
SYSTEMS = re.compile(r'class="(?:MAC|UNIX|WIN)"')


def read(archives: Sequence[Archive]) -> Iterator[Pair]:
    """Pairs of the first archive's language with each other one; the group is the help page."""
    pages = {archive.artefact.languages[0]: _pages(archive) for archive in archives}
    first, *others = pages
    for path, paragraphs in sorted(pages[first].items()):
        for other in others:
            translated = pages[other].get(path, {})
            for key in [key for key in paragraphs if key in translated]:
                if paragraphs[key] != translated[key]:
                    langs = f"{first}-{other}"
                    yield Pair(langs, paragraphs[key], translated[key], "libreoffice-help", f"lo:{path}")


def _pages(archive: Archive) -> dict[str, dict[str, str]]:
    pages = {}
    for name, text in archive.texts(r"help/[\w-]+/text/.*\.html$"):
        pages[name.partition("/text/")[2]] = paragraphs_of(text)
    return pages


def paragraphs_of(page: str) -> dict[str, str]:
    """Paragraphs of one help page by id; only the part the reader sees.

    A paragraph whose id repeats (an embedded section) keeps its first text; code is left out.
    """
    start, end = page.find('id="DisplayArea"'), page.find('id="SearchFrame"')
    out: dict[str, str] = {}
    for _, key, attributes, inner in PARAGRAPH.findall(page[start : end if end > 0 else None]):
        text = None if NOT_PROSE.search(attributes) else _default_wording(inner)
        if text:
            out.setdefault(key, plain(text))
    return out


def _default_wording(inner: str) -> str | None:
    """Resolve switches: the default operating system's wording; ``None`` if the wording depends on the application."""
    if "switchinline" not in inner:
        return inner
    if 'id="swlnappl' in inner:
        return None
    kept, hidden = [], [False]
    for part in TAGS.split(inner):
        if part.startswith("<span"):
            hidden.append(hidden[-1] or bool(SYSTEMS.search(part)))
        elif part == "</span>" and len(hidden) > 1:
            hidden.pop()
        elif not part.startswith("<") and not hidden[-1]:
            kept.append(part)
    return "".join(kept)
