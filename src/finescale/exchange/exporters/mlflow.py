"""Runs in MLflow: parameters, metrics and tags, written by MLflow itself into a file store or to a tracking server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from finescale.errors import Fault, InputError
from finescale.exchange.hand_on import Exporter, Handed, aside_of, check_folder, handed, lacking

META = "meta.yaml"
_ALLOW = "MLFLOW_ALLOW_FILE_STORE"  # MLflow keeps its file store for what is moved around, and wants to be asked


def write(frame: pd.DataFrame, title: str, to: str) -> str:
    """Write each run into the experiment ``title``.

    In a folder runs are written aside and moved into place when all are whole; those that a server took before it
    failed are deleted again.

    Raises:
        Refused: MLflow is not installed.
        InputError: MLflow would not take the runs, with its own words.
    """
    try:
        import mlflow
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise lacking("MLflow", "mlflow") from None
    check(to)
    uri = to if "://" in to else Path(to).resolve().as_uri()
    with _file_store():
        try:
            if "://" in to:
                _log_all(mlflow.MlflowClient(tracking_uri=uri), frame, title)
            else:
                _into(Path(to).resolve(), frame, title, mlflow.MlflowClient)
        except (MlflowException, OSError) as error:
            what = " ".join(str(error).split())[:300]
            raise InputError(Fault(to, f"MLflow would not take the runs: {what}", "name another place")) from error
    return f"{len(frame)} runs in experiment {title!r} of {uri}"


def check(to: str) -> None:
    """A tracking URI, or a folder.

    Raises:
        InputError: it is a file, or the folder it would be in is not there.
    """
    if "://" not in to:
        check_folder(to)


def _into(folder: Path, frame: pd.DataFrame, title: str, client: Callable[..., Any]) -> None:
    """Write runs aside, into a store with no more than the experiment they belong to, and move them into the folder."""
    with aside_of(folder) as aside:
        home, known = aside / "mlruns", None
        if folder.exists() and any(folder.iterdir()):
            known = client(tracking_uri=folder.as_uri()).get_experiment_by_name(title)
        if known is not None:
            (home / known.experiment_id).mkdir(parents=True)
            shutil.copy(folder / known.experiment_id / META, home / known.experiment_id / META)
        experiment = _log_all(client(tracking_uri=home.as_uri()), frame, title)
        for meta in home.rglob(META):  # places of artifacts, as they will be
            meta.write_text(meta.read_text(encoding="utf-8").replace(home.as_uri(), folder.as_uri()), encoding="utf-8")
        if not folder.exists():
            home.rename(folder)
        elif known is None:
            (home / experiment).rename(folder / experiment)
        else:
            for run in sorted(path for path in (home / experiment).iterdir() if path.is_dir()):
                run.rename(folder / experiment / run.name)


def _log_all(client: Any, frame: pd.DataFrame, title: str) -> str:
    """Log all runs or none, as far as the store lets go of them again; the experiment's id."""
    found = client.get_experiment_by_name(title)
    experiment = str(found.experiment_id if found else client.create_experiment(title))
    made: list[str] = []
    try:
        for run in handed(frame):
            _log(client, experiment, run, made)
    except BaseException:
        for id in made:
            with suppress(Exception):  # what is told is why it failed, not that it still does
                client.delete_run(id)
        raise
    return experiment


@contextmanager
def _file_store() -> Iterator[None]:
    before = os.environ.get(_ALLOW)
    os.environ[_ALLOW] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_ALLOW]
        else:
            os.environ[_ALLOW] = before


def _log(client: Any, experiment: str, run: Handed, ids: list[str]) -> None:
    from mlflow.entities import Metric, Param, RunTag

    tags = run.words | ({"flag": run.flag} if run.flag else {})
    made = client.create_run(experiment, run_name=run.name)
    ids.append(made.info.run_id)
    client.log_batch(
        made.info.run_id,
        metrics=[Metric(name, value, made.info.start_time, 0) for name, value in run.scores.items()],
        params=[Param(name, str(value)) for name, value in run.settings.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    client.set_terminated(made.info.run_id)


EXPORTER = Exporter("mlflow", "runs of MLflow, in a folder (mlruns) or on a tracking server", check, write)
