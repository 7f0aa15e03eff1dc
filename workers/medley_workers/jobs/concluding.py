"""What concludes an attempt at a job: its outcome and all that follows from it; or the job is given back."""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from medley import keys
from medley.batches.chains import follow_on
from medley.batches.stored import write_outcome
from medley.broker.queue import publish_finish
from medley.errors import (
    BatchBusy,
    JobHeld,
    MedleyError,
    ObjectMissing,
    OutOfMemory,
    PaintingStopped,
    ServiceRefused,
    ServiceUnreachable,
    UsageError,
)
from medley.logs import about
from medley.records.batches import AnyBatch
from medley.records.kinds import Job
from medley.records.results import AnyResult, Outcome, Status
from medley.telling import shown
from medley_workers import metrics
from medley_workers.jobs.desk import Desk, Painted, Wanted
from medley_workers.jobs.suspicion import shall_others_try, worker_of

log = logging.getLogger(__name__)

GIVES_BACK = (ServiceUnreachable, ServiceRefused, OutOfMemory, JobHeld, PaintingStopped)
"""What a job is given back for, through no fault of its own."""


def conclude(desk: Desk, wanted: Wanted, result: Painted) -> None:
    """Write the outcome of a job by what came of its painting, and see to what follows from it; or give it back.

    The outcome follows the commit, and all else the outcome. Several may be concluded at once, but for those of a
    chain.

    Raises:
        ServiceUnreachable, ServiceRefused: a service is away, so the job is given back.
        OutOfMemory: there was no room, so the job is given back; MEDLEY_ATTEMPTS times, and then it has failed.
        JobHeld: another worker is to try it, so it is given back.
        PaintingStopped: this worker is to stop, so the job is given back.
    """
    with about(batch=wanted.batch.name, job=wanted.job.id):  # perhaps on another thread than it was painted on
        try:
            end(desk, wanted, lambda: _outcome(desk, wanted, _committed(result)))
        except PaintingStopped:
            if not drop_if_stopped(desk, wanted.batch, wanted.job):
                raise


def end(desk: Desk, wanted: Wanted, outcome_of: Callable[[], Outcome | None]) -> bool:
    """End an attempt with the outcome that ``outcome_of`` finds; false if it finds none, and the attempt goes on.

    What is raised ends it, too; if it is of :data:`GIVES_BACK`, the attempt does not count.
    """
    batch, job, _ = wanted
    try:
        outcome = outcome_of()
        if outcome is None:
            return False
        stands = desk.cluster.storage.exists(keys.manifest(batch.name, batch.manifest))
        if stands:
            write_outcome(desk.cluster.storage, outcome)
    except (*GIVES_BACK, SystemExit):
        give_back(desk, wanted)
        raise
    except BaseException:
        _let_go(desk, job)
        raise
    _let_go(desk, job)
    if stands:
        _tell(batch, job, outcome)
        note_outcome(desk, batch, job, outcome.status)
    else:
        log.warning("Job %s ended for nobody: batch %s was removed meanwhile.", job.id, batch.name)
    return True


def give_back(desk: Desk, wanted: Wanted) -> None:
    """Take an attempt back, and hold the job no longer."""
    metrics.GIVEN_BACK.inc()
    with suppress(MedleyError):  # Redis may be what is away; then the attempt stays counted
        desk.cluster.ledger.give_back(wanted.batch.name, wanted.job.id)
    _let_go(desk, wanted.job)


def drop_if_stopped(desk: Desk, batch: AnyBatch, job: Job) -> bool:
    """Drop the message of a job whose batch is stopped; who resumes the batch enqueues the job again."""
    state = desk.control(batch.name)
    if state == "running":
        return False
    log.info("Job %s dropped: batch %s is %s.", job.id, batch.name, state)
    desk.cluster.ledger.remove_enqueued(batch.name, [job.id])
    return True


