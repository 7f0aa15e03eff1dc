"""One thread beside the painter: it renews the lease, says that the process is there, and notices when it must stop.

The lease is Celery's: kombu keeps each unacknowledged delivery's time in a sorted set and gives the message to
another worker when that time is older than the visibility timeout. The thread puts the time to now while the painter's
steps advance and its parent lives, from before torch is imported.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from medley.broker.roster import Painter
from medley.cluster import Cluster
from medley.errors import MedleyError
from medley_workers.jobs.suspicion import clock_sentence, why_stop, worker_of
from medley_workers.metrics import HOLDING

log = logging.getLogger(__name__)


class Pulse(threading.Thread):
    """The thread; ``describe`` says what the process is at the time of the call.

    Of a worker's processes, the one that speaks for it has the worker stop when it must: its clock is wrong, or its
    jobs fail and others paint them.
    """

    def __init__(self, cluster: Cluster, describe: Callable[[], Painter], *, speaks_for_worker: bool) -> None:
        super().__init__(name="pulse", daemon=True)
        self._speaks_for_worker = speaks_for_worker
        self._settings = cluster.settings
        self._ledger = cluster.ledger
        self._describe = describe
        self._parent = os.getppid()
        self._delivery_tag: str | None = None
        self._is_lost = False
        self._advanced_at = 0.0

    @contextmanager
    def holding(self, delivery_tag: str) -> Iterator[None]:
        """Renew the lease of this delivery until the block is left."""
        self.advance()
        self._is_lost = False
        self._delivery_tag = delivery_tag
        HOLDING.set(1)
        try:
            yield
        finally:
            self._delivery_tag = None
            HOLDING.set(0)

    def advance(self) -> None:
        """Say that a step was made; a painter that says nothing for MEDLEY_STALL_S is ended."""
        self._advanced_at = time.monotonic()

    def run(self) -> None:
        """Beat every MEDLEY_LEASE_RENEW_S until the process ends."""
        while True:
            if os.getppid() != self._parent:
                log.error("The worker that started this painter is gone; it ends, and its job goes to another.")
                os._exit(1)
            try:
                self.beat()
            except MedleyError as error:
                log.warning("No lease renewed: %s", error)
            except Exception:  # whatever it is, the next beat must come, or every later job loses its lease
                log.exception("No lease renewed.")
            time.sleep(self._settings.lease_renew_s)

    def beat(self) -> None:
        """Renew, greet, and see whether the worker has to stop, once."""
        tag = self._delivery_tag
        if tag is not None:
            self._renew(tag)
        painter = self._describe()
        self._ledger.greet(painter)
        if self._speaks_for_worker and (why := self._why_stop(worker_of(painter.name))):
            log.error("%s The worker stops.", why)
            self._ledger.note_stopped(worker_of(painter.name), why)
            self._speaks_for_worker = False  # a second signal would cut the grace short
            os.kill(self._parent, signal.SIGTERM)

    def _why_stop(self, worker: str) -> str | None:
        if abs(skew_s := self._ledger.clock_skew_s()) > self._settings.clock_skew_s:
            return clock_sentence(skew_s)
        return why_stop(self._ledger, self._settings, worker)

    def _renew(self, tag: str) -> None:
        silent_s = time.monotonic() - self._advanced_at
        if silent_s > self._settings.stall_s:
            log.error("No step for %.0f s (MEDLEY_STALL_S): this painter ends, and its job goes to another.", silent_s)
            os._exit(1)
        elif not self._ledger.renew_lease(tag) and self._delivery_tag == tag and not self._is_lost:
            self._is_lost = True  # said once
            log.warning("The delivery is no longer held: Redis lost it, or it lapsed. The painting goes on.")
