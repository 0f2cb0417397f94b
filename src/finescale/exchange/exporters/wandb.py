"""Runs for W&B, written offline by W&B itself; ``wandb sync`` sends them on, if and when you say so."""

from __future__ import annotations

import pandas as pd

from finescale.errors import Fault, InputError
from finescale.exchange.hand_on import Exporter, check_place, handed, lacking


def write(frame: pd.DataFrame, title: str, to: str) -> str:
    """Write each run into the project ``title`` under the folder ``to``; nothing leaves the machine.

    Raises:
        Refused: W&B's package is not installed.
        InputError: it would not write there, with its own words.
    """
    try:
        import wandb
    except ImportError:
        raise lacking("W&B's package", "wandb") from None
    folder = check_place(to)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(Fault(to, f"cannot be a folder: {error.strerror}", "name another one")) from error
    quiet = wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True)
    for run in handed(frame):
        config = run.settings | run.words | {"run": run.name} | ({"flag": run.flag} if run.flag else {})
        try:
            made = wandb.init(
                mode="offline",
                dir=str(folder),
                project=title,
                name=run.name,
                config=config,
                settings=quiet,
                reinit=True,
            )
            made.log(dict(run.scores))
            made.finish()
        except (wandb.Error, OSError) as error:
            raise InputError(Fault(to, f"W&B would not write the runs: {error}", "name another folder")) from error
    return f"{len(frame)} offline runs of project {title!r}; wandb sync {folder}/wandb/offline-run-* sends them"


EXPORTER = Exporter("wandb", "offline runs of W&B, in a folder", write)
