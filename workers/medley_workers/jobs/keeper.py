"""What is kept of one picture on its way: frames, losses, and checkpoints, which follow the frames."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from torch import Tensor

from medley.errors import PaintingStopped
from medley.records.jobs import StyleTransfer
from medley.settings import Settings
from medley_workers.jobs.attempt import Attempt
from medley_workers.jobs.checkpoint import Checkpoint
from medley_workers.jobs.frames import FrameKeeper
from medley_workers.jobs.scene import Scene
from medley_workers.numbers.offload import jpeg_of
from medley_workers.numbers.tensors import to_pixels
from medley_workers.numbers.transfer import Step

LOOK_EVERY_S = 0.5
"""A loss is looked at this often, as looking waits for the device: often enough for a person who watches."""

Look = Callable[[Step, float | None], None]
"""Told of every step, and of its loss where that was looked at; it may raise PaintingStopped."""


class Keeper:
    """Follows the steps of one attempt at a job. To be closed, as frames are kept by a thread of their own."""

    def __init__(
        self,
        job: StyleTransfer,
        scene: Scene,
        attempt: Attempt,
        settings: Settings,
        look: Look,
        begun: Checkpoint | None = None,
    ) -> None:
        """Prepare to follow.

        Args:
            job: what is painted
            scene: from what
            attempt: stores what is kept
            settings: how many frames may wait, and how often a checkpoint is kept
            look: told of every step
            begun: the checkpoint that is gone on with
        """
        self.job = job
        self.scene = scene
        self.attempt = attempt
        self.frames = FrameKeeper(attempt.store_frame, waiting=settings.frames_waiting)
        self._look = look
        self._looked_at = float("-inf")
        self._begun_at = begun.snapshot.index if begun else -1
        self._losses = list(begun.how_far.losses) if begun else []
        self._noted: list[tuple[int, Tensor]] = []
        self._checkpoint_every_s = settings.checkpoint_every_s
        self._checkpoint_at = time.monotonic()
        self._checkpoint: Future[None] | None = None

    @property
    def losses(self) -> list[tuple[int, float]]:
        """(step, loss) of those that were noted; this waits for the device."""
        self._losses += [(index, float(loss)) for index, loss in self._noted]
        self._noted.clear()
        return self._losses

    def follow(self, step: Step) -> None:
        """Keep of a step what is to be kept, and tell of it.

        Raises:
            PaintingStopped: who was told said so; if it is worth keeping, there is a checkpoint now.
            NumbersError: its loss is not finite.
            Exception: what kept a frame from being kept.
        """
        every = self.scene.options.frame_every
        is_kept = bool(every) and step.index % every == 0
        is_time = step.is_last or step.index == 0 or time.monotonic() - self._looked_at >= LOOK_EVERY_S
        loss = step.loss() if step.losses is not None and is_time else None
        if is_time:
            self._looked_at = time.monotonic()
        if step.index > self._begun_at:  # what was kept at that one is kept
            if step.losses is not None and (is_time or is_kept):
                self._noted.append((step.index, step.losses.total))
            if is_kept:
                self.frames.keep(step.index, jpeg_of(to_pixels(self.scene.colours.shown(step.canvas))))
        # Nobody can go on with a canvas that was only enlarged.
        is_new = step.losses is not None and step.index > max(0, self._begun_at)
        try:
            self._look(step, loss)
        except PaintingStopped as stopped:
            if stopped.worth_keeping and is_new:
                self._store_checkpoint(step).result()
            raise
        if is_new and self._is_checkpoint_due():
            self._checkpoint = self._store_checkpoint(step)

    def _is_checkpoint_due(self) -> bool:
        """Whether it is time for one, and the last one is no longer on its way, which bounds memory."""
        is_time = time.monotonic() - self._checkpoint_at >= self._checkpoint_every_s
        return is_time and (self._checkpoint is None or self._checkpoint.done())

    def _store_checkpoint(self, step: Step) -> Future[None]:
        """Have a checkpoint stored behind the frames that it names."""
        self._checkpoint_at = time.monotonic()
        snapshot, losses = step.snapshot(), tuple(self.losses)
        return self.frames.after_frames(lambda: self.attempt.store_checkpoint(snapshot, losses))

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
