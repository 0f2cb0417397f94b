"""Links inside a study's folder: nothing is written through one, so that a study cannot reach out of its folder.

A folder that came from elsewhere may hold links to anywhere. Whoever is about to write looks first, and refuses where a
link stands in a place that a study writes to. ``study.toml`` and data files, which are only read, may be links, and so
may the folder itself. This holds off what was put there before, not somebody who changes the folder meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from finescale.errors import StudyError

STEPS = ("data", "bases", "rates", "runs")
"""Folders of steps. Inside of a finished one nothing is written any more, but in bases, which keep scores of their own.
"""
OTHERS = ("index", "leases", "queue", "fits", "report", "damaged")
FILES = ("study.lock.json", "sessions.jsonl", "conflicts.jsonl", "openmetrics.prom", "remote.json")
MOST_NAMED = 5


def refuse_links(folder: Path) -> None:
    """Look for links where a study is written.

    Raises:
        StudyError: there are some; the first few are named.
    """
    found = [f"{path} → {os.readlink(path)}" for path in links(folder)]
    if found:
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        raise StudyError(
            f"{folder}: holds links where only its own files may be, and nothing is written through a link: "
            f"{', '.join(found[:MOST_NAMED])}{more}; remove them, or move the whole study to where there is room"
        )


def links(folder: Path) -> Iterator[str]:
    """Links in the places that a study writes to."""
    for name in (*STEPS, *OTHERS, *FILES):
        if (folder / name).is_symlink():
            yield str(folder / name)
    for name in STEPS:
        for step in _entries(folder / name):
            if step.is_symlink():
                yield step.path
            elif step.name.endswith(".part") or name == "bases":
                yield from _below(step.path)
    for name in OTHERS[:-1]:
        yield from _below(folder / name)


def _below(folder: str | Path) -> Iterator[str]:
    """Links anywhere below a folder."""
    for entry in _entries(folder):
        if entry.is_symlink():
            yield entry.path
        elif entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path)


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """What is in a folder; nothing where it is no folder, or a link to one."""
    if os.path.islink(folder) or not os.path.isdir(folder):
        return []
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)
