"""Redis and S3 over TLS, with the certificates of a private CA."""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import trustme
from kombu import pools

from medley.broker.ledger import Ledger
from medley.broker.queue import FINISH, QUEUES, make_celery, publish_finish
from medley.errors import RedisRefused, RedisUnreachable, StorageRefused, StorageUnreachable, UsageError
from medley.settings import Settings
from medley.storage import Storage, open_storage
from servers import S3Server
from tls import tls_door

# A client that refuses a certificate may leave the door in the middle of a handshake when it closes.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

OURS, THEIRS = trustme.CA(), trustme.CA()
"""The CA that signed for our servers, and one that did not."""

HERE = "127.0.0.1"
TRUST_IT = r"certificate that is not trusted.*Set MEDLEY_CA_FILE to the certificate \(PEM\) of the CA that signed it"


@pytest.fixture(autouse=True)
def fresh_connections() -> Iterator[None]:
    """kombu keeps a process's connections by host and port, and these tests reach one Redis in many ways."""
    yield
    pools.reset()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our CA's certificate; its path wants %-escapes in a URL."""
    path = tmp_path_factory.mktemp("certificates & keys") / "ours.pem"
    OURS.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The other CA's certificate."""
    path = tmp_path_factory.mktemp("certificates") / "theirs.pem"
    THEIRS.cert_pem.write_to_path(str(path))
    return path


def shown(name: str) -> ssl.SSLContext:
    """What a server called ``name`` shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    OURS.issue_cert(name).configure_cert(context)
    return context


@pytest.fixture
def rediss_url(redis_url: str) -> Iterator[str]:
    """A Redis behind TLS."""
    with tls_door(shown(HERE), partial(asyncio.open_unix_connection, urlsplit(redis_url).path)) as port:
        yield f"rediss://{HERE}:{port}/0"


@pytest.fixture
def misnamed_rediss_url(redis_url: str) -> Iterator[str]:
    """A Redis behind TLS whose certificate is another host's."""
    with tls_door(shown("redis.example"), partial(asyncio.open_unix_connection, urlsplit(redis_url).path)) as port:
        yield f"rediss://{HERE}:{port}/0"


def use_ledger(settings: Settings) -> None:
    """What only works on a connection that was let through."""
    Ledger(settings).check()


def use_queue(settings: Settings) -> None:
    """Publish a message and consume it, through Celery's connections."""
    app, tasks = make_celery(settings), []
    publish_finish(app, settings, "night")
    (queue,) = (queue for queue in app.conf.task_queues if queue.name == QUEUES["finish"])

    def take(_: object, message: Any) -> None:
        tasks.append(message.headers["task"])
        message.ack()

    with app.connection_for_read() as connection, connection.Consumer([queue], callbacks=[take], accept=["json"]):
        while not tasks:
            connection.drain_events(timeout=10)
    assert tasks == [FINISH]


USES: dict[str, Callable[[Settings], None]] = {"ledger": use_ledger, "queue": use_queue}


@pytest.fixture(params=list(USES))
def use(request: pytest.FixtureRequest) -> Callable[[Settings], None]:
    """redis-py's own connection and Celery's in turn."""
    return USES[request.param]


Use = Callable[[Settings], None]


def test_redis_is_reached_with_our_ca(use: Use, rediss_url: str, ours: Path) -> None:
    use(Settings(redis_url=rediss_url, ca_file=ours))


