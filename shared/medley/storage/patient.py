"""Storage for who would rather wait than fail: calls are made again while it does not answer."""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from medley.errors import StorageUnreachable
from medley.storage.contract import Storage

FIRST_PAUSE_S = 0.2
MOST_PAUSE_S = 5.0
"""Pauses are drawn evenly between nothing and a bound, which doubles from the first of these to the second, so that
hundreds of painters do not ask at once ("full jitter": M. Brooker, Exponential Backoff And Jitter, 2015)."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class PatientStorage:
    """Another storage, whose calls are repeated while they raise ``StorageUnreachable``, each ``patience_s`` in all.

    Then the error is raised. An outage is logged once when it begins, and once when storage is back. ``wait`` is told
    how long to sleep, in seconds, and may raise something to end the call. Threads may share it, as they share the
    other one.
    """

    def __init__(self, storage: Storage, patience_s: float, wait: Callable[[float], None] = time.sleep) -> None:
        self.root = storage.root
        self._storage = storage
        self._patience_s = patience_s
        self._wait = wait
        self._away_since: float | None = None
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes, content_type: str | None = None, *, private: bool = False) -> None:
        """See :meth:`Storage.put`."""
        self._patiently(lambda: self._storage.put(key, data, content_type, private=private))

    def put_file(self, key: str, path: Path) -> None:
        """See :meth:`Storage.put_file`; the whole file is sent again."""
        self._patiently(lambda: self._storage.put_file(key, path))

    def put_new(self, key: str, data: bytes) -> bool:
        """See :meth:`Storage.put_new`: False may also mean that an answer was lost, and ours stands."""
        return self._patiently(lambda: self._storage.put_new(key, data))

    def get(self, key: str, most_bytes: int | None = None) -> bytes:
        """See :meth:`Storage.get`."""
        return self._patiently(lambda: self._storage.get(key, most_bytes))

    def get_file(self, key: str, path: Path, *, link: bool = False) -> None:
        """See :meth:`Storage.get_file`; the whole file is fetched again."""
        self._patiently(lambda: self._storage.get_file(key, path, link=link))

    def exists(self, key: str) -> bool:
        """See :meth:`Storage.exists`."""
        return self._patiently(lambda: self._storage.exists(key))

    def list(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """See :meth:`Storage.list`; it goes on after the last key that came, with new patience after each."""
        return self._listed(prefix, after, self._storage.list(prefix, after))

    def folders(self, prefix: str) -> Iterator[str]:
        """See :meth:`Storage.folders`; the names are all fetched first, and all of them again."""
        return iter(self._patiently(lambda: [*self._storage.folders(prefix)]))

    def delete(self, key: str) -> None:
        """See :meth:`Storage.delete`."""
        self._patiently(lambda: self._storage.delete(key))

    def check(self) -> None:
        """See :meth:`Storage.check`."""
        self._patiently(self._storage.check)

    def honours_conditions(self) -> bool:
        """See :meth:`Storage.honours_conditions`."""
        return self._patiently(self._storage.honours_conditions)

    def clock_skew_s(self) -> float | None:
        """See :meth:`Storage.clock_skew_s`."""
        return self._patiently(self._storage.clock_skew_s)

    def url(self, key: str, expires_s: int = 3600) -> str:
        """See :meth:`Storage.url`."""
        return self._storage.url(key, expires_s)

    def _listed(self, prefix: str, last: str, keys: Iterator[str]) -> Iterator[str]:
        def following() -> str | None:
            nonlocal keys
            try:
                return next(keys, None)
            except StorageUnreachable:  # which has ended this iterator
                keys = self._storage.list(prefix, last)
                raise

        while (key := self._patiently(following)) is not None:
            last = key
            yield key

    def _patiently(self, call: Callable[[], T]) -> T:
        started, bound_s = time.monotonic(), FIRST_PAUSE_S
        while True:
            try:
                answer = call()
            except StorageUnreachable as error:
                self._note_outage(error)
                left_s = started + self._patience_s - time.monotonic()
                if left_s <= 0:
                    raise
                self._wait(min(left_s, random.uniform(0, bound_s)))  # noqa: S311  nothing secret
                bound_s = min(MOST_PAUSE_S, bound_s * 2)
            else:
                self._note_answer()
                return answer

    def _note_outage(self, error: StorageUnreachable) -> None:
        with self._lock:
            if self._away_since is None:
                self._away_since = time.monotonic()
                log.warning("%s It is asked again for up to %.0f s.", error, self._patience_s)

    def _note_answer(self) -> None:
        if self._away_since is None:  # seen without the lock, as nearly every call sees it
            return
        with self._lock:
            if self._away_since is not None:
                log.warning("%s is back after %.1f s.", self.root, time.monotonic() - self._away_since)
                self._away_since = None
