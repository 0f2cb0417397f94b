"""Translations kept as JSON beside each other (``translations/en.json``, ``translations/de.json``)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from finescale.lab.corpora.archive import Archive
from finescale.lab.corpora.clean import normal, plain
from finescale.lab.corpora.rows import Pair


def read(archives: Sequence[Archive]) -> Iterator[Pair]:
    """Pairs of strings under equal keys of two files in one folder; the group is the normalised first string."""
    for archive in archives:
        first, *others = archive.artefact.languages
        strings: dict[str, dict[str, dict[str, str]]] = {}
        for path, content in archive.members(rf"/translations/(?:{'|'.join(archive.artefact.languages)})\.json$"):
            folder, _, name = path.rpartition("/")
            strings.setdefault(folder, {})[name.removesuffix(".json")] = dict(leaves(json.loads(content)))
        for _, by_lang in sorted(strings.items()):
            originals = by_lang.get(first, {})
            for other in others:
                for key, translation in by_lang.get(other, {}).items():
                    if key in originals:
                        src = plain(originals[key])
                        group = f"string:{normal(src)}"
                        yield Pair(f"{first}-{other}", src, plain(translation), archive.artefact.name, group)


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, text) of every string in nested JSON objects."""
    if isinstance(tree, str):
        yield path, tree
    elif isinstance(tree, dict):
        for key, below in tree.items():
            yield from leaves(below, f"{path}/{key}")
