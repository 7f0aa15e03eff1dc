"""What a batch lacks goes out: its manifest minus its outcomes. Recovery from any loss is to enqueue that again."""

from itertools import islice

from medley import keys
from medley.batches.chains import ready
from medley.batches.stored import each_outcome, read_manifest
from medley.broker.bundles import bundle_of
from medley.broker.ledger import WAITS_S
from medley.broker.queue import PUBLISH_AT_ONCE, publish_finish, publish_paint
from medley.cluster import Cluster
from medley.errors import BatchBusy, UsageError
from medley.records.batches import AnyBatch, QueueKind
from medley.records.jobs import ENGINE
from medley.storage import Storage
from medley.telling import Told, quiet


def recount(cluster: Cluster, batch: AnyBatch, waits_s: float = 0.0) -> bool:
    """Have the ledger know how many of a batch's jobs have ended, by one LIST; false if someone else enqueues it."""
    try:
        with cluster.ledger.enqueuing(batch.name, waits_s) as go_on:
            cluster.ledger.recount(batch.name, each_outcome(cluster.storage, batch.name), go_on)
    except BatchBusy:
        return False
    return True


def require_engine(batch: AnyBatch) -> None:
    """See that our workers paint a batch as was asked for.

    Raises:
        UsageError: they do not; its jobs' ids are those of another engine.
    """
    if batch.engine != ENGINE:
        raise UsageError(
            f"Batch {batch.name!r} is of engine {batch.engine}, and this is engine {ENGINE}, which would paint other "
            "pictures. Use the version that submitted it."
        )


def take_back_end(storage: Storage, batch: AnyBatch) -> None:
    """Have a batch that lacks something not be ended: who ended it may have lost its hold to one who tries it again."""
    if storage.exists(keys.finished(batch.name)):
        storage.delete(keys.finished(batch.name))
        storage.put(keys.open_batch(batch.name), b"")


def enqueue_missing(
    cluster: Cluster, batch: AnyBatch, queue: QueueKind, waits_s: float = WAITS_S, told: Told = quiet
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


def _enqueue(cluster: Cluster, batch: AnyBatch, queue: QueueKind, waits_s: float, told: Told) -> int:
    """Enqueue those jobs of the manifest of which the ledger knows nothing."""
    ledger, enqueued, bundle = cluster.ledger, 0, bundle_of(batch, cluster.settings)
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
            wanted = list(ready(cluster, batch, [job for job in jobs.values() if job.id not in known], go_on))
            publish_paint(cluster.app, cluster.settings, queue, batch.name, wanted, bundle=bundle)
            # Noted after the publish: a note without a message would lose the job for a while, a message without a
            # note repeats it at most.
            ledger.add_enqueued(batch.name, [job.id for job in wanted], queue)
            enqueued += len(wanted)
            told("enqueuing", enqueued, batch.jobs)
            go_on()
            chunk = list(islice(lines, PUBLISH_AT_ONCE))
    return enqueued
