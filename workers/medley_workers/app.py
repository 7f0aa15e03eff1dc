"""The worker program: one Celery parent, and one painting process for each GPU, or one on the CPU."""

import os
import signal
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import worker_before_create_process, worker_shutting_down

from medley import logs
from medley.broker.queue import QUEUES
from medley.cluster import Cluster
from medley.errors import MedleyError, UsageError
from medley.records.batches import QueueKind
from medley.records.weights import DEFAULT_WEIGHTS
from medley.settings import Settings
from medley_workers.draining import Stopping
from medley_workers.gpus import visible_gpus
from medley_workers.jobs.suspicion import clock_sentence
from medley_workers.network.weights import find_weights
from medley_workers.reconciler import Reconciler


def main(settings: Settings, queues: list[QueueKind], name: str | None = None) -> int:
    """Serve these queues until told to stop; returns the exit code.

    Raises:
        UsageError: no URL is set, there is no GPU where one is asked for, or the clock is too far from Redis's.
        WeightsError: the network's weights are not here.
        ServiceUnreachable, ServiceRefused: Redis or storage cannot be used.
    """
    logs.begin(settings)
    cluster = Cluster.open(settings)
    gpus = visible_gpus(settings)
    _require_all(cluster, gpus)
    processes = settings.processes or max(1, len(gpus))
    served = [QUEUES[kind] for kind in QUEUES if kind in queues]
    _prepare(cluster, processes, served)
    name = name or f"{socket.gethostname()}-{_number()}"
    cluster.ledger.welcome(name)
    Reconciler(cluster, served).start()
    code = _serve(
        cluster.app,
        Stopping(settings.grace_s),
        hostname=name,
        concurrency=processes,
        queues=served,
        loglevel=settings.log_level,
        quiet=logs.is_json(settings),  # Celery begins with a drawing
    )
    with suppress(MedleyError):  # then we are taken for silent
        cluster.ledger.farewell(name)
    return code


def _prepare(cluster: Cluster, processes: int, served: list[str]) -> None:
    """Set what the painting processes inherit, and what Celery looks at when it starts."""
    settings = cluster.settings
    # The painting processes read them as we did, and share the cores by their number.
    os.environ.update(settings.model_copy(update={"processes": processes}).variables())
    # billiard reads this when its pool is imported: painting processes are ended by SIGQUIT then, and leave SIGTERM,
    # which service managers send to all processes, to their parent.
    os.environ["REMAP_SIGTERM"] = "SIGQUIT"
    if settings.metrics_port:
        _serve_metrics(settings)
    import medley_workers.worker_log  # noqa: F401  # before the log is set up
    from medley_workers.process import SERVED  # which has numbers to tell, if they are served
    from medley_workers.request import PaintRequest

    os.environ[SERVED] = " ".join(served)
    PaintRequest.ledger = cluster.ledger
    cluster.app.conf.update(
        include=["medley_workers.tasks"], worker_log_format=logs.TEXT, worker_task_log_format=logs.TEXT
    )


def _number() -> int:
    """What no other worker of this host has. In a container all are process 1, also one that was started again: it must
    not be taken for the one before, which may have stopped for a reason.
    """
    return int(time.time()) if os.getpid() == 1 else os.getpid()


def _serve_metrics(settings: Settings) -> None:
    folder = tempfile.mkdtemp(prefix="medley-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    from medley_workers.metrics import serve

    serve(settings, Path(folder))


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
    if not stopped_by:
        return int(worker.exitcode or 0)
    # Not Celery's own code, for which a service manager would report a failure.
    return 128 + signal.SIGINT if stopped_by[0] == "SIGINT" else 0
