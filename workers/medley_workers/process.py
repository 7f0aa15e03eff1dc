"""A painting process: what it owns from its start to its end, the network above all."""

import logging
import math
import os
import time
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

from medley.cluster import Cluster
from medley.errors import MedleyError, UsageError
from medley.jobs import ENGINE, AnyBatch, Batch, StyleTransfer, Weights
from medley.kinds import Job
from medley.media.images import shown
from medley.records import Digest
from medley.results import AnyResult
from medley.roster import Painter
from medley.settings import Settings
from medley.storage.patient import PatientStorage
from medley.walks import Walk, WalkBatch
from medley_workers.delivery import Desk
from medley_workers.draining import requested
from medley_workers.pulse import Pulse
from medley_workers.recent_log import RecentLog
from medley_workers.watching import Watch

if TYPE_CHECKING:
    import torch

    from medley_workers.scene import Studio
    from medley_workers.walking import Gear

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
        self.desk = Desk(self.cluster, self.name, self.paint, recent.tail, self.pulse.advance)
        self._studio: Studio | None = None
        self._chosen_device: torch.device | None = None
        self._loaded: Digest | None = None
        self._model_loads = 0
        self._jobs = 0
        self._pixel_steps_s: float | None = None

    def describe(self) -> Painter:
        """What the ledger is told of us."""
        device = str(self._chosen_device) if self._chosen_device else "unknown until the first job"
        return Painter(
            name=self.name,
            version=version("medley"),
            engine=ENGINE,
            queues=tuple(os.environ.get(SERVED, "").split()),
            device=device,
            pixel_steps_s=self._pixel_steps_s,
            model_loads=self._model_loads,
            jobs=self._jobs,
        )

    def paint(self, job: Job, batch: AnyBatch) -> AnyResult:
        """Paint a job and commit it; see :func:`medley_workers.painting.paint_job` and
        :func:`medley_workers.walking.render_stretch` for what they raise.
        """
        log.info("Painting %s (job %s of %s).", shown(job.names), job.id, batch.name)
        from medley_workers.devices import is_lost

        watch = Watch(self._impatient, self.pulse, self.name, batch, job)
        try:
            result = self._paint(job, batch, watch)
        except Exception as error:
            if not is_lost(error):
                raise
            log.exception("The GPU serves this process no more: it ends, and its job goes to another.")
            os._exit(1)
        self._jobs += 1
        return result

    def _paint(self, job: Job, batch: AnyBatch, watch: Watch) -> AnyResult:
        if isinstance(job, Walk) and isinstance(batch, WalkBatch):
            from medley_workers.walking import render_stretch

            return render_stretch(job, batch, self._gear(), watch.look_at_frame)
        if not (isinstance(job, StyleTransfer) and isinstance(batch, Batch)):
            raise UsageError(f"Job {job.id} is of another kind than its batch {batch.name!r}.")
        from medley_workers.painting import paint_job

        studio, load_s = self._load(batch.weights)
        result = paint_job(job, batch, studio, watch.look, load_s)
        steps = result.steps - max(result.resumed_at, default=0)
        self._pixel_steps_s = math.prod(result.size) * steps / max(result.seconds.paint, 1e-3)
        return result

    def _gear(self) -> "Gear":
        from medley_workers.walking import Gear

        return Gear(self.cluster.settings, self.cluster.storage, self._device(), self.name)

    def _device(self) -> "torch.device":
        """What this process paints on, chosen once."""
        if self._chosen_device is None:
            from medley_workers.devices import choose_device

            self._chosen_device = choose_device(self.cluster.settings)
            self._greet()
        return self._chosen_device

    def _load(self, weights: Weights) -> tuple["Studio", float]:
        """The studio with these weights, and the seconds that loading them took: none if they are loaded already."""
        if self._studio is not None and self._loaded == weights.sha256:
            return self._studio, 0.0
        self._studio = None  # two networks would need twice the memory
        from medley_workers.codebook import load_weights
        from medley_workers.scene import Studio
        from medley_workers.vgg import Network
        from medley_workers.weights import fetch_weights

        started = time.monotonic()
        path = fetch_weights(weights, self.cluster.settings, self.cluster.storage)
        network = Network(load_weights(path), self._device())
        load_s = time.monotonic() - started
        self._studio = Studio(self.cluster.settings, self.cluster.storage, network, self.name)
        self._loaded = weights.sha256
        self._model_loads += 1
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
