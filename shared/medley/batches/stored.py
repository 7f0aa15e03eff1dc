"""A batch in storage: what was asked for, its manifest, its results and outcomes."""

import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from medley import keys
from medley.batches.job_table import JobTable
from medley.errors import ObjectMissing, UsageError
from medley.records.base import BatchName, Digest, JobId, read_as
from medley.records.batches import AnyBatch
from medley.records.kinds import BATCH, JOB, RESULT, Job
from medley.records.results import AnyResult, Finished, Outcome, Status
from medley.storage import Storage

RECORD_BYTES = 16 * 2**20
"""The most that is read of a record about one job; the largest, of a painting of 100,000 steps, has some megabytes."""

BATCH_BYTES = 256 * 2**20
"""The most that is read of a batch.json, which names every file of the dataset that was skipped."""

LINE_BYTES = 64 * 2**10
"""The longest line of a manifest: a pair of one style has half a kilobyte, and each further style a quarter more."""

_OUTCOME = re.compile(r"(?P<job>[0-9a-f]{32})\.(?P<status>done|failed)\.json")


def read_batch(storage: Storage, name: BatchName) -> AnyBatch | None:
    """What was asked for under this name, or None if there is no such batch."""
    try:
        batch = read_as(BATCH.validate_python, storage.get(keys.batch(name), BATCH_BYTES), "Batch")
    except ObjectMissing:
        return None
    if batch.name != name:
        raise UsageError(f"{keys.batch(name)} is of batch {batch.name!r}: it was copied there. Remove it.")
    return batch


def write_manifest(path: Path, jobs: Iterable[Job]) -> tuple[Digest, int, int]:
    """Write a manifest to a local file; returns its digest, its lines, and how many distinct jobs they name.

    Raises:
        UsageError: a pair's line would be longer than :data:`LINE_BYTES`.
    """
    digest, lines = hashlib.sha256(), 0
    with path.open("wb") as file, JobTable() as distinct:
        for job in jobs:
            line = job.json_bytes() + b"\n"
            if len(line) > LINE_BYTES:
                raise UsageError(
                    f"A pair of {len(job.pictures) - 1:,} styles takes {len(line):,} bytes of the manifest, and at "
                    f"most {LINE_BYTES:,} are read again; lower --styles-per-pair, or give the files shorter names."
                )
            file.write(line)
            digest.update(line)
            distinct.put([(job.id, "")])
            lines += 1
        return digest.hexdigest(), lines, len(distinct)


def read_manifest(storage: Storage, batch: AnyBatch) -> Iterator[Job]:
    """The pairs of a batch in order, as they stand in storage; lines may share a job.

    It is fetched into a temporary file and read twice there: no line is given before the digest of all is right.

    Raises:
        ObjectMissing: there is none.
        UsageError: it is not the one that was written.
    """
    key = keys.manifest(batch.name, batch.manifest)
    with tempfile.TemporaryDirectory(prefix="medley-") as folder:
        path = Path(folder, "manifest.jsonl")
        storage.get_file(key, path)
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != batch.manifest:
                raise UsageError(
                    f"The manifest {key} of batch {batch.name!r} was changed in storage: its SHA-256 is another one "
                    "than its name says. Put the original back, or submit its pairs under another name."
                )
            file.seek(0)
            while line := file.readline(LINE_BYTES + 1):
                if len(line) > LINE_BYTES:
                    raise UsageError(f"The manifest {key} has a line of over {LINE_BYTES:,} bytes; medley wrote none.")
                yield read_as(JOB.validate_python, line, "job")


def write_outcome(storage: Storage, outcome: Outcome) -> None:
    """Say in storage how a job of a batch ended; the acknowledgement of its message only ever follows this."""
    storage.put(keys.outcome(outcome.batch, outcome.job, outcome.status), outcome.json_bytes(), "application/json")


def read_outcome(storage: Storage, batch: BatchName, job: JobId, status: Status) -> Outcome:
    """One outcome.

    Raises:
        ObjectMissing: there is none.
        UsageError: another version wrote it.
    """
    key = keys.outcome(batch, job, status)
    outcome = Outcome.from_json(storage.get(key, RECORD_BYTES))
    if (outcome.batch, outcome.job, outcome.status) != (batch, job, status):
        raise UsageError(f"{key} is of job {outcome.job} of {outcome.batch!r}: it was copied there. Remove it.")
    return outcome


def outcome_status(storage: Storage, batch: BatchName, job: JobId) -> Status | None:
    """How a job of a batch ended, if it has an outcome."""
    statuses: tuple[Status, ...] = ("done", "failed")  # in this order, as done wins
    return next((status for status in statuses if storage.exists(keys.outcome(batch, job, status))), None)


def read_result(storage: Storage, job: JobId) -> AnyResult | None:
    """The commit of a job, or None if nobody has painted it."""
    try:
        result = read_as(RESULT.validate_python, storage.get(keys.result(job), RECORD_BYTES), "Result")
    except ObjectMissing:
        return None
    if result.job_id != job:
        raise UsageError(f"{keys.result(job)} is of job {result.job_id}: it was copied there. Remove it.")
    return result


def read_finished(storage: Storage, name: BatchName) -> Finished | None:
    """How a batch ended, or None if it has not, or another version wrote that."""
    try:
        return Finished.from_json(storage.get(keys.finished(name), RECORD_BYTES))
    except (ObjectMissing, UsageError):
        return None


def each_outcome(storage: Storage, name: BatchName) -> Iterator[tuple[JobId, Status]]:
    """The jobs that have ended, each once, by one LIST that is fetched as it is used; done wins over failed."""
    prefix, done = keys.outcomes(name), ""
    for key in storage.list(prefix):
        if not (parts := _OUTCOME.fullmatch(key.removeprefix(prefix))):
            continue  # not ours
        job = parts["job"]
        if parts["status"] == "done":
            done = job
            yield job, "done"
        elif job != done:  # a LIST is sorted, so that done comes before failed
            yield job, "failed"