def note_outcome(desk: Desk, batch: AnyBatch, job: Job, status: Status) -> None:
    """Tell the ledger, see to what follows in a chain, and enqueue the end of the batch if this was the last job.

    A service that is away is no reason to give the job back: its outcome stands, and whoever looks after the batch
    next finds it in storage.
    """
    try:
        if desk.cluster.ledger.record_outcome(batch.name, job.id, status) >= batch.jobs:
            publish_finish(desk.cluster.app, desk.cluster.settings, batch.name)
        follow_on(desk.cluster, batch, job.id, desk.followers, desk.advance)
    except (ServiceUnreachable, ServiceRefused, BatchBusy, UsageError, ObjectMissing) as error:
        log.warning("The outcome of job %s stands, but not all was noted that follows from it: %s", job.id, error)


def done(wanted: Wanted, result: AnyResult, kind: str, attempts: int) -> Outcome:
    """The outcome of a job that has a result."""
    return Outcome(
        job=result.job_id,
        batch=wanted.batch.name,
        status="done",
        kind=kind,
        names=wanted.job.names,
        attempts=attempts,
        worker=result.worker,
        seconds=result.seconds.total,
        loss=result.loss,
        finished_at=datetime.now(UTC),
    )


def failed(
    wanted: Wanted, kind: str, reason: str, attempts: int, worker: str, last_lines: Sequence[str] = ()
) -> Outcome:
    """The outcome of a job that failed: why, in which attempt, on which worker, and what that logged last."""
    return Outcome(
        job=wanted.job.id,
        batch=wanted.batch.name,
        status="failed",
        kind=kind,
        names=wanted.job.names,
        reason=reason,
        log=tuple(last_lines),
        attempts=attempts,
        worker=worker,
        seconds=0,
        finished_at=datetime.now(UTC),
    )


def _committed(result: Painted) -> AnyResult | Exception:
    if isinstance(result, AnyResult | Exception):
        return result
    try:
        return result()
    except Exception as error:
        return error


def _outcome(desk: Desk, wanted: Wanted, result: AnyResult | Exception) -> Outcome:
    """What comes of an attempt; raised are only reasons to give the job back."""
    batch, job, attempts = wanted
    ledger = desk.cluster.ledger
    if not isinstance(result, Exception):
        ledger.acquit(job.id, worker_of(desk.painter))
        return done(wanted, result, "painted", attempts.number)
    if isinstance(result, ServiceUnreachable | JobHeld | PaintingStopped):
        raise result
    if isinstance(result, MedleyError):
        may_pass = isinstance(result, ServiceRefused | OutOfMemory)
        if may_pass and ledger.count_refusal(batch.name, job.id) < desk.cluster.settings.attempts:
            raise result  # rights are mended, and others leave room, but it is not painted for nothing for ever
        kind, reason = result.kind, str(result)
    else:  # a mistake of ours must cost this job only, and be told
        log.error("Job %s of %s failed.", job.id, batch.name, exc_info=result)
        kind, reason = "bug", f"{type(result).__name__}: {result}. The worker's log has more."
    if shall_others_try(ledger, job.id, desk.painter, kind):
        raise JobHeld(f"Job {job.id} failed here, and another worker is to try it: {reason}")
    return failed(wanted, kind, reason, attempts.number, desk.painter, desk.log_tail())


def _tell(batch: AnyBatch, job: Job, outcome: Outcome) -> None:
    metrics.JOBS.labels("failed" if outcome.status == "failed" else outcome.kind).inc()
    if outcome.status == "failed":
        metrics.FAILURES.labels(outcome.kind).inc()
    loss = "" if outcome.loss is None else f", loss {outcome.loss:,.0f}"
    told = outcome.reason or f"{outcome.seconds:.1f} s{loss}"
    log.info("%s (job %s of %s): %s, %s", shown(job.names), job.id, batch.name, outcome.kind, told)


def _let_go(desk: Desk, job: Job) -> None:
    with suppress(MedleyError):  # then it lapses
        desk.cluster.ledger.let_go(job.id, desk.painter)
