"""Package descriptions from apt's Translation indexes: a long text and its one-line synopsis.

Texts and synopses make the summarisation task; the texts alone (never the synopses) are also read as documents.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from finescale.lab.corpora.archive import Archive
from finescale.lab.corpora.clean import normal, one_line, without_gaps
from finescale.lab.corpora.languages import right_language, size
from finescale.lab.corpora.rows import Document, Summary

SOURCE = "debian-descriptions"
TEXT_WORDS, SUMMARY_WORDS = (20, 400), (3, 25)
MOST_PER_SOURCE_PACKAGE, MOST_PER_OPENING = 8, 2
EMPTY_PACKAGE = re.compile(
    r"transition|dummy|meta-?pa|übergangs|fiktiv|leeres paket|pseudopaket|métapaquet|paquet (?:factice|fictif)"
    r"|metapacchetto|di transizione|fittizi|transición|ficticio|metapaquete|transição|metapacote|fictício|переходн"
    r"|метапакет|фиктивн|перехідн|метапакунок|przejściow|metapakiet|overgangspakke|metapakke|prechodn|metabal"
    r"|přechodov|过渡|元软件包|元套件|空软件包|虚包|移行用|メタパッケージ|ダミー|전환용|메타\s?패키지|더미"
)
"""Of a text in lower case: a pattern that ignores case takes ten times as long."""
BULLET = re.compile(r"[-*+•o]\s")


@dataclass(frozen=True)
class Description:
    """One package's description in one language; ``paragraphs`` has one string each, bullets on their own line."""

    package: str
    key: str
    synopsis: str
    paragraphs: tuple[str, ...]


def read(archives: Sequence[Archive]) -> Iterator[Document | Summary]:
    """Documents and summaries of every language; the group is the source package.

    An archive without languages is apt's Packages index, which says what source a package is built from.
    """
    sources: dict[str, str] = {}
    for archive in archives:
        if not archive.artefact.languages:
            sources |= source_packages(next(text for _, text in archive.texts()))
    texts = {
        archive.artefact.languages[0]: descriptions(next(text for _, text in archive.texts()))
        for archive in archives
        if archive.artefact.languages
    }
    english = {found.key: found for found in texts.get("en", ())}
    for lang, found in texts.items():
        yield from _rows(lang, found, sources, english if lang != "en" else {})


def _rows(
    lang: str, found: list[Description], sources: dict[str, str], english: dict[str, Description]
) -> Iterator[Document | Summary]:
    seen: set[str] = set()
    taken: Counter[str] = Counter()
    for one in sorted(found, key=lambda item: (item.package, item.key)):
        group = f"deb:{sources.get(one.package, one.package)}"
        body = "\n".join(one.paragraphs)
        original = english.get(one.key)
        if original and (original.synopsis == one.synopsis or original.paragraphs == one.paragraphs):
            continue  # not translated
        yield Document(lang, body, SOURCE, group)
        if not _usable(one, body, lang):
            continue
        names = (normal(body), normal(one.synopsis))
        caps = (group, f"opening {normal(one.paragraphs[0])}")
        if seen.isdisjoint(names) and taken[caps[0]] < MOST_PER_SOURCE_PACKAGE and taken[caps[1]] < MOST_PER_OPENING:
            seen.update(names)
            taken.update(caps)
            yield Summary(lang, body, one.synopsis, SOURCE, group)


def _usable(one: Description, body: str, lang: str) -> bool:
    if EMPTY_PACKAGE.search(one.synopsis.lower()) or EMPTY_PACKAGE.search(body[:200].lower()) or "<" in one.synopsis:
        return False
    long_enough = TEXT_WORDS[0] <= size(body) <= TEXT_WORDS[1]
    short_enough = SUMMARY_WORDS[0] <= size(one.synopsis) <= SUMMARY_WORDS[1]
    return long_enough and short_enough and right_language(body, lang) and right_language(one.synopsis, lang)


def source_packages(index: str) -> dict[str, str]:
    """Source package of each package that a Packages index lists with another source name than its own."""
    out, package = {}, ""
    for field, value in re.findall(r"^(Package|Source): (\S+)", index, re.M):
        if field == "Package":
            package = value
        else:
            out[package] = value
    return out


def descriptions(index: str) -> list[Description]:
    """Parse a Translation index: stanzas in deb822 form, one description each, keyed by ``Description-md5``."""
    out = []
    for stanza in index.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Description-md5): (\S+)", stanza, re.M))
        text = re.search(r"^Description-(?!md5)[\w@]+: (.*(?:\n .*)*)", stanza, re.M)
        if text and len(fields) == 2 and "<trans>" not in text[1]:
            synopsis, *lines = text[1].split("\n")
            paragraphs = tuple(paragraph for block in _blocks(lines) if (paragraph := _paragraph(block)))
            out.append(
                Description(fields["Package"], fields["Description-md5"], without_gaps(synopsis.strip()), paragraphs)
            )
    return out


def _blocks(lines: list[str]) -> list[list[str]]:
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.strip() == ".":
            blocks.append([])
        else:
            blocks[-1].append(line.removeprefix(" "))
    return blocks


def _paragraph(lines: list[str]) -> str:
    """Join wrapped lines; a bullet or an indented (verbatim) line starts a new one."""
    out: list[str] = []
    for line in lines:
        text = one_line(line)
        if not out or BULLET.match(text) or (line.startswith("  ") and not line.startswith("   ")):
            out.append(text)
        else:
            out[-1] += f" {text}"
    return "\n".join(without_gaps(part) for part in out if part)
