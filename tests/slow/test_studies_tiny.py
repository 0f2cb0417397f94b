"""The starter-sized version of every study in ``studies/`` (``tiny_study``) runs to its end, for real."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "fast"))

from hub_mirror import write_mirror  # noqa: E402
from tiny_corpus import write_tiny_corpus  # noqa: E402
from tiny_study import tiny  # noqa: E402

from finescale.study import config, files  # noqa: E402
from finescale.study.lock import Study  # noqa: E402
from finescale.study.place import settle  # noqa: E402
from finescale.study.plan import Digests  # noqa: E402
from finescale.study.run import run  # noqa: E402

STUDIES = sorted((HERE.parent.parent / "studies").glob("*.toml"))
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_starter_sized_study_finishes(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINESCALE_CACHE", str(tmp_path / "cache"))
    corpus = write_tiny_corpus(tmp_path / "cache", documents=1600)
    mirror = write_mirror(tmp_path / "mirror")
    folder = settle(path, tmp_path)
    spec = tiny(config.read(folder), mirror)
    digests = Digests(corpus=corpus, tasks=files.digests(spec.tasks, spec.task_names, folder))
    study = Study(folder, spec, digests, {})
    outcome = run(study, workers=2)
    assert {id: why.message for id, why in outcome.failed.items()} == {}
    assert outcome.complete
    runs = study.table()
    assert len(runs) == len(study.plan.of("run"))
    assert runs["loss"].notna().all()
