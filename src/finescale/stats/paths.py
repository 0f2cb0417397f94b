"""Is what the user named there? If not, what has a name like it?"""

from __future__ import annotations

import re
from pathlib import Path

from finescale.errors import Fault, InputError, near_path

URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
"""How a URL begins; a path made of one has lost a stroke."""


def there(path: Path, wanted: str = "a study's folder or a table of runs") -> Path:
    """The path, if something is there.

    Raises:
        InputError: nothing is; names what is called alike beside it.
    """
    if path.exists():
        return path
    if URL.match(str(path)):
        raise InputError(Fault(str(path), "is a URL, and only files that are here are read", "download it"))
    what = "is not there" if path.parent.is_dir() else "is not there, nor is the folder it would be in"
    raise InputError(Fault(str(path), what, near_path(path) or f"give {wanted}"))


RUNS = "a table of runs"


def file_there(path: Path, wanted: str = RUNS) -> Path:
    """The path, if a file is there.

    Raises:
        InputError: nothing is, or a folder.
    """
    if there(path, wanted).is_dir():
        way = f"; finescale table {path} --out runs.csv writes the runs of a study" if wanted == RUNS else ""
        raise InputError(Fault(str(path), "is a folder", f"give {wanted}{way}"))
    return path
