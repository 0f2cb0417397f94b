"""What a corpus is made of: translation pairs, summaries, documents and texts in many languages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    """A translation pair. ``langs`` is ``"en-de"``-like; ``group`` is the document it comes from."""

    langs: str
    src: str
    tgt: str
    source: str
    group: str

    @property
    def sides(self) -> tuple[str, str]:
        """What is given and what is wanted."""
        return self.src, self.tgt


@dataclass(frozen=True, slots=True)
class Summary:
    """A text and its one-line summary, both in ``lang``."""

    lang: str
    text: str
    summary: str
    source: str
    group: str

    @property
    def sides(self) -> tuple[str, str]:
        """What is given and what is wanted."""
        return self.text, self.summary


@dataclass(frozen=True, slots=True)
class Document:
    """Monolingual text for pretraining; paragraphs are separated by one newline."""

    lang: str
    text: str
    source: str
    group: str


@dataclass(frozen=True, slots=True)
class Multiway:
    """One held-out text in several languages, by language code."""

    texts: dict[str, str]
    source: str
    group: str


Row = Pair | Summary | Document
