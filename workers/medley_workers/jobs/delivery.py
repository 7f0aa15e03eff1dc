"""What happens to a delivered job: dropped, found ended, reused, painted, failed, or given back.

An acknowledgement only ever follows an outcome in storage or a drop; whatever is raised here gives the job back.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import NamedTuple

from medley import keys
from medley.batches.chains import follow_on
from medley.batches.stored import outcome_status, read_batch, read_result, write_outcome
from medley.broker.paintings import Attempts
from medley.broker.queue import PAINT, publish_finish
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
from medley.media.images import shown
from medley.records.base import BatchName
from medley.records.batches import AnyBatch
from medley.records.jobs import StyleTransfer
from medley.records.kinds import Job, id_of
from medley.records.results import AnyResult, Outcome, Status
from medley_workers import metrics
from medley_workers.jobs.desk import Desk, Painted, Wanted
from medley_workers.jobs.suspicion import leave_to_others, shall_others_try, worker_of

log = logging.getLogger(__name__)


class Failure(NamedTuple):
    """Why a job failed, in which attempt, and on which worker."""

    kind: str
    reason: str
    attempts: int
    worker: str
    log: Sequence[str] = ()


GIVES_BACK = (ServiceUnreachable, ServiceRefused, OutOfMemory, JobHeld, PaintingStopped)
"""What a job is given back for, through no fault of its own."""


def deliver(desk: Desk, batch_name: BatchName, job: Job) -> None:
    """Bring one job to its outcome, or drop it where its batch is stopped or gone.

    Raises:
        ServiceUnreachable, ServiceRefused: a service is away, so the job must be given back.
        OutOfMemory: there is no room now, so the job must be given back; MEDLEY_ATTEMPTS times, and then it has failed.
        JobHeld: another worker is painting this very job, or is to try it, so it must be given back.
        PaintingStopped: this worker is to stop, so the job must be given back.
    """
    if (batch := batch_of(desk, batch_name, [job])) and (wanted := decide(desk, batch, job)):
        conclude(desk, wanted, painted(desk, wanted))


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
        ServiceUnreachable, ServiceRefused, JobHeld: as of :func:`deliver`.
    """
    with about(job=job.id):
        return _decided(desk, batch, job)


def _decided(desk: Desk, batch: AnyBatch, job: Job) -> Wanted | None:
    try:
        if _is_dropped(desk, batch, job):
            return None
    except UsageError as error:
        _drop_unread(desk, batch.name, [job], error)
        return None
    if job.id != id_of(job, batch):
        reason = f"Its job {job.id} of batch {batch.name} is not what the id says."
        desk.cluster.ledger.set_aside(PAINT, reason, job.json_bytes())
        return None
    if status := outcome_status(desk.cluster.storage, batch.name, job.id):
        _note(desk, batch, job, status)
        return None
    return None if _is_early(desk, batch, job) else _begin(desk, batch, job)


def painted(desk: Desk, wanted: Wanted) -> Painted:
    """Paint a job, alone; returns what comes of it. If this process is ended meanwhile, the job is given back."""
    try:
        with about(job=wanted.job.id):
            return desk.paint(wanted.job, wanted.batch)
    except Exception as error:
        return error
    except SystemExit:
        give_back(desk, wanted)
        raise


def conclude(desk: Desk, wanted: Wanted, result: Painted) -> None:
    """Write the outcome of a job by what came of its painting, and see to what follows from it; or give it back.

    The outcome follows the commit, and all else the outcome. Several may be concluded at once, but for those of a
    chain.

    Raises:
        ServiceUnreachable, ServiceRefused, OutOfMemory, JobHeld, PaintingStopped: as of :func:`deliver`.
    """
    with about(batch=wanted.batch.name, job=wanted.job.id):  # perhaps on another thread than it was painted on
        try:
            with _attempt(desk, wanted):
                outcome = _outcome(desk, wanted, _finished(result))
                stands = _write(desk, wanted, outcome)
        except PaintingStopped:
            if _is_dropped(desk, wanted.batch, wanted.job):
                return
            raise
        _end(desk, wanted, outcome if stands else None)


def give_back(desk: Desk, wanted: Wanted) -> None:
    """Take an attempt back, and hold the job no longer."""
    metrics.GIVEN_BACK.inc()
    with suppress(MedleyError):  # Redis may be what is away; then the attempt stays counted
        desk.cluster.ledger.give_back(wanted.batch.name, wanted.job.id)
    _let_go(desk, wanted.job)


def _begin(desk: Desk, batch: AnyBatch, job: Job) -> Wanted | None:
    """Begin an attempt; None if it has come to its end at once, as the job was painted before, or is hopeless.

    An attempt is counted before it begins, so that one which kills its worker counts. One that is given back through
    no fault of the job's does not.
    """
    ledger = desk.cluster.ledger
    holder = ledger.hold(job.id, desk.worker)
    if holder != desk.worker:
        raise JobHeld(f"{holder} paints job {job.id}, as reported just now; it is asked for again later.")
    wanted = Wanted(batch, job, ledger.count_attempt(batch.name, job.id, desk.worker))
    if wanted.attempts.number > 1:
        metrics.RETRIES.inc()
    with _attempt(desk, wanted):
        outcome = _known_end(desk, wanted)
        if outcome is None:
            return wanted
        stands = _write(desk, wanted, outcome)
    _end(desk, wanted, outcome if stands else None)
    return None


@contextmanager
def _attempt(desk: Desk, wanted: Wanted) -> Iterator[None]:
    """Around what an attempt may end in: whatever is raised there ends it, and some of that takes it back."""
    try:
        yield
    except (*GIVES_BACK, SystemExit):
        give_back(desk, wanted)
        raise
    except BaseException:
        _let_go(desk, wanted.job)
        raise


