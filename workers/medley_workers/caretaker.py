"""One thread of a worker's parent: every MEDLEY_RECONCILE_S, one of all the workers looks after the open batches."""

import logging
import random
import threading
import time

from medley.cluster import Cluster
from medley.errors import MedleyError
from medley.reconciling import reconcile_all

log = logging.getLogger(__name__)


class Caretaker(threading.Thread):
    """The thread. It ends with its process; a round that is cut short is made by the next worker whose turn it is."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(name="caretaker", daemon=True)
        self._cluster = cluster
        self._every_s = cluster.settings.reconcile_s

    def run(self) -> None:
        """Take turns with the other workers until the process ends."""
        while True:
            time.sleep(self._every_s * random.uniform(0.5, 1.0))  # noqa: S311  # so that workers do not ask all at once
            try:
                # Whoever claims it lets go of it only by the time, which is what makes the others wait.
                if self._cluster.ledger.claim("reconciling", self._every_s * 0.9):
                    reconcile_all(self._cluster)
            except MedleyError as error:
                log.warning("Batches are not looked after until that is mended: %s", error)
            except Exception:  # whatever it is, batches must be looked after
                log.exception("A look after the batches failed.")
