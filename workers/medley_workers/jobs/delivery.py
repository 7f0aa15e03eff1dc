"""What happens to a delivered message: its jobs come to their outcomes one after another, or are painted together.

An acknowledgement only ever follows an outcome in storage or a drop; whatever is raised here gives the message back.
A job of a bundle is as free as one alone: what others could begin sooner goes back while this painter is at the first,
and a bundle that was delivered before, perhaps to a painter that one of its jobs has killed, is split.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from medley.broker.queue import QUEUES, Sent, publish_again
from medley.errors import JobHeld, MedleyError, OutOfMemory, PaintingStopped, ServiceRefused, ServiceUnreachable
from medley.logs import about
from medley.records.base import BatchName, JobId
from medley.records.batches import AnyBatch, Batch
from medley.records.kinds import Job
from medley.records.results import AnyResult
from medley_workers.jobs.concluding import GIVES_BACK, conclude, give_back
from medley_workers.jobs.deciding import batch_of, decide
from medley_workers.jobs.desk import Desk, Painted, Wanted

log = logging.getLogger(__name__)

CONCLUDED_AT_ONCE = 4
"""Jobs: this bounds memory. One painter is ahead of one such thread only with pictures that were painted together."""


def deliver_message(desk: Desk, name: BatchName, jobs: Sequence[Job], message: Sent) -> None:
    """Bring the jobs of a message to their outcomes, or have them go back to the queue in messages of their own.

    Raises:
        ServiceUnreachable, ServiceRefused, OutOfMemory, JobHeld, PaintingStopped: the message must be given back, as
            one of its jobs must; those that have an outcome are not painted again.
    """
    if message.redelivered and len(jobs) > 1:
        log.info("A bundle of %d jobs of %s was delivered before: they go out one by one.", len(jobs), name)
        publish_again(desk.cluster.app, desk.cluster.settings, message, name, jobs)
        return
    batch, left = batch_of(desk, name, jobs), list(jobs)
    with Concluding(desk) as ends:
        while batch and not ends.is_stopped and (left := _kept(desk, batch, left, message, len(left) == len(jobs))):
            if desk.paint_together and len(left) > 1 and isinstance(batch, Batch) and not batch.options.alone:
                _deliver_together(desk, batch, left, ends)
                return
            job, *left = left
            with ends.noting(JobHeld):
                if wanted := decide(desk, batch, job):
                    for following in left[:1]:
                        desk.expect(following, batch)
                    ends.conclude(wanted, _painted(desk, wanted), meanwhile=bool(left))


class Concluding:
    """Concludes jobs of one message while others of it are painted, until the block is left.

    A reason to give a job back waits for the end, as it may be no reason for the others; then the worst is raised.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._reasons: list[MedleyError] = []
        self._under_way: dict[Future[None], Wanted] = {}
        self._threads = ThreadPoolExecutor(CONCLUDED_AT_ONCE, thread_name_prefix="concluding")

    @property
    def is_stopped(self) -> bool:
        """Whether none of the other jobs need be begun any more."""
        return any(not isinstance(reason, JobHeld | OutOfMemory) for reason in self._reasons)

    def conclude(self, wanted: Wanted, result: Painted, *, meanwhile: bool = True) -> None:
        """Conclude a job; on another thread if there is much to do for that and something to do ``meanwhile``. Waits
        while too many are concluded.
        """
        if isinstance(result, AnyResult | Exception) or not meanwhile:
            self._conclude(wanted, result)
            return
        try:
            while len(self._under_way) >= CONCLUDED_AT_ONCE:
                self._await(next(iter(self._under_way)))
        except BaseException:
            give_back(self._desk, wanted)
            raise
        self._under_way[self._threads.submit(self._conclude, wanted, result)] = wanted

    @contextmanager
    def noting(self, *reasons: type[MedleyError]) -> Iterator[None]:
        """Around what may have to be given back for one of these reasons, while the other jobs are gone on with."""
        try:
            yield
        except reasons as error:
            error.__cause__ = error.__context__ = None  # whoever keeps an error keeps what its traceback holds
            self._reasons.append(error.with_traceback(None))

    def _conclude(self, wanted: Wanted, result: Painted) -> None:
        with self.noting(*GIVES_BACK):
            conclude(self._desk, wanted, result)

    def _await(self, future: Future[None]) -> None:
        wait([future])
        del self._under_way[future]
        future.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if not isinstance(error, SystemExit):
                wait(self._under_way)
                for future in self._under_way:
                    future.result()
        finally:  # this process is being ended, perhaps, and has no time for what is under way
            for future, wanted in self._under_way.items():
                if not future.done():
                    give_back(self._desk, wanted)
            self._threads.shutdown(wait=False, cancel_futures=True)
        if self._reasons and error is None:
            raise next((reason for reason in self._reasons if isinstance(reason, PaintingStopped)), self._reasons[0])


