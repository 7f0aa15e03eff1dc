"""The numbers that a worker tells Prometheus: of all its painting processes together, at MEDLEY_METRICS_PORT.

Each process keeps its own in a file, which the library does if ``PROMETHEUS_MULTIPROC_DIR`` is set when it is imported;
the worker's parent reads and serves them all. Where it is not set, nobody sees the numbers.
"""

import atexit
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from medley.errors import UsageError
from medley.settings import Settings

JOBS = Counter(
    "medley_jobs", "Jobs that came to an outcome: painted, reused (another batch had it), failed.", ["outcome"]
)
for _outcome in "painted", "reused", "failed":
    JOBS.labels(_outcome)  # from the start, as a rate needs a number before the first
FAILURES = Counter("medley_job_failures", "Jobs that failed, by the kind of error.", ["kind"])
GIVEN_BACK = Counter(
    "medley_jobs_given_back", "Attempts taken back: the job was given back to its queue, or its batch was stopped."
)
RETRIES = Counter("medley_job_retries", "Attempts at jobs that had been begun before.")
DEATHS = Counter("medley_process_deaths", "Painting processes that ended within a job.")

STEPS = Counter("medley_steps", "Steps made, and frames of walks rendered.")
STEP_S = Counter("medley_step_seconds", "Seconds that those steps took; of pictures painted together, each one's.")
PAINT_S = Counter("medley_paint_seconds", "Seconds that painting took, of jobs that are painted.")
STORE_S = Counter(
    "medley_store_seconds", "Seconds that storing their pictures took; the next job may be painted meanwhile."
)
LOADS = Counter("medley_model_loads", "Times that weights were loaded.")
LOAD_S = Counter("medley_model_load_seconds", "Seconds that loading weights took.")

FRAMES = Counter("medley_frames", "Frames stored.")
UPLOADS = Counter("medley_uploads", "Files stored, frames among them.")
UPLOAD_BYTES = Counter("medley_upload_bytes", "Bytes of them.")

PROCESSES = Gauge("medley_processes", "Painting processes that are there.", multiprocess_mode="livesum")
HOLDING = Gauge("medley_processes_holding", "Of those, how many hold a message.", multiprocess_mode="livesum")
MEMORY = Gauge(
    "medley_device_memory_bytes",
    "Memory of the device that the painting processes hold; of a CPU, of all that the processes hold.",
    ["device"],
    multiprocess_mode="livesum",
)


def serve(settings: Settings, folder: Path) -> None:
    """Serve what the processes keep in this folder, on a thread until this one ends, which then removes it.

    Raises:
        UsageError: the port cannot be had.
    """
    atexit.register(partial(_remove, folder, by=os.getpid()))
    registry = CollectorRegistry()
    registry.register(_Processes(folder))
    try:
        start_http_server(settings.metrics_port, settings.metrics_host, registry)
    except OSError as error:
        raise UsageError(
            f"Nothing can be served at {settings.metrics_host}:{settings.metrics_port} ({error.strerror}). Set another "
            "MEDLEY_METRICS_PORT, for each worker of a machine its own; or 0 for none."
        ) from error


class _Processes(Collector):
    """What all processes say that are there, and what those counted that are there no more."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """Read their files."""
        for file in self._folder.glob("gauge_live*.db"):
            pid = int(file.stem.rpartition("_")[2])
            if not _is_there(pid):
                with suppress(FileNotFoundError):  # whoever asked at the same time was sooner
                    mark_process_dead(pid, str(self._folder))
        yield from MultiProcessCollector(None, str(self._folder)).collect()


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's by now
        return True
    return True


def _remove(folder: Path, by: int) -> None:
    if os.getpid() == by:  # and not in a process that was forked from it
        shutil.rmtree(folder, ignore_errors=True)
