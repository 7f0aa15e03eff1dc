"""Jobs from their messages to their commits: gather the inputs, paint, keep frames and checkpoints, store the pictures
and the results.

It knows the numbers and storage, but no queue.
"""

import json
import logging
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import chain

from PIL import Image

from medley.costs import Size, histories
from medley.errors import MedleyError, OutOfMemory, PaintingStopped
from medley.media import previews
from medley.media.images import encode_png, shown
from medley.records.base import JobId
from medley.records.batches import Batch
from medley.records.jobs import HowMade, StyleTransfer
from medley.records.results import Result, Seconds
from medley_workers.jobs.attempt import Attempt
from medley_workers.jobs.checkpoint import find_checkpoint, frames_until
from medley_workers.jobs.course import Course, course_of
from medley_workers.jobs.easel import Easel, Look
from medley_workers.jobs.scene import Gathered, Scene, Studio, set_up
from medley_workers.numbers.devices import device_name, out_of_memory
from medley_workers.numbers.tensors import Pixels, size_of, to_tensor
from medley_workers.numbers.transfer import deterministic, finished_picture

log = logging.getLogger(__name__)


Commit = Callable[[], Result]
"""Stores a picture and commits it, on whatever thread; nothing of the device is needed for that, or held."""


def painted_job(
    job: StyleTransfer,
    batch: Batch,
    studio: Studio,
    look: Look,
    load_s: float = 0.0,
    gathered: Gathered | None = None,
) -> Commit:
    """Paint a job of a batch. It is gone on with where an earlier attempt left a checkpoint.

    If memory does not suffice, it is painted once more, with what can be spared.

    Args:
        job: what to paint
        batch: whose options hold
        studio: what to paint with
        look: told of every step
        load_s: the seconds that loading the network took on behalf of this job
        gathered: its inputs, if they are there already

    Returns:
        What commits it, and returns the commit that stands: ours, or that of a twin that was sooner.

    Raises:
        ImageError: an input cannot be read, or is not the one that the job names.
        NumbersError: NaN, or a blank picture; nothing was committed.
        UsageError: the options do not fit these pictures.
        StorageUnreachable, StorageRefused: nothing was committed.
        OutOfMemory: the device has no room, whatever is spared.
        PaintingStopped: ``look`` said so; if it is worth keeping, there is a checkpoint now.
    """
    *costlier, cheapest = histories(batch.options)
    for history in costlier:
        try:
            return _paint_alone(job, batch, studio, look, load_s, gathered, history)
        except OutOfMemory as error:
            # As a text: whoever keeps the error keeps what its traceback holds, which is all of the painting.
            log.warning("%s is painted once more (%s): %s", shown(job.names), _economy(batch, cheapest), str(error))
            if not batch.options.is_exact:
                studio.engine(batch.options).targets.clear()
    return _paint_alone(job, batch, studio, look, load_s, gathered, cheapest)


def paint_together(
    jobs: Sequence[StyleTransfer],
    batch: Batch,
    studio: Studio,
    looks: Mapping[JobId, Look],
    gathered: Mapping[JobId, Gathered],
) -> Iterator[tuple[JobId, Commit | Exception]]:
    """Paint jobs of a batch at once, those whose pictures have the size of the first one's.

    Yields:
        Of each: what commits it, or what it failed of. Of those that have another size, nothing.

    Raises:
        OutOfMemory: there is no room for so many.
        PaintingStopped: one of ``looks`` said so; what is not committed then is given up.
    """
    started = time.monotonic()
    history, *_ = histories(batch.options)
    scenes: dict[JobId, Scene] = {}
    for job in jobs:
        try:
            scene = set_up(job, batch.options, studio, history, gathered.get(job.id))
        except MedleyError as error:
            yield job.id, error
            continue
        if not scenes or size_of(scene.canvas) == size_of(next(iter(scenes.values())).canvas):
            scenes[job.id] = scene
    if not scenes:
        return
    with out_of_memory(), deterministic(batch.options.deterministic):
        course = course_of(list(scenes.values()), batch.options, studio, history)
        yield from _follow_all(
            {
                number: Easel(
                    job, batch.options, scenes[job.id], Attempt(studio.storage, job.id), studio.settings, look
                )
                for number, (job, look) in enumerate((job, looks[job.id]) for job in jobs if job.id in scenes)
            },
            course,
            partial(_to_commit, course=course, batch=batch, studio=studio, clock=Clock(started, 0.0, len(scenes))),
        )


