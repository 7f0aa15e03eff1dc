"""The worker program: one Celery parent, and one painting process for each GPU, or one on the CPU."""

import logging
import os
import socket

from celery import Celery

from medley.cluster import Cluster
from medley.errors import UsageError
from medley.jobs import QueueKind
from medley.queue import QUEUES
from medley.settings import Settings
from medley_workers.gpus import visible_gpus
from medley_workers.pulse import clock_sentence

LOG_FORMAT = "%(asctime)s %(levelname)s %(processName)s %(message)s"


def main(settings: Settings, queues: list[QueueKind], name: str | None = None) -> int:
    """Serve these queues until told to stop; returns the exit code.

    Raises:
        UsageError: no URL is set, or this machine's clock is too far from Redis's.
        ServiceUnreachable, ServiceRefused: Redis or storage cannot be used.
    """
    app = prepare(settings)
    processes = settings.processes or max(1, len(visible_gpus(settings)))
    # Celery reads this when its worker is imported: SIGTERM then gives jobs back after the grace.
    os.environ["REMAP_SIGTERM"] = "SIGQUIT"
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(processName)s %(levelname)s %(message)s"
    )
    app.worker_main([
        "worker",
        f"--concurrency={processes}",
        f"--queues={','.join(QUEUES[kind] for kind in QUEUES if kind in queues)}",
        f"--hostname={name or f'{socket.gethostname()}-{os.getpid()}'}",
        f"--loglevel={settings.log_level}",
        "--without-gossip",
        "--without-mingle",
    ])  # fmt: skip
    return 0


def prepare(settings: Settings) -> Celery:
    """The application with its tasks, after both services have answered and the clocks agree."""
    cluster = Cluster.open(settings)
    cluster.check()
    cluster.app.conf.include = ["medley_workers.tasks"]
    if abs(skew_s := cluster.ledger.clock_skew_s()) > settings.clock_skew_s:
        raise UsageError(clock_sentence(skew_s))
    return cluster.app
