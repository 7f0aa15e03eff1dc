"""What every kind of storage promises, on a folder and on every S3 server at hand."""

import json
import random
import threading
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, product
from pathlib import Path
from urllib.error import HTTPError

import pytest

from medley import keys
from medley.errors import ObjectMissing, StorageRefused, UsageError
from medley.settings import Settings
from medley.storage import Storage, open_storage
from medley.storage.s3 import S3Storage
from servers import S3Server

DEPLOY = Path(__file__).parents[2] / "deploy"

KEYS = (
    "plain.json",
    "jobs/é ü 漢字/😀.png",
    "a b/c+d&e=f%20g?h#i;j'k(l)~!*@.txt",
    "/".join(["long" * 40] * 5),
    ".hidden/..twice/...",
)

HOSTILE = ("", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/../b", "a/./b", "a\\b", "a\0b", "a/.part-b")


def test_what_is_put_is_what_is_got(storage: Storage) -> None:
    objects = {key: random.Random(key).randbytes(10_000) for key in KEYS}
    for key, data in objects.items():
        assert not storage.exists(key)
        storage.put(key, data)
    for key, data in objects.items():
        assert storage.get(key) == data
        assert storage.exists(key)
    assert set(storage.list()) == set(KEYS)


def test_an_object_is_replaced_even_by_an_empty_one(storage: Storage) -> None:
    storage.put("a/b", b"first")
    storage.put("a/b", b"second")
    assert storage.get("a/b") == b"second"
    storage.put("a/b", b"")
    assert storage.get("a/b") == b""
    assert storage.exists("a/b")


def test_two_prefixes_of_one_place_do_not_see_each_other(storage: Storage) -> None:
    storage.put("one/a", b"1")
    storage.put("one-more/a", b"2")
    inner = open_storage(f"{storage.root}/one", Settings.load())
    assert list(inner.list()) == ["a"]
    assert inner.get("a") == b"1"


def test_a_new_object_is_put_once(storage: Storage) -> None:
    assert storage.put_new("batches/b/batch.json", b"first")
    assert not storage.put_new("batches/b/batch.json", b"second")
    assert storage.get("batches/b/batch.json") == b"first"
    storage.delete("batches/b/batch.json")
    assert storage.put_new("batches/b/batch.json", b"third")
    assert list(storage.list()) == ["batches/b/batch.json"], "the probe or a part was left behind"


def test_of_eight_threads_one_puts_the_new_object(storage: Storage) -> None:
    start = threading.Barrier(8)

    def put(number: int) -> bool:
        start.wait()
        return storage.put_new("open/b", str(number).encode())

    with ThreadPoolExecutor(8) as threads:
        created = list(threads.map(put, range(8)))
    assert created.count(True) == 1
    assert storage.get("open/b") == str(created.index(True)).encode()


def test_a_server_that_ignores_conditions_is_asked_first(s3_storage: S3Storage) -> None:
    def ignore(params: dict[str, dict[str, str]], **_: object) -> None:
        params["headers"].pop("If-None-Match", None)

    s3_storage._client.meta.events.register("before-call.s3.PutObject", ignore)
    assert s3_storage.put_new("a", b"first")
    assert not s3_storage.put_new("a", b"second")
    assert s3_storage.get("a") == b"first"
    assert list(s3_storage.list()) == ["a"]


def test_a_listing_is_sorted_and_goes_over_pages(storage: Storage) -> None:
    keys = [f"outcomes/{n:04d}.done.json" for n in range(1_005)]
    shuffled = random.Random(0).sample(keys, len(keys))
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: storage.put(key, b""), shuffled))
    assert list(storage.list("outcomes/")) == keys
    if isinstance(storage, S3Storage):
        assert _pages_for(storage, 5) == 1
        assert _pages_for(storage, len(keys)) == 2


def test_a_listing_begins_after_any_key_of_an_earlier_one(storage: Storage) -> None:
    for key in ("a/x", "a!", "a-b", "a/y", "a/y-", "a.b/c", "a.b/d/e", "ab", "B", "é", "éü/1", "😀/1"):
        storage.put(key, b"")
    for prefix in ("", "a", "a/", "a.b/d"):
        keys = list(storage.list(prefix))
        for number, key in enumerate(keys, start=1):
            assert list(storage.list(prefix, key)) == keys[number:]


def _pages_for(storage: S3Storage, count: int) -> int:
    """How many pages are asked for when ``count`` keys are used."""
    pages = []
    events = storage._client.meta.events
    events.register("before-call.s3.ListObjectsV2", lambda **_: pages.append(1), unique_id="count")
    assert len(list(islice(storage.list(), count))) == count
    events.unregister("before-call.s3.ListObjectsV2", unique_id="count")
    return len(pages)


def test_keys_are_sorted_by_code_point(storage: Storage, request: pytest.FixtureRequest) -> None:
    keys = sorted(["a/x", "a!", "a-b", "a/y", "a.b/c", "ab", "B", "é", "😀", "\uffee"])
    if "seaweedfs" in request.node.name:
        keys.sort(key=lambda key: key.replace("/", "\0"))
    for key in keys:
        storage.put(key, b"")
    assert list(storage.list()) == keys


