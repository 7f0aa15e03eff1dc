"""One job from its message to its commit: fetch the inputs, paint, keep frames and checkpoints, store the picture and
the result.

It knows the numbers and storage, but no queue.
"""

import json
import logging
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import torch
from PIL import Image

from medley.costs import HISTORY, histories
from medley.errors import OutOfMemory, PaintingStopped
from medley.jobs import Batch, HowMade, StyleTransfer, StyleTransferOptions
from medley.media import previews
from medley.media.images import encode_png, shown
from medley.results import Result, Seconds
from medley_workers.attempt import Attempt
from medley_workers.checkpoint import Keeping, find_checkpoint, frames_until
from medley_workers.colours import Colours
from medley_workers.devices import device_name, out_of_memory
from medley_workers.frames import FrameKeeper
from medley_workers.scene import Scene, Studio, set_up
from medley_workers.tensors import Pixels, to_tensor
from medley_workers.transfer import Step, deterministic, finished_picture, transfer

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
"""A loss is looked at this often, as looking waits for the device: often enough for a person who watches."""

Look = Callable[[Step, float | None], None]
"""Told of every step, and of its loss where that was looked at; it may raise PaintingStopped."""


@dataclass(frozen=True)
class Painted:
    """What the numbers came to: the picture (H, W, 3), its last step, (step, loss) pairs, and its 8-bit loss; beside
    it small copies of what it was made from, by what they show.
    """

    picture: Pixels
    last: Step
    losses: list[tuple[int, float]]
    png_loss: float
    previews: dict[str, bytes]


def paint_job(job: StyleTransfer, batch: Batch, studio: Studio, look: Look, load_s: float = 0.0) -> Result:
    """Paint a job of a batch and commit it. It is gone on with where an earlier attempt left a checkpoint.

    If memory does not suffice, it is painted once more, with what can be spared.

    Args:
        job: what to paint
        batch: whose options hold
        studio: what to paint with
        look: told of every step
        load_s: the seconds that loading the network took on behalf of this job

    Returns:
        The commit that stands: ours, or that of a twin that was sooner.

    Raises:
        ImageError: an input cannot be read, or is not the one that the job names.
        NumbersError: NaN, or a blank picture; nothing was committed.
        UsageError: the options do not fit these pictures.
        StorageUnreachable, StorageRefused: nothing was committed.
        OutOfMemory: the device has no room, whatever is spared.
        PaintingStopped: ``look`` said so; if it is worth keeping, there is a checkpoint now.
    """
    started = time.monotonic()
    attempt, painted = _paint_in_room(job, batch.options, studio, look)
    paint_s = time.monotonic() - started
    with attempt.or_nothing():
        attempt.store_picture(encode_png(painted.picture, how_made(job, batch)))
        attempt.store_previews(painted.previews | {previews.PICTURE: previews.small(Image.fromarray(painted.picture))})
        all_s = time.monotonic() - started
        seconds = Seconds(load=load_s, paint=paint_s, store=all_s - paint_s, total=load_s + all_s)
        result = _result(job, batch, studio, attempt, painted, seconds=seconds)
    return attempt.commit(result)


def _paint_in_room(
    job: StyleTransfer, options: StyleTransferOptions, studio: Studio, look: Look
) -> tuple[Attempt, Painted]:
    """Paint as well as there is room for: with a shorter history if need be, never smaller."""
    *costlier, cheapest = histories(options)
    for history in costlier:
        try:
            return _attempt(job, options, studio, look, history)
        except OutOfMemory as error:
            # As a text: whoever keeps the error keeps what its traceback holds, which is all of the painting.
            log.warning("%s is painted once more (%s): %s", shown(job.names), _economy(cheapest), str(error))
    return _attempt(job, options, studio, look, cheapest)


def _attempt(
    job: StyleTransfer, options: StyleTransferOptions, studio: Studio, look: Look, history: int
) -> tuple[Attempt, Painted]:
    attempt = Attempt(studio.storage, job.id, _economy(history))
    with attempt.or_nothing(), out_of_memory():
        return attempt, paint(job, options, studio, attempt, look, history=history)


