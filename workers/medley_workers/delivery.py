"""What happens to a delivered job: dropped, found ended, reused, painted, failed, or given back.

An acknowledgement only ever follows an outcome in storage or a drop; whatever is raised here gives the job back.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from medley import keys
from medley.batches import read_batch, read_result, write_outcome
from medley.cluster import Cluster
from medley.errors import JobHeld, MedleyError, OutOfMemory, ServiceRefused, ServiceUnreachable
from medley.jobs import Batch, StyleTransfer
from medley.media.images import shown
from medley.queue import publish_finish
from medley.records import BatchName
from medley.results import Outcome, Result, Status
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
        ServiceUnreachable, ServiceRefused: a service is away, so the job must be given back.
        OutOfMemory: there is no room now, so the job must be given back; MEDLEY_ATTEMPTS times, and then it has failed.
        JobHeld: another worker is painting this very job, so it must be given back, lest that one is lost.
    """
    batch = read_batch(desk.cluster.storage, batch_name)
    if batch is None:
        log.warning("Job %s dropped: its batch %s is no longer in storage.", job.id, batch_name)
        return
    status = _ended(desk.cluster.storage, batch, job)
    if status is None:
        outcome = _attempt(desk, batch, job)
        told = outcome.reason or f"{outcome.seconds:.1f} s, loss {outcome.loss:,.0f}"
        log.info("%s (job %s of %s): %s, %s", shown(job.names), job.id, batch.name, outcome.kind, told)
        status = outcome.status
    _note(desk, batch, job, status)


def _attempt(desk: Desk, batch: Batch, job: StyleTransfer) -> Outcome:
    """Reuse or paint, and write the outcome; returns it.

    An attempt is counted before it begins, so that one which kills its worker counts. One that is given back through
    no fault of the job's does not.
    """
    ledger, settings = desk.cluster.ledger, desk.cluster.settings
    # A lease that lapsed was last renewed longer ago than this, so a report that is younger is of a living painter.
    holder = ledger.painting(batch.name, within_s=settings.lease_s - settings.lease_renew_s).get(job.id)
    if holder and holder.worker != desk.worker:
        raise JobHeld(f"{holder.worker} paints job {job.id}, as reported just now; it is asked for again later.")
    attempts = ledger.count_attempt(batch.name, job.id)
    try:
        outcome = _paint(desk, batch, job, attempts)
        write_outcome(desk.cluster.storage, outcome)
    except (ServiceUnreachable, ServiceRefused, OutOfMemory, SystemExit):  # SystemExit: the worker is told to stop
        with suppress(MedleyError):  # Redis may be what is away; then the attempt stays counted
            ledger.give_back(batch.name, job.id)
        raise
    return outcome


def _paint(desk: Desk, batch: Batch, job: StyleTransfer, attempts: int) -> Outcome:
    """What comes of an attempt; nothing but a service that is away, or the end of the worker, is raised."""
    most = desk.cluster.settings.attempts
    try:
        if result := read_result(desk.cluster.storage, job.id):
            return _done(batch, result, "reused", attempts=0)
        if attempts > most:
            reason = f"It ended its worker {attempts - 1} times (MEDLEY_ATTEMPTS); it is not tried again."
            return _failed(desk, batch, job, Failure("poison", reason, attempts - 1))
        if desk.cluster.ledger.refusals(batch.name, job.id) >= most:  # nor is this outcome taken, perhaps, as yet
            reason = f"Storage refused its files {most} times (MEDLEY_ATTEMPTS). The worker's log has the reasons."
            return _failed(desk, batch, job, Failure("storage", reason, attempts))
        return _done(batch, desk.paint(job, batch), "painted", attempts)
    except ServiceUnreachable:
        raise
    except MedleyError as error:
        may_pass = isinstance(error, ServiceRefused | OutOfMemory)
        if may_pass and desk.cluster.ledger.count_refusal(batch.name, job.id) < most:
            raise  # rights are mended, and others leave room, but it is not painted for nothing for ever
        return _failed(desk, batch, job, Failure(error.kind, str(error), attempts))
    except Exception as error:  # a mistake of ours must cost this job only, and be told
        log.exception("Job %s of %s failed.", job.id, batch.name)
        reason = f"{type(error).__name__}: {error}. The worker's log has more."
        return _failed(desk, batch, job, Failure("bug", reason, attempts))


def _note(desk: Desk, batch: Batch, job: StyleTransfer, status: Status) -> None:
    """Tell the ledger, and enqueue the end of the batch if this was the last job.

    A ledger that is away is no reason to give the job back: its outcome stands, and whoever looks after the batch
    next finds it in storage.
    """
    try:
        if desk.cluster.ledger.record_outcome(batch.name, job.id, status) >= batch.jobs:
            publish_finish(desk.cluster.app, desk.cluster.settings, batch.name)
    except (ServiceUnreachable, ServiceRefused) as error:
        log.warning("The outcome of job %s stands, but was not noted: %s", job.id, error)


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


def _failed(desk: Desk, batch: Batch, job: StyleTransfer, failure: Failure) -> Outcome:
    return Outcome(
        job=job.id,
        batch=batch.name,
        status="failed",
        worker=desk.worker,
        seconds=0,
        finished_at=datetime.now(UTC),
        **failure._asdict(),
    )
