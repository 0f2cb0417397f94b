"""A study kept at a URL: same results as in a folder, uploads killed half-way, two drivers, damage.

The server is moto's own, a process of its own that speaks S3 over HTTP on the loopback address; s3fs talks to it as it
would to any other.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("s3fs", reason="needs finescale[s3]")
pytest.importorskip("moto.server", reason="needs moto[server]")

from cluster_study import SECRET, SMALL, opened, results, s3_server, start
from kill_study import WORK

from finescale.errors import InputError, Refused, StudyError
from finescale.study import remote, store
from finescale.study.run import run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture
def url(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A study nobody has run, at a URL of its own."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("FINESCALE_CACHE", str(tmp_path / "cache"))
    for name, value in SECRET.items():
        monkeypatch.setenv(name, value)
    url = f"s3://bucket/{request.node.name}"
    remote.RemoteStore(tmp_path, url)._reached[0].pipe_file(f"{url}/study.toml", SMALL.encode())
    return url


def calm(folder: Path) -> dict[str, dict[str, object]]:
    study = opened(str(folder))
    assert run(study, workers=2, function=WORK).complete
    return results(study)


def keys(url: str) -> list[str]:
    return remote.RemoteStore(Path("/nowhere"), url).names()


def temporary(url: str, steps: int) -> list[str]:
    """Keys that a finished study should not have."""
    found = keys(url)
    kept = {f"{key.rsplit('/', 1)[0]}" for key in found if key.endswith("/manifest.json")}
    assert len(kept) == steps
    tokens = {key.rsplit("/", 1)[0] for key in found if key.count("/") == 3}
    double = sorted(tokens) if len(tokens) != steps else []
    return [key for key in found if ".part/" in key or key.startswith("leases/probe")] + double


def test_a_study_at_a_url_equals_one_in_a_folder(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = calm(tmp_path / "calm")
    study = opened(url)
    assert run(study, workers=2, function=WORK).complete
    assert results(study) == expected
    assert temporary(url, len(expected)) == []
    monkeypatch.setenv("FINESCALE_CACHE", str(tmp_path / "another machine"))
    elsewhere = opened(url)
    assert elsewhere.folder != study.folder
    assert results(elsewhere) == expected
    assert store.digest_of_all(elsewhere.store, elsewhere.plan) == store.digest_of_all(study.store, study.plan)
    assert run(elsewhere, workers=1, function=WORK).complete


def test_uploads_and_drivers_killed_at_any_moment_lose_nothing(url: str, tmp_path: Path) -> None:
    """Each time on another machine's cache, so that only what is at the URL counts."""
    random.seed(4)
    expected = calm(tmp_path / "calm")
    kills = 0
    while kills < 8:
        driver = start(url, FINESCALE_CACHE=str(tmp_path / f"cache-{kills}"))
        time.sleep(1.5 + random.random() * 2)
        kills += 1
        driver.kill()
        driver.wait()
        remote.RemoteStore(tmp_path, url).remove("leases")  # nobody waits 20 s for the dead here; see the lease's test
    assert start(url, FINESCALE_CACHE=str(tmp_path / "last")).wait(300) == 0
    assert results(opened(url)) == expected
    assert temporary(url, len(expected)) == []


SENDER = """
import os, signal, sys
from pathlib import Path
from finescale.study import remote
home = remote.RemoteStore(Path(sys.argv[1]), sys.argv[2])
real, seen = home._reached[0].put_file, []
def put(here, there):
    seen.append(there)
    if len(seen) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    real(here, there)
home._reached[0].put_file = put
home.send("runs", "abc", Path(sys.argv[3]))
"""


def test_an_upload_killed_half_way_is_nothing_and_is_cleared_away(url: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    for name in ("record.json", "rows.bin"):
        (made / name).write_text("{}")
    ended = subprocess.run([sys.executable, "-c", SENDER, str(tmp_path / "copy"), url, str(made)], check=False)
    assert ended.returncode == -9
    home = remote.RemoteStore(tmp_path / "copy", url)
    assert len(home.names("runs")) == 1, "half of it arrived"
    with pytest.raises(StudyError, match="no manifest"):
        home.pull("runs", "abc")
    home.catch_up()
    assert not (home.folder / "runs" / "abc").exists()
    assert home.send("runs", "abc", made)
    home.catch_up()
    assert len(home.names("runs")) == 3
    assert sorted(path.name for path in (home.folder / "runs" / "abc").iterdir()) == ["record.json", "rows.bin"]


def test_the_first_complete_record_wins_however_many_arrive_at_once(url: str, tmp_path: Path) -> None:
    won = []

    def send(number: int) -> None:
        folder = tmp_path / f"made-{number}"
        folder.mkdir()
        (folder / "record.json").write_text(json.dumps({"by": number}))
        if remote.RemoteStore(tmp_path / "copy", url).send("runs", "one", folder):
            won.append(number)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    home = remote.RemoteStore(tmp_path / "copy", url)
    home.pull("runs", "one")
    assert len(won) == 1
    assert json.loads((home.folder / "runs" / "one" / "record.json").read_text()) == {"by": won[0]}
    assert len(home.names("runs", "one")) == 2, "what came second is gone"


def test_one_driver_at_a_time_and_the_dead_are_succeeded(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "SECONDS_BETWEEN_BEATS", 0.4)
    first, second = (remote.RemoteStore(tmp_path / name, url) for name in ("a", "b"))
    said: list[str] = []
    with first.lease(said.append) as held:
        stop = threading.Event()

        def live() -> None:
            while not stop.wait(0.1):
                held.beat()

        alive = threading.Thread(target=live)
        alive.start()
        with pytest.raises(StudyError, match="another driver is running"), second.lease(said.append):
            pass
        stop.set()
        alive.join()
        with second.lease(said.append) as later:
            assert said[-1] == "it does not: this driver takes over"
            time.sleep(0.5)
            later.beat()
            with pytest.raises(StudyError, match="has taken this study over"):
                held.beat()
    with first.lease(said.append):
        assert len(said) == 3, "nobody waits for a driver that ended well"


def test_damage_at_the_url_is_told_and_mended(
    url: str, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = opened(url)
    assert run(study, workers=2, function=WORK).complete
    step = study.plan.of("run")[0]
    (key,) = [key for key in keys(url) if key.startswith(f"runs/{step.id}/") and key.endswith("rows.bin")]
    study.store._reached[0].pipe_file(f"{url}/{key}", b"x" * 800)
    monkeypatch.setenv("FINESCALE_CACHE", str(tmp_path / "another"))
    with pytest.raises(StudyError, match="is damaged"):
        opened(url)
    monkeypatch.setenv("FINESCALE_CACHE", str(tmp_path / "cache"))
    study.store.put_aside([step])
    assert not [key for key in keys(url) if key.startswith(f"runs/{step.id}/")]
    assert run(opened(url), workers=2, function=WORK).complete


def test_what_holds_no_study_or_cannot_be_safe_is_refused(url: str, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(InputError, match=r"holds no study — put a study\.toml there"):
        remote.mirror("s3://bucket/nothing-here")
    with pytest.raises(InputError, match="cannot be opened"):
        remote.mirror("no-such-protocol://bucket/study")
    home = remote.RemoteStore(tmp_path, url)
    real = home._reached[0].pipe_file
    monkeypatch.setattr(home._reached[0], "pipe_file", lambda key, value, **_: real(key, value))
    with pytest.raises(Refused, match="can be overwritten"):
        home.refuse_if_overwriting()
