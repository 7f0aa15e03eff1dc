"""What only a folder as storage can do and suffer, and which URLs are storage at all."""

import resource
import stat
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from medley.errors import StorageRefused, UsageError
from medley.settings import Settings
from medley.storage import open_storage


@pytest.mark.parametrize(
    "url", ["", "folder", "/abs/folder", "file://host/folder", "file:x", "file:///a?b", "file:///a#b", "ftp://a/b"]
)
def test_a_url_of_no_storage_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="file:///"):
        open_storage(url, Settings.load())


@pytest.mark.parametrize(
    "url", ["s3://", "s3:///a", "s3://key:secret@bucket/a", "s3://b", "s3://bucket/a/../b", "s3://["]
)
def test_a_url_of_no_bucket_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="s3://bucket/prefix") as refused:
        open_storage(url, Settings.load())
    assert "secret" not in str(refused.value)


def test_a_path_is_answered_with_its_url(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        open_storage(str(tmp_path / "é x"), Settings.load())
    assert (tmp_path / "é x").as_uri() in str(refused.value)
    assert open_storage((tmp_path / "é x").as_uri(), Settings.load()).root == (tmp_path / "é x").as_uri()
    assert (tmp_path / "é x").is_dir()


def test_a_file_in_the_way_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageRefused, match="file"):
        open_storage((tmp_path / "file").as_uri(), Settings.load())
    storage = open_storage(tmp_path.as_uri(), Settings.load())
    with pytest.raises(StorageRefused, match="file"):
        storage.put("file/a", b"")
    with pytest.raises(StorageRefused, match="file"):
        storage.put_new("file/a", b"")


def test_a_write_that_fails_leaves_the_old_object_and_no_part(tmp_path: Path) -> None:
    storage = open_storage(tmp_path.as_uri(), Settings.load())
    storage.put("a", b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))  # as if the disk were full
    try:
        with pytest.raises(StorageRefused, match="too large"):
            storage.put("a", bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert storage.get("a") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_is_private_is_its_owners_alone(tmp_path: Path) -> None:
    storage = open_storage(tmp_path.as_uri(), Settings.load())
    storage.put("notify", b"")  # as an earlier version wrote it
    storage.put("notify", b"https://user:secret@host", private=True)
    assert stat.S_IMODE((tmp_path / "notify").stat().st_mode) == 0o600


def test_a_reader_sees_whole_objects_only(tmp_path: Path) -> None:
    storage = open_storage(tmp_path.as_uri(), Settings.load())
    versions = [bytes([n]) * 300_000 for n in range(4)]
    storage.put("a", versions[0])
    done = threading.Event()

    def write(version: bytes) -> None:
        while not done.is_set():
            storage.put("a", version)

    with ExitStack() as stack:
        for version in versions:
            thread = threading.Thread(target=write, args=(version,))
            thread.start()
            stack.callback(thread.join)
        stack.callback(done.set)
        seen: list[bytes] = []
        deadline = time.monotonic() + 15
        while len(seen) < 300 or len(set(seen)) < len(versions):
            assert time.monotonic() < deadline, "not every version came to be seen"
            seen.append(storage.get("a"))
            assert seen[-1] in versions
            assert list(storage.list()) == ["a"]


def test_a_folder_needs_no_boto3(tmp_path: Path) -> None:
    program = (
        "import sys; from medley.settings import Settings; from medley.storage import open_storage;"
        f"open_storage({tmp_path.as_uri()!r}, Settings.load()).put('a', b''); print('boto3' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", program]) == b"False\n"
