"""What looks over a painter's shoulder: it reports how far a painting is, and stops it when it must."""

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from medley.batches.control import control_now
from medley.broker.paintings import Progress
from medley.cluster import Cluster
from medley.errors import MedleyError, PaintingStopped
from medley.records.batches import AnyBatch, ControlState
from medley.records.kinds import Job
from medley_workers.draining import requested
from medley_workers.metrics import STEP_S, STEPS
from medley_workers.pulse import Pulse

if TYPE_CHECKING:
    from medley_workers.numbers.transfer import Step

log = logging.getLogger(__name__)

CONTROL_READ_EVERY_S = 3.0
"""A decision that Redis does not know is looked for in storage this often: it must act within 5 s, and a GET costs."""


TOLD_EVERY_S = 0.5
"""Frames of a walk take some 20 ms each; people who watch see it advance twice a second."""


class Watch:
    """Of one painting. The cluster's storage should not be a patient one, which would hold the painter up."""

    def __init__(self, cluster: Cluster, pulse: Pulse, painter: str, batch: AnyBatch, job: Job) -> None:
        self._cluster = cluster
        self._pulse = pulse
        self._painter = painter
        self._batch = batch
        self._job = job
        self._heard = True
        self._read_at = time.monotonic()
        self._told_at = float("-inf")
        self._looked: tuple[int, float] | None = None  # what was done then, and when that was

    def look(self, step: "Step", loss: float | None) -> None:
        """Told of every step, and of its loss where that was looked at.

        Raises:
            PaintingStopped: the worker drains, or the batch is paused or cancelled.
        """
        self._advance(step.index)
        if loss is not None:
            self._tell(step.index, loss)

    def look_at_frame(self, done: int) -> None:
        """Told how many frames of a walk are done.

        Raises:
            PaintingStopped: as of :meth:`look`.
        """
        self._advance(done)
        if time.monotonic() - self._told_at >= TOLD_EVERY_S:
            self._told_at = time.monotonic()
            self._tell(done, None)

    def _advance(self, done: int) -> None:
        """So many steps, or frames, are done; what was done before the first look was done by another attempt."""
        now = time.monotonic()
        if self._looked is not None:
            before, at = self._looked
            STEPS.inc(max(0, done - before))
            STEP_S.inc(now - at)
        self._looked = done, now
        self._pulse.advance()
        requested.check()

    def _tell(self, index: int, loss: float | None) -> None:
        state = self._report(index, loss)
        if state != "running":  # two who decide at once, or a blip, may leave Redis with what does not hold any more
            state = self._stored_control()
        if state not in (None, "running"):
            stopped = f"Batch {self._batch.name} is {state}; job {self._job.id} stops at step {index}."
            raise PaintingStopped(stopped, worth_keeping=state == "paused")

    def _report(self, step: int, loss: float | None) -> ControlState | None:
        progress = Progress(
            step=step, steps=self._batch.options.num_steps, loss=loss, names=self._job.names,
            worker=self._painter, at=time.time(),
        )  # fmt: skip
        try:
            state = self._cluster.ledger.report(self._batch.name, self._job.id, progress)
            self._heard = True
        except MedleyError as error:
            if self._heard:  # said once, and not twice a second
                log.warning("Progress is not reported until Redis is back: %s", error)
            self._heard = False
            return None
        return state

    def _stored_control(self) -> ControlState | None:
        """What storage knows was decided, now and then; a Redis that had lost it is told again."""
        if time.monotonic() - self._read_at < CONTROL_READ_EVERY_S:
            return None
        try:
            state = control_now(self._cluster.storage, self._batch.name)
        except MedleyError:  # painting needs neither
            state = None
        self._read_at = time.monotonic()
        if state:
            with suppress(MedleyError):
                self._cluster.ledger.set_control(self._batch.name, state)
        return state
