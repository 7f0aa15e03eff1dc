"""One thread of a worker's parent: every MEDLEY_RECONCILE_S, one of all the workers looks after the open batches."""

import logging
import os
import random
import threading
import time
from dataclasses import replace

from celery.worker import state

from medley.batches.reconciling import reconcile_all
from medley.broker.queue import QUEUES
from medley.cluster import Cluster
from medley.errors import MedleyError
from medley.storage.patient import PatientStorage

log = logging.getLogger(__name__)

DEAF_S = 180.0
"""An idle worker takes a message within milliseconds; after a loss of Redis Celery may need half a minute."""


class Reconciler(threading.Thread):
    """The thread. It ends with its process; a round that is cut short is made by the next worker whose turn it is."""

    def __init__(self, cluster: Cluster, served: list[str]) -> None:
        super().__init__(name="reconciler", daemon=True)
        self._served = served
        self._received = 0
        self._deaf_since: float | None = None
        patient = PatientStorage(cluster.storage, cluster.settings.storage_patience_s)
        self._cluster = replace(cluster, storage=patient)
        self._every_s = cluster.settings.reconcile_s

    def run(self) -> None:
        """Take turns with the other workers until the process ends."""
        while True:
            time.sleep(self._every_s * random.uniform(0.5, 1.0))  # noqa: S311  # so that workers do not ask all at once
            try:
                self._end_if_deaf()
                # Whoever claims it lets go of it only by the time, which is what makes the others wait.
                if self._cluster.ledger.claim("reconciling", self._every_s * 0.9):
                    reconcile_all(self._cluster)
            except MedleyError as error:
                log.warning("Batches are not looked after until that is mended: %s", error)
            except Exception:  # whatever it is, batches must be looked after
                log.exception("A look after the batches failed.")

    def _end_if_deaf(self) -> None:
        """End a worker that has nothing to do and takes nothing, though messages wait for it: Celery's connection to
        Redis may have come back without its consumer (celery #8030, #10205). A service manager starts it again.
        """
        received = sum(state.total_count.values())
        lengths = self._cluster.ledger.queue_lengths()
        waiting = any(length for kind, length in lengths.items() if QUEUES[kind] in self._served)
        is_quiet = waiting and not state.reserved_requests and received == self._received
        self._received = received
        if not is_quiet:
            self._deaf_since = None
        elif self._deaf_since is None:
            self._deaf_since = time.monotonic()
        elif time.monotonic() - self._deaf_since > DEAF_S:
            log.error("Messages wait, and this worker has taken none for %.0f s, though idle: it ends.", DEAF_S)
            os._exit(1)
