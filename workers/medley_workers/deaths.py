"""How painting processes died: their parent alone sees the signal, and who reads of a poisonous job wants to know."""

import logging
from itertools import chain
from typing import Any, ClassVar

from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import WorkerLostError
from celery.worker.request import Request

from medley.errors import MedleyError
from medley.ledger import Ledger

log = logging.getLogger(__name__)


class PaintRequest(Request):
    """Celery's record, in the parent, of a message that a painting process works on."""

    ledger: ClassVar[Ledger | None] = None
    """The parent's; set before the worker starts."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """Note how the process ended, if it did, and go on as Celery does."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        if self.ledger and isinstance(error, WorkerLostError):
            batch, *jobs = self.args  # the end of a batch has none
            try:
                for job in chain(*jobs):
                    self.ledger.note_death(batch, job["id"], str(error))
            except MedleyError as refused:
                log.warning("How a painting process ended was not noted: %s", refused)
        super().on_failure(exc_info, send_failed_event, return_ok)
