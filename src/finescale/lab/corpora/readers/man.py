"""Manual pages in man(7) macros: running text of their paragraphs; tables, examples and options are left out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from finescale.lab.corpora.archive import Archive
from finescale.lab.corpora.clean import one_line
from finescale.lab.corpora.languages import folders
from finescale.lab.corpora.rows import Document

SPECIAL = {
    "aq": "'", "dq": '"', "lq": "“", "rq": "”", "oq": "‘", "cq": "’", "bu": "•", "em": "—", "en": "–", "co": "©",
    "Bq": "„", "bq": "‚", "ha": "^", "ti": "~", "rs": "\\", "Fc": "»", "Fo": "«",
}  # fmt: skip
PLAIN_ESCAPES = (("\\-", "-"), ("\\ ", " "), ("\\~", " "), ("\\0", " "), ("\\e", "\\"), ("\\.", "."), ("\\'", "´"))
FONTS = {"B", "I", "SM", "SB", "R", "BR", "RB", "IR", "RI", "BI", "IB"}
TAGGED = {"TP", "TQ"}
BREAKS = {"SH", "SS", "PP", "P", "LP", "RS", "RE", "sp", "br", "HP", "TP", "TQ", "IP"}
OPENING, CLOSING = {"nf", "EX", "TS", "EQ", "de", "ig"}, {"fi", "EE", "TE", "EN", "."}
REQUEST = re.compile(r"[.']\s*(\S+)\s*(.*)")


def read(archives: Sequence[Archive]) -> Iterator[Document]:
    """One document per page; the group is the page's name, the same in all languages."""
    for archive in archives:
        lang = archive.artefact.languages[0]
        folder = r"^usr/share/man/man\d/" if lang == "en" else rf"^usr/share/man/(?:{'|'.join(folders(lang))})/man\d/"
        for name, text in archive.texts(folder):
            page = PurePosixPath(name).name.removesuffix(".gz")
            yield Document(lang, "\n".join(paragraphs_of(text)), "man-pages", f"man:{page}")


def paragraphs_of(page: str) -> list[str]:
    """Paragraphs of a man(7) page as plain text; empty for pages in mdoc(7) macros."""
    if re.search(r"^\.(?:Dd|Sh)\b", page, re.M):
        return []
    paragraphs: list[list[str]] = [[]]
    skipping = tag_is_next = False
    for line in page.replace("\\\n", "").split("\n"):
        if line.startswith(('.\\"', "'\\\"")):
            continue
        request = REQUEST.match(line)
        name = request[1] if request else ""
        if name in OPENING | CLOSING:
            skipping = name in OPENING
        if name in OPENING | CLOSING | BREAKS or not line.strip():
            paragraphs.append([])
            tag_is_next = name in TAGGED
        elif not skipping and (text := _text(line, request)):
            paragraphs[-1].append(text)
            if tag_is_next:
                paragraphs.append([])
                tag_is_next = False
    return [text for lines in paragraphs if (text := one_line(inline("\n".join(lines))))]


def _text(line: str, request: re.Match[str] | None) -> str:
    if request is None:
        return line
    if request[1] not in FONTS:
        return ""
    alternating = len(request[1]) == 2 and request[1][0] != "S"
    return ("" if alternating else " ").join(_arguments(request[2]))


def inline(text: str) -> str:
    """``text`` without roff escapes (groff(7)): fonts, sizes, special characters, comments."""
    text = re.sub(r'\\".*', "", text)
    text = re.sub(r"\\[fF](?:\[[^\]]*\]|\(..|.)|\\s(?:\[[^\]]*\]|[-+]?\d)|\\[m](?:\[[^\]]*\]|\(..|.)", "", text)
    text = re.sub(r"\\\((..)|\\\[(\w+)\]", lambda match: SPECIAL.get(match[1] or match[2], ""), text)
    text = re.sub(r"\\\*(?:\(..|\[[^\]]*\]|.)", "", text)
    for escape, character in PLAIN_ESCAPES:
        text = text.replace(escape, character)
    return re.sub(r"\\[&/,|^:%c)]", "", text)


def _arguments(text: str) -> list[str]:
    return [quoted or bare for quoted, bare in re.findall(r'"((?:[^"]|"")*)"|(\S+)', text)]
