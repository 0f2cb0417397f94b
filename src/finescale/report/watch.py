"""The page of a study while it runs, from a small server that only this machine can reach.

The server listens on the loopback address; every URL starts with a random token, and other tokens, other host names and
other methods are refused, so that neither another user's guess nor a page in the same browser gets at it. Its frame
asks where the study stands and loads the page again when records have come.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from threading import Lock, Thread

from finescale.errors import Fault, InputError, Refused
from finescale.report.markup import join, raw, tag
from finescale.report.page import page
from finescale.study.analyse import analyse
from finescale.study.lock import Study
from finescale.study.run import state
from finescale.study.show import line

HOST = "127.0.0.1"
STYLE = (
    ":root{color-scheme:light dark}html,body{margin:0;height:100%}body{display:flex;flex-direction:column;"
    "font:.9rem/1.5 system-ui,sans-serif}header{display:flex;gap:1rem;padding:.4rem 1rem;align-items:center}"
    "#now{flex:1}iframe{flex:1;border:0;border-top:1px solid}button{font:inherit}"
)


class Live:
    """The page of a study as its records are now; made again only when a run has come or gone."""

    def __init__(self, opened: Callable[[], Study]) -> None:
        """``opened`` opens the study afresh, so that a plan that has grown is seen."""
        self.opened = opened
        self._lock = Lock()
        self._done: frozenset[str] | None = None
        self._page = ""

    def now(self) -> dict[str, str]:
        """Where the study stands, in a line, and a mark that changes when the page does."""
        outcome = state(self.opened())
        return {"line": line(outcome), "mark": _mark(frozenset(outcome.done))}

    def page(self) -> str:
        """The page; where there is none yet, a page that says why."""
        with self._lock:
            study = self.opened()
            done = frozenset(study.store.finished(study.plan))
            if done != self._done:
                self._page, self._done = _made(study), done
            return self._page


def _made(study: Study) -> str:
    try:
        return page(analyse(study, save=False))
    except Refused as why:
        return _document(study.name, tag("p", str(why)), "default-src 'none'; style-src 'unsafe-inline'")


def _mark(done: frozenset[str]) -> str:
    return hashlib.sha256("\n".join(sorted(done)).encode()).hexdigest()[:16]


def frame(name: str) -> str:
    """The document around the page: where the study stands, a button that stops the server, and the page itself."""
    script = raw(files("finescale.report").joinpath("assets", "watch.js").read_text(encoding="utf-8"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; connect-src 'self'; "
        "frame-src 'self'"
    )
    stop = tag("button", "Stop watching", type="button", id="stop")
    head = tag("header", tag("span", "…", id="now", role="status"), stop)
    shown = tag("iframe", title=f"The page of study {name}", id="page", src="page")
    return _document(name, join(head, shown, tag("script", script)), policy)


def _document(name: str, body: object, policy: str) -> str:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("title", f"{name} – finescale"),
        tag("style", raw(STYLE)),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", body), lang="en") + "\n"


class Handler(BaseHTTPRequestHandler):
    """Answers ``GET /TOKEN/``, ``/TOKEN/page`` and ``/TOKEN/now``, and ``POST /TOKEN/stop``; refuses all else."""

    def __init__(self, live: Live, token: str, *given: object) -> None:
        self.live = live
        self.token = token
        super().__init__(*given)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """A page, or where the study stands."""
        asked = self._asked()
        if asked == "":
            self._send(frame(self.live.opened().name))
        elif asked == "page":
            self._send(self.live.page())
        elif asked == "now":
            self._send(json.dumps(self.live.now()), "application/json")
        elif asked is not None:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """Stop the server."""
        if self._asked() == "stop":
            self._send("", "text/plain")
            Thread(target=self.server.shutdown).start()
        elif self._asked() is not None:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _asked(self) -> str | None:
        """What comes after the token; None where host or token are not ours, and the refusal is sent."""
        assert isinstance(self.server, ThreadingHTTPServer)
        ours = self.headers.get("Host") in {f"{name}:{self.server.server_port}" for name in (HOST, "localhost")}
        token, slash, rest = self.path.removeprefix("/").partition("/")
        if ours and slash and secrets.compare_digest(token.encode(), self.token.encode()):
            return rest
        self.send_error(HTTPStatus.FORBIDDEN)
        return None

    def _send(self, text: str, kind: str = "text/html") -> None:
        body = text.encode()
        self.send_response(HTTPStatus.OK)
        for name, value in (
            ("Content-Type", f"{kind}; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "SAMEORIGIN"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: requests are no news."""


def watcher(opened: Callable[[], Study], port: int = 0) -> tuple[ThreadingHTTPServer, str]:
    """A server of the live page, not yet serving, and its address with the token.

    Args:
        opened: opens the study.
        port: a port of the loopback address; 0 takes a free one.

    Raises:
        InputError: the port cannot be had.
    """
    token = secrets.token_urlsafe(24)
    try:
        server = ThreadingHTTPServer((HOST, port), partial(Handler, Live(opened), token))
    except OSError as error:
        raise InputError(Fault(f"--port {port}", f"cannot be had: {error.strerror}", "0 takes a free one")) from error
    server.daemon_threads = True
    return server, f"http://{HOST}:{server.server_port}/{token}/"
