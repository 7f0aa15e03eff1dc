"""A table of a batch's jobs on disk: a set of a million ids would take 130 MB of memory, and here 35 at most."""

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from medley.errors import StorageRefused
from medley.records.base import JobId

_CACHE_KIB = 32 * 1024
"""Memory that sqlite may use: as much as a million jobs take, so that only longer batches wait for the disk."""


class JobTable:
    """Jobs, each with a short text, such as how it ended; for one thread at a time, and gone when its ``with`` ends.

    It lies in a folder of its own below the temporary folder, 29 bytes a job. TMPDIR says where that is, which
    matters where ``/tmp`` is kept in memory. Every call raises StorageRefused where that folder has no room.
    """

    def __init__(self) -> None:
        self._open = ExitStack()

    def __enter__(self) -> Self:
        with _named(sqlite3.Error, OSError), self._open as opening:
            folder = opening.enter_context(tempfile.TemporaryDirectory(prefix="medley-"))
            self._db = sqlite3.connect(Path(folder, "jobs.sqlite"), check_same_thread=False)
            opening.callback(self._db.close)
            # Nothing of it outlives this process, so nothing of it has to survive a crash; nor is it ever committed.
            self._db.execute("PRAGMA journal_mode = OFF")
            self._db.execute("PRAGMA synchronous = OFF")
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            self._db.execute("CREATE TABLE jobs (id BLOB PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def put(self, rows: Iterable[tuple[JobId, str]]) -> int:
        """Add jobs with their values, one at a time; a job that is there keeps its own. Returns how many were new."""
        before = len(self)
        with _named(sqlite3.Error):
            as_blobs = ((bytes.fromhex(job), value) for job, value in rows)
            self._db.executemany("INSERT OR IGNORE INTO jobs VALUES (?, ?)", as_blobs)
        return len(self) - before

    def values(self, jobs: Sequence[JobId]) -> dict[JobId, str]:
        """Those of these jobs that are there, with their values."""
        found: dict[JobId, str] = {}
        with _named(sqlite3.Error):
            for job in jobs:
                # One by one costs 2 us each, and no limit of sqlite's on a query's length matters.
                row = self._db.execute("SELECT value FROM jobs WHERE id = ?", [bytes.fromhex(job)]).fetchone()
                if row is not None:
                    found[job] = row[0]
        return found

    def count(self, value: str) -> int:
        """How many jobs have this value."""
        with _named(sqlite3.Error):
            return int(self._db.execute("SELECT count(*) FROM jobs WHERE value = ?", [value]).fetchone()[0])

    def __len__(self) -> int:
        return self._db.total_changes  # rows are only ever added


@contextmanager
def _named(*errors: type[Exception]) -> Iterator[None]:
    try:
        yield
    except errors as error:
        raise StorageRefused(
            f"The temporary folder {_temporary()} cannot keep the list of a batch's jobs ({error}). "
            "Make room there, or set TMPDIR to a folder that has some."
        ) from error


def _temporary() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:  # there is none at all
        return "of this machine"
