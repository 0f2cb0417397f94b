"""Files of a report, written aside and then renamed: a file that exists is complete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from finescale.study.store import aside_of, sync

SUFFIX = ".tmp"


def write(path: Path, put: Callable[[Path], object]) -> Path:
    """Have ``put`` write a file aside, then give it its name; nothing is left of one that could not be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = aside_of(path)
    try:
        put(aside)
        sync(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text with Unix line ends."""
    return write(path, lambda aside: aside.write_text(text, encoding="utf-8", newline="\n"))


def sweep(folder: Path) -> None:
    """Remove what a call that was killed left behind."""
    for left in folder.glob(f"*{SUFFIX}"):
        left.unlink(missing_ok=True)
