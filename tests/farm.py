"""A small farm for tests: real Redis, real storage, real worker programs, with short leases."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import wait_until
from medley import keys
from medley.batches.stored import read_manifest, read_result
from medley.cluster import Cluster
from medley.records.base import JobId
from medley.records.batches import AnyBatch, Batch, Sampling
from medley.records.options import StyleTransferOptions
from medley.records.results import Result
from medley.settings import Settings
from medley_producer.local import Owned, local_worker
from medley_producer.submit import Request, submit
from outcomes import list_outcomes

LEASE_S = 5.0
FINISHES_WITHIN_S = 90.0
"""Two cold workers import torch side by side on two slow cores before the first step."""


def command_line(process: psutil.Process) -> str:
    """The command line of a process; nothing of one that has ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


class Worker:
    """A worker program, and its log."""

    def __init__(self, program: Owned, log: Path) -> None:
        self.program = program
        self.log = log

    @property
    def parent(self) -> psutil.Process:
        """Celery's parent process: the guardian shell's child that runs Python."""
        guardian = psutil.Process(self.program._process.pid)
        return wait_until(
            lambda: next((p for p in guardian.children() if "python" in p.name()), None), 10, "the worker's process"
        )

    def painters(self) -> list[psutil.Process]:
        """The painting processes; Python's resource tracker, which each spawning process has, is none."""
        return [p for p in self.parent.children() if "spawn_main" in command_line(p)]

    def kill(self) -> None:
        """What a lost machine does: all of its processes are gone at once."""
        painters = self.painters()
        self.parent.send_signal(signal.SIGKILL)
        for painter in painters:
            with suppress(psutil.NoSuchProcess):  # it ends with its parent
                painter.send_signal(signal.SIGKILL)

    def vanish(self) -> None:
        """End the whole program without the seconds that draining takes, whatever of it is left."""
        with suppress(ProcessLookupError):
            os.killpg(self.program._process.pid, signal.SIGKILL)

    def deliveries(self) -> int:
        """Messages that it took."""
        return len(re.findall(r"Task medley\.paint\[[^]]+\] received", self.log.read_text()))

    def model_loads(self) -> int:
        """How often its log says that weights were loaded."""
        return len(re.findall(r"Weights .* loaded in", self.log.read_text()))


class Farm:
    """The services of one test, and its workers."""

    def __init__(self, settings: Settings, folder: Path, stack: ExitStack) -> None:
        self.settings = settings
        self.cluster = Cluster.open(settings)
        self._folder = folder
        self._stack = stack
        self.workers: list[Worker] = []

    def start_worker(self, **overrides: Any) -> Worker:
        """Start one more worker program; it ends with the farm."""
        log = self._folder / f"worker{len(self.workers)}.log"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", str(self._folder))  # what a killed worker leaves goes with the test's own folder
            program = self._stack.enter_context(local_worker(self.settings.model_copy(update=overrides), log))
        worker = Worker(program, log)
        self._stack.callback(worker.vanish)
        self.workers.append(worker)
        return worker

    def submit(self, name: str, dataset: Path, *, pairs: int | None = None, **options: Any) -> Batch:
        """Submit a batch of the dataset."""
        sampling = Sampling(
            content=(str(dataset / "contents"),), styles=(str(dataset / "styles"),), pairs=pairs, sample_seed=name
        )
        chosen = StyleTransferOptions(**({"size": 48, "num_steps": 3} | options))
        return submit(self.cluster, Request(name, sampling, chosen), "bulk", lambda *_: None).batch

    def await_end(self, batch: Batch, within_s: float = FINISHES_WITHIN_S) -> dict[JobId, Result]:
        """Wait until a batch is whole; returns the results of its jobs."""
        finished = lambda: self.cluster.storage.exists(keys.finished(batch.name))  # noqa: E731
        wait_until(finished, within_s, f"the end of {batch.name}; {self.told()}")
        return self.results(batch)

    def results(self, batch: Batch) -> dict[JobId, Result]:
        """The results that the batch's jobs have so far."""
        jobs = {job.id for job in read_manifest(self.cluster.storage, batch)}
        found = {job: read_result(self.cluster.storage, job) for job in jobs}
        return {job: result for job, result in found.items() if isinstance(result, Result)}

    def done(self, batch: AnyBatch) -> set[JobId]:
        """The jobs that are done."""
        return list_outcomes(self.cluster.storage, batch.name).done

    def told(self) -> str:
        """What the workers' logs say, for a test that fails."""
        return "\n".join(worker.log.read_text()[-2000:] for worker in self.workers if worker.log.exists())


@contextmanager
def open_farm(folder: Path, redis_url: str, storage_url: str, **overrides: Any) -> Iterator[Farm]:
    """A farm whose workers end with the block."""
    short: dict[str, Any] = {"lease_s": LEASE_S, "lease_renew_s": 1.0, "give_back_s": 1.0, "grace_s": 0.0}
    short["log_format"] = "text"
    settings = Settings(redis_url=redis_url, storage_url=storage_url, device="cpu", **(short | overrides))
    with ExitStack() as stack:
        yield Farm(settings, folder, stack)
