"""Jobs from their inputs to what commits them: painted alone, or those of one size together.

It knows the numbers and storage, but no queue.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import chain

from medley.costs import histories
from medley.errors import MedleyError, OutOfMemory, PaintingStopped
from medley.records.base import JobId
from medley.records.batches import Batch
from medley.records.jobs import StyleTransfer
from medley.telling import shown
from medley_workers.jobs.attempt import Attempt
from medley_workers.jobs.checkpoint import find_checkpoint, frames_until
from medley_workers.jobs.committing import Clock, Commit, to_commit
from medley_workers.jobs.inputs import Inputs, gather
from medley_workers.jobs.keeper import Keeper, Look
from medley_workers.jobs.method import method_of
from medley_workers.jobs.scene import Scene, Studio, set_up
from medley_workers.numbers.devices import out_of_memory
from medley_workers.numbers.transfer import Step, deterministic

log = logging.getLogger(__name__)

GATHERED_AT_ONCE = 4
"""Jobs whose inputs are fetched and decoded at the same time, before they are painted together."""


def paint_alone(
    job: StyleTransfer,
    batch: Batch,
    studio: Studio,
    look: Look,
    load_s: float = 0.0,
    inputs: Inputs | None = None,
) -> Commit:
    """Paint a job of a batch. It is gone on with where an earlier attempt left a checkpoint.

    If memory does not suffice, it is painted once more, with what can be spared.

    Args:
        job: what to paint
        batch: whose options hold
        studio: what to paint with
        look: told of every step
        load_s: the seconds that loading the network took on behalf of this job
        inputs: of the job, if they are there already

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
            return _paint_alone(job, batch, studio, look, load_s, inputs, history)
        except OutOfMemory as error:
            # As a text: whoever keeps the error keeps what its traceback holds, which is all of the painting.
            log.warning("%s is painted once more (%s): %s", shown(job.names), _economy(batch, cheapest), str(error))
            if not batch.options.is_exact:
                studio.fast_network(batch.options).targets.clear()
    return _paint_alone(job, batch, studio, look, load_s, inputs, cheapest)


def _paint_alone(
    job: StyleTransfer,
    batch: Batch,
    studio: Studio,
    look: Look,
    load_s: float,
    inputs: Inputs | None,
    history: int,
) -> Commit:
    started = time.monotonic()
    attempt = Attempt(studio.storage, job.id, _economy(batch, history))
    options = batch.options
    with attempt.or_nothing(), out_of_memory(), deterministic(options.deterministic):
        scene = set_up(job, options, studio, history, inputs)
        begun = find_checkpoint(studio.storage, job.id, options, scene.canvas)
        if begun:
            attempt.go_on_with(begun.how_far, frames_until(begun.how_far.step, options))
        method = method_of([scene], options, studio, history)
        keeper = Keeper(job, scene, attempt, studio.settings, look, begun)
        with closing(keeper):
            for step in chain.from_iterable(method.steps(begun.snapshot if begun else None)):
                keeper.follow(step)
            return to_commit(keeper, step, method, batch, studio, Clock(started, load_s))


def paint_together(
    jobs: Sequence[StyleTransfer], batch: Batch, studio: Studio, look_at: Callable[[StyleTransfer], Look]
) -> Iterator[tuple[JobId, Commit | Exception]]:
    """Paint jobs of a batch at once, those whose pictures have one size; ``look_at`` gives the look at a job's steps.

    Yields:
        Of each: what commits it, or what it failed of. Of one that no other is as large as, or whose inputs cannot be
        had, nothing.

    Raises:
        OutOfMemory: there is no room for so many.
        PaintingStopped: who was told of a step said so; what is not committed then is given up.
    """
    sizes: defaultdict[tuple[int, ...], list[tuple[StyleTransfer, Inputs]]] = defaultdict(list)
    with ThreadPoolExecutor(GATHERED_AT_ONCE) as threads:
        gathered = list(threads.map(partial(_gathered, batch=batch, studio=studio), jobs))
    for job, inputs in zip(jobs, gathered, strict=True):
        if inputs:
            sizes[tuple(inputs.content.shape)].append((job, inputs))
    for group in sizes.values():
        if len(group) > 1:
            yield from _paint_group(group, batch, studio, look_at)


def _gathered(job: StyleTransfer, batch: Batch, studio: Studio) -> Inputs | None:
    try:
        return gather(job, batch.options, studio.settings, studio.storage)
    except MedleyError as error:  # which is told when it is painted alone
        log.debug("Job %s is not gathered: %s", job.id, error)
        return None


def _paint_group(
    group: Sequence[tuple[StyleTransfer, Inputs]],
    batch: Batch,
    studio: Studio,
    look_at: Callable[[StyleTransfer], Look],
) -> Iterator[tuple[JobId, Commit | Exception]]:
    names = ", ".join(f"{shown(job.names)} (job {job.id} of {batch.name})" for job, _ in group)
    log.info("Painting %d pictures together: %s.", len(group), names)
    started = time.monotonic()
    history, *_ = histories(batch.options)
    scenes: list[tuple[StyleTransfer, Scene]] = []
    for job, inputs in group:
        try:
            scenes.append((job, set_up(job, batch.options, studio, history, inputs)))
        except MedleyError as error:
            yield job.id, error
    if not scenes:
        return
    with out_of_memory(), deterministic(batch.options.deterministic):
        method = method_of([scene for _, scene in scenes], batch.options, studio, history)
        keepers = {
            number: Keeper(job, scene, Attempt(studio.storage, job.id), studio.settings, look_at(job))
            for number, (job, scene) in enumerate(scenes)
        }
        clock = Clock(started, 0.0, len(scenes))
        end = partial(to_commit, method=method, batch=batch, studio=studio, clock=clock)
        yield from _follow_all(chain.from_iterable(method.steps(None)), keepers, end)


def _follow_all(
    steps: Iterator[Step], keepers: dict[int, Keeper], end: Callable[[Keeper, Step], Commit]
) -> Iterator[tuple[JobId, Commit | Exception]]:
    """Go through the steps of all pictures; each ends by itself."""
    try:
        for step in steps:
            if step.picture not in keepers:  # it failed
                continue
            keeper = keepers[step.picture]
            ended: Commit | Exception | None
            try:
                with keeper.attempt.or_nothing(), keeper.closed_if_it_fails():
                    keeper.follow(step)
                    ended = end(keeper, step) if step.is_last else None
            except PaintingStopped:
                raise
            except Exception as error:
                ended = error
            if ended:
                del keepers[step.picture]
                keeper.close()
                yield keeper.job.id, ended
            if not keepers:
                return
    finally:
        for keeper in keepers.values():
            keeper.close()
            keeper.attempt.discard()


def _economy(batch: Batch, history: int) -> str:
    """What is spared with such a history."""
    usual = histories(batch.options)[0]
    return f"L-BFGS remembers {history} pairs of vectors instead of {usual}" if history < usual else ""
