"""The dashboard as a program serves it, on a free port, in a thread of the test's process."""

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from conftest import wait_until
from medley.cluster import Cluster
from medley_producer.dashboard.serving import LOOPBACK, make_app

TOKEN = "a token of a test"  # noqa: S105


@dataclass
class Answer:
    """What was answered: HTTP's status, its headers in lower case, and the body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Redirects are looked at, and not followed."""


@dataclass
class Dashboard:
    """One that runs."""

    url: str

    def ask(self, path: str, data: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask for a path; with data, as a form is sent."""
        body = None if data is None else data.encode()
        request = urllib.request.Request(self.url + path, body, dict(headers or {}))  # noqa: S310
        opener = urllib.request.build_opener(_NoRedirects)
        try:
            with opener.open(request, timeout=20) as answer:
                return _answer(answer)
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error)

    def api(self, path: str) -> Any:
        """What the API says below ``/api/``."""
        answer = self.ask(f"/api/{path}")
        assert answer.status == 200, answer.text
        return answer.json


def _answer(answer: Any) -> Answer:
    return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read())


@contextmanager
def dashboard(cluster: Cluster, token: str | None = None) -> Iterator[Dashboard]:
    """Serve until the block is left."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        app = make_app(cluster, token, LOOPBACK)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            found = Dashboard(f"http://127.0.0.1:{listening.getsockname()[1]}")
            wait_until(lambda: server.started or not thread.is_alive(), 20, "the server")
            assert thread.is_alive(), "the server has ended; the log says why"
            wait_until(lambda: not found.api("farm")["problem"], 20, "the dashboard")
            yield found
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
