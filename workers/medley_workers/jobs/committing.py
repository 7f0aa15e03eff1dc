"""What is committed of a painted picture: the picture itself, small copies, and the result that names them."""

import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from PIL import Image

from medley.media import previews
from medley.media.images import encode_png
from medley.records.base import Size
from medley.records.batches import Batch
from medley.records.jobs import HowMade, StyleTransfer
from medley.records.results import Result, Seconds
from medley_workers.jobs.keeper import Keeper
from medley_workers.jobs.method import Method
from medley_workers.jobs.scene import Scene, Studio
from medley_workers.numbers.devices import device_name
from medley_workers.numbers.tensors import Pixels, to_tensor
from medley_workers.numbers.transfer import Step, finished_picture

Commit = Callable[[], Result]
"""Stores a picture and commits it, on whatever thread; nothing of the device is needed for that, or held."""


@dataclass(frozen=True)
class Clock:
    """When a painting started, on time.monotonic's clock; the seconds that the weights had taken to load before, and
    how many pictures share the time.
    """

    started: float
    load_s: float
    pictures: int = 1

    def elapsed_s(self) -> float:
        """A picture's share, so far."""
        return (time.monotonic() - self.started) / self.pictures


def to_commit(keeper: Keeper, step: Step, method: Method, batch: Batch, studio: Studio, clock: Clock) -> Commit:
    """What stores the picture of the last ``step``, and small copies, and commits that.

    Raises:
        NumbersError: NaN, or a blank picture.
        Exception: what kept a frame from being kept.
    """
    attempt, small = keeper.attempt, keeper.scene.previews
    picture = finished_picture(step, keeper.scene.colours.picture)
    png_loss = _png_loss(keeper.scene, method, picture, step.picture)
    keeper.frames.settle()
    paint_s = clock.elapsed_s()
    height, width, _ = picture.shape
    seconds = Seconds(load=clock.load_s, paint=paint_s, store=0.0, total=clock.load_s + paint_s)
    # Made now, lest the painting is kept alive until it is committed.
    painted, how = (
        _result(keeper, step, method, batch, studio, (width, height), png_loss, seconds),
        _how_made(keeper.job, batch),
    )

    def commit() -> Result:
        begun = time.monotonic()
        with attempt.or_nothing():
            attempt.store_picture(encode_png(picture, how))
            attempt.store_previews(small | {previews.PICTURE: previews.small(Image.fromarray(picture))})
        store_s = time.monotonic() - begun
        whole = seconds.model_copy(update={"store": store_s, "total": seconds.total + store_s})
        now = {"files": attempt.files, "seconds": whole, "finished_at": datetime.now(UTC)}
        return attempt.commit(painted.model_copy(update=now))

    return commit


def _png_loss(scene: Scene, method: Method, picture: Pixels, number: int) -> float:
    """The loss of what people will see: eight bits, and nothing outside of black and white."""
    height, width, _ = picture.shape
    image = to_tensor(Image.fromarray(picture), (width, height)).to(scene.canvas.device)
    return method.loss(scene.colours.seen(image), number)


def _how_made(job: StyleTransfer, batch: Batch) -> dict[str, str]:
    """What the PNG says of itself, as text chunks: under ``medley`` a :class:`HowMade`, in ASCII, as tEXt demands."""
    made = HowMade(job=job, options=batch.options, weights=batch.weights, engine=batch.engine)
    text = json.dumps(made.model_dump(mode="json", exclude_none=True))
    return {"Software": f"medley {version('medley-farm')}", "medley": text}


def _result(
    keeper: Keeper,
    last: Step,
    method: Method,
    batch: Batch,
    studio: Studio,
    size: Size,
    png_loss: float,
    seconds: Seconds,
) -> Result:
    job, attempt, losses, chosen = keeper.job, keeper.attempt, keeper.losses, method.chosen()
    return Result(
        job_id=job.id,
        batch=batch.name,
        content=job.content,
        styles=job.styles,
        init=job.init,
        options=batch.options,
        engine=batch.engine,
        weights=batch.weights,
        size=size,
        steps=last.index,
        losses=tuple(losses),
        loss=losses[-1][1],
        content_loss=last.content_loss(),
        png_loss=png_loss,
        frames=tuple(attempt.frames),
        files=attempt.files,
        seconds=seconds,
        device=device_name(studio.network.device),
        precision="bfloat16" if "bfloat16" in chosen.arithmetic else "float32",
        chosen=chosen,
        economy=attempt.economy,
        resumed_at=attempt.resumed_at,
        versions={"medley": version("medley-farm"), "torch": version("torch"), "python": platform.python_version()},
        attempt=attempt.token,
        worker=studio.worker,
        finished_at=datetime.now(UTC),
    )
