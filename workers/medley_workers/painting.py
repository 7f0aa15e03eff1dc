"""One job from its message to its commit: fetch the inputs, paint, keep frames, store the picture and the result.

It knows the numbers and storage, but no queue.
"""

import hashlib
import json
import platform
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version

import torch
from PIL import Image
from torch import Tensor

from medley import keys
from medley.batches import read_result
from medley.errors import ImageError, OutOfMemory
from medley.jobs import Batch, Picture, Result, Seconds, StoredFile, StyleTransfer, StyleTransferOptions
from medley.media.images import encode_png, open_picture
from medley.settings import Settings
from medley.sizes import rendered_size
from medley.storage import Storage
from medley_workers.frames import FrameKeeper
from medley_workers.losses import Objective
from medley_workers.tensors import Pixels, to_picture, to_tensor
from medley_workers.transfer import Step, finished_picture, start_image, transfer
from medley_workers.vgg import Network

LOOK_EVERY_S = 0.5
"""A loss is looked at this often, as looking waits for the device: often enough for a person who watches."""


@dataclass(frozen=True)
class Studio:
    """What a painting process has at hand."""

    settings: Settings
    storage: Storage
    network: Network
    worker: str


@dataclass
class Attempt:
    """One attempt at a job: its files under its own random token, so that twins never touch each other's."""

    storage: Storage
    job: StyleTransfer
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    files: dict[str, StoredFile] = field(default_factory=dict)
    frames: list[int] = field(default_factory=list)

    def store(self, key: str, data: bytes, content_type: str) -> None:
        """Store a file, and note its digest under its name within the attempt."""
        self.storage.put(key, data, content_type)
        name = key.removeprefix(keys.attempt(self.job.id, self.token))
        self.files[name] = StoredFile(key=key, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))

    def store_frame(self, step: int, data: bytes) -> None:
        """Store a frame."""
        self.store(keys.frame(self.job.id, self.token, step), data, "image/jpeg")
        self.frames.append(step)


def paint_job(
    job: StyleTransfer, batch: Batch, studio: Studio, look: Callable[[Step, float | None], None], load_s: float = 0.0
) -> Result:
    """Paint a job of a batch and commit it.

    Args:
        job: what to paint
        batch: whose options hold
        studio: what to paint with
        look: told of every step, and of its loss where that was looked at
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
    attempt = Attempt(studio.storage, job)
    with out_of_memory():
        objective, content = set_up(job, batch.options, studio)
        steps = transfer(objective, start_image(content, batch.options), batch.options)
        with FrameKeeper(attempt.store_frame, waiting=studio.settings.frames_waiting) as keeper:
            last, losses = follow(steps, batch.options, keeper, look)
        picture = finished_picture(last)
        png_loss = loss_of_picture(objective, picture)
    painted = time.monotonic()
    options = batch.options.model_dump_json(exclude_none=True)
    png = encode_png(picture, {"Software": f"medley {version('medley')}", "medley": how_made(job, options)})
    attempt.store(keys.pastiche(job.id, attempt.token), png, "image/png")
    ended = time.monotonic()
    return commit(
        studio.storage,
        Result(
            job_id=job.id,
            batch=batch.name,
            content=job.content,
            styles=job.styles,
            options=batch.options,
            engine=batch.engine,
            weights=batch.weights,
            size=(picture.shape[1], picture.shape[0]),
            steps=last.index,
            losses=tuple(losses),
            loss=losses[-1][1],
            content_loss=float(last.losses.content),
            png_loss=png_loss,
            frames=tuple(attempt.frames),
            files=attempt.files,
            seconds=Seconds(
                load=load_s, paint=painted - started, store=ended - painted, total=load_s + ended - started
            ),
            device=device_name(studio.network.device),
            precision="float32",
            versions={name: version(name) for name in ("medley", "torch", "celery")}
            | {"python": platform.python_version()},
            attempt=attempt.token,
            worker=studio.worker,
            finished_at=datetime.now(UTC),
        ),
    )


def set_up(job: StyleTransfer, options: StyleTransferOptions, studio: Studio) -> tuple[Objective, Tensor]:
    """Fetch the inputs; returns what is minimised, and the content as a tensor (1, 3, H, W)."""
    content = fetch(job.content, studio)
    size = rendered_size(*content.size, options.size, options.size_pixels)
    content_tensor = to_tensor(content, size)
    styles = [to_tensor(style, style_size(style, size, options)) for style in (fetch(s, studio) for s in job.styles)]
    weights = [style.weight for style in job.styles]
    return Objective(studio.network, content_tensor, styles, weights, options), content_tensor


def style_size(style: Image.Image, size: tuple[int, int], options: StyleTransferOptions) -> tuple[int, int]:
    """Width and height in px at which a style is looked at: as many pixels as the result has, unless told otherwise."""
    pixels = options.style_size_pixels or size[0] * size[1]
    return rendered_size(*style.size, options.style_size, pixels)


def fetch(picture: Picture, studio: Studio) -> Image.Image:
    """An input picture, RGB.

    Raises:
        ImageError: it cannot be read, or its bytes are not those that were asked for.
    """
    data = studio.storage.get(keys.input_picture(picture.input))
    if hashlib.sha256(data).hexdigest() != picture.sha256:
        raise ImageError(f"{picture.name} changed in storage since it was submitted. Submit it again.")
    return open_picture(data, studio.settings, picture.name)


def follow(
    steps: Iterator[Step],
    options: StyleTransferOptions,
    keeper: FrameKeeper,
    look: Callable[[Step, float | None], None],
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
            keeper.keep(step.index, to_picture(step.image))
        look(step, loss)
    return step, losses


def loss_of_picture(objective: Objective, picture: Pixels) -> float:
    """The loss of what people will see: eight bits, and nothing outside of black and white."""
    height, width, _ = picture.shape
    with torch.no_grad():
        return float(objective(to_tensor(Image.fromarray(picture), (width, height))).total)


def how_made(job: StyleTransfer, options: str) -> str:
    """What the PNG says of itself, as JSON."""
    return json.dumps({"job": job.model_dump(mode="json", exclude_none=True), "options": json.loads(options)})


def commit(storage: Storage, result: Result) -> Result:
    """Write result.json, unless a twin did; returns the one that stands."""
    if storage.put_new(keys.result(result.job_id), result.json_bytes()):
        return result
    return read_result(storage, result.job_id) or result


def choose_device(settings: Settings) -> torch.device:
    """What to paint on; MEDLEY_DEVICE=auto takes the GPU that this process was given, if there is one.

    On the CPU, the processes of one worker share the cores.
    """
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // max(1, settings.processes)))
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """What painted, as people call it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


@contextmanager
def out_of_memory() -> Iterator[None]:
    """Gives the many faces of exhausted memory one name."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(_no_room(error)) from error
    except RuntimeError as error:
        # The CPU's allocator has no exception of its own.
        if "can't allocate memory" in str(error) or "not enough memory" in str(error):
            raise OutOfMemory(_no_room(error)) from error
        raise


def _no_room(error: BaseException) -> str:
    return f"Not enough memory to paint this picture ({error}). Ask for a smaller size, or use a larger device."
