"""A batch in storage: what was asked for, its manifest, its outcomes, what is still missing, and enqueuing that.

What a batch lacks is its manifest minus its outcomes; recovery from any loss is to enqueue that again.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from medley import keys
from medley.cluster import Cluster
from medley.errors import ObjectMissing
from medley.jobs import Batch, QueueKind, StyleTransfer
from medley.queue import PUBLISH_AT_ONCE, publish_finish, publish_paint
from medley.records import BatchName, Digest, JobId
from medley.results import Outcome, Result, Status
from medley.storage import Storage


class Outcomes(NamedTuple):
    """The jobs of a batch that have ended; one that is done is not among the failed."""

    done: set[JobId]
    failed: set[JobId]

    @property
    def all(self) -> set[JobId]:
        """Done and failed together."""
        return self.done | self.failed


def read_batch(storage: Storage, name: BatchName) -> Batch | None:
    """What was asked for under this name, or None if there is no such batch."""
    try:
        return Batch.from_json(storage.get(keys.batch(name)))
    except ObjectMissing:
        return None


def write_manifest(path: Path, jobs: Iterable[StyleTransfer]) -> tuple[Digest, int, int]:
    """Write a manifest to a local file; returns its digest, its lines, and how many distinct jobs they name."""
    digest, lines, distinct = hashlib.sha256(), 0, set[JobId]()
    with path.open("wb") as file:
        for job in jobs:
            line = job.json_bytes() + b"\n"
            file.write(line)
            digest.update(line)
            distinct.add(job.id)
            lines += 1
    return digest.hexdigest(), lines, len(distinct)


def read_manifest(storage: Storage, batch: Batch) -> Iterator[StyleTransfer]:
    """The pairs of a batch in order, as they stand in storage; lines may share a job."""
    with tempfile.TemporaryDirectory(prefix="medley-") as folder:
        path = Path(folder, "manifest.jsonl")
        storage.get_file(keys.manifest(batch.name, batch.manifest), path)
        with path.open("rb") as file:
            for line in file:
                yield StyleTransfer.from_json(line)


def write_outcome(storage: Storage, outcome: Outcome) -> None:
    """Say in storage how a job of a batch ended; the acknowledgement of its message only ever follows this."""
    storage.put(keys.outcome(outcome.batch, outcome.job, outcome.status), outcome.json_bytes(), "application/json")


def read_outcome(storage: Storage, batch: BatchName, job: JobId, status: Status) -> Outcome:
    """One outcome."""
    return Outcome.from_json(storage.get(keys.outcome(batch, job, status)))


def read_result(storage: Storage, job: JobId) -> Result | None:
    """The commit of a job, or None if nobody has painted it."""
    try:
        return Result.from_json(storage.get(keys.result(job)))
    except ObjectMissing:
        return None


def list_outcomes(storage: Storage, name: BatchName) -> Outcomes:
    """Which jobs have ended, by one LIST."""
    outcomes = Outcomes(set(), set())
    prefix = keys.outcomes(name)
    for key in storage.list(prefix):
        job, status, _ = key.removeprefix(prefix).split(".")
        (outcomes.done if status == "done" else outcomes.failed).add(job)
    return Outcomes(outcomes.done, outcomes.failed - outcomes.done)


def missing(storage: Storage, batch: Batch, ended: set[JobId]) -> Iterator[StyleTransfer]:
    """The jobs of the manifest that have no outcome, each once, in order."""
    seen = set(ended)
    for job in read_manifest(storage, batch):
        if job.id not in seen:
            seen.add(job.id)
            yield job


def enqueue_missing(cluster: Cluster, batch: Batch, queue: QueueKind) -> int:
    """Enqueue what a batch lacks and nobody holds; returns how many jobs that were. Doing it twice adds nothing.

    A batch that lacks nothing, but its end, has its end enqueued.
    """
    storage, ledger = cluster.storage, cluster.ledger
    enqueued = 0
    # Listed before others are held off: an outcome that comes later costs a message, which is acknowledged at once.
    outcomes = list_outcomes(storage, batch.name)
    ledger.seed_outcomes(batch.name, *outcomes)
    with ledger.enqueuing(batch.name) as go_on:
        lacking = missing(storage, batch, outcomes.all)
        # Painters that were at work when Redis lost everything have reported again, and will write their outcomes.
        at_work = ledger.painting(batch.name, within_s=cluster.settings.lease_s).keys()
        while chunk := list(islice(lacking, PUBLISH_AT_ONCE)):
            out = at_work | ledger.which_enqueued(batch.name, [job.id for job in chunk])
            wanted = [job for job in chunk if job.id not in out]
            publish_paint(cluster.app, cluster.settings, queue, batch.name, wanted)
            # Noted after the publish: a note without a message would lose the job, a message without one repeats it.
            ledger.add_enqueued(batch.name, [job.id for job in wanted])
            enqueued += len(wanted)
            go_on()
    if len(outcomes.all) >= batch.jobs and not storage.exists(keys.finished(batch.name)):
        publish_finish(cluster.app, cluster.settings, batch.name)
    return enqueued
