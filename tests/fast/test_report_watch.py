"""The live page: this machine only, the token only, made again when records come, gone when told."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest
from study_toy import WORK, toy_study

from finescale.errors import InputError
from finescale.report.watch import watcher
from finescale.study.lock import Study
from finescale.study.run import run


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return toy_study(tmp_path / "study <b>")


@pytest.fixture
def address(study: Study) -> Iterator[str]:
    server, at = watcher(lambda: study)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield at
    server.shutdown()
    server.server_close()
    thread.join(10)
    assert not thread.is_alive()


def ask(address: str, path: str, method: str = "GET", host: str | None = None) -> tuple[int, str]:
    """Status and body; ``path`` is taken as it is."""
    at = urlsplit(address)
    client = http.client.HTTPConnection(at.hostname or "", at.port, timeout=60)
    client.request(method, path, headers={} if host is None else {"Host": host})
    answer = client.getresponse()
    body = answer.read().decode()
    client.close()
    return answer.status, body


def test_a_study_without_a_run_says_so_and_has_its_page_once_it_has_runs(study: Study, address: str) -> None:
    path = urlsplit(address).path
    status, frame = ask(address, path)
    assert status == 200
    assert "study &lt;b&gt;" in frame
    assert "<b>" not in frame
    assert "no usable run yet" in ask(address, path + "page")[1]
    before = json.loads(ask(address, path + "now")[1])
    assert "0 of" in before["line"]
    run(study, workers=2, function=WORK)
    after = json.loads(ask(address, path + "now")[1])
    assert after["mark"] != before["mark"]
    shown = ask(address, path + "page")[1]
    assert 'id="runs-table"' in shown
    assert "Which method?" in shown
    assert ask(address, path + "page")[1] == shown
    assert json.loads(ask(address, path + "now")[1]) == after


def test_other_tokens_hosts_paths_and_methods_are_refused(address: str) -> None:
    at = urlsplit(address)
    token = at.path.strip("/")
    assert len(token) >= 32
    for path in ("/", "/page", f"/{token[:-1]}/", f"/{token}x/page", f"/{token}", "/%C3%BC/"):
        assert ask(address, path)[0] == 403, path
    for host in ("evil.example", f"evil.example:{at.port}", f"{at.hostname}:1", ""):
        assert ask(address, at.path, host=host)[0] == 403, host
    assert ask(address, at.path, host=f"localhost:{at.port}")[0] == 200
    assert ask(address, at.path + "../study.toml")[0] == 404
    assert ask(address, at.path + "stop")[0] == 404
    assert ask(address, at.path, method="POST")[0] == 404
    assert ask(address, "/wrong/stop", method="POST")[0] == 403
    assert ask(address, at.path, method="PUT")[0] == 501


def test_only_the_loopback_address_listens(address: str) -> None:
    at = urlsplit(address)
    with socket.socket() as other:
        other.settimeout(5)
        assert other.connect_ex(("127.0.0.2", at.port)) != 0


def test_a_port_that_is_taken_is_named(study: Study) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"--port {port}"):
            watcher(lambda: study, port)


def test_it_stops_when_told(study: Study) -> None:
    server, address = watcher(lambda: study)
    thread = Thread(target=server.serve_forever)
    thread.start()
    assert ask(address, urlsplit(address).path + "stop", method="POST")[0] == 200
    thread.join(10)
    assert not thread.is_alive()
    server.server_close()


CHILD = """
import signal; signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from finescale import cli
from finescale.study import lock
from study_toy import toy_study
lock.open_study = lambda folder: toy_study(Path(folder))
raise SystemExit(cli.call(["watch", {folder!r}]))
"""


@pytest.mark.parametrize("signalled", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_verb(study: Study, signalled: signal.Signals) -> None:
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(folder=str(study.folder))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert child.stdout
    said = child.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/[\w-]+/", said)
    assert found, (said, child.communicate(timeout=5))
    assert ask(found[0], urlsplit(found[0]).path + "now")[0] == 200
    child.send_signal(signalled)
    _, told = child.communicate(timeout=30)
    assert child.returncode == 0
    assert "Stopped watching" in told
