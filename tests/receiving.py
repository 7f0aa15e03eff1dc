"""A real HTTP server that hears how batches ended, and answers as a test wants."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple

import servers

SECRET = "hook-T0Ks3cret"  # noqa: S105  of nobody
"""What is in every receiver's URL, and may be in nothing that people read."""


class Asked(NamedTuple):
    """A request that the receiver got."""

    path: str
    headers: dict[str, str]
    body: Any


class Receiver(NamedTuple):
    """A server that gives these answers in turn, the last one ever after; and what it was asked."""

    url: str
    asked: list[Asked]


@contextmanager
def receiver(*answers: int | str) -> Iterator[Receiver]:
    """Answers are statuses; "hang" says nothing, "drip" a letter now and then, and "cut" ends the connection."""
    asked: list[Asked] = []
    let_go = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = answers[min(len(asked), len(answers) - 1)]
            asked.append(
                Asked(self.path, {name.title(): text for name, text in self.headers.items()}, json.loads(body))
            )
            if answer == "hang":
                let_go.wait(10)
            elif answer == "drip":
                while not let_go.wait(0.1):
                    self.wfile.write(b"H")
            elif isinstance(answer, int):
                self.send_response(answer)
                if 300 <= answer < 400:
                    self.send_header("Location", f"{url}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()
            self.close_connection = True

        def do_GET(self) -> None:
            asked.append(Asked(self.path, {name.title(): text for name, text in self.headers.items()}, "GET"))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with servers.answering(Handler) as url:
        try:
            yield Receiver(f"{url}/{SECRET}?key={SECRET}", asked)
        finally:
            let_go.set()
