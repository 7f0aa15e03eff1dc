"""The worker program: one Celery parent, and one painting process for each GPU, or one on the CPU."""

import os
import signal
import socket
from typing import Any

from celery import Celery
from celery.signals import worker_before_create_process, worker_shutting_down

from medley.cluster import Cluster
from medley.errors import UsageError
from medley.jobs import DEFAULT_WEIGHTS, QueueKind
from medley.queue import QUEUES
from medley.settings import Settings
from medley_workers.caretaker import Caretaker
from medley_workers.draining import Stopping
from medley_workers.gpus import visible_gpus
from medley_workers.process import SERVED
from medley_workers.pulse import clock_sentence
from medley_workers.request import PaintRequest
from medley_workers.weights import find_weights

LOG_FORMAT = "%(asctime)s %(levelname)s %(processName)s %(message)s"

_EXIT_CODES = {"SIGINT": 128 + signal.SIGINT}
"""Of a worker that a signal stopped, 0 for others; Celery's own would have a service manager report a failure."""


def main(settings: Settings, queues: list[QueueKind], name: str | None = None) -> int:
    """Serve these queues until told to stop; returns the exit code.

    Raises:
        UsageError: no URL is set, there is no GPU where one is asked for, or the clock is too far from Redis's.
        WeightsError: the network's weights are not here.
        ServiceUnreachable, ServiceRefused: Redis or storage cannot be used.
    """
    cluster = Cluster.open(settings)
    gpus = visible_gpus(settings)
    _require_all(cluster, gpus)
    processes = settings.processes or max(1, len(gpus))
    # The painting processes read them as we did, and share the cores by their number.
    os.environ.update(settings.model_copy(update={"processes": processes}).variables())
    served = [QUEUES[kind] for kind in QUEUES if kind in queues]
    os.environ[SERVED] = " ".join(served)
    # billiard reads this when its pool is imported: painting processes are ended by SIGQUIT then, and leave SIGTERM,
    # which service managers send to all processes, to their parent.
    os.environ["REMAP_SIGTERM"] = "SIGQUIT"
    cluster.app.conf.update(
        include=["medley_workers.tasks"], worker_log_format=LOG_FORMAT, worker_task_log_format=LOG_FORMAT
    )
    name = name or f"{socket.gethostname()}-{os.getpid()}"
    cluster.ledger.welcome(name)
    PaintRequest.ledger = cluster.ledger
    Caretaker(cluster, served).start()
    return _serve(
        cluster.app,
        Stopping(settings.grace_s),
        hostname=name,
        concurrency=processes,
        queues=served,
        loglevel=settings.log_level,
    )


def _require_all(cluster: Cluster, gpus: list[str]) -> None:
    """See that this machine can paint what it is sent, rather than fail one job after another."""
    cluster.check()
    if abs(skew_s := cluster.ledger.clock_skew_s()) > cluster.settings.clock_skew_s:
        raise UsageError(clock_sentence(skew_s))
    if cluster.settings.device == "cuda" and not gpus:
        raise UsageError("MEDLEY_DEVICE is cuda, and there is no GPU here. See `nvidia-smi`, or unset MEDLEY_DEVICE.")
    find_weights(DEFAULT_WEIGHTS)


def _serve(app: Celery, stopping: Stopping, **options: Any) -> int:
    """Run Celery's worker until it ends; returns our exit code."""
    stopped_by: list[str] = []

    def remember(sig: str, **_: Any) -> None:
        stopped_by.append(sig)

    worker_shutting_down.connect(remember)
    worker_before_create_process.connect(stopping.listen)  # Celery's own handlers are in place by then
    worker = app.Worker(without_gossip=True, without_mingle=True, without_heartbeat=True, **options)
    # The limit of worker_disable_prefetch; Celery would ask the pool, which is gone when the last messages come in.
    worker.max_concurrency = options["concurrency"]
    worker.start()
    return _EXIT_CODES.get(stopped_by[0], 0) if stopped_by else int(worker.exitcode or 0)
