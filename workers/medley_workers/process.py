"""A painting process: what it owns from its start to its end, the network above all."""

import logging
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from medley.broker.roster import Painter
from medley.cluster import Cluster
from medley.errors import MedleyError, UsageError
from medley.memory import resident_bytes
from medley.records.base import JobId
from medley.records.batches import AnyBatch, Batch
from medley.records.jobs import ENGINE, StyleTransfer
from medley.records.kinds import Job
from medley.records.results import AnyResult, Result
from medley.records.walks import Walk, WalkBatch
from medley.records.weights import Weights
from medley.settings import Settings
from medley.storage.patient import PatientStorage
from medley.telling import shown
from medley_workers import metrics
from medley_workers.draining import requested
from medley_workers.jobs.desk import Commit, Desk, Painted
from medley_workers.jobs.fetching import Fetching
from medley_workers.jobs.watching import Watch
from medley_workers.pulse import Pulse
from medley_workers.worker_log import RecentLog

if TYPE_CHECKING:
    import torch

    from medley_workers.jobs.inputs import Inputs
    from medley_workers.jobs.scene import Studio

log = logging.getLogger(__name__)

SERVED = "MEDLEY_WORKER_SERVES"
"""How a worker's parent tells its processes the names of its queues; no setting."""


class PaintingProcess:
    """One of a worker's processes. torch is imported and the weights are read when the first job comes.

    They are read once, unless a job asks for others.
    """

    def __init__(self, settings: Settings, worker: str, index: int, recent: RecentLog) -> None:
        self.name = f"{worker}#{index}"
        self._impatient = Cluster.open(settings)
        patient = PatientStorage(self._impatient.storage, settings.storage_patience_s, self._wait)
        self.cluster = replace(self._impatient, storage=patient)
        self.pulse = Pulse(self.cluster, self.describe, speaks_for_worker=index == 0)
        together = self.paint_together if _paints_together(settings) else None
        self.desk = Desk(
            self.cluster, self.name, self.paint, recent.tail, self.pulse.advance, self.expect, together
        )  # fmt: skip
        self._fetching = Fetching["Inputs"]()
        self._studio: Studio | None = None
        self._chosen_device: torch.device | None = None
        self._weights: Weights | None = None
        self._model_loads = 0
        self._jobs = 0
        self._pixel_steps_s: float | None = None

    def describe(self) -> Painter:
        """What the ledger is told of us."""
        device = str(self._chosen_device) if self._chosen_device else "unknown until the first job"
        memory = self._memory()
        metrics.PROCESSES.set(1)
        if self._chosen_device:
            metrics.MEMORY.labels(self._chosen_device.type).set(memory or 0)
        return Painter(
            name=self.name,
            version=version("medley-farm"),
            engine=ENGINE,
            queues=tuple(os.environ.get(SERVED, "").split()),
            device=device,
            weights=self._weights.name if self._weights else "",
            memory_bytes=memory,
            pixel_steps_s=self._pixel_steps_s,
            model_loads=self._model_loads,
            jobs=self._jobs,
        )

    def _memory(self) -> int | None:
        """Bytes that this process holds of the memory of its device."""
        if self._chosen_device is not None:
            from medley_workers.numbers.devices import held_bytes

            return held_bytes(self._chosen_device)
        return resident_bytes()

    def paint(self, job: Job, batch: AnyBatch) -> AnyResult | Commit:
        """Paint a job and commit it, or leave that to whoever calls what is returned; see
        :func:`medley_workers.jobs.painting.paint_alone` and :func:`medley_workers.jobs.walking.render_stretch` for
        what is raised.
        """
        requested.check()  # which may have been said since the one before in its message ended
        log.info("Painting %s (job %s of %s).", shown(job.names), job.id, batch.name)
        with _ending_if_lost():
            return self._noted(self._paint(job, batch, self._watch(job, batch)))

    def paint_together(self, jobs: Sequence[Job], batch: AnyBatch) -> Iterator[tuple[JobId, Painted]]:
        """Paint those jobs at once that have one size, and commit each; nothing is given of one that no other is as
        large as. See :func:`medley_workers.jobs.painting.paint_together` for what is raised.
        """
        requested.check()
        if not isinstance(batch, Batch):
            return
        transfers = [job for job in jobs if isinstance(job, StyleTransfer)]
        with _ending_if_lost():
            from medley_workers.jobs.painting import paint_together

            studio, _ = self._load(batch.weights)
            for job, result in paint_together(transfers, batch, studio, lambda job: self._watch(job, batch).look):
                yield job, result if isinstance(result, Exception) else self._noted(result)

    def expect(self, job: Job, batch: AnyBatch) -> None:
        """Have a job's inputs fetched while the one before it is painted."""
        if isinstance(job, StyleTransfer) and isinstance(batch, Batch):
            self._fetching.expect(job.id, partial(self._gather, job, batch))

    def _gather(self, job: StyleTransfer, batch: Batch) -> "Inputs":
        from medley_workers.jobs.inputs import gather

        # Whoever fetches ahead need not be patient.
        return gather(job, batch.options, self.cluster.settings, self._impatient.storage)

    def _watch(self, job: Job, batch: AnyBatch) -> Watch:
        return Watch(self._impatient, self.pulse, self.name, batch, job)

    def _noted(self, result: AnyResult | Commit) -> AnyResult | Commit:
        """A result, once it is noted how quick that was; or what does so when there is one."""
        if not isinstance(result, AnyResult):
            return lambda: self._note(result())
        return self._note(result)

    def _note(self, result: AnyResult) -> AnyResult:
        self._jobs += 1
        metrics.PAINT_S.inc(result.seconds.paint)
        metrics.STORE_S.inc(result.seconds.store)
        if isinstance(result, Result):
            steps = result.steps - max(result.resumed_at, default=0)
            self._pixel_steps_s = math.prod(result.size) * steps / max(result.seconds.paint, 1e-3)
        return result

    def _paint(self, job: Job, batch: AnyBatch, watch: Watch) -> AnyResult | Commit:
        if isinstance(job, Walk) and isinstance(batch, WalkBatch):
            from medley_workers.jobs.walking import Gear, render_stretch

            gear = Gear(self.cluster.settings, self.cluster.storage, self._device(), self.name)
            return render_stretch(job, batch, gear, watch.look_at_frame)
        if not (isinstance(job, StyleTransfer) and isinstance(batch, Batch)):
            raise UsageError(f"Job {job.id} is of another kind than its batch {batch.name!r}.")
        from medley_workers.jobs.painting import paint_alone

        studio, load_s = self._load(batch.weights)
        return paint_alone(job, batch, studio, watch.look, load_s, self._fetching.take(job.id))

    def _device(self) -> "torch.device":
        """What this process paints on, chosen once."""
        if self._chosen_device is None:
            from medley_workers.numbers.devices import choose_device

            self._chosen_device = choose_device(self.cluster.settings)
            self._greet()
        return self._chosen_device

    def _load(self, weights: Weights) -> tuple["Studio", float]:
        """The studio with these weights, and the seconds that loading them took: none if they are loaded already."""
        if self._studio and self._weights and self._weights.sha256 == weights.sha256:
            return self._studio, 0.0
        self._studio = None  # two networks would need twice the memory
        from medley_workers.jobs.scene import Studio
        from medley_workers.network.loading import load_weights
        from medley_workers.network.vgg import Network
        from medley_workers.network.weights import fetch_weights

        started = time.monotonic()
        path = fetch_weights(weights, self.cluster.settings, self.cluster.storage)
        network = Network(load_weights(path), self._device())
        load_s = time.monotonic() - started
        self._studio = Studio(self.cluster.settings, self.cluster.storage, network, self.name)
        self._weights = weights
        self._model_loads += 1
        metrics.LOADS.inc()
        metrics.LOAD_S.inc(load_s)
        log.info(
            "Weights %s loaded in %.2f s on %s; load number %d of this process.",
            weights.name, load_s, network.device, self._model_loads,
        )  # fmt: skip
        self._greet()
        return self._studio, load_s

    def _wait(self, seconds: float) -> None:
        """Wait for storage, which is no reason to be taken for hung. A worker that drains waits on for half its grace,
        as what it stores may be a checkpoint, or the picture itself.
        """
        if requested.for_s() > self.cluster.settings.grace_s / 2:
            requested.check()
        if requested.is_set():
            time.sleep(min(seconds, 1.0))
        else:
            requested.wait(seconds)
        self.pulse.advance()

    def _greet(self) -> None:
        try:
            self.cluster.ledger.greet(self.describe())
        except MedleyError as error:
            log.warning("Redis was not told of this process: %s", error)


def _paints_together(settings: Settings) -> bool:
    """Whether jobs that share a message are painted at once: a GPU has room for more than a picture gives it to do."""
    return settings.together == "always" or (
        settings.together == "auto" and bool(os.environ.get("CUDA_VISIBLE_DEVICES"))  # see gpus.py
    )


@contextmanager
def _ending_if_lost() -> Iterator[None]:
    """Around what is done on a device: where it is lost, this process ends, and its jobs go to another."""
    from medley_workers.numbers.devices import is_lost

    try:
        yield
    except Exception as error:
        if not is_lost(error):
            raise
        log.exception("The GPU serves this process no more: it ends, and its job goes to another.")
        os._exit(1)
