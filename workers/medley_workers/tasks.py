"""The tasks, thin: a message comes in, one call is made. torch is imported by the first job, in its own process."""

import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from billiard.process import current_process
from celery import Task, shared_task
from celery.exceptions import Reject
from celery.signals import worker_process_init

from medley.batches.ending import finish_batch
from medley.broker.queue import FINISH, PAINT, QUEUES, Sent
from medley.errors import BatchBusy, MedleyError, PaintingStopped
from medley.logs import about
from medley.records.kinds import as_job
from medley.settings import Settings
from medley_workers.draining import obey, requested
from medley_workers.gpus import take_gpu
from medley_workers.jobs.concluding import GIVES_BACK
from medley_workers.jobs.delivery import deliver_message
from medley_workers.process import PaintingProcess
from medley_workers.request import GivenBackFirst
from medley_workers.worker_log import RecentLog

log = logging.getLogger(__name__)


_START_AGAIN_S = 5.0
"""A process that cannot start (a mount is away) is started again; without a wait that would fill the log."""


class PaintingTask(Task):
    """A task with the process that it runs in: the network, the lease's pulse, storage and the ledger."""

    abstract = True
    Request = "medley_workers.request:PaintRequest"
    process: ClassVar[PaintingProcess]

    @contextmanager
    def held(self, on_drop: Callable[[], None] = lambda: None) -> Iterator[PaintingProcess]:
        """The process, with this delivery's lease renewed; what is raised inside gives the message back.

        That is so without end while a service is away, and MEDLEY_ATTEMPTS times for what nothing else explains (a
        record that only another version can read). Then the message is dropped, and ``on_drop`` is called.

        Raises:
            Reject: as told.
        """
        process = self.process
        with process.pulse.holding(self.request.properties["delivery_tag"]):
            try:
                requested.check()
                yield process
            except PaintingStopped as error:
                log.info("Given back at once: %s", error)
                raise GivenBackFirst(str(error), requeue=True) from error
            except (*GIVES_BACK, BatchBusy) as error:
                self.wait(error)
                raise Reject(str(error), requeue=True) from error
            except Exception as error:
                log.exception("A message of %s could not be dealt with.", self.name)
                self.wait(error)
                raise Reject(str(error), requeue=not self._dropped(on_drop)) from error

    def sent(self) -> Sent:
        """What is known of this delivery's message."""
        info = self.request.delivery_info
        queue = next(kind for kind, name in QUEUES.items() if name == info["routing_key"])
        return Sent(queue, float(self.request.get("at") or 0.0), bool(info["redelivered"]))

    def wait(self, error: Exception) -> None:
        """Wait before a message is given back, with jitter, so that a service that is away is not asked without end."""
        wait_s = self.process.cluster.settings.give_back_s * random.uniform(0.5, 1.5)  # noqa: S311  # jitter
        log.warning("Given back in %.1f s: %s", wait_s, error)
        requested.wait(wait_s)
        self.process.pulse.advance()

    def _dropped(self, on_drop: Callable[[], None]) -> bool:
        """Drop a message that was troublesome too often; false if it was not yet, or Redis cannot tell."""
        cluster = self.process.cluster
        try:
            if cluster.ledger.count_trouble(self.request.id) < cluster.settings.attempts:
                return False
            on_drop()
        except MedleyError as error:
            log.warning("Not dropped, as Redis does not serve us: %s", error)
            return False
        log.error("The message is dropped; once its trouble is mended, submit the batch again.")
        return True


@worker_process_init.connect
def open_process(sender: str, **_: Any) -> None:
    """Make what this painting process owns, and start its pulse; torch must not be needed for that."""
    # We say why a message is given back; Celery would add a page of tracebacks each time.
    logging.getLogger("celery.app.trace").addFilter(
        lambda record: getattr(record, "data", {}).get("description") != "rejected"
    )
    try:
        settings = Settings.load()
        index = current_process().index
        take_gpu(settings, index)
        recent = RecentLog()
        logging.getLogger().addHandler(recent)
        PaintingTask.process = PaintingProcess(settings, sender.removeprefix("celery@"), index, recent)
        PaintingTask.process.pulse.start()
        obey()
    except Exception:
        # Celery would go on without us, and such a process would fail every message that it takes.
        log.exception("This painting process cannot start; its worker tries again.")
        time.sleep(_START_AGAIN_S)
        os._exit(1)


@shared_task(bind=True, base=PaintingTask, name=PAINT)
def paint(self: PaintingTask, batch: str, jobs: list[dict[str, Any]]) -> None:
    """Bring these jobs of a batch to their outcomes; what is no job never comes here: :mod:`medley.broker.messages`."""
    wanted = [as_job(message) for message in jobs]
    ids = [job.id for job in wanted]
    with about(batch=batch), self.held(lambda: self.process.cluster.ledger.remove_enqueued(batch, ids)) as process:
        deliver_message(process.desk, batch, wanted, self.sent())


@shared_task(bind=True, base=PaintingTask, name=FINISH)
def finish(self: PaintingTask, batch: str) -> None:
    """Make what a batch ends with, if nothing is missing any more."""
    with about(batch=batch), self.held() as process:

        def advance() -> None:
            process.pulse.advance()
            requested.check()

        finish_batch(process.cluster, batch, advance)
