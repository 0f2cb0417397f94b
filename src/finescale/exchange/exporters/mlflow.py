"""Runs in MLflow: parameters, metrics and tags, written by MLflow itself into a file store or to a tracking server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from finescale.errors import Fault, InputError
from finescale.exchange.hand_on import Exporter, Handed, handed, lacking

_ALLOW = "MLFLOW_ALLOW_FILE_STORE"  # MLflow keeps its file store for what is moved around, and wants to be asked


def write(frame: pd.DataFrame, title: str, to: str) -> str:
    """Write each run into the experiment ``title``.

    Raises:
        Refused: MLflow is not installed.
        InputError: MLflow would not take the runs, with its own words.
    """
    try:
        import mlflow
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise lacking("MLflow", "mlflow") from None
    uri = to if "://" in to else Path(to).resolve().as_uri()
    with _file_store():
        try:
            client = mlflow.MlflowClient(tracking_uri=uri)
            found = client.get_experiment_by_name(title)
            experiment = found.experiment_id if found else client.create_experiment(title)
            for run in handed(frame):
                _log(client, experiment, run)
        except (MlflowException, OSError) as error:
            what = " ".join(str(error).split())[:300]
            raise InputError(Fault(to, f"MLflow would not take the runs: {what}", "name another place")) from error
    return f"{len(frame)} runs in experiment {title!r} of {uri}"


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


def _log(client: object, experiment: str, run: Handed) -> None:
    from mlflow.entities import Metric, Param, RunTag

    tags = run.words | ({"flag": run.flag} if run.flag else {})
    made = client.create_run(experiment, run_name=run.name)  # type: ignore[attr-defined]
    client.log_batch(  # type: ignore[attr-defined]
        made.info.run_id,
        metrics=[Metric(name, value, made.info.start_time, 0) for name, value in run.scores.items()],
        params=[Param(name, str(value)) for name, value in run.settings.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    client.set_terminated(made.info.run_id)  # type: ignore[attr-defined]


EXPORTER = Exporter("mlflow", "runs of MLflow, in a folder (mlruns) or on a tracking server", write)
