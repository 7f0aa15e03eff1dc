"""Fixtures of storage: real S3 servers, started once, and every kind of storage in turn."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

import servers
from medley.settings import Settings
from medley.storage import Storage, open_storage
from medley.storage.patient import PatientStorage
from medley.storage.s3 import S3Storage
from servers import S3Server

SERVERS = ("seaweedfs", "minio", "moto")
GIVEN = pytest.StashKey[S3Server | None]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep what the environment says of a server, before any test may change it."""
    config.stash[GIVEN] = servers.given(os.environ)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for ``s3_server`` or ``storage`` on each of its kinds."""
    given = ["given"] if metafunc.config.stash[GIVEN] else []
    if "s3_server" in metafunc.fixturenames:
        metafunc.parametrize("s3_server", [*SERVERS, *given], indirect=True, scope="session")
    if "storage" in metafunc.fixturenames:
        metafunc.parametrize("storage", ["folder", "patient", *SERVERS, *given], indirect=True)


@pytest.fixture(scope="session")
def seaweedfs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """SeaweedFS, for the whole session."""
    folder = tmp_path_factory.mktemp("seaweedfs")
    yield from _started(servers.seaweedfs, folder, "SeaweedFS is not installed: run `make install`.")


@pytest.fixture(scope="session")
def minio_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """MinIO, for the whole session."""
    folder = tmp_path_factory.mktemp("minio")
    absent = "MinIO is not built: run `make minio`, which needs Go and a few minutes."
    yield from _started(servers.minio, folder, absent, needed=shutil.which("go") is not None)


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """moto, for the whole session."""
    yield from _started(servers.moto, tmp_path_factory.mktemp("moto"), "moto is not installed: run `make install`.")


@pytest.fixture(scope="session")
def given_server(pytestconfig: pytest.Config) -> S3Server:
    """The server that ``MEDLEY_TEST_S3_ENDPOINT_URL`` and ``AWS_*`` name; nothing runs on it where they do not."""
    server = pytestconfig.stash[GIVEN]
    assert server
    return server


@pytest.fixture(scope="session")
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """Each S3 server at hand in turn."""
    server: S3Server = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """Each kind of storage in turn, with nothing in it."""
    if request.param in ("folder", "patient"):
        folder = open_storage((tmp_path / "storage").as_uri(), Settings.load())
        return folder if request.param == "folder" else PatientStorage(folder, 1.0)
    return storage_on(request.getfixturevalue(f"{request.param}_server"), monkeypatch)


@pytest.fixture
def s3_storage(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Storage:
    """Each S3 server's storage in turn, with nothing in it."""
    return storage_on(s3_server, monkeypatch)


def storage_on(server: S3Server, monkeypatch: pytest.MonkeyPatch, bucket: str = "medley-test") -> S3Storage:
    """Storage under a prefix of its own on a server; the environment is set for it."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    storage = open_storage(f"s3://{server.make_bucket(bucket)}/{uuid4().hex}", Settings.load())
    assert isinstance(storage, S3Storage)
    return storage


def _started(
    start: Callable[[Path], AbstractContextManager[S3Server]], folder: Path, absent: str, needed: bool = True
) -> Iterator[S3Server]:
    """A server while it is needed; without it tests are skipped, or fail in CI where it is ``needed``."""
    with ExitStack() as stack:
        try:
            server = stack.enter_context(start(folder))
        except FileNotFoundError:
            if needed and os.environ.get("CI") == "true":
                pytest.fail(absent)
            pytest.skip(absent)
        yield server
