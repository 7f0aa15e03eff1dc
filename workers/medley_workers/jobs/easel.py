"""One picture on its way: its steps are followed, its frames and checkpoints kept, its losses looked at."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from medley.errors import PaintingStopped
from medley.records.jobs import StyleTransfer
from medley.records.options import StyleTransferOptions
from medley.settings import Settings
from medley_workers.jobs.attempt import Attempt
from medley_workers.jobs.checkpoint import Checkpoint, Keeping
from medley_workers.jobs.frames import FrameKeeper
from medley_workers.jobs.scene import Scene
from medley_workers.numbers.leaving import leaving
from medley_workers.numbers.tensors import to_pixels
from medley_workers.numbers.transfer import Step

LOOK_EVERY_S = 0.5
"""A loss is looked at this often, as looking waits for the device: often enough for a person who watches."""

Look = Callable[[Step, float | None], None]
"""Told of every step, and of its loss where that was looked at; it may raise PaintingStopped."""


class Easel:
    """Of one attempt at a job. To be closed, as its frames are kept by a thread of its own."""

    def __init__(
        self,
        job: StyleTransfer,
        options: StyleTransferOptions,
        scene: Scene,
        attempt: Attempt,
        settings: Settings,
        look: Look,
        begun: Checkpoint | None = None,
    ) -> None:
        """Prepare to follow.

        Args:
            job: what is painted
            options: how
            scene: from what
            attempt: stores what is kept
            settings: how many frames may wait, and how often a checkpoint is kept
            look: told of every step
            begun: the checkpoint that is gone on with
        """
        self.job = job
        self.scene = scene
        self.attempt = attempt
        self._last: Step | None = None
        self._options = options
        self._look = look
        self.frames = FrameKeeper(attempt.store_frame, waiting=settings.frames_waiting)
        self._keeping = Keeping(attempt.store_checkpoint, self.frames, begun, settings.checkpoint_every_s)
        self._looked_at = float("-inf")

    @property
    def last_step(self) -> Step:
        """The last one that was followed."""
        if self._last is None:
            raise ValueError("no step was followed")
        return self._last

    @property
    def losses(self) -> list[tuple[int, float]]:
        """(step, loss) pairs, as far as they were looked at."""
        return self._keeping.losses

    def follow(self, step: Step) -> None:
        """Keep of a step what is to be kept, and tell of it.

        Raises:
            PaintingStopped: who was told said so; if it is worth keeping, there is a checkpoint now.
            NumbersError: its loss is not finite.
            Exception: what kept a frame from being kept.
        """
        self._last = step
        is_kept = bool(self._options.frame_every) and step.index % self._options.frame_every == 0
        is_time = step.is_last or step.index == 0 or time.monotonic() - self._looked_at >= LOOK_EVERY_S
        loss = step.loss() if step.losses is not None and is_time else None
        if is_time:
            self._looked_at = time.monotonic()
        if step.index > self._keeping.begun_at:  # what was kept at that one is kept
            if step.losses is not None and (is_time or is_kept):
                self._keeping.note(step.index, step.losses.total)
            if is_kept:
                self.frames.keep(step.index, leaving(to_pixels(self.scene.colours.shown(step.canvas))))
        try:
            self._look(step, loss if is_time else None)
        except PaintingStopped as stopped:
            if stopped.worth_keeping and step.losses is not None:
                self._keeping.keep_last(step)
            raise
        if step.losses is not None:  # nobody can go on with a canvas that was only enlarged
            self._keeping.keep_in_time(step)

    @contextmanager
    def closed_if_it_fails(self) -> Iterator[None]:
        """Around what may fail: nothing is stored any more when that is told."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Keep no more; of frames that are still on their way, those that were not begun are dropped."""
        self.frames.close()
