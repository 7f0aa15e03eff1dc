"""What storage says when it cannot do what is asked: each fault is a sentence of the right kind, soon enough."""

import inspect
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import boto3.exceptions
import botocore.exceptions
import pytest
import s3transfer.exceptions

import servers
from fixtures_s3 import GIVEN, SERVERS, storage_on
from medley.errors import MedleyError, ObjectMissing, StorageRefused, StorageUnreachable
from medley.settings import Settings
from medley.storage import Storage, open_storage
from medley.storage.s3 import S3Storage
from servers import S3Server

SOON_S = 15.0
"""How long a command may take to say that a service is down."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for ``strict_server`` on each S3 server that knows its users; moto takes anybody."""
    if "strict_server" in metafunc.fixturenames:
        names = [*SERVERS, *(["given"] if metafunc.config.stash[GIVEN] else [])]
        strict = [name for name in names if name != "moto"]
        metafunc.parametrize("strict_server", strict, indirect=True, scope="session")


@pytest.fixture(scope="session")
def strict_server(request: pytest.FixtureRequest) -> S3Server:
    """Each S3 server that refuses strangers, in turn."""
    server: S3Server = request.getfixturevalue(f"{request.param}_server")
    return server


def every_call(storage: Storage, folder: Path) -> dict[str, Callable[[], object]]:
    """Everything that storage can be asked, apart from links, which ask nobody."""
    file = folder / "file"
    file.write_bytes(b"data")
    return {
        "check": storage.check,
        "put": lambda: storage.put("a", b""),
        "put_file": lambda: storage.put_file("a", file),
        "put_new": lambda: storage.put_new("a", b""),
        "get": lambda: storage.get("a"),
        "get_file": lambda: storage.get_file("a", folder / "down"),
        "exists": lambda: storage.exists("a"),
        "delete": lambda: storage.delete("a"),
        "list": lambda: list(storage.list()),
    }


def test_a_dead_server_is_unreachable_soon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (port,) = servers.free_ports(1)
    storage = bare_storage(monkeypatch, f"http://127.0.0.1:{port}")
    for call in every_call(storage, tmp_path).values():
        started = time.monotonic()
        with pytest.raises(StorageUnreachable, match="does not answer"):
            call()
        assert time.monotonic() - started < SOON_S


def test_a_silent_server_fails_the_check_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDLEY_CONNECT_TIMEOUT_S", "0.3")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        storage = bare_storage(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(StorageUnreachable, match="does not answer"):
            storage.check()
    assert time.monotonic() - started < 2 * 0.3 + 3


