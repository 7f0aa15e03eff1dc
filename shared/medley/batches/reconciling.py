"""The reconciler: what open batches lack goes out again, whatever was lost; and what lacks only its end is ended.

What a batch lacks is its manifest minus its outcomes minus what is enqueued, and minus what waits for its predecessor
in a chain. Three numbers of the ledger tell whether that is anything, so a look at a batch that is well costs a few
round trips. They do not tell it of a chained batch, whose manifest is gone through now and then.
"""

import logging

from medley import keys
from medley.batches.chains import is_chained
from medley.batches.control import is_stopped
from medley.batches.ending import ending_claim
from medley.batches.enqueuing import enqueue_missing
from medley.batches.notifying import is_put_off
from medley.batches.stored import read_batch
from medley.broker.queue import publish_finish
from medley.cluster import Cluster
from medley.errors import BatchBusy, StorageRefused, StorageUnreachable, UsageError
from medley.records.base import BatchName
from medley.records.batches import AnyBatch
from medley.records.jobs import ENGINE
from medley.telling import shown

log = logging.getLogger(__name__)

CHAINS_EVERY_S = 300.0
"""Of a chained batch most jobs wait for others and are not out, so numbers do not tell whether it lacks any. One waits
in vain if its predecessor's painter died at the wrong moment. That is rare, and found so late at most."""


def reconcile_all(cluster: Cluster) -> None:
    """Look after every open batch; one that cannot be looked after holds none of the others up.

    Raises:
        ServiceUnreachable, ServiceRefused: Redis or storage does not serve us.
    """
    for key in cluster.storage.list(keys.OPEN):
        name = key.removeprefix(keys.OPEN)
        try:
            if enqueued := reconcile(cluster, name):
                log.info("Batch %s lacked %d jobs that nobody had: enqueued.", name, enqueued)
        except BatchBusy:
            continue  # who enqueues it looks after it
        except (UsageError, StorageRefused, StorageUnreachable) as error:
            log.warning("Batch %s cannot be looked after: %s", shown(name), error)


def reconcile(cluster: Cluster, name: BatchName) -> int:
    """Enqueue what a batch lacks, or its end if it lacks only that; returns how many jobs that were.

    A Redis that has just come up empty is given a lease's time, in which painters that are at work report again.

    Raises:
        BatchBusy: another one enqueues it.
        UsageError: another version wrote its records.
        ServiceUnreachable, ServiceRefused: Redis or storage does not serve us.
    """
    batch = read_batch(cluster.storage, name)
    if batch is None or batch.engine != ENGINE or is_stopped(cluster.storage, name):
        return 0  # it is being submitted, or was given up; other workers' care; or stopped by people
    if cluster.ledger.age_s() < cluster.settings.lease_s or _lacks_nothing(cluster, batch):
        return 0
    return enqueue_missing(cluster, batch, batch.queue, waits_s=0.0)


def _lacks_nothing(cluster: Cluster, batch: AnyBatch) -> bool:
    """Whether every job has ended or has a message out; a batch whose jobs have all ended has its end enqueued."""
    counts = cluster.ledger.counts(batch.name)
    if not counts.counted:
        return False
    if counts.ended >= batch.jobs:
        if not _ends_anyway(cluster, batch):
            publish_finish(cluster.app, cluster.settings, batch.name)
        return True
    if not counts.enqueued:
        return False
    silent_s = cluster.ledger.silent_s(batch.name)
    if silent_s < cluster.settings.lease_s:
        return counts.ended + counts.enqueued >= batch.jobs or _waits_for_its_chains(cluster, batch)
    log.warning(
        "Batch %s: no message has waited or been held for %.0f s, so those noted are lost.", batch.name, silent_s
    )
    cluster.ledger.drop_enqueued(batch.name)
    return False


def _waits_for_its_chains(cluster: Cluster, batch: AnyBatch) -> bool:
    """Whether what is not out is taken to wait for what is; now and then it is not, and all is looked at."""
    return is_chained(batch) and not cluster.ledger.claim(f"chains:{batch.name}", CHAINS_EVERY_S)


def _ends_anyway(cluster: Cluster, batch: AnyBatch) -> bool:
    """Whether someone is about the end of a batch, or it has ended, and it is not time yet to tell of it again."""
    if cluster.ledger.queue_lengths()["finish"] or cluster.ledger.is_claimed(ending_claim(batch.name)):
        return True
    return is_put_off(cluster.storage, batch.name) and cluster.storage.exists(keys.finished(batch.name))
