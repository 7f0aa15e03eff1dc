"""The worker program: one Celery parent, and one painting process for each GPU, or one on the CPU."""

import os
import signal
import socket
from typing import Any

from celery.signals import worker_shutting_down

from medley.cluster import Cluster
from medley.errors import UsageError
from medley.jobs import QueueKind
from medley.queue import QUEUES
from medley.settings import Settings
from medley_workers.gpus import visible_gpus
from medley_workers.pulse import clock_sentence

LOG_FORMAT = "%(asctime)s %(levelname)s %(processName)s %(message)s"

_EXIT_CODES = {"SIGTERM": 0, "SIGINT": 128 + signal.SIGINT}
"""Of a worker that was told to stop; Celery's own would have a service manager report a failure."""


def main(settings: Settings, queues: list[QueueKind], name: str | None = None) -> int:
    """Serve these queues until told to stop; returns the exit code.

    Raises:
        UsageError: no URL is set, or this machine's clock is too far from Redis's.
        ServiceUnreachable, ServiceRefused: Redis or storage cannot be used.
    """
    cluster = Cluster.open(settings)
    cluster.check()
    if abs(skew_s := cluster.ledger.clock_skew_s()) > settings.clock_skew_s:
        raise UsageError(clock_sentence(skew_s))
    # Celery reads this when its worker is imported: SIGTERM then gives jobs back after the grace.
    os.environ["REMAP_SIGTERM"] = "SIGQUIT"
    cluster.app.conf.update(
        include=["medley_workers.tasks"], worker_log_format=LOG_FORMAT, worker_task_log_format=LOG_FORMAT
    )
    stopped_by: list[str] = []

    def remember(sig: str, **_: Any) -> None:
        stopped_by.append(sig)

    worker_shutting_down.connect(remember)
    worker = cluster.app.Worker(
        hostname=name or f"{socket.gethostname()}-{os.getpid()}",
        concurrency=settings.processes or max(1, len(visible_gpus(settings))),
        queues=[QUEUES[kind] for kind in QUEUES if kind in queues],
        loglevel=settings.log_level,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    return _EXIT_CODES[stopped_by[0]] if stopped_by else int(worker.exitcode or 0)