def _economy(history: int) -> str:
    """What is spared with such a history."""
    return f"L-BFGS remembers {history} pairs of vectors instead of {HISTORY}" if history < HISTORY else ""


def paint(
    job: StyleTransfer,
    options: StyleTransferOptions,
    studio: Studio,
    attempt: Attempt,
    look: Look,
    *,
    history: int = HISTORY,
) -> Painted:
    """Go through all steps of a job, or those that an earlier attempt left, keeping frames and checkpoints."""
    with deterministic(options.deterministic):
        scene = set_up(job, options, studio, history)
        begun = find_checkpoint(studio.storage, job.id, options, scene.canvas)
        if begun:
            attempt.go_on_with(begun.how_far, frames_until(begun.how_far.step, options))
        kept = begun.kept if begun else None
        steps = transfer(scene.objective, scene.canvas, options, scene.colours.view, kept=kept, history=history)
        with FrameKeeper(attempt.store_frame, waiting=studio.settings.frames_waiting) as frames:
            keeping = Keeping(attempt.store_checkpoint, frames, begun, studio.settings.checkpoint_every_s)
            last = _follow(steps, options, scene.colours, keeping, look)
        picture = finished_picture(last, scene.colours.picture)
        return Painted(picture, last, keeping.losses, loss_of_picture(scene, picture), scene.previews)


def loss_of_picture(scene: Scene, picture: Pixels) -> float:
    """The loss of what people will see: eight bits, and nothing outside of black and white."""
    height, width, _ = picture.shape
    image = to_tensor(Image.fromarray(picture), (width, height)).to(scene.objective.device)
    with torch.no_grad():
        return float(scene.objective(scene.colours.seen(image)).total)


def how_made(job: StyleTransfer, batch: Batch) -> dict[str, str]:
    """What the PNG says of itself, as text chunks: under ``medley`` a :class:`HowMade`, in ASCII, as tEXt demands."""
    made = HowMade(job=job, options=batch.options, weights=batch.weights, engine=batch.engine)
    text = json.dumps(made.model_dump(mode="json", exclude_none=True))
    return {"Software": f"medley {version('medley')}", "medley": text}


def _follow(
    steps: Iterator[Step], options: StyleTransferOptions, colours: Colours, keeping: Keeping, look: Look
) -> Step:
    """Go through all steps, keeping frames and checkpoints and looking at losses; returns the last step."""
    looked_at = float("-inf")
    for step in steps:
        is_kept = bool(options.frame_every) and step.index % options.frame_every == 0
        is_time = step.index in (0, options.num_steps) or time.monotonic() - looked_at >= LOOK_EVERY_S
        loss = step.loss() if is_time or is_kept else None  # a frame that leaves the device is waited for in any case
        if is_time:
            looked_at = time.monotonic()
        if step.index > keeping.begun_at:  # what was kept at that one is kept
            if loss is not None:
                keeping.losses.append((step.index, loss))
            if is_kept:
                keeping.frames.keep(step.index, colours.picture(step.canvas))
        try:
            look(step, loss if is_time else None)
        except PaintingStopped as stopped:
            if stopped.worth_keeping:
                keeping.keep_last(step)
            raise
        keeping.keep_in_time(step)
    return step


def _result(
    job: StyleTransfer, batch: Batch, studio: Studio, attempt: Attempt, painted: Painted, *, seconds: Seconds
) -> Result:
    height, width, _ = painted.picture.shape
    return Result(
        job_id=job.id,
        batch=batch.name,
        content=job.content,
        styles=job.styles,
        init=job.init,
        options=batch.options,
        engine=batch.engine,
        weights=batch.weights,
        size=(width, height),
        steps=painted.last.index,
        losses=tuple(painted.losses),
        loss=painted.losses[-1][1],
        content_loss=float(painted.last.losses.content),
        png_loss=painted.png_loss,
        frames=tuple(attempt.frames),
        files=attempt.files,
        seconds=seconds,
        device=device_name(studio.network.device),
        precision="float32",
        economy=attempt.economy,
        resumed_at=attempt.resumed_at,
        versions={name: version(name) for name in ("medley", "torch")} | {"python": platform.python_version()},
        attempt=attempt.token,
        worker=studio.worker,
        finished_at=datetime.now(UTC),
    )
