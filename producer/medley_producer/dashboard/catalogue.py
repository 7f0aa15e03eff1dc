"""The jobs of batches, kept on disk to be looked through: a manifest of 100,000 pairs takes seconds to fetch and read.

It is a copy: what is lost of it is read again from storage.
"""

import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self

from medley.batches.stored import read_manifest
from medley.records.base import BatchName, JobId
from medley.records.batches import AnyBatch
from medley.records.results import Status
from medley.storage import Storage

_AT_ONCE = 2_000
"""Rows in one transaction, between which others may look."""


class Row(NamedTuple):
    """A job of a batch: its place in the manifest, from 0 on, its pictures' names, and how it ended when that was noted
    last; "" if it had not.
    """

    place: int
    job: JobId
    names: str
    status: Status | Literal[""]


class Catalogue:
    """For several threads; gone when its ``with`` ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="medley-dashboard-")
        self._db = sqlite3.connect(Path(self._folder.name, "jobs.sqlite"), check_same_thread=False)
        self._db.executescript(
            """
            PRAGMA journal_mode = MEMORY;
            PRAGMA synchronous = OFF;
            CREATE TABLE batches (
                id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, manifest TEXT, whole INTEGER, UNIQUE (name, manifest)
            );
            CREATE TABLE jobs (
                batch INTEGER, place INTEGER, job TEXT, names TEXT, status TEXT NOT NULL DEFAULT '',
                seen INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (batch, place)
            ) WITHOUT ROWID;
            CREATE UNIQUE INDEX by_job ON jobs (batch, job);
            CREATE INDEX by_status ON jobs (batch, status, place);
            """
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._db.close()
        self._folder.cleanup()

    def learn(self, storage: Storage, batch: AnyBatch) -> None:
        """Read a batch's manifest, if that was not done yet.

        Raises:
            ObjectMissing: there is none.
            UsageError: it was changed in storage.
        """
        with self._lock, self._db:
            self._db.execute("INSERT OR IGNORE INTO batches (name, manifest, whole) VALUES (?, ?, 0)", _key(batch))
            number, whole = self._find(batch)
        if whole:
            return
        rows = ((number, place, job.id, job.names) for place, job in enumerate(read_manifest(storage, batch)))
        while some := list(islice(rows, _AT_ONCE)):
            with self._lock, self._db:  # lines may share a job, which then has the first one's place
                self._db.executemany("INSERT OR IGNORE INTO jobs (batch, place, job, names) VALUES (?, ?, ?, ?)", some)
        with self._lock, self._db:
            if not self._db.execute("UPDATE batches SET whole = 1 WHERE id = ?", [number]).rowcount:  # it is forgotten
                self._db.execute("DELETE FROM jobs WHERE batch = ?", [number])

    def knows(self, batch: AnyBatch) -> bool:
        """Whether all of a batch's manifest is here."""
        with self._lock:
            return self._find(batch)[1]

    def note(self, batch: AnyBatch, outcomes: Iterable[tuple[JobId, Status]]) -> None:
        """Note how the jobs of a batch ended, all that have."""
        outcomes, now = iter(outcomes), time.monotonic_ns()
        number = self._number(batch)
        while some := list(islice(outcomes, _AT_ONCE)):
            with self._lock, self._db:
                self._db.executemany(
                    "UPDATE jobs SET status = ?, seen = ? WHERE batch = ? AND job = ?",
                    [(status, now, number, job) for job, status in some],
                )
        with self._lock, self._db:  # those that are tried again
            self._db.execute("UPDATE jobs SET status = '' WHERE batch = ? AND status != '' AND seen < ?", [number, now])

    def find(
        self, batch: AnyBatch, text: str, status: str | None, but: Sequence[JobId], *, skip: int, limit: int
    ) -> tuple[list[Row], int]:
        """Jobs whose names have a text, and that ended so ("" for those of which that is not known, None for all),
        ``but`` for some: in the manifest's order, ``limit`` of them after the first ``skip``; and how many there are.
        """
        where, values = self._where(batch, text, status, but)
        with self._lock:
            found = self._db.execute(
                f"SELECT place, job, names, status FROM jobs WHERE {where} ORDER BY place LIMIT ? OFFSET ?",  # noqa: S608
                [*values, limit, skip],
            )
            rows = [Row(*row) for row in found]
            (count,) = self._db.execute(f"SELECT count(*) FROM jobs WHERE {where}", values).fetchone()  # noqa: S608
        return rows, count

    def row(self, batch: AnyBatch, job: JobId) -> Row | None:
        """One job, if the batch has it."""
        with self._lock:
            query = "SELECT place, job, names, status FROM jobs WHERE batch = ? AND job = ?"
            found = self._db.execute(query, [self._find(batch)[0], job]).fetchone()
        return Row(*found) if found else None

    def forget(self, batch: AnyBatch) -> None:
        """Make room for others."""
        with self._lock, self._db:
            self._db.execute("DELETE FROM jobs WHERE batch = ?", [self._find(batch)[0]])
            self._db.execute("DELETE FROM batches WHERE name = ? AND manifest = ?", _key(batch))

    def _where(self, batch: AnyBatch, text: str, status: str | None, but: Sequence[JobId]) -> tuple[str, list[object]]:
        where, values = ["batch = ?"], [self._number(batch)]
        if but:
            where.append(f"job NOT IN ({', '.join('?' * len(but))})")
            values.extend(but)
        if status is not None:
            where.append("status = ?")
            values.append(status)
        if text:
            escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            where.append("names LIKE ? ESCAPE '\\'")
            values.append(f"%{escaped}%")
        return " AND ".join(where), values

    def _number(self, batch: AnyBatch) -> object:
        with self._lock:
            return self._find(batch)[0]

    def _find(self, batch: AnyBatch) -> tuple[int, bool]:
        query = "SELECT id, whole FROM batches WHERE name = ? AND manifest = ?"
        number, whole = self._db.execute(query, _key(batch)).fetchone() or (-1, 0)
        return number, bool(whole)


def _key(batch: AnyBatch) -> tuple[BatchName, str]:
    return batch.name, batch.manifest
