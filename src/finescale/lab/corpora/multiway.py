"""The same held-out English in many languages, for translation out of languages that were never trained on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from finescale.lab.corpora.rows import Multiway, Pair
from finescale.lab.corpora.split import digest_of, split_of

HELD_OUT = ("dev", "test")
LEAST_LANGUAGES = 3


def join(parted: Mapping[str, Mapping[str, list[Pair]]], others: Iterable[Pair]) -> dict[str, list[Multiway]]:
    """Rows of dev and test: one first side with all its translations, of which at least one language is trained on.

    A trained language comes from the pairs that its own split kept, so that nothing in that language is close to a
    train row of it. Rows in fewer than three languages are left out.

    Args:
        parted: the splits of each trained direction (``en-de``), all from one language.
        others: clean pairs from the same language into others.
    """
    texts: dict[str, dict[tuple[str, str], dict[str, str]]] = {name: {} for name in HELD_OUT}
    sources: dict[tuple[str, str], str] = {}
    for parts in parted.values():
        for name in HELD_OUT:
            for pair in parts[name]:
                first, second = pair.langs.split("-")
                row = texts[name].setdefault((pair.group, pair.src), {first: pair.src})
                row[second] = pair.tgt
                sources.setdefault((pair.group, pair.src), pair.source)
    for pair in others:
        known = texts.get(split_of(pair.group), {}).get((pair.group, pair.src))
        if known is not None:
            known.setdefault(pair.langs.split("-")[1], pair.tgt)
    return {name: _rows(found, sources) for name, found in texts.items()}


def _rows(found: Mapping[tuple[str, str], dict[str, str]], sources: Mapping[tuple[str, str], str]) -> list[Multiway]:
    rows = [Multiway(row, sources[key], key[0]) for key, row in found.items() if len(row) >= LEAST_LANGUAGES]
    return sorted(rows, key=lambda row: digest_of(next(iter(row.texts.values()))))
