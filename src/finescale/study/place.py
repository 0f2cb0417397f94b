"""Where a study lives: in a folder, which may be named by the ``.toml`` file that it is to be made from."""

from __future__ import annotations

import shutil
from pathlib import Path

from finescale.errors import Fault, Faults, InputError
from finescale.study import config
from finescale.study.files import FileTask


def settle(path: Path, into: Path = Path()) -> Path:
    """The study folder that a path means, made if need be.

    A folder is itself. A file called ``study.toml`` means its folder. Any other ``NAME.toml`` is a pattern: its study
    lives in ``into/NAME``, with a copy of the file and of the data files it names beside it; a study found there that
    was made from the same text is continued.

    Raises:
        InputError: the file is at fault, the folder holds something else, or a data file lies outside the file's
            folder and is not named by its whole path.
    """
    if path.is_dir() or path.suffix != ".toml":
        return path
    if path.name == config.STUDY_FILE:
        return path.parent
    folder = into / path.stem
    there = folder / config.STUDY_FILE
    if there.exists():
        if there.read_bytes() != path.read_bytes():
            raise InputError(Fault(str(there), f"is not what {path} says", f"run {folder} itself, or remove it"))
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(Fault(str(folder), "is there already and is no study", "move it, or copy the file elsewhere"))
    files = _data_files(path)
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path.parent / name, folder / name)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, there)
    return folder


def _data_files(path: Path) -> list[Path]:
    """Files that the study's own tasks name relative to it; those named by their whole path stay where they are."""
    faults, found = Faults(), []
    for name, task in config.read(path).tasks.items():
        for split, file in task.paths(Path()).items():
            if file.is_absolute():
                continue
            if ".." in file.parts or not isinstance(task, FileTask):
                where = f"tasks.{name}" + (f".{split}" if isinstance(task, FileTask) else ".mirror")
                faults.add(where, f"{file} cannot be copied beside the study", "name it by its whole path")
            found.append(file)
    faults.raise_if_any()
    return found
