"""Runs for W&B, written offline by W&B itself; ``wandb sync`` sends them on, if and when you say so."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from finescale.errors import Fault, InputError
from finescale.exchange.hand_on import Exporter, aside_of, check_folder, handed, lacking


def write(frame: pd.DataFrame, title: str, to: str) -> str:
    """Write each run into the project ``title`` under the folder ``to``; nothing leaves the machine.

    Runs are written aside and moved into place when all are whole.

    Raises:
        Refused: W&B's package is not installed.
        InputError: it would not write there, with its own words.
    """
    try:
        import wandb
    except ImportError:
        raise lacking("W&B's package", "wandb") from None
    folder = check_folder(to)
    with aside_of(folder) as aside:
        (home := aside / "runs").mkdir()
        try:
            _write(frame, title, home)
            _move(home, folder)
        except (wandb.Error, OSError) as error:
            raise InputError(Fault(to, f"W&B would not write the runs: {error}", "name another folder")) from error
    return f"{len(frame)} offline runs of project {title!r}; wandb sync {folder}/wandb/offline-run-* sends them"


def _write(frame: pd.DataFrame, title: str, home: Path) -> None:
    import wandb

    quiet = wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True)
    for run in handed(frame):
        config = run.settings | run.words | {"run": run.name} | ({"flag": run.flag} if run.flag else {})
        made = wandb.init(
            mode="offline",
            dir=str(home),
            project=title,
            name=run.name,
            config=config,
            settings=quiet,
            reinit=True,
        )
        made.log(dict(run.scores))
        made.finish()


def _move(home: Path, folder: Path) -> None:
    """Put whole runs where they belong: the folder at once, or each run beside those that are there."""
    if not folder.exists():
        home.rename(folder)
        return
    (folder / "wandb").mkdir(exist_ok=True)
    for run in sorted((home / "wandb").glob("offline-run-*")):
        run.rename(folder / "wandb" / run.name)


EXPORTER = Exporter("wandb", "offline runs of W&B, in a folder", check_folder, write)
