"""What happens to a delivered job: dropped, found ended, reused, painted, failed, or given back.

An acknowledgement only ever follows an outcome in storage or a drop; whatever is raised here gives the job back.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from medley import keys
from medley.batches import read_batch, read_result, write_outcome
from medley.cluster import Cluster
from medley.errors import MedleyError, ServiceRefused, ServiceUnreachable
from medley.jobs import Batch, Outcome, Result, Status, StyleTransfer
from medley.queue import publish_finish
from medley.records import BatchName, JobId
from medley.storage import Storage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Desk:
    """What a delivery is dealt with at; ``paint`` paints a job of a batch and commits it."""

    cluster: Cluster
    worker: str
    paint: Callable[[StyleTransfer, Batch], Result]


class Failure(NamedTuple):
    """Why a job failed, and in which attempt."""

    kind: str
    reason: str
    attempts: int


def deliver(desk: Desk, batch_name: BatchName, job: StyleTransfer) -> None:
    """Bring one job to its outcome.

    Raises:
        ServiceUnreachable, ServiceRefused: a service is away; the job must be given back.
    """
    batch = read_batch(desk.cluster.storage, batch_name)
    if batch is None:
        log.warning("Job %s dropped: its batch %s is no longer in storage.", job.id, batch_name)
        return
    if status := _ended(desk.cluster.storage, batch, job):
        log.info("Job %s of %s has ended already: %s.", job.id, batch.name, status)
        _note(desk, batch, job.id, status)
    elif result := read_result(desk.cluster.storage, job.id):
        _conclude(desk, batch, _done(batch, result, "reused", attempts=0))
    else:
        _attempt(desk, batch, job)


def _attempt(desk: Desk, batch: Batch, job: StyleTransfer) -> None:
    """Paint, unless the job has ended too many workers; whatever comes of it is its outcome, unless a service is away.

    The attempt is counted before it begins, so that one which kills its worker counts too.
    """
    attempts = desk.cluster.ledger.count_attempt(batch.name, job.id)
    if attempts > desk.cluster.settings.attempts:
        reason = f"It ended its worker {attempts - 1} times (MEDLEY_ATTEMPTS); it is not tried again."
        _fail(desk, batch, job, Failure("poison", reason, attempts - 1))
        return
    try:
        result = desk.paint(job, batch)
    except (ServiceUnreachable, ServiceRefused):
        desk.cluster.ledger.uncount_attempt(batch.name, job.id)
        raise
    except MedleyError as error:
        _fail(desk, batch, job, Failure(error.kind, str(error), attempts))
    except Exception as error:  # a mistake of ours must cost this job only, and be told
        log.exception("Job %s of %s failed.", job.id, batch.name)
        reason = f"{type(error).__name__}: {error}. The worker's log has more."
        _fail(desk, batch, job, Failure("bug", reason, attempts))
    else:
        _conclude(desk, batch, _done(batch, result, "painted", attempts))


def _fail(desk: Desk, batch: Batch, job: StyleTransfer, failure: Failure) -> None:
    outcome = Outcome(
        job=job.id,
        batch=batch.name,
        status="failed",
        worker=desk.worker,
        seconds=0,
        finished_at=datetime.now(UTC),
        **failure._asdict(),
    )
    _conclude(desk, batch, outcome)


def _conclude(desk: Desk, batch: Batch, outcome: Outcome) -> None:
    """Write the outcome; only then note it."""
    write_outcome(desk.cluster.storage, outcome)
    log.info("Job %s of %s: %s, %s %s", outcome.job, batch.name, outcome.status, outcome.kind, outcome.reason)
    _note(desk, batch, outcome.job, outcome.status)


def _note(desk: Desk, batch: Batch, job: JobId, status: Status) -> None:
    """Tell the ledger, and enqueue the end of the batch if this was the last job.

    A ledger that is away is no reason to give the job back: its outcome stands, and whoever looks after the batch
    next finds it in storage.
    """
    try:
        if desk.cluster.ledger.record_outcome(batch.name, job, status) >= batch.jobs:
            publish_finish(desk.cluster.app, desk.cluster.settings, batch.name)
    except (ServiceUnreachable, ServiceRefused) as error:
        log.warning("The outcome of job %s stands, but was not noted: %s", job, error)


def _ended(storage: Storage, batch: Batch, job: StyleTransfer) -> Status | None:
    """The status of this batch's outcome, if it has one."""
    statuses: tuple[Status, ...] = ("done", "failed")  # in this order, as done wins
    for status in statuses:
        if storage.exists(keys.outcome(batch.name, job.id, status)):
            return status
    return None


def _done(batch: Batch, result: Result, kind: str, attempts: int) -> Outcome:
    return Outcome(
        job=result.job_id,
        batch=batch.name,
        status="done",
        kind=kind,
        attempts=attempts,
        worker=result.worker,
        seconds=result.seconds.total,
        loss=result.loss,
        finished_at=datetime.now(UTC),
    )
