"""Where a worker's parent serves the numbers of :mod:`medley_workers.metrics`, at MEDLEY_METRICS_PORT.

It is to be imported once ``PROMETHEUS_MULTIPROC_DIR`` is set, as the library looks at that when it is imported.
"""

import atexit
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from medley.errors import UsageError
from medley.settings import Settings


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


def _remove(folder: Path, by: int) -> None:
    if os.getpid() == by:  # and not in a process that was forked from it
        shutil.rmtree(folder, ignore_errors=True)
