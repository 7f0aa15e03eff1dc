"""Chains: pictures of one photo that begin with one another, so that it flows from style to style.

A job whose predecessor is not done is not missing yet. Whoever writes an outcome sees to what follows: the next job is
enqueued, or, after a failure, all that follow fail for the same reason. The reconciler finds what nobody saw to.
"""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

from medley import keys
from medley.batches.job_table import JobTable
from medley.batches.stored import outcome_status, read_manifest, read_outcome, write_outcome
from medley.broker.queue import publish_finish, publish_paint
from medley.cluster import Cluster
from medley.errors import ObjectMissing, UsageError
from medley.records.base import BatchName, Digest, JobId
from medley.records.batches import AnyBatch, Batch
from medley.records.jobs import StyleTransfer
from medley.records.kinds import Job
from medley.records.results import Outcome
from medley.storage import Storage
from medley.telling import quiet


def is_chained(batch: AnyBatch) -> bool:
    """Whether jobs of a batch begin with other ones' pictures."""
    return isinstance(batch, Batch) and batch.sampling.chain


class Followers:
    """Which job follows which, of one chained batch at a time: its manifest is read once, into a table on disk.

    For one thread at a time, as the table is.
    """

    def __init__(self) -> None:
        self._manifest: Digest | None = None
        self._open = ExitStack()
        weakref.finalize(self, self._open.close)

    def after(self, storage: Storage, batch: AnyBatch, job: JobId) -> StyleTransfer | None:
        """The job that begins with this one's picture, if there is one.

        Raises:
            UsageError, ObjectMissing: the manifest cannot be used.
        """
        if self._manifest != batch.manifest:
            self._read(storage, batch)
        line = self._table.values([job]).get(job)
        return StyleTransfer.from_json(line) if line else None

    def _read(self, storage: Storage, batch: AnyBatch) -> None:
        self._manifest = None
        self._open.close()
        self._table = self._open.enter_context(JobTable())
        chained = (job for job in read_manifest(storage, batch) if isinstance(job, StyleTransfer) and job.init)
        self._table.put((job.init or "", job.json_bytes().decode()) for job in chained)
        self._manifest = batch.manifest


def follow_on(
    cluster: Cluster, batch: AnyBatch, ended: JobId, followers: Followers, advance: Callable[[], None] = quiet
) -> None:
    """See to what follows a job that has ended, by the outcome that stands. Doing it twice adds nothing.

    Args:
        cluster: where the batch is
        batch: any; one that is not chained costs nothing
        ended: the job
        followers: what the process knows of who follows whom
        advance: called for each job that fails

    Raises:
        ServiceUnreachable, ServiceRefused, BatchBusy: the reconciler, or ``medley retry``, does it later.
        UsageError, ObjectMissing: the manifest cannot be used.
    """
    if not is_chained(batch) or (job := followers.after(cluster.storage, batch, ended)) is None:
        return
    status = outcome_status(cluster.storage, batch.name, ended)
    if status == "done":
        _send_out(cluster, batch, job)
    while status == "failed" and job and fail_after(cluster, batch, job):
        advance()
        job = followers.after(cluster.storage, batch, job.id)


def ready(cluster: Cluster, batch: AnyBatch, jobs: Sequence[Job], advance: Callable[[], None] = quiet) -> Iterator[Job]:
    """Those of these jobs, in the manifest's order, that can be painted now; those that follow a failure fail."""
    before = [job.init for job in jobs if isinstance(job, StyleTransfer) and job.init]
    statuses = cluster.ledger.statuses(batch.name, before) if before else {}
    for job in jobs:
        if not isinstance(job, StyleTransfer) or job.init is None or statuses.get(job.init) == "done":
            yield job
        elif statuses.get(job.init) == "failed" and fail_after(cluster, batch, job):
            statuses[job.id] = "failed"  # and so do those that follow it
            advance()


def fail_after(cluster: Cluster, batch: AnyBatch, job: StyleTransfer) -> bool:
    """Have a job fail as its predecessor did; false if that failure does not stand (any more), or the batch is gone.

    A job that is done stays so. The last outcome of a batch enqueues its end.
    """
    if job.init is None or not cluster.storage.exists(keys.batch(batch.name)):
        return False
    try:
        before = _failure(cluster.storage, batch.name, job.init)
    except ObjectMissing:  # it is being tried again
        return False
    if cluster.storage.exists(keys.outcome(batch.name, job.id, "done")):
        return True
    outcome = Outcome(
        job=job.id,
        batch=batch.name,
        status="failed",
        kind=before.kind if before else "unreadable",
        after=before.after or before.job if before else job.init,
        names=job.names,
        reason=_reason(before),
        attempts=0,
        worker="",
        seconds=0,
        finished_at=datetime.now(UTC),
    )
    write_outcome(cluster.storage, outcome)
    if cluster.ledger.record_outcome(batch.name, job.id, "failed") >= batch.jobs:
        publish_finish(cluster.app, cluster.settings, batch.name)
    return True


def _send_out(cluster: Cluster, batch: AnyBatch, job: StyleTransfer) -> None:
    """Enqueue a job whose predecessor is done, unless it is out, or has ended of itself."""
    known = cluster.ledger.which_known(batch.name, [job.id])
    if known and not _failed_for_nothing(cluster.storage, batch.name, job.id):
        return
    if known:  # its predecessor was given up, and then was done after all
        with cluster.ledger.enqueuing(batch.name, 0):
            cluster.ledger.forget_job(batch.name, job.id)
            cluster.storage.delete(keys.outcome(batch.name, job.id, "failed"))
    publish_paint(cluster.app, cluster.settings, batch.queue, batch.name, [job])
    cluster.ledger.add_enqueued(batch.name, [job.id], batch.queue)


def _failed_for_nothing(storage: Storage, batch: BatchName, job: JobId) -> bool:
    """Whether a job has failed, and only because one before it had."""
    if storage.exists(keys.finished(batch)) or outcome_status(storage, batch, job) != "failed":
        return False
    try:
        outcome = _failure(storage, batch, job)
    except ObjectMissing:
        return False
    return outcome is not None and outcome.after is not None


def _failure(storage: Storage, batch: BatchName, job: JobId) -> Outcome | None:
    """How a job failed; None if another version wrote that.

    Raises:
        ObjectMissing: it has not failed.
    """
    try:
        return read_outcome(storage, batch, job, "failed")
    except UsageError:
        return None


def _reason(before: Outcome | None) -> str:
    """Why what follows a failure fails; as what follows that does."""
    if before is None:
        return "A picture before it in its chain failed."
    return before.reason if before.after else f"The picture before it in its chain failed: {before.reason}"
