"""Storage that is asked again while it does not answer, behind a real server that fails."""

import errno
import logging
import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faults import FaultyProxy, faulty
from fixtures_s3 import storage_on
from medley.errors import ObjectMissing, PaintingStopped, StorageUnreachable
from medley.storage import s3
from medley.storage.folder import FolderStorage
from medley.storage.patient import MOST_PAUSE_S, PatientStorage
from medley.storage.s3 import S3Storage
from servers import S3Server

SEED, LONG_S = 7, 60.0


def no_pause(_: float) -> None:
    """Do not wait for a server that fails by chance."""


@pytest.fixture
def proxy(moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy before moto that lets everything pass as yet."""
    monkeypatch.setattr(s3, "_ATTEMPTS", 1)  # no fault is hidden by boto3
    moto_server.make_bucket("medley-test")
    with faulty(moto_server.endpoint_url, 0.0, SEED) as proxy:
        yield proxy


@pytest.fixture
def bare(proxy: FaultyProxy, moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Storage:
    """Storage behind the proxy, without patience."""
    return storage_on(replace(moto_server, endpoint_url=proxy.url), monkeypatch)


def fill(storage: S3Storage | FolderStorage, keys: list[str]) -> None:
    """Put an object under each key."""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: storage.put(key, b""), keys))


def test_every_call_is_made_again_until_it_is_answered(bare: S3Storage, proxy: FaultyProxy, tmp_path: Path) -> None:
    storage, path = PatientStorage(bare, LONG_S, no_pause), tmp_path / "file"
    proxy.share = 0.3
    for number in range(12):
        key, data = f"jobs/{number}/a", random.Random(number).randbytes(50_000)
        storage.put(key, data)
        assert storage.get(key) == data
        storage.get_file(key, path)
        storage.put_file(f"jobs/{number}/b", path)
        assert storage.get(f"jobs/{number}/b", 50_000) == data
        storage.put_new(f"jobs/{number}/c", data)  # False, where its answer was lost
        assert storage.get(f"jobs/{number}/c") == data
        assert not storage.put_new(f"jobs/{number}/c", b"another")
        storage.delete(key)
        assert not storage.exists(key)
        storage.check()
    assert sorted(storage.folders("jobs/")) == sorted(map(str, range(12)))
    assert proxy.faults.keys() == {"refused", "reset", "lost", "cut"}, f"seed {SEED}: {proxy.faults}"


def test_a_long_listing_goes_on_after_the_last_key_that_came(bare: S3Storage, proxy: FaultyProxy) -> None:
    keys, pages = [f"{n:03d}" for n in range(300)], 30
    fill(bare, keys)
    small_pages: Any = lambda params, **_: params.setdefault("MaxKeys", len(keys) // pages)  # noqa: E731
    bare._client.meta.events.register("before-parameter-build.s3.ListObjectsV2", small_pages)
    proxy.share, proxy.requests = 0.2, 0
    assert list(PatientStorage(bare, LONG_S, no_pause).list()) == keys
    assert proxy.faults, f"nothing failed with seed {SEED}"
    assert proxy.requests == pages + proxy.faults.total(), "pages were fetched again that had come"


def test_a_folder_on_a_mount_that_fails_is_listed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare, keys = FolderStorage(tmp_path), sorted(f"{n // 5}/{n}" for n in range(200))
    fill(bare, keys)
    rng, scandir, failed = random.Random(SEED), os.scandir, []

    def flaky(folder: Path) -> Any:
        if rng.random() < 0.2:
            failed.append(folder)
            raise OSError(errno.ESTALE, "Stale file handle", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", flaky)
    storage = PatientStorage(bare, LONG_S, no_pause)
    assert list(storage.list()) == keys
    assert sorted(storage.folders("")) == sorted(map(str, range(40)))
    assert len(failed) >= 3, f"seed {SEED}"


def test_an_outage_is_waited_for_and_told_once(
    bare: S3Storage, proxy: FaultyProxy, caplog: pytest.LogCaptureFixture
) -> None:
    bare.put("a", b"1")
    lock, waits = threading.Lock(), []

    def wait(seconds: float) -> None:
        with lock:
            waits.append(seconds)
            if len(waits) == 20:
                proxy.back()

    proxy.away()
    storage = PatientStorage(bare, LONG_S, wait)
    with caplog.at_level(logging.INFO), ThreadPoolExecutor(4) as threads:
        assert list(threads.map(storage.get, ["a"] * 4)) == [b"1"] * 4
    told = [record.message for record in caplog.records if record.name == "medley.storage.patient"]
    assert len(told) == 2, told
    assert "does not answer" in told[0]
    assert f"{bare.root} is back after" in told[1]


def test_pauses_grow_and_differ_and_patience_ends(bare: S3Storage, proxy: FaultyProxy) -> None:
    proxy.away()
    pauses: list[float] = []

    def count(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 200:
            raise PaintingStopped("The worker drains.")

    with pytest.raises(PaintingStopped):
        PatientStorage(bare, 1e6, count).get("a")
    assert max(pauses[:3]) < 0.8
    assert len(set(pauses)) == len(pauses)
    assert MOST_PAUSE_S * 0.8 < max(pauses) <= MOST_PAUSE_S
    started = time.monotonic()
    with pytest.raises(StorageUnreachable, match="does not answer"):
        PatientStorage(bare, 0.5).get("a")
    assert 0.5 <= time.monotonic() - started < 3


def test_what_waiting_does_not_mend_is_raised_at_once(bare: S3Storage, proxy: FaultyProxy) -> None:
    def never(_: float) -> None:
        pytest.fail("it waited")

    with pytest.raises(ObjectMissing):
        PatientStorage(bare, LONG_S, never).get("a")
    proxy.away()
    with pytest.raises(StorageUnreachable):
        PatientStorage(bare, 0.0, never).get("a")
