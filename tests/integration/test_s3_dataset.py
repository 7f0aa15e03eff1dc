"""A dataset in a bucket: the same pictures, pairs and sentences as from a folder, each fetched when it is needed."""

import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

import servers
from conftest import draw_picture
from fixtures_s3 import storage_on
from medley import keys
from medley.batches.stored import read_batch, write_manifest
from medley.cluster import Cluster
from medley.errors import DatasetError, ImageError, ObjectMissing, StorageRefused, StorageUnreachable
from medley.records.batches import Sampling
from medley.records.jobs import StyleTransfer
from medley.records.options import StyleTransferOptions
from medley.settings import Settings
from medley.storage.s3 import S3Storage
from medley.telling import quiet
from medley_producer.choosing import Choice, Pools, choose, picture_of
from medley_producer.datasets.buckets import Buckets
from medley_producer.datasets.scanning import Scanned, scan
from medley_producer.submit import Request, submit
from servers import S3Server


@pytest.fixture
def bucket(moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Storage:
    """A prefix of a bucket with nothing below it; commands reach its server."""
    return storage_on(moto_server, monkeypatch)


@pytest.fixture
def remote(bucket: S3Storage, dataset: Path) -> S3Storage:
    """The dataset in a bucket, too."""
    for path in dataset.rglob("*.*"):
        bucket.put_file(str(path.relative_to(dataset)), path)
    return bucket


def scanned(*pool: str, **said: Any) -> Scanned:
    return scan(pool, Buckets(Settings.load()), **said)


def sampling_of(root: str | Path, **changes: Any) -> Sampling:
    pools = {"content": (f"{root}/contents",), "styles": (f"{root}/styles",)}
    return Sampling.model_validate({**pools, "sample_seed": "night", **changes})


def chosen(sampling: Sampling) -> tuple[list[StyleTransfer], Choice]:
    settings = Settings.load()
    choice = Choice(settings)
    return list(choose(Pools.scan(sampling, settings), sampling, StyleTransferOptions(), choice)), choice


def test_a_listing_tells_size_and_version_on_every_server(s3_storage: S3Storage) -> None:
    s3_storage.put("a/b.jpg", b"four")
    s3_storage.put("a/c.jpg", b"")
    (b, c) = s3_storage.objects("a/")
    assert (b.key, b.bytes, c.key, c.bytes) == ("a/b.jpg", 4, "a/c.jpg", 0)
    s3_storage.put("a/b.jpg", b"five!")
    changed, same = s3_storage.objects("a/")
    assert changed.etag not in ("", b.etag)
    assert same == c
    assert list(s3_storage.objects("nothing")) == []


def test_a_prefix_gives_the_pictures_below_it_on_every_server(s3_storage: S3Storage) -> None:
    ours = ["a.jpg", "B.PNG", "sub/é 夜+%.jpg", 'sub/a "quoted" name.webp']
    others = ["notes.txt", ".hidden.jpg", ".cache/x.jpg", "sub/.h/y.jpg"]
    for name in (*ours, *others):
        s3_storage.put(f"photos/{name}", b"not opened by a scan")
    s3_storage.put("photos2/b.jpg", b"beside it")
    entries, skipped = scanned(f"{s3_storage.root}/photos")
    assert [entry.name for entry in entries] == sorted(ours)
    assert all(entry.where == f"{s3_storage.root}/photos/{entry.name}" for entry in entries)
    assert all(entry.version for entry in entries)
    assert skipped == []
    assert scanned(f"{s3_storage.root}/photos/").entries == entries
    assert scanned(f"{s3_storage.root}/photos/a.jpg").entries == entries[1:2]


def test_a_bucket_paints_what_a_folder_does(remote: S3Storage, dataset: Path, tmp_path: Path) -> None:
    here, there = (write_manifest(tmp_path / "m", chosen(sampling_of(root))[0]) for root in (dataset, remote.root))
    assert here == there


def test_a_csv_here_names_pictures_in_a_bucket(remote: S3Storage, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("filename,artist\nphoto0.jpg,Monet\ngone.jpg,Monet\n../styles/paint0.png,Monet\n/photo1.jpg,\n")
    sampling = sampling_of(remote.root, content=(str(table),), image_root=f"{remote.root}/contents")
    jobs, choice = chosen(sampling)
    assert {(job.content.name, job.content.label) for job in jobs} == {("photo0.jpg", "Monet")}
    reasons = {file.name: file.reason for file in choice.skipped}
    assert reasons.keys() == {"gone.jpg", "../styles/paint0.png", "/photo1.jpg"}
    assert f"{remote.root}/contents/gone.jpg does not exist" in reasons["gone.jpg"]
    assert f"does not lie below {remote.root}/contents" in reasons["../styles/paint0.png"]
    (known,) = remote.objects("contents/photo0.jpg")
    (entry, _) = reversed(Pools.scan(sampling, Settings.load()).contents)
    assert entry.version == known.etag


def test_what_cannot_be_read_of_a_bucket_is_skipped_by_name(remote: S3Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    remote.put("contents/red\x1b[31m.jpg", b"no picture")
    remote.put("contents/empty.jpg", b"")
    remote.put("contents/large.jpg", bytes(60_001))
    remote._client.put_object(Bucket=remote._bucket, Key=f"{remote._prefix}contents/a//b.jpg", Body=b"")
    monkeypatch.setenv("MEDLEY_IMAGE_BYTES", "60000")
    jobs, choice = chosen(sampling_of(remote.root))
    assert len(jobs) == 12
    reasons = {file.name: file.reason for file in choice.skipped}
    assert reasons.keys() == {"red\x1b[31m.jpg", "empty.jpg", "large.jpg", "a//b.jpg"}
    assert "has 60,001 bytes and at most 60,000 are read" in reasons["large.jpg"]
    assert "is empty" in reasons["empty.jpg"]
    assert all(reason.isprintable() for reason in reasons.values())


def test_every_mistake_is_named(remote: S3Storage) -> None:
    for url, said in {
        f"{remote.root}/nothing": "is empty, and nothing in it is called like a picture",
        f"{remote.root}/contents/gone.jpg": "gone.jpg does not exist",
        f"{remote.root}/contents/*.jpg": "read without globs",
        f"{remote.root}/table.csv": "is a CSV in a bucket; copy it here",
        f"{remote.root}/a//b": "has an empty part",
    }.items():
        with pytest.raises(DatasetError, match=said.replace("*", r"\*")):
            scanned(url)


@pytest.mark.usefixtures("bucket")
def test_a_bucket_that_is_not_there_is_refused() -> None:
    with pytest.raises(StorageRefused, match=r"s3://medley-no-such-bucket at http.* has no such bucket"):
        scanned("s3://medley-no-such-bucket/photos")
    with (
        pytest.raises(StorageRefused, match="has no such bucket"),
        Buckets(Settings.load()).here("s3://medley-no/a.jpg"),
    ):
        pass


def test_a_server_that_is_down_fails_the_batch(remote: S3Storage) -> None:
    settings, sampling = Settings.load(), sampling_of(remote.root)
    pools = Pools.scan(sampling, settings)
    (closed,) = servers.free_ports(1)
    down = settings.model_copy(update={"s3_endpoint_url": f"http://127.0.0.1:{closed}"})
    with pytest.raises(StorageUnreachable, match="does not answer"):
        Pools.scan(sampling, down)
    with pytest.raises(StorageUnreachable, match="does not answer"):
        list(choose(pools, sampling, StyleTransferOptions(), Choice(down)))


@pytest.fixture
def farm(
    bucket: S3Storage,  # noqa: ARG001  whose server the settings then name
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Cluster:
    """A real Redis and a folder, while the dataset lies in a bucket."""
    monkeypatch.setenv("MEDLEY_REDIS_URL", redis_url)
    monkeypatch.setenv("MEDLEY_STORAGE_URL", (tmp_path / "storage").as_uri())
    return Cluster.open(Settings.load())


def test_a_second_submission_reads_no_bucket(farm: Cluster, remote: S3Storage, dataset: Path) -> None:
    request = Request("night", sampling_of(remote.root), StyleTransferOptions())
    heard: list[str] = []
    submitted = submit(farm, request, "bulk", lambda what, *_: heard.append(what))
    assert submitted.enqueued == 12
    assert set(heard) == {"choosing", "uploading", "enqueuing"}
    inputs = {farm.storage.get(key) for key in farm.storage.list("inputs/")}
    assert inputs == {path.read_bytes() for path in dataset.rglob("*.*")}
    for key in remote.list():
        remote.delete(key)
    down = replace(farm, settings=farm.settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"}))
    assert submit(down, request, "bulk", quiet).enqueued == 0


def test_a_picture_that_changes_while_it_is_submitted_ends_the_submission(
    farm: Cluster, remote: S3Storage, tmp_path: Path
) -> None:
    def change(choice: Choice, jobs: int) -> None:
        assert (jobs, choice.largest) == (12, (577, 433))
        remote.put("contents/photo0.jpg", remote.get("contents/photo1.jpg"))

    request = Request("night", sampling_of(remote.root), StyleTransferOptions())
    with pytest.raises(DatasetError, match=r"photo0.jpg changed while it was submitted. Submit it again."):
        submit(farm, request, "bulk", quiet, chosen=change)
    assert read_batch(farm.storage, "night") is None
    remote.put_file("contents/new.png", draw_picture(tmp_path / "new.png", seed=50))
    with pytest.raises(DatasetError, match=r"new.png cannot be fetched again. .*new.png does not exist"):
        submit(farm, request, "bulk", quiet, chosen=lambda *_: remote.delete("contents/new.png"))


def test_the_picture_to_begin_with_is_uploaded(farm: Cluster, remote: S3Storage, dataset: Path) -> None:
    path = dataset / "table.png"
    path.write_bytes((dataset / "styles" / "paint0.png").read_bytes() + b"another file")
    picture = picture_of(path, farm.settings)
    options = StyleTransferOptions(init=picture)
    submit(farm, Request("night", sampling_of(remote.root), options, init=str(path)), "bulk", quiet)
    assert farm.storage.get(keys.input_picture(picture.input)) == path.read_bytes()


def test_strictly_nothing_is_uploaded_where_anything_is_skipped(farm: Cluster, remote: S3Storage) -> None:
    remote.put("contents/broken.jpg", b"no picture")
    request = Request("night", sampling_of(remote.root), StyleTransferOptions(), strict=True)
    with pytest.raises(DatasetError, match=r"1 cannot be used \(broken.jpg\)"):
        submit(farm, request, "bulk", quiet)
    assert list(farm.storage.list()) == []


def test_a_fetched_picture_is_gone_afterwards(remote: S3Storage, dataset: Path) -> None:
    with Buckets(Settings.load()).here(f"{remote.root}/contents/photo0.jpg") as path:
        assert path.read_bytes() == (dataset / "contents" / "photo0.jpg").read_bytes()
    assert not path.parent.exists()
    with pytest.raises(ObjectMissing), Buckets(Settings.load()).here(f"{remote.root}/{'a' * 300}.jpg"):
        pass


def test_a_machine_without_room_says_so_and_skips_no_picture(
    remote: S3Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = sampling_of(remote.root)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(StorageRefused, match=r"cannot be used: File too large.*Make room"):
            chosen(sampling)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(StorageRefused, match=r"The temporary folder \(TMPDIR\) cannot be used: No such file"):
        chosen(sampling)


def test_an_object_that_the_bucket_refuses_alone_is_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    with _refusing_server() as url:
        for name, value in S3Server("refusing", url).environment().items():
            monkeypatch.setenv(name, value)
        buckets = Buckets(Settings.load())
        (entry,) = buckets.pictures("s3://glacier")
        sentence = r"s3://glacier/a.jpg cannot be read.*gives these credentials no right"
        with pytest.raises(ImageError, match=sentence), buckets.here(entry.where):
            pass


@contextmanager
def _refusing_server() -> Iterator[str]:
    """An S3 server that lists one object and does not give it."""
    listed = b"<ListBucketResult><Contents><Key>a.jpg</Key><Size>1</Size><ETag>x</ETag></Contents></ListBucketResult>"
    refused = b"<Error><Code>AccessDenied</Code><Message>in cold storage</Message></Error>"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = (200, listed) if "list-type" in self.path else (403, refused)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with servers.answering(Handler) as url:
        yield url
