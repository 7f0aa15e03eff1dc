"""What decides about a delivered job: it is dropped, found ended, reused, hopeless; or painted."""

import logging
from collections.abc import Sequence

from medley import keys
from medley.batches.stored import outcome_status, read_batch, read_result
from medley.broker.queue import PAINT
from medley.errors import JobHeld, UsageError
from medley.logs import about
from medley.records.base import BatchName
from medley.records.batches import AnyBatch
from medley.records.jobs import StyleTransfer
from medley.records.kinds import Job, id_of
from medley.records.results import Outcome
from medley_workers import metrics
from medley_workers.jobs.concluding import done, drop_if_stopped, end, failed, note_outcome
from medley_workers.jobs.desk import Desk, Wanted
from medley_workers.jobs.suspicion import leave_to_others

log = logging.getLogger(__name__)


def batch_of(desk: Desk, name: BatchName, jobs: Sequence[Job]) -> AnyBatch | None:
    """The batch of these jobs; None if they are dropped, as it is gone, or of another version."""
    try:
        batch = read_batch(desk.cluster.storage, name)
    except UsageError as error:
        _drop_unread(desk, name, jobs, error)
        return None
    if batch is None:
        ids = ", ".join(job.id for job in jobs)
        log.warning("Job %s dropped: its batch %s is no longer in storage.", ids, name)
    return batch


def decide(desk: Desk, batch: AnyBatch, job: Job) -> Wanted | None:
    """Whether a job is to be painted now; None if it has come to its end, or its message does without that.

    Raises:
        ServiceUnreachable, ServiceRefused: a service is away, so the job must be given back.
        JobHeld: another worker is painting this very job, or is to try it, so it must be given back.
    """
    with about(job=job.id):
        try:
            if drop_if_stopped(desk, batch, job):
                return None
        except UsageError as error:
            _drop_unread(desk, batch.name, [job], error)
            return None
        if job.id != id_of(job, batch):
            reason = f"Its job {job.id} of batch {batch.name} is not what the id says."
            desk.cluster.ledger.set_aside(PAINT, reason, job.json_bytes())
            return None
        if status := outcome_status(desk.cluster.storage, batch.name, job.id):
            note_outcome(desk, batch, job, status)
            return None
        return None if _is_early(desk, batch, job) else _begin(desk, batch, job)


def _drop_unread(desk: Desk, batch: BatchName, jobs: Sequence[Job], error: UsageError) -> None:
    """Drop messages of what cannot be read."""
    ids = [job.id for job in jobs]
    log.warning("Job %s is dropped: %s Once that is mended, submit batch %s again.", ", ".join(ids), error, batch)
    desk.cluster.ledger.remove_enqueued(batch, ids)


def _is_early(desk: Desk, batch: AnyBatch, job: Job) -> bool:
    """Whether what a job begins with is not done (any more), so that the message ends here; that sends it out again."""
    if not isinstance(job, StyleTransfer) or not job.init:
        return False
    if outcome_status(desk.cluster.storage, batch.name, job.init) == "done":
        return False
    log.info("Job %s dropped: job %s, with whose picture it begins, is not done.", job.id, job.init)
    desk.cluster.ledger.remove_enqueued(batch.name, [job.id])
    return True


def _begin(desk: Desk, batch: AnyBatch, job: Job) -> Wanted | None:
    """Begin an attempt; None if it has come to its end at once, as the job was painted before, or is hopeless.

    An attempt is counted before it begins, so that one which kills its worker counts. One that is given back through
    no fault of the job's does not.
    """
    ledger = desk.cluster.ledger
    holder = ledger.hold(job.id, desk.painter)
    if holder != desk.painter:
        raise JobHeld(f"{holder} paints job {job.id}, as reported just now; it is asked for again later.")
    wanted = Wanted(batch, job, ledger.count_attempt(batch.name, job.id, desk.painter))
    if wanted.attempts.number > 1:
        metrics.RETRIES.inc()
    return None if end(desk, wanted, lambda: _known_end(desk, wanted)) else wanted


def _known_end(desk: Desk, wanted: Wanted) -> Outcome | None:
    """How a job ends that need not be painted, or not again; raised are only reasons to give it back."""
    job, number = wanted.job, wanted.attempts.number
    try:
        result = read_result(desk.cluster.storage, job.id)
    except UsageError as error:  # no other can be committed while it stands
        reason = f"{error} Remove {keys.result(job.id)}, and `medley retry {wanted.batch.name}`."
        return failed(wanted, "unreadable", reason, number, desk.painter)
    if result:
        return done(wanted, result, "reused", attempts=0)
    if outcome := _hopeless(desk, wanted):
        return outcome
    if leave_to_others(desk.cluster.ledger, job.id, desk.painter):
        raise JobHeld(f"Job {job.id} failed here, and another worker is to try it.")
    return None


def _hopeless(desk: Desk, wanted: Wanted) -> Outcome | None:
    """How a job ends that is not even tried any more."""
    most, attempts = desk.cluster.settings.attempts, wanted.attempts
    if attempts.number > most:
        times = attempts.number - 1
        last = f"at last {attempts.worker}{f' ({attempts.death})' if attempts.death else ''}"
        reason = f"It ended its worker {times} times (MEDLEY_ATTEMPTS), {last}; it is not tried again."
        return failed(wanted, "poison", reason, times, attempts.worker)
    if desk.cluster.ledger.refusals(wanted.batch.name, wanted.job.id) >= most:
        # Nor is this outcome taken, perhaps, as yet.
        reason = f"What it needs was refused {most} times (MEDLEY_ATTEMPTS). The worker's log has the reasons."
        return failed(wanted, "refused", reason, attempts.number, desk.painter)
    return None
