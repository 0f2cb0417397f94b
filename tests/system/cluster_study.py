"""The study that tests kill, driven on a cluster or kept at a URL."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kill_study import TOML, WORK

from finescale.study import config, remote, store
from finescale.study.lock import Study
from finescale.study.plan import Digests
from finescale.study.run import run

HERE = Path(__file__).parent
SMALL = TOML.replace("seeds = [0, 1, 2]", "seeds = [0]").replace('["2xs", "xs", "s"]', '["2xs", "xs"]')
REAL = """
schema = 1
[base]
ladder = ["2xs", "xs"]
pretrain_tokens = [10_000, 20_000]
[finetune]
tasks = ["mt-en-de"]
examples = [100, 200]
[methods.full]
[methods.lora]
rank = 4
"""
SECRET = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


def opened(address: str, toml: str = SMALL) -> Study:
    """The study at a path or URL, on a corpus that is only a digest."""
    folder = remote.mirror(address) if remote.is_url(address) else Path(address)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / config.STUDY_FILE).exists():
        (folder / config.STUDY_FILE).write_text(toml)
    return Study(folder, config.read(folder), Digests(corpus="0" * 64, tasks={}), {})


def real_study(folder: Path, corpus: str) -> Study:
    """A miniature study that really pretrains and finetunes."""
    from tiny_study import tiny

    folder.mkdir()
    (folder / config.STUDY_FILE).write_text(REAL)
    return Study(folder, tiny(config.read(folder)), Digests(corpus=corpus, tasks={}), {})


def made_at_home_and_on(backend: str, folder: Path, address: str | None = None) -> tuple[Study, Study]:
    """A miniature study that was really made, here and on a backend; the two agree to the digest.

    ``folder`` holds the cache that ``FINESCALE_CACHE`` names.
    """
    from tiny_corpus import write_tiny_corpus

    corpus = write_tiny_corpus(folder / "cache", documents=1600)
    home, there = (real_study(folder / name, corpus) for name in ("home", "there"))
    assert run(home, workers=2).complete
    assert run(there, workers=2, backend=backend, address=address).complete
    assert store.digest_of_all(home.store, home.plan) == store.digest_of_all(there.store, there.plan)
    assert left_behind(there.folder) == []
    return home, there


def results(study: Study) -> dict[str, dict[str, Any]]:
    """What every step of a finished study found."""
    assert study.store.finished(study.plan) == set(study.plan.steps)
    return {step.id: store.result(study.store.record(step)) for step in study.plan.steps.values()}


def left_behind(folder: Path) -> list[Path]:
    """Files of a study's folder that should be gone when it is done."""
    return [path for path in folder.rglob("*") if path.suffix in {".part", ".tmp", ".aside"}]


def start(address: str, backend: str = "local", cluster: str = "", **environment: str) -> subprocess.Popen[bytes]:
    """Drive the study in a process of its own."""
    command = [sys.executable, __file__, address, backend, cluster]
    return subprocess.Popen(command, cwd=HERE, start_new_session=True, env=os.environ | environment)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def s3_server() -> Iterator[str]:
    """An HTTP server on the loopback address that speaks S3, with a bucket in it; yields its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT"), timeout=20).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "the S3 server did not start"
                assert server.poll() is None, "the S3 server ended"
                time.sleep(0.2)
        yield address
    finally:
        server.kill()
        server.wait()


def main(address: str, backend: str, cluster: str) -> None:
    """Drive to the end; exit code 1 where steps were killed too often to be tried again."""
    outcome = run(opened(address), workers=2, backend=backend, address=cluster or None, function=WORK)
    print(json.dumps({"done": len(outcome.done), "failed": [vars(why) for why in outcome.failed.values()]}))
    sys.exit(not outcome.complete)


if __name__ == "__main__":
    main(*sys.argv[1:])