def test_what_the_redis_url_says_of_tls_goes_first(
    use: Use, rediss_url: str, misnamed_rediss_url: str, ours: Path, theirs: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "ours.pem"
    plain.write_bytes(ours.read_bytes())
    use(Settings(redis_url=f"{rediss_url}?ssl_ca_certs={plain}"))
    use(Settings(redis_url=f"{rediss_url}?ssl_ca_certs={plain}", ca_file=theirs))
    use(Settings(redis_url=f"{misnamed_rediss_url}?ssl_check_hostname=false", ca_file=ours))


@pytest.mark.parametrize("ca", [None, "theirs"])
def test_a_redis_that_is_not_trusted_is_refused(
    use: Use, rediss_url: str, ca: str | None, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(RedisRefused, match=rf"{rediss_url} shows a {TRUST_IT}.*MEDLEY_REDIS_URL"):
        use(Settings(redis_url=rediss_url, ca_file=ca and request.getfixturevalue(ca)))


def test_a_redis_with_another_hosts_certificate_is_refused(use: Use, misnamed_rediss_url: str, ours: Path) -> None:
    with pytest.raises(RedisRefused, match=r"not valid for '127\.0\.0\.1'.*or correct the host in MEDLEY_REDIS_URL"):
        use(Settings(redis_url=misnamed_rediss_url, ca_file=ours))


def test_a_redis_without_tls_is_said_not_to_answer(use: Use, rediss_url: str, ours: Path) -> None:
    with pytest.raises(RedisUnreachable, match="does not answer"):
        use(Settings(redis_url=rediss_url.replace("rediss:", "redis:"), ca_file=ours))


@pytest.fixture
def https_server(seaweedfs_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """An S3 server behind TLS; the environment is set for it."""
    seaweedfs_server.make_bucket("medley-test")
    with tls_door(shown(HERE), connect_to(seaweedfs_server)) as port:
        server = replace(seaweedfs_server, endpoint_url=f"https://{HERE}:{port}")
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


def connect_to(server: S3Server) -> Any:
    """What opens a connection to a server."""
    address = urlsplit(server.endpoint_url)
    return partial(asyncio.open_connection, address.hostname, address.port)


def storage_with(**settings: object) -> Storage:
    """Storage on the server that the environment names, under a prefix of its own."""
    return open_storage(f"s3://medley-test/{uuid4().hex}", Settings.load().model_copy(update=settings))


@pytest.mark.usefixtures("https_server")
def test_s3_is_reached_with_our_ca(ours: Path, tmp_path: Path) -> None:
    storage, data = storage_with(ca_file=ours), bytes(20_000_000)
    storage.check()
    assert storage.put_new("a", b"1")
    assert not storage.put_new("a", b"2")
    (tmp_path / "up").write_bytes(data)
    storage.put_file("b", tmp_path / "up")
    storage.get_file("b", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == data
    assert {key: storage.get(key) for key in storage.list()} == {"a": b"1", "b": data}


@pytest.mark.usefixtures("https_server")
def test_botos_own_variable_counts_where_ours_is_not_set(
    ours: Path, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(ours))
    storage_with().check()
    with pytest.raises(StorageRefused, match=TRUST_IT):
        storage_with(ca_file=theirs).check()
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere")
    storage_with(ca_file=ours).check()
    with pytest.raises(StorageUnreachable, match="AWS_CA_BUNDLE"):
        storage_with().check()


@pytest.mark.parametrize("ca", [None, "theirs"])
def test_an_s3_server_that_is_not_trusted_is_refused(
    https_server: S3Server, ca: str | None, request: pytest.FixtureRequest
) -> None:
    storage = storage_with(ca_file=ca and request.getfixturevalue(ca))
    for call in (storage.check, partial(storage.put, "a", b""), partial(storage.get, "a"), lambda: [*storage.list()]):
        with pytest.raises(StorageRefused, match=rf"{https_server.endpoint_url} shows a {TRUST_IT}.*S3_ENDPOINT_URL"):
            call()


def test_an_s3_server_with_another_hosts_certificate_is_refused(
    https_server: S3Server, seaweedfs_server: S3Server, ours: Path
) -> None:
    with tls_door(shown("s3.example"), connect_to(seaweedfs_server)) as port:
        assert str(port) not in https_server.endpoint_url
        storage = storage_with(ca_file=ours, s3_endpoint_url=f"https://{HERE}:{port}")
        with pytest.raises(StorageRefused, match=r"doesn't match 's3\.example'.*or correct the host"):
            storage.check()


@pytest.mark.parametrize("made", ["missing", "empty", "no PEM", "a folder"])
@pytest.mark.usefixtures("https_server")
def test_a_ca_file_that_cannot_be_used_is_named(made: str, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if made == "a folder":
        path.mkdir()
    elif made != "missing":
        path.write_bytes({"empty": b"", "no PEM": ssl.PEM_cert_to_DER_cert(OURS.cert_pem.bytes().decode())}[made])
    settings = Settings(redis_url=f"rediss://{HERE}:9/0", ca_file=path)
    for call in (lambda: Ledger(settings), lambda: make_celery(settings), lambda: storage_with(ca_file=path)):
        with pytest.raises(UsageError, match=rf"^MEDLEY_CA_FILE \({path}\) cannot be used: .*PEM.*unset it\.$"):
            call()


def test_a_command_says_it_in_one_line(
    rediss_url: str, https_server: S3Server, ours: Path, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDLEY_REDIS_URL", rediss_url)
    monkeypatch.setenv("MEDLEY_STORAGE_URL", "s3://medley-test/farm")
    assert https_server
    for ca, code in ((ours, 0), (theirs, 3), (theirs.with_name("gone.pem"), 2)):
        monkeypatch.setenv("MEDLEY_CA_FILE", str(ca))
        command = [sys.executable, "-m", "medley_producer", "status"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == code, ended.stderr
        assert ended.stderr.count("\n") == (code != 0)
        assert ("MEDLEY_CA_FILE" in ended.stderr) == (code != 0)
