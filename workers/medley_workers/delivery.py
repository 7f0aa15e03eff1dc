"""What happens to a delivered job: dropped, found ended, reused, painted, failed, or given back.

An acknowledgement only ever follows an outcome in storage or a drop; whatever is raised here gives the job back.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from medley import keys
from medley.batches import outcome_status, read_batch, read_result, write_outcome
from medley.chains import Followers, follow_on
from medley.cluster import Cluster
from medley.control import read_control
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
from medley.jobs import AnyBatch, StyleTransfer
from medley.kinds import Job, id_of
from medley.media.images import shown
from medley.paintings import Attempts
from medley.queue import PAINT, publish_finish
from medley.records import BatchName
from medley.results import AnyResult, ControlState, Outcome, Status
from medley.telling import quiet
from medley_workers.suspicion import leave_to_others, shall_others_try, worker_of

log = logging.getLogger(__name__)

CONTROL_READ_EVERY_S: dict[ControlState, float] = {"running": 2.0, "paused": 0.2, "cancelled": 0.2}
"""What was decided is read again after this. Reading it for each message would let a paused batch of 100,000 hold up
those behind it, as they are dropped; and of what is resumed, no message should be dropped."""


@dataclass
class Desk:
    """What a delivery is dealt with at; ``paint`` paints a job of a batch and commits it, ``log_tail`` is what this
    process last said, and ``advance`` tells that it is at work.
    """

    cluster: Cluster
    worker: str
    paint: Callable[[Job, AnyBatch], AnyResult]
    log_tail: Callable[[], Sequence[str]] = tuple
    advance: Callable[[], None] = quiet
    followers: Followers = field(default_factory=Followers)
    _controls: dict[BatchName, tuple[float, ControlState]] = field(default_factory=dict)

    def control(self, batch: BatchName) -> ControlState:
        """What was decided about a batch, at most :data:`CONTROL_READ_EVERY_S` ago."""
        read_at, state = self._controls.get(batch, (float("-inf"), "running"))
        if time.monotonic() - read_at >= CONTROL_READ_EVERY_S[state]:
            state = read_control(self.cluster.storage, batch)
            self._controls = {batch: (time.monotonic(), state)}
        return state


class Failure(NamedTuple):
    """Why a job failed, in which attempt, and on which worker."""

    kind: str
    reason: str
    attempts: int
    worker: str
    log: Sequence[str] = ()


def deliver(desk: Desk, batch_name: BatchName, job: Job) -> None:
    """Bring one job to its outcome, or drop it where its batch is stopped or gone.

    Raises:
        ServiceUnreachable, ServiceRefused: a service is away, so the job must be given back.
        OutOfMemory: there is no room now, so the job must be given back; MEDLEY_ATTEMPTS times, and then it has failed.
        JobHeld: another worker is painting this very job, or is to try it, so it must be given back.
        PaintingStopped: this worker is to stop, so the job must be given back.
    """
    try:
        batch = read_batch(desk.cluster.storage, batch_name)
        if batch is None:
            log.warning("Job %s dropped: its batch %s is no longer in storage.", job.id, batch_name)
            return
        if _is_dropped(desk, batch, job):
            return
    except UsageError as error:
        log.warning("Job %s is dropped: %s Once that is mended, submit batch %s again.", job.id, error, batch_name)
        desk.cluster.ledger.remove_enqueued(batch_name, [job.id])
        return
    if job.id != id_of(job, batch):
        reason = f"Its job {job.id} of batch {batch.name} is not what the id says."
        desk.cluster.ledger.set_aside(PAINT, reason, job.json_bytes())
        return
    status = outcome_status(desk.cluster.storage, batch.name, job.id) or _tried(desk, batch, job)
    if status:
        _note(desk, batch, job, status)


def _tried(desk: Desk, batch: AnyBatch, job: Job) -> Status | None:
    """How a job ends that is tried now; None if it has no end as yet, as it is too early or its batch is stopped."""
    if _is_early(desk, batch, job):
        return None
    try:
        outcome = _attempt(desk, batch, job)
    except PaintingStopped:
        if _is_dropped(desk, batch, job):
            return None
        raise
    if outcome is None:
        log.warning("Job %s ended for nobody: batch %s was removed meanwhile.", job.id, batch.name)
        return None
    loss = "" if outcome.loss is None else f", loss {outcome.loss:,.0f}"
    told = outcome.reason or f"{outcome.seconds:.1f} s{loss}"
    log.info("%s (job %s of %s): %s, %s", shown(job.names), job.id, batch.name, outcome.kind, told)
    return outcome.status


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


def _attempt(desk: Desk, batch: AnyBatch, job: Job) -> Outcome | None:
    """Reuse or paint, and write the outcome; returns it, or None if the batch is no longer there to have one.

    An attempt is counted before it begins, so that one which kills its worker counts. One that is given back through
    no fault of the job's does not.
    """
    ledger = desk.cluster.ledger
    holder = ledger.hold(job.id, desk.worker)
    if holder != desk.worker:
        raise JobHeld(f"{holder} paints job {job.id}, as reported just now; it is asked for again later.")
    attempts = ledger.count_attempt(batch.name, job.id, desk.worker)
    try:
        outcome = _paint(desk, batch, job, attempts)
        if not desk.cluster.storage.exists(keys.manifest(batch.name, batch.manifest)):
            return None
        write_outcome(desk.cluster.storage, outcome)
    except (ServiceUnreachable, ServiceRefused, OutOfMemory, JobHeld, PaintingStopped, SystemExit):
        with suppress(MedleyError):  # Redis may be what is away; then the attempt stays counted
            ledger.give_back(batch.name, job.id)
        raise
    finally:
        with suppress(MedleyError):
            ledger.let_go(job.id, desk.worker)
    return outcome


def _paint(desk: Desk, batch: AnyBatch, job: Job, attempts: Attempts) -> Outcome:
    """What comes of an attempt; raised are only reasons to give the job back."""
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
    try:
        result = desk.paint(job, batch)
    except (ServiceUnreachable, JobHeld, PaintingStopped):
        raise
    except MedleyError as error:
        may_pass = isinstance(error, ServiceRefused | OutOfMemory)
        if may_pass and desk.cluster.ledger.count_refusal(batch.name, job.id) < desk.cluster.settings.attempts:
            raise  # rights are mended, and others leave room, but it is not painted for nothing for ever
        kind, reason = error.kind, str(error)
    except Exception as error:  # a mistake of ours must cost this job only, and be told
        log.exception("Job %s of %s failed.", job.id, batch.name)
        kind, reason = "bug", f"{type(error).__name__}: {error}. The worker's log has more."
    else:
        desk.cluster.ledger.acquit(job.id, worker_of(desk.worker))
        return _done(batch, job, result, "painted", attempts.number)
    if shall_others_try(desk.cluster.ledger, job.id, desk.worker, kind):
        raise JobHeld(f"Job {job.id} failed here, and another worker is to try it: {reason}")
    return _failed(batch, job, Failure(kind, reason, attempts.number, desk.worker, desk.log_tail()))


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
