"""Chains: pictures of one photo that begin with one another, so that it flows from style to style.

A job whose predecessor has no outcome is not missing yet. Whoever writes an outcome sees to what follows: the next job
is enqueued, or, after a failure, all that follow fail for the same reason. The reconciler finds what nobody saw to.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from medley.batches import outcome_status, read_manifest, read_outcome, write_outcome
from medley.cluster import Cluster
from medley.errors import ObjectMissing, UsageError
from medley.jobs import AnyBatch, Batch, StyleTransfer
from medley.kinds import Job
from medley.queue import publish_finish, publish_paint
from medley.records import BatchName, JobId
from medley.results import Outcome, Status

_AFTER = "The picture before it in its chain failed: "


def is_chained(batch: AnyBatch) -> bool:
    """Whether jobs of a batch begin with other ones' pictures."""
    return isinstance(batch, Batch) and batch.sampling.chain


def follow_on(cluster: Cluster, batch: AnyBatch, ended: JobId, status: Status) -> None:
    """See to what follows a job that has this outcome now. Doing it twice adds nothing.

    It reads the manifest, which takes a painter 10 ms for a thousand pairs.

    Raises:
        ServiceUnreachable, ServiceRefused: the reconciler does it later.
        UsageError, ObjectMissing: the manifest cannot be used.
    """
    if not is_chained(batch):
        return
    following = _following(cluster, batch, ended)
    if status == "failed":
        for each in following:
            fail_after(cluster, batch, each)
        return
    job = next(following, None)
    if job and not cluster.ledger.which_known(batch.name, [job.id]):
        publish_paint(cluster.app, cluster.settings, batch.queue, batch.name, [job])
        cluster.ledger.add_enqueued(batch.name, [job.id], batch.queue)


def ready(cluster: Cluster, batch: AnyBatch, jobs: Sequence[Job]) -> Iterator[Job]:
    """Those of these jobs, in the manifest's order, that can be painted now; those that follow a failure fail."""
    before = [job.init for job in jobs if isinstance(job, StyleTransfer) and job.init]
    statuses = cluster.ledger.statuses(batch.name, before) if before else {}
    for job in jobs:
        if not isinstance(job, StyleTransfer) or job.init is None or statuses.get(job.init) == "done":
            yield job
        elif statuses.get(job.init) == "failed":
            fail_after(cluster, batch, job)
            statuses[job.id] = "failed"  # and so do those that follow it


def fail_after(cluster: Cluster, batch: AnyBatch, job: StyleTransfer) -> None:
    """Have a job fail as its predecessor did, unless it has an outcome; the last one of a batch enqueues its end."""
    if job.init is None or outcome_status(cluster.storage, batch.name, job.id):
        return
    kind, reason = _why(cluster, batch.name, job.init)
    outcome = Outcome(
        job=job.id,
        batch=batch.name,
        status="failed",
        kind=kind,
        names=job.names,
        reason=reason if reason.startswith(_AFTER) else f"{_AFTER}{reason}",
        attempts=0,
        worker="",
        seconds=0,
        finished_at=datetime.now(UTC),
    )
    write_outcome(cluster.storage, outcome)
    if cluster.ledger.record_outcome(batch.name, job.id, "failed") >= batch.jobs:
        publish_finish(cluster.app, cluster.settings, batch.name)


def _following(cluster: Cluster, batch: AnyBatch, ended: JobId) -> Iterator[StyleTransfer]:
    """The jobs of a chain behind one of them, in order; a job always stands behind its predecessor."""
    last = ended
    for job in read_manifest(cluster.storage, batch):
        if isinstance(job, StyleTransfer) and job.init == last:
            last = job.id
            yield job


def _why(cluster: Cluster, batch: BatchName, failed: JobId) -> tuple[str, str]:
    """Kind and reason of a failure."""
    try:
        outcome = read_outcome(cluster.storage, batch, failed, "failed")
    except (UsageError, ObjectMissing) as error:  # another version wrote it, or it is being tried again
        return "unreadable", str(error)
    return outcome.kind, outcome.reason
