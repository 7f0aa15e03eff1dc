"""What people decide about a batch: pause, resume, cancel, and try again what failed.

A decision is ``control.json`` in storage, which every delivery reads; the ledger's copy of it is there for speed, and
reaches those that are painting.
"""

import logging
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from medley import keys
from medley.batches.enqueuing import enqueue_missing, require_engine
from medley.batches.stored import each_outcome, read_outcome
from medley.cluster import Cluster
from medley.errors import BatchStopped, ObjectMissing, ServiceRefused, ServiceUnreachable, UsageError
from medley.records.base import BatchName, JobId
from medley.records.batches import AnyBatch, Control, ControlState
from medley.storage import Storage
from medley.threads import in_order

log = logging.getLogger(__name__)

READS_AT_ONCE = 8
"""Reads wait for the network more than for anything here."""

MOST_BYTES = 65_536
"""Of a control.json; ours have about 60."""


def read_control(storage: Storage, batch: BatchName) -> ControlState:
    """What was decided about a batch; without a decision it runs."""
    try:
        return Control.from_json(storage.get(keys.control(batch), MOST_BYTES)).state
    except ObjectMissing:
        return "running"


def control_now(storage: Storage, batch: BatchName) -> ControlState:
    """What a painter is to do about a batch; one that was removed is cancelled."""
    state = read_control(storage, batch)
    return state if state != "running" or storage.exists(keys.batch(batch)) else "cancelled"


def is_stopped(storage: Storage, batch: BatchName) -> bool:
    """Whether people stopped a batch before it ended: what was nearly done by then ends it all the same."""
    return read_control(storage, batch) != "running" and not storage.exists(keys.finished(batch))


def require_running(storage: Storage, batch: BatchName) -> None:
    """See that a batch may be enqueued.

    Raises:
        BatchStopped: it is paused or cancelled.
    """
    if is_stopped(storage, batch):
        state = read_control(storage, batch)
        raise BatchStopped(f"Batch {batch!r} is {state}. `medley resume {batch}` goes on with it.")


def pause(cluster: Cluster, batch: AnyBatch) -> None:
    """Stop a batch for now: what is being painted is kept as checkpoints, and what is enqueued is dropped.

    Raises:
        UsageError: it has ended, or is cancelled.
    """
    _require_unfinished(cluster.storage, batch)
    if read_control(cluster.storage, batch.name) == "cancelled":
        raise UsageError(f"Batch {batch.name!r} is cancelled, so there is nothing to pause.")
    _decide(cluster, batch.name, "paused")


def cancel(cluster: Cluster, batch: AnyBatch) -> None:
    """Stop a batch for good; what is done stays.

    Raises:
        UsageError: it has ended.
    """
    _require_unfinished(cluster.storage, batch)
    _decide(cluster, batch.name, "cancelled")
    cluster.storage.delete(keys.open_batch(batch.name))
    if read_control(cluster.storage, batch.name) == "running":  # somebody resumes it at the same moment
        cluster.storage.put(keys.open_batch(batch.name), b"")


def resume(cluster: Cluster, batch: AnyBatch) -> int:
    """Go on with a batch that was paused or cancelled; returns how many jobs were enqueued.

    Raises:
        UsageError: it has ended, or is of another version.
    """
    require_engine(batch)
    _require_unfinished(cluster.storage, batch)
    cluster.storage.put(keys.open_batch(batch.name), b"")
    _decide(cluster, batch.name, "running")
    cluster.storage.put(keys.open_batch(batch.name), b"")  # again, as who cancels it at the same moment removes it
    return enqueue_missing(cluster, batch, batch.queue)


def retry(cluster: Cluster, batch: AnyBatch, kinds: Collection[str] = ()) -> int:
    """Try again the jobs that failed, of these kinds or of all; returns how many.

    Raises:
        BatchStopped: the batch is paused or cancelled.
        UsageError: it is of another version.
    """
    storage, ledger = cluster.storage, cluster.ledger
    require_engine(batch)
    require_running(storage, batch.name)
    if storage.exists(keys.finished(batch.name)) and read_control(storage, batch.name) != "running":
        _decide(cluster, batch.name, "running")  # who stopped it came too late
    again = 0
    with ledger.enqueuing(batch.name) as go_on:
        for job in _failed(storage, batch, kinds):
            if not again:
                # In this order: whoever looks in between finds a batch that is open and lacks something.
                storage.put(keys.open_batch(batch.name), b"")
                storage.delete(keys.finished(batch.name))
                # Again, as one who ends it removes that, if we were too slow to go on holding the batch.
                storage.put(keys.open_batch(batch.name), b"")
            # The ledger first: a job that it takes for failed, but that has no outcome, would be found by nobody.
            ledger.forget_job(batch.name, job)
            storage.delete(keys.outcome(batch.name, job, "failed"))
            again += 1
            go_on()
    enqueue_missing(cluster, batch, batch.queue)  # even if none failed: an earlier retry may have been cut short
    return again


def _failed(storage: Storage, batch: AnyBatch, kinds: Collection[str]) -> Iterator[JobId]:
    """The jobs that failed, of these kinds."""
    failed = (job for job, status in each_outcome(storage, batch.name) if status == "failed")

    def if_wanted(job: JobId) -> JobId | None:
        try:
            return job if not kinds or read_outcome(storage, batch.name, job, "failed").kind in kinds else None
        except ObjectMissing:  # another retry was sooner
            return None

    with ThreadPoolExecutor(READS_AT_ONCE) as threads:
        yield from filter(None, in_order(threads, if_wanted, failed, ahead=READS_AT_ONCE))


def _require_unfinished(storage: Storage, batch: AnyBatch) -> None:
    if storage.exists(keys.finished(batch.name)):
        raise UsageError(f"Batch {batch.name!r} has ended. `medley retry {batch.name}` tries again what failed.")


def _decide(cluster: Cluster, batch: BatchName, state: ControlState) -> None:
    """Write a decision, and tell those that are painting."""
    decision = Control(state=state, at=datetime.now(UTC))
    cluster.storage.put(keys.control(batch), decision.json_bytes(), "application/json")
    try:
        cluster.ledger.set_control(batch, state)
    except (ServiceUnreachable, ServiceRefused) as error:  # painters then find it in storage
        log.warning("Batch %s is %s, but Redis could not be told: %s", batch, state, error)