def _known_end(desk: Desk, wanted: Wanted) -> Outcome | None:
    """How a job ends that need not be painted, or not again; raised are only reasons to give it back."""
    batch, job, attempts = wanted
    try:
        result = read_result(desk.cluster.storage, job.id)
    except UsageError as error:  # no other can be committed while it stands
        reason = f"{error} Remove {keys.result(job.id)}, and `medley retry {batch.name}`."
        return _failed(batch, job, Failure("unreadable", reason, attempts.number, desk.worker))
    if result:
        return _done(batch, job, result, "reused", attempts=0)
    if failure := _hopeless(desk, batch, job, attempts):
        return _failed(batch, job, failure)
    if leave_to_others(desk.cluster.ledger, job.id, desk.worker):
        raise JobHeld(f"Job {job.id} failed here, and another worker is to try it.")
    return None


def _finished(result: Painted) -> AnyResult | Exception:
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
        ledger.acquit(job.id, worker_of(desk.worker))
        return _done(batch, job, result, "painted", attempts.number)
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
    if shall_others_try(ledger, job.id, desk.worker, kind):
        raise JobHeld(f"Job {job.id} failed here, and another worker is to try it: {reason}")
    return _failed(batch, job, Failure(kind, reason, attempts.number, desk.worker, desk.log_tail()))


def _write(desk: Desk, wanted: Wanted, outcome: Outcome) -> bool:
    """Write an outcome; false if the batch is no longer there to have one."""
    if not desk.cluster.storage.exists(keys.manifest(wanted.batch.name, wanted.batch.manifest)):
        return False
    write_outcome(desk.cluster.storage, outcome)
    return True


def _end(desk: Desk, wanted: Wanted, outcome: Outcome | None) -> None:
    """Let go of a job, and say how it ended; None if it ended for nobody."""
    batch, job, _ = wanted
    _let_go(desk, job)
    if outcome is None:
        log.warning("Job %s ended for nobody: batch %s was removed meanwhile.", job.id, batch.name)
        return
    metrics.JOBS.labels("failed" if outcome.status == "failed" else outcome.kind).inc()
    if outcome.status == "failed":
        metrics.FAILURES.labels(outcome.kind).inc()
    loss = "" if outcome.loss is None else f", loss {outcome.loss:,.0f}"
    told = outcome.reason or f"{outcome.seconds:.1f} s{loss}"
    log.info("%s (job %s of %s): %s, %s", shown(job.names), job.id, batch.name, outcome.kind, told)
    _note(desk, batch, job, outcome.status)


def _let_go(desk: Desk, job: Job) -> None:
    with suppress(MedleyError):  # then it lapses
        desk.cluster.ledger.let_go(job.id, desk.worker)


def _drop_unread(desk: Desk, batch: BatchName, jobs: Sequence[Job], error: UsageError) -> None:
    """Drop messages of what cannot be read."""
    ids = [job.id for job in jobs]
    log.warning("Job %s is dropped: %s Once that is mended, submit batch %s again.", ", ".join(ids), error, batch)
    desk.cluster.ledger.remove_enqueued(batch, ids)


def _is_dropped(desk: Desk, batch: AnyBatch, job: Job) -> bool:
    """Whether the batch is stopped, so that the message ends here; who resumes it enqueues the job again."""
    state = desk.control(batch.name)
    if state == "running":
        return False
    log.info("Job %s dropped: batch %s is %s.", job.id, batch.name, state)
    desk.cluster.ledger.remove_enqueued(batch.name, [job.id])
    return True


def _is_early(desk: Desk, batch: AnyBatch, job: Job) -> bool:
    """Whether what a job begins with is not done (any more), so that the message ends here; that sends it out again."""
    if not isinstance(job, StyleTransfer) or not job.init:
        return False
    if outcome_status(desk.cluster.storage, batch.name, job.init) == "done":
        return False
    log.info("Job %s dropped: job %s, with whose picture it begins, is not done.", job.id, job.init)
    desk.cluster.ledger.remove_enqueued(batch.name, [job.id])
    return True


def _hopeless(desk: Desk, batch: AnyBatch, job: Job, attempts: Attempts) -> Failure | None:
    """Why a job is not even tried any more."""
    most = desk.cluster.settings.attempts
    if attempts.number > most:
        times = attempts.number - 1
        last = f"at last {attempts.worker}{f' ({attempts.death})' if attempts.death else ''}"
        reason = f"It ended its worker {times} times (MEDLEY_ATTEMPTS), {last}; it is not tried again."
        return Failure("poison", reason, times, attempts.worker)
    if desk.cluster.ledger.refusals(batch.name, job.id) >= most:  # nor is this outcome taken, perhaps, as yet
        reason = f"What it needs was refused {most} times (MEDLEY_ATTEMPTS). The worker's log has the reasons."
        return Failure("refused", reason, attempts.number, desk.worker)
    return None


def _note(desk: Desk, batch: AnyBatch, job: Job, status: Status) -> None:
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


def _done(batch: AnyBatch, job: Job, result: AnyResult, kind: str, attempts: int) -> Outcome:
    return Outcome(
        job=result.job_id,
        batch=batch.name,
        status="done",
        kind=kind,
        names=job.names,
        attempts=attempts,
        worker=result.worker,
        seconds=result.seconds.total,
        loss=result.loss,
        finished_at=datetime.now(UTC),
    )


def _failed(batch: AnyBatch, job: Job, failure: Failure) -> Outcome:
    return Outcome(
        job=job.id,
        batch=batch.name,
        status="failed",
        kind=failure.kind,
        names=job.names,
        reason=failure.reason,
        log=tuple(failure.log),
        attempts=failure.attempts,
        worker=failure.worker,
        seconds=0,
        finished_at=datetime.now(UTC),
    )
