"""Bad input gets one clear sentence and the right exit code, before anything is enqueued; the rest goes on."""

import json
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis

import servers
from conftest import draw_picture, wait_until
from fixtures_s3 import storage_on
from medley.batches.stored import read_batch
from medley.cluster import Cluster
from medley.settings import Settings
from medley_producer.cli import main
from medley_producer.local import Owned, private_redis, redis_server
from servers import S3Server

SOON_S = 15.0
"""How long a command may take to say that a service is down."""

SUBMIT = ("submit", "-c", "contents", "-s", "styles", "--batch", "night")


@dataclass(frozen=True)
class Said:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    def refuses(self, code: int, *words: str) -> None:
        """See that it is one sentence on stderr with these words, and nothing more."""
        assert self.code == code, self
        assert self.out == ""
        assert self.err.startswith("medley: ")
        assert self.err.count("\n") == 1
        assert self.err.endswith(".\n")
        for word in words:
            assert word in self.err


Medley = Callable[..., Said]


@pytest.fixture
def medley(capsys: pytest.CaptureFixture[str]) -> Medley:
    """The command line, in this process."""

    def call(*line: str | Path) -> Said:
        try:
            code = main([str(word) for word in line])
        except SystemExit as end:
            code = int(end.code or 0)
        return Said(code, *capsys.readouterr())

    return call