def test_a_prefix_is_any_text(storage: Storage) -> None:
    for key in ("a/b/1", "a/b/2", "a/bc", "ab"):
        storage.put(key, b"")
    found = {
        "": ["a/b/1", "a/b/2", "a/bc", "ab"],
        "a": ["a/b/1", "a/b/2", "a/bc", "ab"],
        "a/": ["a/b/1", "a/b/2", "a/bc"],
        "a/b": ["a/b/1", "a/b/2", "a/bc"],
        "a/b/": ["a/b/1", "a/b/2"],
        "a/b/1": ["a/b/1"],
        "a/b/1/": [],
        "b": [],
        "a/c/": [],
    }
    assert {prefix: list(storage.list(prefix)) for prefix in found} == found


def test_an_object_over_the_readers_limit_is_not_read(storage: Storage) -> None:
    storage.put("open/b", bytes(1_001))
    assert storage.get("open/b", 1_001) == bytes(1_001)
    with pytest.raises(UsageError, match=r"open/b has 1,001 bytes .* at most 1,000 are read"):
        storage.get("open/b", 1_000)
    with pytest.raises(ObjectMissing):
        storage.get("open/c", 1_000)


def test_what_is_missing_is_said_to_be(storage: Storage, tmp_path: Path) -> None:
    storage.put("a/b", b"")
    for key in ("b", "a/c", "a/b2", "a"):
        with pytest.raises(ObjectMissing, match=key):
            storage.get(key)
        with pytest.raises(ObjectMissing, match=key):
            storage.get_file(key, tmp_path / "down" / "file")
        assert not storage.exists(key)
        storage.delete(key)
    assert not (tmp_path / "down").exists()
    storage.delete("a/b")
    assert not storage.exists("a/b")
    assert list(storage.list()) == []


def test_a_large_file_goes_up_and_comes_down(storage: Storage, tmp_path: Path) -> None:
    data = random.Random(0).randbytes(20_000_000)
    (tmp_path / "up").write_bytes(data)
    storage.put_file("batches/b/medley.mp4", tmp_path / "up")
    (tmp_path / "up").write_bytes(b"changed by its owner")
    storage.get_file("batches/b/medley.mp4", tmp_path / "new" / "down")
    assert (tmp_path / "new" / "down").read_bytes() == data
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["down"]


def test_a_file_that_is_not_there_is_named(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(StorageRefused, match="nowhere"):
        storage.put_file("a", tmp_path / "nowhere")
    assert not storage.exists("a")


def test_a_hostile_key_is_refused(storage: Storage, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"safe")
    calls: list[Callable[[str], object]] = [
        lambda key: storage.put(key, b""),
        lambda key: storage.put_file(key, file),
        lambda key: storage.put_new(key, b""),
        storage.get,
        lambda key: storage.get_file(key, file),
        storage.exists,
        storage.delete,
        storage.url,
    ]
    for call, key in product(calls, HOSTILE):
        with pytest.raises(ValueError, match="no storage key"):
            call(key)
    for prefix in ("/", "../", "a//b", "a/../", "\\"):
        with pytest.raises(ValueError, match="no storage key"):
            storage.list(prefix)
    assert file.read_bytes() == b"safe"


def test_a_link_shows_the_object(storage: Storage) -> None:
    storage.put("b/page é.html", b"<p>hello")
    with urllib.request.urlopen(storage.url("b/page é.html"), timeout=10) as answer:  # noqa: S310  a file is meant
        assert answer.read() == b"<p>hello"
        assert answer.headers["Content-Type"] == "text/html"


def test_without_its_signature_a_link_shows_nothing(s3_storage: S3Storage, s3_server: S3Server) -> None:
    s3_storage.put("a", b"private")
    link = s3_storage.url("a", expires_s=60)
    assert "X-Amz-Expires=60" in link
    if s3_server.checks_credentials:
        with pytest.raises(HTTPError) as refused:
            urllib.request.urlopen(link.partition("?")[0], timeout=10)  # noqa: S310
        refused.value.close()


def test_frames_alone_are_tagged_for_a_rule_by_which_they_expire(s3_storage: S3Storage, s3_server: S3Server) -> None:
    tagging = open_storage(s3_storage.root, Settings.load(frame_tag="medley=frame"))
    job = "0" * 32
    frame, picture = keys.frame(job, "token", 10), keys.pastiche(job, "token")
    tagging.put(frame, b"frame")
    tagging.put(picture, b"picture")
    bucket, _, prefix = s3_storage.root.removeprefix("s3://").partition("/")
    tags = {key: s3_server.tags(bucket, f"{prefix}/{key}") for key in (frame, picture)}
    assert tags == {frame: {"medley": "frame"}, picture: {}}
    rule = json.loads((DEPLOY / "s3" / "lifecycle.json").read_text())["Rules"][0]
    assert rule["Filter"]["Tag"] == {"Key": "medley", "Value": "frame"}


def test_storage_that_is_there_passes_the_check(storage: Storage) -> None:
    storage.check()
    assert list(storage.list()) == []


def test_folders_are_named_once_and_their_keys_are_not_listed(storage: Storage) -> None:
    for key in ("batches/a/batch.json", "batches/a/outcomes/1.json", "batches/b/batch.json", "batches/c.json", "d/e/f"):
        storage.put(key, b"")
    assert sorted(storage.folders("batches/")) == ["a", "b"]
    assert list(storage.folders("nothing/")) == []
