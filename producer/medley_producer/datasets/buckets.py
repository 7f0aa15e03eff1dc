"""The pictures of a bucket, read as storage is: with ``AWS_*`` and ``MEDLEY_S3_ENDPOINT_URL``."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from medley.errors import DatasetError, ImageError, ObjectMissing, StorageRefused
from medley.files import os_errors
from medley.settings import Settings
from medley.storage import open_storage
from medley.storage.contract import is_key
from medley.telling import shown
from medley_producer.datasets.entries import S3, Entry, is_hidden, is_picture, no_pictures, portable

if TYPE_CHECKING:
    from medley.storage.s3 import S3Storage

NAME_BYTES = 255
"""The longest name that file systems take; the last part of a key may be longer."""

_NO_KEY = "has an empty part, '.', '..' or a backslash, and no such key is read"


class Buckets:
    """The buckets in which a dataset's pictures lie, each opened when it is first needed. Threads may share it.

    The credentials need the right to list a bucket, also where its pictures are named one by one: S3 answers without
    it that a missing object is forbidden.

    Every method raises ``StorageUnreachable`` where the service does not answer, and ``StorageRefused`` where it
    refuses a whole bucket, or where this machine's temporary folder cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened: dict[str, S3Storage] = {}
        self._lock = threading.Lock()

    def pictures(self, url: str) -> Iterator[Entry]:
        """The picture that ``s3://bucket/key.jpg`` names, or all below ``s3://bucket/prefix``, hidden ones left out.

        Raises:
            DatasetError: there is none.
        """
        bucket, key = _parted(url.rstrip("/"))
        if is_picture(key):
            yield self._picture(url, bucket, key)
        elif key.lower().endswith(".csv"):
            raise DatasetError(f"{url} is a CSV in a bucket; copy it here, and set --image-root to s3://bucket/prefix.")
        else:
            yield from self._below(url, bucket, f"{key}/" if key else "")

    def versions(self, url: str) -> dict[str, str]:
        """The ETag of every object below ``s3://bucket/prefix``, by its place (``s3://bucket/key``)."""
        bucket, key = _parted(url.rstrip("/"))
        objects = self._open(bucket).objects(_checked(url, f"{key}/" if key else ""))
        return {f"{S3}{bucket}/{found.key}": found.etag for found in objects}

    @contextmanager
    def here(self, where: str) -> Iterator[Path]:
        """The local file of a picture; one of a bucket is fetched, and gone after the block.

        Raises:
            ObjectMissing: there is no such object.
            ImageError: it is over ``settings.image_bytes``, or the bucket refuses it alone.
        """
        if not where.startswith(S3):
            yield Path(where)
            return
        bucket, key = _parted(where)
        with os_errors("The temporary folder (TMPDIR)"):
            folder = tempfile.TemporaryDirectory(prefix="medley-")
        with folder:
            path = Path(folder.name, key.rpartition("/")[2].encode()[-NAME_BYTES:].decode(errors="ignore"))
            self._fetch(where, bucket, key, path)
            yield path

    def _fetch(self, where: str, bucket: str, key: str, path: Path) -> None:
        if not is_key(key):
            raise ImageError(f"{shown(where)} {_NO_KEY}; rename it.")
        storage, limit = self._open(bucket), self._settings.image_bytes
        found = next((each for each in storage.objects(key) if each.key == key), None)
        if found is None:
            raise ObjectMissing(f"{shown(where)} does not exist; put it there, or correct what names it.")
        if found.bytes > limit:
            raise ImageError(
                f"{shown(where)} has {found.bytes:,} bytes and at most {limit:,} are read; "
                "make it smaller or raise MEDLEY_IMAGE_BYTES."
            )
        try:
            storage.get_file(key, path)
        except StorageRefused as error:
            if isinstance(error.__cause__, OSError):  # a full disk, which is not the picture's fault
                raise
            # The bucket has just answered, so it is this object alone that it refuses.
            raise ImageError(f"{shown(where)} cannot be read: {error}") from error

    def _picture(self, url: str, bucket: str, key: str) -> Entry:
        found = next((each for each in self._open(bucket).objects(_checked(url, key)) if each.key == key), None)
        if found is None:
            raise DatasetError(f"{url} does not exist; name a picture or a prefix, as buckets are read without globs.")
        return Entry(portable(key.rpartition("/")[2]), f"{S3}{bucket}/{key}", version=found.etag)

    def _below(self, url: str, bucket: str, prefix: str) -> Iterator[Entry]:
        others, empty = 0, True
        for found in self._open(bucket).objects(_checked(url, prefix)):
            name, where = portable(found.key.removeprefix(prefix)), f"{S3}{bucket}/{found.key}"
            if not is_picture(name):
                others += 1
            elif not is_hidden(name):
                empty = False
                yield Entry(name, where, version=found.etag)
        if empty:
            raise no_pictures(url, others, "objects")

    def _open(self, bucket: str) -> "S3Storage":
        with self._lock:
            if bucket not in self._opened:
                self._opened[bucket] = cast("S3Storage", open_storage(S3 + bucket, self._settings))
            return self._opened[bucket]


def _parted(url: str) -> tuple[str, str]:
    """The bucket and the key (or the prefix) of ``s3://bucket/key``."""
    bucket, _, key = url.removeprefix(S3).partition("/")
    return bucket, key


def _checked(url: str, prefix: str) -> str:
    if prefix and not is_key(prefix.removesuffix("/")):
        raise DatasetError(f"{url} {_NO_KEY}; correct the URL.")
    return prefix
