"""A stretch of a walk from its message to its commit: its frames are rendered and stored, and the result names them.

It knows the numbers and storage, but no queue.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

import numpy as np
import torch

from medley.media.images import encode_jpeg
from medley.records.results import Seconds
from medley.records.walks import Walk, WalkBatch, WalkResult
from medley.settings import Settings
from medley.storage import Storage
from medley_workers.jobs.attempt import Attempt
from medley_workers.jobs.frames import FrameKeeper
from medley_workers.numbers.devices import device_name, out_of_memory
from medley_workers.numbers.tensors import Pixels
from medley_workers.random_networks.art import frames

JPEG_QUALITY = 95
"""Frames are encoded once more for the video, so they are kept better than those that are looked at as they are."""


@dataclass(frozen=True)
class Gear:
    """What a painting process renders walks with."""

    settings: Settings
    storage: Storage
    device: torch.device
    worker: str


def render_stretch(job: Walk, batch: WalkBatch, gear: Gear, look: Callable[[int], None]) -> WalkResult:
    """Render a job of a walk and commit it.

    Args:
        job: which frames
        batch: whose options hold
        gear: what to render with
        look: told how many frames are done; it may raise PaintingStopped

    Returns:
        The commit that stands: ours, or that of a twin that was sooner.

    Raises:
        StorageUnreachable, StorageRefused: nothing was committed.
        OutOfMemory: the device has no room.
        PaintingStopped: ``look`` said so.
    """
    started = time.monotonic()
    attempt = Attempt(gear.storage, job.id)
    with attempt.or_nothing(), out_of_memory():
        _render(job, batch, gear, attempt, look)
        all_s = time.monotonic() - started
        return attempt.commit(_result(job, batch, gear, attempt, all_s))


def _render(job: Walk, batch: WalkBatch, gear: Gear, attempt: Attempt, look: Callable[[int], None]) -> None:
    with FrameKeeper(attempt.store_frame, waiting=gear.settings.frames_waiting) as keeper:
        rendered = frames(batch.options, job.first, job.count, gear.device, advance=lambda: look(len(attempt.frames)))
        for number, frame in enumerate(rendered, start=job.first):
            keeper.keep(number, partial(encode_jpeg, _as_rgb(frame), quality=JPEG_QUALITY))
    look(job.count)


def _as_rgb(frame: Pixels) -> Pixels:
    """A frame (H, W, 1 or 3) as (H, W, 3)."""
    return np.broadcast_to(frame, (*frame.shape[:2], 3))


def _result(job: Walk, batch: WalkBatch, gear: Gear, attempt: Attempt, seconds: float) -> WalkResult:
    return WalkResult(
        job_id=job.id,
        batch=batch.name,
        options=batch.options,
        engine=batch.engine,
        size=batch.options.size,
        steps=job.count,
        frames=tuple(sorted(attempt.frames)),
        files=attempt.files,
        seconds=Seconds(load=0.0, paint=seconds, store=0.0, total=seconds),  # frames are stored while others are made
        device=device_name(gear.device),
        versions={"medley": version("medley-farm"), "python": platform.python_version()}
        | {name: version(name) for name in ("torch", "numpy")},
        attempt=attempt.token,
        worker=gear.worker,
        finished_at=datetime.now(UTC),
    )
