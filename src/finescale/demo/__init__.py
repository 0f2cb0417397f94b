"""The demo's study: a small real one, whose file is package data."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from finescale.errors import Fault, InputError
from finescale.study.config import STUDY_FILE
from finescale.study.lock import Study, read_study

HERE = Path(__file__).parent


def demo_study(folder: Path, tell: Callable[[str], None]) -> Study:
    """The demo study in ``folder``, which is made once its text is there; a study found there is continued.

    Raises:
        InputError: the folder holds something else, or the text cannot be fetched; nothing is made then.
    """
    if (folder / STUDY_FILE).exists():
        return read_study(folder, tell)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(Fault(str(folder), "is there already and is no study", "name a folder that is new or empty"))
    study = replace(read_study(HERE, tell), folder=folder)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(HERE / STUDY_FILE, folder / STUDY_FILE)
    return study