def _kept(desk: Desk, batch: AnyBatch, jobs: list[Job], message: Sent, is_new: bool) -> list[Job]:
    """Those of a message's jobs that are painted here; the others go back: what painters that have nothing to do can
    begin now, or all, if something more urgent waits.
    """
    if not jobs or (is_new and len(jobs) == 1):
        return jobs
    cluster, stay = desk.cluster, len(jobs)
    with suppress(ServiceUnreachable, ServiceRefused):  # all of them are ours, whatever Redis knows
        waiting = cluster.ledger.queue_lengths()
        urgent = [*QUEUES][: [*QUEUES].index(message.queue)]
        if not is_new and any(waiting[kind] for kind in urgent):
            stay = 0
        elif len(jobs) > 1 and not any(waiting.values()):
            stay = -(-len(jobs) // (cluster.ledger.idle_painters(message.queue) + 1))
        if stay < len(jobs):
            share = stay or cluster.settings.bundle
            publish_again(cluster.app, cluster.settings, message, batch.name, jobs[stay:], bundle=share)
            log.info("%d of %d jobs of a message of %s go back, for others.", len(jobs) - stay, len(jobs), batch.name)
            return jobs[:stay]
    return jobs


def _painted(desk: Desk, wanted: Wanted) -> Painted:
    """Paint a job, alone; returns what comes of it. If this process is ended meanwhile, the job is given back."""
    try:
        with about(job=wanted.job.id):
            return desk.paint(wanted.job, wanted.batch)
    except Exception as error:
        return error
    except SystemExit:
        give_back(desk, wanted)
        raise


def _deliver_together(desk: Desk, batch: AnyBatch, jobs: Sequence[Job], ends: Concluding) -> None:
    """Paint jobs at once, and alone those that could not be.

    A job that was begun before, and so may have ended its painter, is painted alone.
    """
    begun: dict[JobId, Wanted] = {}
    try:
        for job in jobs:
            with ends.noting(JobHeld):
                if wanted := decide(desk, batch, job):
                    begun[job.id] = wanted
        fit = [wanted.job for wanted in begun.values() if wanted.attempts.number == 1]
        for job_id, result in _painted_together(desk, batch, fit):
            if job_id in begun:
                ends.conclude(begun.pop(job_id), result)
        while begun and not ends.is_stopped:
            _, wanted = begun.popitem()
            ends.conclude(wanted, _painted(desk, wanted))
    finally:
        for wanted in begun.values():
            give_back(desk, wanted)


def _painted_together(desk: Desk, batch: AnyBatch, jobs: Sequence[Job]) -> Iterator[tuple[JobId, Painted]]:
    """What comes of each job, but for those that may do better alone."""
    if not desk.paint_together or len(jobs) < 2:
        return
    try:
        for job_id, result in desk.paint_together(jobs, batch):
            if isinstance(result, OutOfMemory):
                log.warning("Job %s of %s is painted alone: %s", job_id, batch.name, result)
            elif isinstance(result, Exception) and not isinstance(result, MedleyError):
                log.error("Job %s of %s is painted alone.", job_id, batch.name, exc_info=result)
            else:
                yield job_id, result
    except (PaintingStopped, ServiceUnreachable) as error:
        yield from ((job.id, error) for job in jobs)
    except Exception:  # one job's fault, perhaps, which it then has alone
        log.exception("%d jobs of %s could not be painted together: each is painted alone.", len(jobs), batch.name)
