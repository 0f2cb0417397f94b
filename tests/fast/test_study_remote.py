"""A study at a URL, on a file system in memory: what a step leaves arrives whole, and nothing arrives elsewhere.

Kills, races and a real S3 server are in tests/system/test_remote_root.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import pytest

from finescale.errors import InputError, StudyError
from finescale.study.remote import MANIFEST, RemoteStore, mirror


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    return f"memory://{request.node.name}/study"


def finished(folder: Path) -> Path:
    done = folder / "runs" / "a-run"
    (done / "adapter").mkdir(parents=True)
    (done / "record.json").write_text("{}")
    (done / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    return done


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_a_run_keeps_travels_with_its_record(url: str, tmp_path: Path) -> None:
    done = finished(tmp_path / "here")
    assert RemoteStore(tmp_path / "here", url).send("runs", "a-run", done)
    RemoteStore(tmp_path / "there", url).pull("runs", "a-run")
    assert contents(tmp_path / "there" / "runs" / "a-run") == contents(done)


def test_the_second_to_arrive_leaves_nothing(url: str, tmp_path: Path) -> None:
    first, second = RemoteStore(tmp_path / "one", url), RemoteStore(tmp_path / "two", url)
    assert first.send("runs", "a-run", finished(tmp_path / "one"))
    before = first.names("runs")
    assert not second.send("runs", "a-run", finished(tmp_path / "two"))
    assert first.names("runs") == before


def test_a_manifest_cannot_name_a_file_outside_of_its_folder(url: str, tmp_path: Path) -> None:
    home = RemoteStore(tmp_path / "here", url)
    home.send("runs", "a-run", finished(tmp_path / "here"))
    system, root = fsspec.core.url_to_fs(url)
    key = f"{root}/runs/a-run/{MANIFEST}"
    manifest = json.loads(system.cat_file(key))
    manifest["files"] = {"../../escaped": manifest["files"]["record.json"]}
    system.pipe_file(key, json.dumps(manifest).encode())
    with pytest.raises(StudyError, match="outside of it"):
        RemoteStore(tmp_path / "there", url).pull("runs", "a-run")
    assert not contents(tmp_path / "there")


def test_where_there_is_no_study_nothing_is_left_here(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINESCALE_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="holds no study"):
        mirror(url)
    assert not list(tmp_path.iterdir())
