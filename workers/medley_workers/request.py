"""Celery's record, in the parent, of a message that a painting process works on; some things only the parent sees."""

import logging
from itertools import chain
from typing import Any, ClassVar

from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import WorkerLostError
from celery.exceptions import Reject
from celery.worker.request import Request

from medley.broker.ledger import Ledger
from medley.errors import MedleyError
from medley_workers.metrics import DEATHS

log = logging.getLogger(__name__)


class GivenBackFirst(Reject):
    """The message goes to the front of its queue, as its painting has begun; a Reject's goes behind all the others."""


class PaintRequest(Request):
    """The record of a delivery."""

    ledger: ClassVar[Ledger]
    """The parent's; set before the worker starts."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """Deal with what a task raised as Celery does, once it is noted what Celery does not."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        if isinstance(error, WorkerLostError):
            self._note_death(str(error))
        elif isinstance(error, GivenBackFirst):
            self.message.channel.qos.front.add(self.message.delivery_tag)
        super().on_failure(exc_info, send_failed_event, return_ok)

    def _note_death(self, how: str) -> None:
        """Who reads of a job that ends its workers wants to know the signal, which the parent alone sees."""
        DEATHS.inc()
        batch, *jobs = self.args  # the end of a batch has none
        try:
            for job in chain(*jobs):
                self.ledger.note_death(batch, job["id"], how)
        except MedleyError as error:
            log.warning("How a painting process ended was not noted: %s", error)
