"""The program: the application, and the server that it runs in."""

import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from medley import logs
from medley.cluster import Cluster
from medley.errors import BatchBusy, MedleyError, ObjectMissing, ServiceRefused, ServiceUnreachable, UsageError
from medley_producer.dashboard import api, pages
from medley_producer.dashboard.actions import Gate
from medley_producer.dashboard.catalogue import Catalogue
from medley_producer.dashboard.farm import Farm
from medley_producer.dashboard.objects import Objects
from medley_producer.dashboard.watcher import Watcher

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""As browsers call this machine."""

_POLICY = (
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Nothing from outside, nothing inline."""

_STATUS: tuple[tuple[type[MedleyError], int], ...] = (
    (ObjectMissing, 404),
    (UsageError, 409),
    (BatchBusy, 409),
    (ServiceRefused, 503),
    (ServiceUnreachable, 503),
)


def make_app(cluster: Cluster, token: str | None = None, hosts: tuple[str, ...] = ("*",)) -> FastAPI:
    """The application.

    Args:
        cluster: what it shows
        token: with which batches may be paused, resumed, cancelled and retried; nobody may without one
        hosts: the names under which it may be called; for one that is bound to this machine, those of this machine, or
            a page elsewhere could read it by a name that it has point here
    """

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        with Catalogue() as catalogue, Objects(cluster.storage) as objects:
            watcher = Watcher(cluster)
            app.state.farm = farm = Farm(cluster, catalogue, watcher)
            app.state.objects = objects
            app.state.gate = Gate(token)
            watcher.start()
            try:
                yield
            finally:
                watcher.end()
                farm.end()

    app = FastAPI(
        title="medley", version=version("medley-farm"), lifespan=life, docs_url=None, redoc_url=None,
        description="What a render farm's batches, jobs, workers and queues are at.",
    )  # fmt: skip
    app.state.is_ending = lambda: False
    app.include_router(api.router)
    app.include_router(pages.router)
    app.mount("/static", StaticFiles(directory=Path(__file__).with_name("static")), "static")
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.middleware("http")(_with_headers)
    app.exception_handler(MedleyError)(_told)
    app.exception_handler(HTTPException)(_told_http)
    app.exception_handler(RequestValidationError)(_told_invalid)
    return app


async def _with_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers.setdefault("Content-Security-Policy", _POLICY)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _told(request: Request, error: Exception) -> Response:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    return _answer(request, status, str(error))


def _told_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return _answer(request, error.status_code, str(error.detail), dict(error.headers or {}))


def _told_invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    return _answer(request, 422, f"{first['loc'][-1]}: {first['msg']}.")


def _answer(request: Request, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """An error, for a program or for a person."""
    if request.url.path.startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"detail": detail}, status, headers)
    back = None if request.method == "GET" else "/"
    page = pages.page(request, "refused", status, back=back, why=detail)
    page.headers.update(headers or {})
    return page


def serve(cluster: Cluster, host: str, port: int, token: str | None) -> None:
    """Serve until told to stop.

    Raises:
        UsageError: the port cannot be had.
    """
    logs.begin(cluster.settings)
    logging.getLogger("medley.audit").setLevel(logging.WARNING)  # whatever MEDLEY_LOG_LEVEL is
    hosts = (host, *LOOPBACK) if _is_loopback(host) else ("*",)
    app = make_app(cluster, token, hosts)
    config = uvicorn.Config(
        app, host, port, log_config=None, access_log=False,
        timeout_graceful_shutdown=2,  # browsers listen to the very end
    )  # fmt: skip
    try:
        listening = config.bind_socket()
    except SystemExit as error:
        raise UsageError(f"Nothing can be served at {host}:{port}: choose another --port.") from error
    # uvicorn raises the signal that ended it once more, for the handler that was there before its own.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server = uvicorn.Server(config)
    app.state.is_ending = lambda: server.should_exit
    server.run([listening])


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"