def _follow_all(
    easels: dict[int, Easel], course: Course, to_commit: Callable[[Easel], Commit]
) -> Iterator[tuple[JobId, Commit | Exception]]:
    """Go through the steps of all pictures; each ends by itself."""
    try:
        for step in chain.from_iterable(course.steps(None)):
            if step.picture not in easels:  # it failed
                continue
            easel = easels[step.picture]
            ended: Commit | Exception | None
            try:
                with easel.attempt.or_nothing(), easel.closed_if_it_fails():
                    easel.follow(step)
                    ended = to_commit(easel) if step.is_last else None
            except PaintingStopped:
                raise
            except Exception as error:
                ended = error
            if ended:
                del easels[step.picture]
                easel.close()
                yield easel.job.id, ended
            if not easels:
                return
    finally:
        for easel in easels.values():
            easel.close()
            easel.attempt.discard()


def _paint_alone(
    job: StyleTransfer,
    batch: Batch,
    studio: Studio,
    look: Look,
    load_s: float,
    gathered: Gathered | None,
    history: int,
) -> Commit:
    started = time.monotonic()
    attempt = Attempt(studio.storage, job.id, _economy(batch, history))
    options = batch.options
    with attempt.or_nothing(), out_of_memory(), deterministic(options.deterministic):
        scene = set_up(job, options, studio, history, gathered)
        begun = find_checkpoint(studio.storage, job.id, options, scene.canvas)
        if begun:
            attempt.go_on_with(begun.how_far, frames_until(begun.how_far.step, options))
        course = course_of([scene], options, studio, history)
        easel = Easel(job, options, scene, attempt, studio.settings, look, begun)
        with closing(easel):
            for step in chain.from_iterable(course.steps(begun.kept if begun else None)):
                easel.follow(step)
            return _to_commit(easel, course, batch, studio, Clock(started, load_s))


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


def _to_commit(easel: Easel, course: Course, batch: Batch, studio: Studio, clock: Clock) -> Commit:
    """What stores the picture of the last step, and small copies, and commits that."""
    step, attempt, small = easel.last_step, easel.attempt, easel.scene.previews
    picture = finished_picture(step, easel.scene.colours.picture)
    png_loss = loss_of_picture(easel.scene, course, picture, step.picture)
    easel.frames.settle()
    paint_s = clock.elapsed_s()
    height, width, _ = picture.shape
    seconds = Seconds(load=clock.load_s, paint=paint_s, store=0.0, total=clock.load_s + paint_s)
    # Made now, lest the painting is kept alive until it is committed.
    painted, how = _result(easel, course, batch, studio, (width, height), png_loss, seconds), how_made(easel.job, batch)

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


def loss_of_picture(scene: Scene, course: Course, picture: Pixels, number: int) -> float:
    """The loss of what people will see: eight bits, and nothing outside of black and white."""
    height, width, _ = picture.shape
    image = to_tensor(Image.fromarray(picture), (width, height)).to(scene.canvas.device)
    return course.loss(scene.colours.seen(image), number)


def _economy(batch: Batch, history: int) -> str:
    """What is spared with such a history."""
    usual = histories(batch.options)[0]
    return f"L-BFGS remembers {history} pairs of vectors instead of {usual}" if history < usual else ""


def how_made(job: StyleTransfer, batch: Batch) -> dict[str, str]:
    """What the PNG says of itself, as text chunks: under ``medley`` a :class:`HowMade`, in ASCII, as tEXt demands."""
    made = HowMade(job=job, options=batch.options, weights=batch.weights, engine=batch.engine)
    text = json.dumps(made.model_dump(mode="json", exclude_none=True))
    return {"Software": f"medley {version('medley')}", "medley": text}


def _result(
    easel: Easel, course: Course, batch: Batch, studio: Studio, size: Size, png_loss: float, seconds: Seconds
) -> Result:
    job, attempt, last = easel.job, easel.attempt, easel.last_step
    chosen = course.chosen()
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
        losses=tuple(easel.losses),
        loss=easel.losses[-1][1],
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
        versions={name: version(name) for name in ("medley", "torch")} | {"python": platform.python_version()},
        attempt=attempt.token,
        worker=studio.worker,
        finished_at=datetime.now(UTC),
    )
