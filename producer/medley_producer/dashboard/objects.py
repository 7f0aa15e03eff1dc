"""Pictures, videos and galleries out of storage, which a browser may not reach, or not be allowed to look into."""

import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self
from urllib.parse import quote

from fastapi.responses import FileResponse, Response, StreamingResponse

from medley.errors import ObjectMissing
from medley.media import previews
from medley.records.results import AnyResult
from medley.storage import Storage
from medley.storage.contract import is_key

_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".mp4": "video/mp4",
    ".html": "text/html; charset=utf-8",
}
"""What is shown, and as what; records of medley's own are not."""

_SHOWN = re.compile(
    r"jobs/.+\.(png|jpg)|batches/[^/]+/(contact_sheet\.jpg|medley\.mp4|(index|gallery/page-[0-9]+)\.html)"
)

_MOST_BYTES = 64 * 2**20
"""Of what is held in memory to be passed on: frames, sheets and pages of galleries."""

_CHUNK = 2**20
"""Bytes of a picture that are read at once."""

_FETCHED_AT_ONCE = 8
"""Pictures and videos: others wait, and leave storage's connections to pages."""

_VIDEO_KEPT_S = 600.0
"""A video is looked at in pieces, for which it is kept; then it is fetched again, as it may have been made anew."""

_FOR_EVER = "private, max-age=31536000, immutable"
"""An attempt's files lie under its random token and never change."""


def link(key: str) -> str:
    """Where the dashboard shows an object of storage."""
    return f"/storage/{quote(key)}"


def preview(result: AnyResult) -> str:
    """Where a small copy of what a job made is shown; "" if there is none."""
    file = result.files.get(previews.PICTURE)
    return link(file.key) if file else ""


def _read(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while part := file.read(_CHUNK):
            yield part


class _Video(NamedTuple):
    path: Path
    fetched_at: float


class Objects:
    """What of storage is shown; gone, as far as it is kept, when its ``with`` ends."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._fetching = threading.BoundedSemaphore(_FETCHED_AT_ONCE)
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._videos: dict[str, _Video] = {}

    def __enter__(self) -> Self:
        self._folder = TemporaryDirectory(prefix="medley-dashboard-")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def response(self, key: str) -> Response:
        """An object.

        Raises:
            ObjectMissing: there is none under this key, or none that is shown.
        """
        suffix = Path(key).suffix
        if not (_SHOWN.fullmatch(key) and is_key(key)):
            raise ObjectMissing(f"There is nothing to look at under {key!r}.")
        caching = _FOR_EVER if key.startswith("jobs/") else "no-cache"
        headers = {"Cache-Control": caching}
        if suffix == ".mp4":
            return FileResponse(self._video(key), media_type=_TYPES[suffix], headers=headers)
        if suffix == ".html":  # it says itself, in its head, what it may load; and should somebody have changed it, it
            # must not act as one of our pages
            headers["Content-Security-Policy"] = "sandbox allow-scripts allow-popups; frame-ancestors 'none'"
        if suffix == ".png":  # which may have hundreds of megabytes, and go to somebody who takes them slowly
            file = self._opened(key)
            headers["Content-Length"] = str(os.fstat(file.fileno()).st_size)
            return StreamingResponse(_read(file), 200, headers, _TYPES[suffix])
        return Response(self._storage.get(key, _MOST_BYTES), media_type=_TYPES[suffix], headers=headers)

    def _opened(self, key: str) -> BinaryIO:
        """A file that is gone from its folder already, so that nothing stays if whoever asked for it goes away."""
        path = self._file(key)
        try:
            return path.open("rb")
        finally:
            path.unlink()

    def _file(self, key: str) -> Path:
        path = Path(self._folder.name, secrets.token_hex(8))
        with self._fetching:
            self._storage.get_file(key, path)
        return path

    def _video(self, key: str) -> Path:
        """Where a video lies, once it is fetched; those that were fetched long ago are forgotten."""
        with self._lock:
            now = time.monotonic()
            for old in [key for key, video in self._videos.items() if now - video.fetched_at > 2 * _VIDEO_KEPT_S]:
                self._videos.pop(old).path.unlink(missing_ok=True)
            known = self._locks.get(key)
        if known is None and not self._storage.exists(key):
            raise ObjectMissing(f"There is no video {key!r}.")
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            video = self._videos.get(key)
            if video is None or time.monotonic() - video.fetched_at > _VIDEO_KEPT_S:
                path = self._file(key)
                with self._lock:
                    self._videos[key] = fetched = _Video(path, time.monotonic())
                if video:
                    video.path.unlink(missing_ok=True)
                video = fetched
            return video.path