def program(*line: str | Path) -> Said:
    """The command line, as a program of its own that must answer soon."""
    command = [sys.executable, "-m", "medley_producer", *map(str, line)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SOON_S, check=False)
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def data(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The dataset with some of what people point at by mistake beside it, and tests at work in its folder."""
    (dataset / "empty").mkdir()
    (dataset / "texts").mkdir()
    (dataset / "texts" / "notes.txt").write_text("no picture")
    (dataset / "fake.jpg").write_text("no picture")
    (dataset / "table.csv").write_text("filename,style\ncontents/photo0.jpg,Cubism\ngone.jpg,Cubism\n")
    monkeypatch.chdir(dataset)
    return dataset


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[str]:
    """One Redis for all, as these tests are many and short."""
    with private_redis() as url:
        yield url


@pytest.fixture
def farm(data: Path, shared_redis: str, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A real Redis and a folder, both empty, as commands see them, and nobody who paints."""
    with redis.Redis.from_url(shared_redis) as client:
        client.flushall()
    monkeypatch.setenv("MEDLEY_REDIS_URL", shared_redis)
    monkeypatch.setenv("MEDLEY_STORAGE_URL", (data / "storage").as_uri())
    return Cluster.open(Settings.load())


def enqueued(farm: Cluster) -> int:
    return sum(farm.ledger.queue_lengths().values())


def stored(farm: Cluster) -> list[str]:
    return list(farm.storage.list())


MISTAKES: dict[str, tuple[str, str]] = {
    "empty folder": ("-c empty", "empty is empty"),
    "folder without pictures": ("-c texts", "holds 1 files and none of them is called like a picture"),
    "missing file": ("-c gone.jpg", "gone.jpg does not exist"),
    "unset shell variable": ("-c=", "--content: String should have at least 1 character"),
    "glob without match": ("-s styles/*.bmp", "matches no file"),
    "no readable picture": ("-c fake.jpg", "Not one pair can be used, and 1 of the files not at all"),
    "CSV without the column": ("-c table.csv --image-column picture", "has no column picture; it has filename, style"),
    "CSV without the condition's column": ("-c table.csv --where colour=red", "has no column colour"),
    "CSV without such rows": ("-c table.csv --where style=Fauvism", "None of the 2 rows"),
    "condition without a CSV": ("--where style=Cubism", "--where is about the rows of a CSV"),
    "no condition": ("-c table.csv --where Cubism", "write column=value"),
    "unknown layer": ("--style-layers block1_relu1 block7_conv1", "--style-layers: VGG-19 has no layer 'block7_conv1'"),
    "a size that no device holds": ("--size 100000", "--size: Input should be less than or equal to 8192"),
    "negative size": ("--size -5", "--size: Input should be greater than 0"),
    "size in words": ("--size large", "--size: Input should be a valid integer"),
    "size too small for the layers": ("--size 12", "12 x 12 px is too small: the layers asked for need 16 px"),
    "zero steps": ("--num-steps 0", "--num-steps: Input should be greater than 0"),
    "weight that is no number": ("--content-weight nan", "--content-weight: Input should be a finite number"),
    "more pairs than exist": ("--pairs 13", "13 pairs were asked for and there are 12"),
    "no pairs": ("--pairs 0", "--pairs: Input should be greater than 0"),
    "more styles a pair than styles": ("--styles-per-pair 4", "takes 4 different styles and there are 3"),
    "weights for other styles": ("--style-weights 1 2", "2 style_weights for 1 styles_per_pair"),
    "batch name that leaves its place": ("--batch ../../etc", "'../../etc' cannot be a batch's name"),
    "batch without a name": ("--batch=", "'' cannot be a batch's name"),
    "unknown choice": ("--pairing all", "invalid choice: 'all'"),
    "unknown option": ("--sise 5", "there is no option --sise. `medley submit -h`"),
    "photos without an option": ("--strict a.jpg", "'a.jpg' follows no option that takes it"),
    "option without a value": ("--pairs", "expected one argument"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_and_nothing_is_done(mistake: str, farm: Cluster, medley: Medley) -> None:
    line, said = MISTAKES[mistake]
    medley(*SUBMIT, *line.split()).refuses(2, said)
    assert enqueued(farm) == 0
    assert stored(farm) == []


def test_run_makes_no_folder_for_a_mistake(data: Path) -> None:
    program("run", "-c", "gone.jpg", "-s", "styles", "--out", "out").refuses(2, "gone.jpg does not exist")
    assert not (data / "out").exists()
    program("run", "-c", "contents", "-s", "styles", "--out", "table.csv").refuses(2, "table.csv", "Not a directory")
    program("run", "-c", "contents", "-s", "styles", "--out", "painted.png").refuses(2, "painted.png", "names a folder")


def png_of(width: int, height: int) -> bytes:
    """The beginning of a PNG that says it is this large; its pixels are not there."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">II", zlib.crc32(header), 0) + b"IDAT"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("fake.jpg", b"no picture", "is not a picture that medley reads"),
        ("empty.png", b"", "is empty"),
        ("vast.png", png_of(60_000, 60_000), "60000 x 60000 pixels and at most 100,000,000 are decoded"),
        ("heavy.bmp", bytes(60_001), "60,001 bytes and at most 60,000 are read"),
    ],
)
def test_a_bad_picture_is_skipped_by_name_and_the_rest_goes_on(
    *,
    name: str,
    content: bytes,
    reason: str,
    farm: Cluster,
    data: Path,
    medley: Medley,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MEDLEY_IMAGE_BYTES", "60000")
    (data / "contents" / name).write_bytes(content)
    rehearsed = medley(*SUBMIT, "--dry-run")
    said = medley(*SUBMIT)
    for each in (rehearsed, said):
        assert each.code == 1
        assert f"skipped {name} " in each.out
        assert reason in each.out
    assert enqueued(farm) == 12
    batch = read_batch(farm.storage, "night")
    assert batch
    assert [file.name for file in batch.skipped] == [name]
    assert reason in batch.skipped[0].reason


def test_strict_refuses_what_was_skipped_also_once_the_batch_stands(farm: Cluster, data: Path, medley: Medley) -> None:
    shutil.copy(data / "fake.jpg", data / "contents")
    medley(*SUBMIT, "--strict").refuses(2, "With --strict nothing may be skipped", "fake.jpg")
    assert stored(farm) == []
    assert medley(*SUBMIT).code == 1
    medley(*SUBMIT, "--strict").refuses(2, "With --strict nothing may be skipped", "fake.jpg")


def test_rows_of_missing_files_are_skipped_by_name(farm: Cluster, medley: Medley) -> None:
    said = medley(*SUBMIT, "-c", "table.csv")
    assert said.code == 1
    assert "skipped gone.jpg" in said.out
    assert enqueued(farm) == 3


def test_a_truncated_picture_is_left_to_its_job(farm: Cluster, data: Path, medley: Medley) -> None:
    picture = data / "contents" / "photo0.jpg"
    picture.write_bytes(picture.read_bytes()[:-500])
    assert medley(*SUBMIT).code == 0
    assert enqueued(farm) == 12


def test_a_name_belongs_to_its_arguments(farm: Cluster, medley: Medley) -> None:
    assert medley(*SUBMIT, "--pairs", "5").code == 0
    before = stored(farm)
    again = medley(*SUBMIT, "--pairs", "5", "--json")
    assert (again.code, json.loads(again.out)["enqueued"]) == (0, 0)
    other = medley(*SUBMIT, "--pairs", "5", "--num-steps", "7", "--where", "a=b")
    other.refuses(2, "'night' exists with other arguments", "where: (), not ('a=b',)", "num_steps: 100, not 7")
    assert enqueued(farm) == 5
    assert stored(farm) == before


@pytest.mark.parametrize("line", [("status", "NOPE"), ("fetch", "NOPE", "out"), ("status", "NOPE", "--watch")])
def test_a_batch_that_is_not_there_is_said_to_be(
    line: tuple[str, ...], farm: Cluster, data: Path, medley: Medley
) -> None:
    medley(*line).refuses(2, "no batch 'NOPE'", farm.storage.root, "`medley status` lists")
    assert not (data / "out").exists()


def test_a_name_that_can_be_no_batchs_is_not_looked_for(farm: Cluster, medley: Medley) -> None:
    medley("status", "../x").refuses(2, "'../x' cannot be a batch's name")
    medley("fetch", "../x", "out").refuses(2, "'../x' cannot be a batch's name")
    assert stored(farm) == []


def test_a_file_in_the_place_of_a_folder_is_named(farm: Cluster, medley: Medley) -> None:
    assert medley(*SUBMIT).code == 0
    medley("fetch", "night", "fake.jpg").refuses(2, "fake.jpg", "File exists")
    medley("samples", "fake.jpg").refuses(2, "fake.jpg", "choose another folder")
    assert enqueued(farm) == 12


def one_object(said: Said) -> Any:
    """What a command with --json printed: one JSON object, and nothing beside it."""
    assert said.err == ""
    assert said.out.count("\n") == 1
    return json.loads(said.out)


def test_json_is_all_there_is_on_stdout(farm: Cluster, data: Path, medley: Medley) -> None:
    (data / "contents" / "é [b].jpg").write_text("no picture")
    rehearsed = one_object(medley(*SUBMIT, "--dry-run", "--json"))
    assert len(rehearsed["pairs"]) == 12
    submitted = one_object(medley(*SUBMIT, "--json"))
    assert submitted == {"batch": "night", "pairs": 12, "jobs": 12, "enqueued": 12, "skipped": 1}
    status = one_object(medley("status", "night", "--json"))
    assert (status["state"], status["jobs"], status["done"]) == ("waiting", 12, 0)
    overview = one_object(medley("status", "--json"))
    assert [batch["batch"] for batch in overview["batches"]] == ["night"]
    assert overview["queues"]["bulk"] == enqueued(farm) == 12
    assert one_object(medley("fetch", "night", data / "out", "--json"))["fetched"] == 0
    painted = one_object(medley("samples", data / "sam[/b]ples", "--contents", "1", "--styles", "0", "--json"))
    assert [Path(file).name for file in painted["files"]] == ["dawn.jpg"]


def test_a_rehearsal_needs_no_service(data: Path, medley: Medley) -> None:
    said = medley(*SUBMIT, "--dry-run")
    assert said.code == 0
    assert "12 pairs, 12 jobs, 0 files skipped" in said.out
    assert not (data / "storage").exists()


def test_what_a_terminal_cannot_show_is_shown_otherwise(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_picture(data / "contents" / "港.jpg", seed=9)
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    said = program(*SUBMIT, "--dry-run")
    assert said.code == 0
    assert r"\u6e2f--paint0" in said.out


def test_a_reader_who_has_seen_enough_is_no_error(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    command = [sys.executable, "-m", "medley_producer", *SUBMIT, "--dry-run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=data) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize("line", [SUBMIT, ("status",), ("status", "night"), ("fetch", "night", "out"), ("worker",)])
def test_without_urls_commands_say_how_to_set_them(
    line: tuple[str, ...], data: Path, medley: Medley, monkeypatch: pytest.MonkeyPatch
) -> None:
    medley(*line).refuses(2, "MEDLEY_STORAGE_URL")
    monkeypatch.setenv("MEDLEY_STORAGE_URL", (data / "storage").as_uri())
    medley(*line).refuses(2, "MEDLEY_REDIS_URL")


@pytest.mark.parametrize(
    ("name", "value", "code", "said"),
    [
        ("MEDLEY_STORAGE_URL", "/a/path", 2, "A folder is file:///a/path"),
        ("MEDLEY_STORAGE_URL", "file:///dev/null", 3, "/dev/null"),
        ("MEDLEY_LEASE_S", "long", 2, "MEDLEY_LEASE_S is set to 'long'"),
        ("MEDLEY_CONNECT_TIMEOUT_S", "inf", 2, "MEDLEY_CONNECT_TIMEOUT_S"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    *, name: str, value: str, code: int, said: str, farm: Cluster, medley: Medley, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    medley(*SUBMIT).refuses(code, said)
    assert enqueued(farm) == 0
    assert stored(farm) == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://localhost:6379",
        "redis://:s3cret@[::1",
        "redis://:s3cret@localhost:port",
        "redis://:s3cret@localhost:99999",
        "redis://:s3cret@localhost/one",
        "redis://:s3cr/et@localhost",
        "redis://:s3cret@localhost?db=1",
        "redis://localhost?password=s3cret",
        "unix:///tmp/redis.sock?db=1",
        "unix:redis.sock",
    ],
)
def test_a_url_of_no_redis_is_refused_and_not_repeated(
    url: str, farm: Cluster, medley: Medley, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDLEY_REDIS_URL", url)
    said = medley(*SUBMIT)
    said.refuses(2, "MEDLEY_REDIS_URL is not the URL of a Redis", "redis://user:password@host:6379/0")
    assert "s3cr" not in said.err
    assert stored(farm) == []


@pytest.fixture(scope="module")
def locked_redis() -> Iterator[str]:
    """The path of the socket of a Redis that wants the password ``s3cret``."""
    with tempfile.TemporaryDirectory(prefix="medley-", dir="/tmp") as folder:  # a socket's path is short
        path = f"{folder}/redis.sock"
        options = ["--port", "0", "--unixsocket", path, "--requirepass", "s3cret", "--save", "", "--dir", folder]
        server = Owned([redis_server(), *options], Path(folder, "log"))
        try:
            wait_until(Path(path).exists, within_s=10, what="Redis has its socket")
            yield path
        finally:
            server.stop()


def test_the_right_password_is_taken(
    locked_redis: str, data: Path, medley: Medley, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDLEY_STORAGE_URL", (data / "storage").as_uri())
    monkeypatch.setenv("MEDLEY_REDIS_URL", f"unix://:s3cret@{locked_redis}")
    assert medley(*SUBMIT).code == 0
    assert enqueued(Cluster.open(Settings.load())) == 12


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("unix://{locked}", "refuses the credentials"),
        ("unix://:wr0ng@{locked}", "refuses the credentials"),
        ("redis://:wr0ng@127.0.0.1:{closed}", "does not answer"),
        ("redis://:wr0ng@127.0.0.1:{silent}/0", "does not answer"),
    ],
)
def test_a_redis_that_does_not_serve_us_is_named_soon(
    url: str, said: str, locked_redis: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (closed,) = servers.free_ports(1)
        url = url.format(locked=locked_redis, closed=closed, silent=silent.getsockname()[1])
        monkeypatch.setenv("MEDLEY_REDIS_URL", url)
        monkeypatch.setenv("MEDLEY_STORAGE_URL", (data / "storage").as_uri())
        if url.endswith("/0"):
            monkeypatch.setenv("MEDLEY_CONNECT_TIMEOUT_S", "0.3")
        refusal = program(*SUBMIT)
    refusal.refuses(3, said, "Redis at", url.rpartition("@")[2].removeprefix("unix://"), "MEDLEY_REDIS_URL")
    assert "wr0ng" not in refusal.err
    assert list((data / "storage").iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "bucket", "said"),
    [
        ({"access_key": "nobody"}, "medley-test", "does not know AWS_ACCESS_KEY_ID"),
        ({"secret_key": "not-the-s3cret"}, "medley-test", "does not take AWS_SECRET_ACCESS_KEY"),
        ({}, "medley-no-such-bucket", "has no such bucket"),
        ({"endpoint_url": "http://127.0.0.1:{closed}"}, "medley-test", "does not answer"),
    ],
)
def test_an_s3_that_does_not_serve_us_is_named_soon(
    *,
    wrong: dict[str, Any],
    bucket: str,
    said: str,
    seaweedfs_server: S3Server,
    farm: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    storage = storage_on(seaweedfs_server, monkeypatch)
    (closed,) = servers.free_ports(1)
    server = replace(seaweedfs_server, **{name: text.format(closed=closed) for name, text in wrong.items()})
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MEDLEY_STORAGE_URL", storage.root.replace("medley-test", bucket))
    refusal = program(*SUBMIT)
    refusal.refuses(3, said, bucket, server.endpoint_url)
    assert "s3cret" not in refusal.err
    assert enqueued(farm) == 0
    assert list(storage.list()) == []
