"""A batch as its pieces are made from it: its lines in order, each with what came of it."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import PurePosixPath
from typing import NamedTuple, cast

from medley.batches.job_table import JobTable
from medley.batches.stored import each_outcome, read_manifest, read_result
from medley.errors import UsageError
from medley.records.base import JobId
from medley.records.batches import AnyBatch
from medley.records.jobs import StyleTransfer
from medley.records.pictures import Picture
from medley.records.results import AnyResult, Result, Status
from medley.settings import Settings
from medley.storage import Storage
from medley.telling import Told, quiet

READS_AT_ONCE = 8
"""Reads wait for the network more than for anything here."""

READS_AHEAD = 64
"""Results that are read together and held in memory: a page of the gallery."""


@dataclass(frozen=True)
class Source:
    """A batch in storage. ``status_of`` tells how a job ended, if it has; ``failed`` is how many failed.

    ``advance`` is called as work goes on, and what it raises ends the work; ``told`` hears how far long work is.
    """

    storage: Storage
    settings: Settings
    batch: AnyBatch
    status_of: Callable[[JobId], Status | None]
    failed: int
    advance: Callable[[], None] = quiet
    told: Told = quiet

    def has_failed(self, job: JobId) -> bool:
        """Whether a job's outcome is a failure."""
        return self.status_of(job) == "failed"


@contextmanager
def opened(storage: Storage, settings: Settings, batch: AnyBatch, told: Told = quiet) -> Iterator[Source]:
    """A batch whose outcomes are those that stand now, ended or not; for one thread."""
    with JobTable() as outcomes:
        outcomes.put(each_outcome(storage, batch.name))

        def status_of(job: JobId) -> Status | None:
            status = outcomes.values([job]).get(job)
            return cast(Status, status) if status else None

        yield Source(storage, settings, batch, status_of, outcomes.count("failed"), told=told)


class Pair(NamedTuple):
    """A line of a batch's manifest, its result if it has one, and whether it failed."""

    job: StyleTransfer
    result: Result | None
    failed: bool

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{caption(self.job.content)} × {styles_of(self.job)}"


def caption(picture: Picture) -> str:
    """What people call a picture: artist and title where a CSV had them, else the file's name without its ending."""
    return picture.label or PurePosixPath(picture.name).stem


def styles_of(job: StyleTransfer) -> str:
    """What people call its styles."""
    return ", ".join(map(caption, job.styles))


def each_pair(source: Source, jobs: Iterable[StyleTransfer] | None = None) -> Iterator[Pair]:
    """These jobs, or all of the batch, with what came of them; in order, and a few results at a time in memory."""
    rest = iter(each_job(source) if jobs is None else jobs)
    with ThreadPoolExecutor(READS_AT_ONCE) as threads:
        while some := list(islice(rest, READS_AHEAD)):
            failed = [source.has_failed(job.id) for job in some]
            painted = [job.id for job, is_failed in zip(some, failed, strict=True) if not is_failed]
            results = dict(zip(painted, threads.map(partial(_result, source), painted), strict=True))
            for job, is_failed in zip(some, failed, strict=True):
                result = results.get(job.id)
                yield Pair(job, result if isinstance(result, Result) else None, is_failed)
                source.advance()


def each_job(source: Source) -> Iterator[StyleTransfer]:
    """The pairs of a batch, in the manifest's order."""
    for job in read_manifest(source.storage, source.batch):
        source.advance()
        if isinstance(job, StyleTransfer):
            yield job


def evenly(number: int, of: int) -> set[int]:
    """So many places of a row, evenly chosen, the first among them; all of them, if there are no more."""
    return set(range(of)) if number >= of else {place * of // number for place in range(number)}


def _result(source: Source, job: JobId) -> AnyResult | None:
    try:
        return read_result(source.storage, job)
    except UsageError:  # written by another version; people see the others
        return None