@pytest.mark.parametrize("wrong", [{"access_key": "nobody"}, {"secret_key": "not-the-secret"}])
def test_wrong_credentials_are_refused(
    strict_server: S3Server, wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bucket = strict_server.make_bucket("medley-test")
    for name, value in replace(strict_server, **wrong).environment().items():
        monkeypatch.setenv(name, value)
    storage = open_storage(f"s3://{bucket}/wrong", Settings.load())
    for call in every_call(storage, tmp_path).values():
        with pytest.raises(StorageRefused, match=f"{bucket}.*AWS_"):
            call()


def test_a_missing_bucket_is_refused(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    storage_on(s3_server, monkeypatch)
    storage = open_storage("s3://medley-no-such-bucket/a", Settings.load())
    calls = every_call(storage, tmp_path)
    for name in sorted(calls.keys() - {"exists", "delete"}):  # to these, nothing is there
        with pytest.raises(StorageRefused, match=r"medley-no-such-bucket.*MEDLEY_STORAGE_URL"):
            calls[name]()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "credentials"),
        ({"AWS_ACCESS_KEY_ID": "alone"}, "AWS_"),
        ({"AWS_PROFILE": "nobody"}, "nobody"),
        ({"MEDLEY_S3_ENDPOINT_URL": "localhost:9000"}, "MEDLEY_S3_ENDPOINT_URL"),
        ({"AWS_DEFAULT_REGION": "no region!"}, "region"),
    ],
)
def test_unusable_configuration_is_refused(
    variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "MEDLEY_"))]:
        monkeypatch.delenv(name)
    defaults = S3Server("none", "http://127.0.0.1:9").environment()
    for name, value in {**defaults, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageRefused, match=said):
        open_storage("s3://medley-test", Settings.load()).check()


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (500, "InternalError", StorageUnreachable),
        (503, "SlowDown", StorageUnreachable),
        (429, "TooManyRequests", StorageUnreachable),
        (400, "RequestTimeout", StorageUnreachable),
        (409, "OperationAborted", StorageUnreachable),
        (507, "XMinioStorageFull", StorageRefused),
        (404, "NoSuchBucket", StorageRefused),
        (404, "NoSuchKey", ObjectMissing),
        (403, "AccessDenied", StorageRefused),
        (403, "RequestTimeTooSkewed", StorageRefused),
        (400, "SomethingNew", StorageRefused),
    ],
)
def test_an_answer_means_one_error(
    status: int, code: str, error: type[MedleyError], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with scripted_server([(status, code)] * 8) as url:
        storage = bare_storage(monkeypatch, url)
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(error):
            storage.get("a")
        with pytest.raises(error):
            storage.put_file("a", tmp_path / "file")


def test_a_conflict_of_two_creators_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = [(200, ""), (412, "PreconditionFailed"), (204, "")]
    with scripted_server([*probe, (409, "ConditionalRequestConflict"), (200, "")]) as url:
        assert bare_storage(monkeypatch, url).put_new("a", b"")


def test_a_server_without_conditions_is_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = [(501, "NotImplemented")]
    with scripted_server([*probe, (404, ""), (200, "")]) as url:
        assert bare_storage(monkeypatch, url).put_new("a", b"")


def test_a_body_cut_short_is_unreachable_and_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with scripted_server([(206, "cut")] * 2) as url:
        storage = bare_storage(monkeypatch, url)
        with pytest.raises(StorageUnreachable):
            storage.get("a")
        with pytest.raises(StorageUnreachable):
            storage.get_file("a", tmp_path / "down")
    assert list(tmp_path.iterdir()) == []


def all_boto_errors() -> list[type[Exception]]:
    """Every error that boto3, botocore and s3transfer define."""
    modules = (botocore.exceptions, boto3.exceptions, s3transfer.exceptions)
    classes = {item for module in modules for item in vars(module).values() if inspect.isclass(item)}
    ours = {each for each in classes if issubclass(each, Exception) and not issubclass(each, Warning)}
    return sorted(
        (each for each in ours if each.__module__.startswith(("boto", "s3tr"))), key=lambda each: each.__name__
    )


def test_no_error_of_boto_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = bare_storage(monkeypatch, "http://127.0.0.1:9")
    faults = iter(all_boto_errors())

    def fail(**_: object) -> None:
        fault = next(faults)
        error = fault.__new__(fault)  # each has a constructor of its own
        Exception.__init__(error, f"what {fault.__name__} said")
        error.__dict__["response"] = {}
        raise error

    storage._client.meta.events.register("before-call.s3.GetObject", fail)
    for fault in all_boto_errors():
        with pytest.raises((StorageRefused, StorageUnreachable), match=f"what {fault.__name__} said"):
            storage.get("a")


def bare_storage(monkeypatch: pytest.MonkeyPatch, endpoint_url: str) -> S3Storage:
    """Storage on a server that knows no buckets."""
    for name, value in S3Server("bare", endpoint_url).environment().items():
        monkeypatch.setenv(name, value)
    storage = open_storage("s3://medley-test", Settings.load())
    assert isinstance(storage, S3Storage)
    return storage


@contextmanager
def scripted_server(answers: list[tuple[int, str]]) -> Iterator[str]:
    """An HTTP server that gives these answers, (status, S3's error code), in turn; "cut" stops in mid-body."""
    coming = iter(answers)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, code = next(coming)
            body = f"<Error><Code>{code}</Code><Message>as scripted</Message></Error>".encode() if code else b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) + (code == "cut")))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_HEAD = do_DELETE = answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with servers.answering(Handler) as url:
        yield url
