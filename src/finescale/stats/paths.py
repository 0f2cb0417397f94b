"""Is what the user named there? If not, what has a name like it?"""

from __future__ import annotations

import difflib
from pathlib import Path

from finescale.errors import Fault, InputError


def there(path: Path, wanted: str = "a study's folder or a table of runs") -> Path:
    """The path, if something is there.

    Raises:
        InputError: nothing is; names what is called alike beside it.
    """
    if path.exists():
        return path
    if not path.parent.is_dir():
        raise InputError(Fault(str(path), "is not there, nor is the folder it would be in", f"give {wanted}"))
    alike = difflib.get_close_matches(path.name, sorted(one.name for one in path.parent.iterdir()), cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(name) for name in alike)}?" if alike else f"give {wanted}"
    raise InputError(Fault(str(path), "is not there", hint))


def file_there(path: Path, wanted: str = "a table of runs") -> Path:
    """The path, if a file is there.

    Raises:
        InputError: nothing is, or a folder.
    """
    if there(path, wanted).is_dir():
        way = f"finescale table {path} --out runs.csv writes the runs of a study"
        raise InputError(Fault(str(path), "is a folder", f"give {wanted}; {way}"))
    return path
