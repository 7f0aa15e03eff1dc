"""A batch in storage: what was asked for, its manifest, its outcomes, what is still missing, and enqueuing that.

What a batch lacks is its manifest minus its outcomes; recovery from any loss is to enqueue that again.
"""

import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from medley import keys
from medley.cluster import Cluster
from medley.errors import BatchBusy, ObjectMissing, UsageError
from medley.jobs import ENGINE, Batch, QueueKind, StyleTransfer
from medley.ledger import WAITS_S
from medley.ondisk import JobTable
from medley.queue import PUBLISH_AT_ONCE, publish_finish, publish_paint
from medley.records import BatchName, Digest, JobId
from medley.results import Finished, Outcome, Result, Status
from medley.storage import Storage
from medley.telling import Told, quiet

RECORD_BYTES = 16 * 2**20
"""The most that is read of a record about one job; the largest, of a painting of 100,000 steps, has some megabytes."""

BATCH_BYTES = 256 * 2**20
"""The most that is read of a batch.json, which names every file of the dataset that was skipped."""

LINE_BYTES = 64 * 2**10
"""The longest line of a manifest: a pair of one style has half a kilobyte, and each further style a quarter more."""

_OUTCOME = re.compile(r"(?P<job>[0-9a-f]{32})\.(?P<status>done|failed)\.json")


def read_batch(storage: Storage, name: BatchName) -> Batch | None:
    """What was asked for under this name, or None if there is no such batch."""
    try:
        batch = Batch.from_json(storage.get(keys.batch(name), BATCH_BYTES))
    except ObjectMissing:
        return None
    if batch.name != name:
        raise UsageError(f"{keys.batch(name)} is of batch {batch.name!r}: it was copied there. Remove it.")
    return batch


def write_manifest(path: Path, jobs: Iterable[StyleTransfer]) -> tuple[Digest, int, int]:
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
                    f"A pair of {len(job.styles):,} styles takes {len(line):,} bytes of the manifest, and at most "
                    f"{LINE_BYTES:,} are read again; lower --styles-per-pair, or give the files shorter names."
                )
            file.write(line)
            digest.update(line)
            distinct.put([(job.id, "")])
            lines += 1
        return digest.hexdigest(), lines, len(distinct)


def read_manifest(storage: Storage, batch: Batch) -> Iterator[StyleTransfer]:
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
                yield StyleTransfer.from_json(line)


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


def read_result(storage: Storage, job: JobId) -> Result | None:
    """The commit of a job, or None if nobody has painted it."""
    try:
        result = Result.from_json(storage.get(keys.result(job), RECORD_BYTES))
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


def recount(cluster: Cluster, batch: Batch, waits_s: float = 0.0) -> bool:
    """Have the ledger know how many of a batch's jobs have ended, by one LIST; false if someone else enqueues it."""
    try:
        with cluster.ledger.enqueuing(batch.name, waits_s) as go_on:
            cluster.ledger.recount(batch.name, each_outcome(cluster.storage, batch.name), go_on)
    except BatchBusy:
        return False
    return True


def require_engine(batch: Batch) -> None:
    """See that our workers paint a batch as was asked for.

    Raises:
        UsageError: they do not; its jobs' ids are those of another engine.
    """
    if batch.engine != ENGINE:
        raise UsageError(
            f"Batch {batch.name!r} is of engine {batch.engine}, and this is engine {ENGINE}, which would paint other "
            "pictures. Use the version that submitted it."
        )


def take_back_end(storage: Storage, batch: Batch) -> None:
    """Have a batch that lacks something not be ended: who ended it may have lost its hold to one who tries it again."""
    if storage.exists(keys.finished(batch.name)):
        storage.delete(keys.finished(batch.name))
        storage.put(keys.open_batch(batch.name), b"")


def enqueue_missing(
    cluster: Cluster, batch: Batch, queue: QueueKind, waits_s: float = WAITS_S, told: Told = quiet
) -> int:
    """Enqueue what a batch lacks and nobody holds; returns how many jobs that were. Doing it twice adds nothing.

    A batch that lacks nothing, but its end, has its end enqueued. Nothing of it is held in memory but a few hundred
    jobs.

    Raises:
        BatchBusy: another one enqueues it for longer than ``waits_s``.
        UsageError: it is of another version, or its manifest cannot be used.
    """
    require_engine(batch)
    with cluster.ledger.enqueuing(batch.name, waits_s) as go_on:
        cluster.ledger.recount(batch.name, each_outcome(cluster.storage, batch.name), go_on)
    if cluster.ledger.counts(batch.name).ended < batch.jobs:
        return _enqueue(cluster, batch, queue, waits_s, told)
    if not cluster.storage.exists(keys.finished(batch.name)):
        publish_finish(cluster.app, cluster.settings, batch.name)
    return 0


def _enqueue(cluster: Cluster, batch: Batch, queue: QueueKind, waits_s: float, told: Told) -> int:
    """Enqueue those jobs of the manifest of which the ledger knows nothing."""
    ledger, enqueued = cluster.ledger, 0
    lines = read_manifest(cluster.storage, batch)
    # The first are read before the batch is held, as the whole manifest is fetched for them.
    chunk = list(islice(lines, PUBLISH_AT_ONCE))
    with ledger.enqueuing(batch.name, waits_s) as go_on:
        take_back_end(cluster.storage, batch)
        # Painters that were at work when Redis lost everything have reported again, and will write their outcomes.
        at_work = ledger.painting(batch.name, within_s=cluster.settings.lease_s).keys()
        while chunk:
            jobs = {job.id: job for job in chunk}  # lines may share one
            known = at_work | ledger.which_known(batch.name, list(jobs))
            wanted = [job for job in jobs.values() if job.id not in known]
            publish_paint(cluster.app, cluster.settings, queue, batch.name, wanted)
            # Noted after the publish: a note without a message would lose the job for a while, a message without a
            # note repeats it at most.
            ledger.add_enqueued(batch.name, [job.id for job in wanted], queue)
            enqueued += len(wanted)
            told("enqueuing", enqueued, batch.jobs)
            go_on()
            chunk = list(islice(lines, PUBLISH_AT_ONCE))
    return enqueued
