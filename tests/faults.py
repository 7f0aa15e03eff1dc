"""A proxy before a real S3 server: it fails a share of the requests, loses answers, and can be away for a while."""

import random
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

Fault = Literal["refused", "reset", "lost", "cut"]

FAULTS: tuple[Fault, ...] = ("refused", "reset", "lost", "cut")
"""An answer 503, the connection reset before the request went on; the request dealt with and its answer lost, or the
answer cut in its middle."""

UPSTREAM_WITHIN_S = 60.0
BLOCK_BYTES = 64 * 1024

# Of one connection, not of the request (RFC 9110, 7.6.1); boto3 signs none of them. "100 Continue" is ours to say.
HOP_BY_HOP = frozenset({"connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade", "expect"})

RESET_AT_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing sends RST, as a server that died does."""

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class FaultyProxy:
    """A proxy on a port of its own, which it keeps while it is away. Faults are drawn from a seeded generator."""

    def __init__(self, upstream: str, share: float, seed: int) -> None:
        """``upstream`` is the server's URL, ``share`` the part (0..1) of all requests that fail."""
        self.upstream = urlsplit(upstream).netloc
        self.share = share
        self.requests = 0
        self.faults: Counter[Fault] = Counter()
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._bound = _bind(("127.0.0.1", 0))
        self._address = self._bound.getsockname()
        self.url = f"http://127.0.0.1:{self._address[1]}"
        self._server: _Server | None = None
        self.back()

    def back(self) -> None:
        """Listen."""
        self._server = _Server(self._bound, self)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name="proxy").start()

    def away(self) -> None:
        """Close every connection, and refuse new ones until :meth:`back`."""
        self.close()
        # Bound without listening, it refuses, and nobody's outgoing connection is given this port meanwhile.
        self._bound = _bind(self._address)

    def close(self) -> None:
        """End for good."""
        server, self._server = self._server, None
        if server:
            server.end()
        self._bound.close()

    def draw(self) -> Fault | None:
        """Count a request, and say how it fails, if it does."""
        with self._lock:
            self.requests += 1
            if self._random.random() >= self.share:
                return None
            fault = self._random.choice(FAULTS)
            self.faults[fault] += 1
            return fault


@contextmanager
def faulty(upstream: str, share: float, seed: int) -> Iterator[FaultyProxy]:
    """A proxy before the server at this URL until the block is left."""
    with closing(FaultyProxy(upstream, share, seed)) as proxy:
        yield proxy


def _bind(address: tuple[str, int]) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(address)
    return bound


class _Server(ThreadingHTTPServer):
    """Its connections are known, so that all of them can end at once."""

    daemon_threads = False  # server_close() then waits for them

    def __init__(self, bound: socket.socket, proxy: FaultyProxy) -> None:
        super().__init__(bound.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = bound
        self.proxy = proxy
        self._open: set[Any] = set()
        self.server_activate()

    def end(self) -> None:
        """Stop listening, and close what is open."""
        self.shutdown()
        self.socket.close()
        for connection in list(self._open):
            with suppress(OSError):  # it has ended by itself
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close without a farewell, so that a reset is one."""
        self._open.discard(request)
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # clients are killed, which is what this is for
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client. Requests go on as they came: the signature is of the Host that the client named."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _relay(self) -> None:
        fault = self.server.proxy.draw()
        if fault == "reset":
            self._reset()
        elif fault == "refused":
            for _ in self._body():
                pass  # what is left unread would be taken for the next request
            self._refuse()
        else:
            with closing(HTTPConnection(self.server.proxy.upstream, timeout=UPSTREAM_WITHIN_S)) as upstream:
                self._forward(upstream, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _relay

    def _forward(self, upstream: HTTPConnection, fault: Fault | None) -> None:
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    upstream.putheader(name, value)
            upstream.endheaders()
            for block in self._body():
                upstream.send(block)
            answer = upstream.getresponse()
        except (OSError, HTTPException):
            self._reset()
            return
        if fault == "lost" or (fault == "cut" and answer.length == 0):
            answer.read()
            self._reset()
        else:
            self._answer(answer, cut=fault == "cut")

    def _body(self) -> Iterator[bytes]:
        """The request's body in blocks.

        Raises:
            ConnectionError: the client ended in its middle, so nothing may be made of it.
        """
        left = int(self.headers.get("Content-Length", 0))
        while left:
            block = self.rfile.read(min(left, BLOCK_BYTES))
            if not block:
                raise ConnectionResetError("The client ended within a request.")
            left -= len(block)
            yield block

    def _answer(self, answer: HTTPResponse, *, cut: bool) -> None:
        """Pass an answer on; half of its body, if it is to be ``cut``."""
        left = answer.length  # None where it goes in chunks
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        if left is None:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if cut:
            self.wfile.write(answer.read((left or 0) // 2))
            self._reset()
            return
        while block := answer.read(BLOCK_BYTES):
            self.wfile.write(block if left is not None else b"%x\r\n%s\r\n" % (len(block), block))
        if left is None:
            self.wfile.write(b"0\r\n\r\n")

    def _refuse(self) -> None:
        self.send_response_only(503, "Slow Down")
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(SLOW_DOWN)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(SLOW_DOWN)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a storm has thousands of requests."""
