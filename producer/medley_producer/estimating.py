"""How long a batch will take, and whether its pictures fit this machine's memory: said before it starts."""

import math
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from medley.broker.roster import Painter
from medley.costs import bytes_needed
from medley.errors import MedleyError, UsageError
from medley.records.base import Size
from medley.records.jobs import ENGINE
from medley.records.options import StyleTransferOptions
from medley.records.trials import Trial, TrialRequest
from medley.settings import Settings
from medley_producer.local import environment
from medley_producer.weights import DEFAULT, Vgg, weights_here

TRIAL_WITHIN_S = 120.0
"""A trial takes some seconds; a cold disk gives torch up only after a minute or more."""

SMALL_PIXEL_STEPS = 5_000_000
SMALL_BYTES = 1_000_000_000
"""What is below both is begun without a trial, as that would be the longer wait: two slow cores take half a minute for
so many steps times pixels, and where torch can be imported there is a gigabyte."""

_START_S = 6.0
"""For a worker to start and import torch, and for a batch's end."""

_FURTHER_STEPS = 2.0
"""Setting up and the last losses look at pictures five times; a look without a gradient is a third of a step."""

_STORE_S = 0.5e-6
"""For each pixel, to read the inputs and to write the picture."""


@dataclass(frozen=True)
class Estimate:
    """How long a batch will take; ``seconds`` is None where it cannot be told, and the sentence says why."""

    seconds: float | None
    sentence: str


def estimate(
    settings: Settings,
    size: Size,
    style_sizes: Sequence[Size],
    options: StyleTransferOptions,
    jobs: int,
    *,
    vgg: Vgg = DEFAULT,
) -> Estimate | None:
    """How long this machine will take for a batch, by painting a few steps in a process of its own.

    Args:
        settings: which device is to paint, and how many processes
        size: at which the largest picture is painted, px
        style_sizes: at which the styles of one picture are looked at, px
        options: how to paint
        jobs: how many pictures are to be painted
        vgg: which weights paint

    Returns:
        None where the batch is too small to be worth a trial. A trial that fails is told in the sentence.

    Raises:
        UsageError: there is no room for such a picture; the message has the size for which there is.
    """
    is_short = math.prod(size) * options.num_steps * jobs < SMALL_PIXEL_STEPS
    if is_short and bytes_needed(size, style_sizes, options) < SMALL_BYTES:
        return None
    what = _what(size, options, jobs)
    try:
        with weights_here(vgg.where, settings) if vgg.where else nullcontext() as file:
            trial = _run_trial(settings, TrialRequest(
                size=size, style_sizes=tuple(style_sizes), options=options, jobs=jobs,
                weights=vgg.weights, weights_file=str(file) if file else None,
            ))  # fmt: skip
    except MedleyError as error:
        return Estimate(None, f"{what}: how long that takes is not known, as a trial failed: {error}")
    if trial.problem:
        raise UsageError(trial.problem)
    return _from_trial(what, trial, math.prod(size), options, jobs)


def cluster_estimate(
    painters: Sequence[Painter], size: Size, options: StyleTransferOptions, jobs: int
) -> Estimate | None:
    """How long the painting processes that are up will take for a batch, by what they took for their last jobs.

    Returns None if none of them has told its speed. One that has painted nothing yet is taken to be as fast as the
    others are on average.
    """
    painters = [painter for painter in painters if painter.engine == ENGINE]  # others never see these jobs
    speeds = [painter.pixel_steps_s for painter in painters if painter.pixel_steps_s]
    if not speeds:
        return None
    pixel_steps_s = sum(speeds) / len(speeds) * len(painters)
    seconds = math.prod(size) * options.num_steps * jobs / pixel_steps_s
    who = "the painting process that is up" if len(painters) == 1 else f"the {len(painters)} painting processes up"
    return Estimate(seconds, f"{_what(size, options, jobs)}: {_about(seconds)} with {who}, if nothing else waits")


def _from_trial(what: str, trial: Trial, pixels: int, options: StyleTransferOptions, jobs: int) -> Estimate:
    step_s = trial.step_s or 0.0
    job_s = (options.num_steps + _FURTHER_STEPS) * step_s + pixels * _STORE_S
    seconds = _START_S + trial.load_s + math.ceil(jobs / trial.painters) * job_s
    return Estimate(seconds, f"{what}: {_about(seconds)} ({step_s:.2g} s a step on {trial.device})")


def _run_trial(settings: Settings, request: TrialRequest) -> Trial:
    """Paint a few steps in a process of its own.

    Raises:
        MedleyError: it failed; the message is a sentence.
    """
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "medley_workers.trial"],
            input=request.json_bytes(),
            capture_output=True,
            timeout=TRIAL_WITHIN_S,
            env=environment(settings),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MedleyError(f"It took more than {error.timeout:.0f} s.") from error
    if ended.returncode:
        said = ended.stderr.decode(errors="replace").strip().splitlines()
        raise MedleyError(said[-1] if said else f"It ended with code {ended.returncode}.")
    return Trial.from_json(ended.stdout)


def _what(size: Size, options: StyleTransferOptions, jobs: int) -> str:
    pictures = "1 picture of" if jobs == 1 else f"{jobs:,} pictures of up to"
    return f"{pictures} {size[0]} x {size[1]} px, {options.num_steps} steps{'' if jobs == 1 else ' each'}"


def _about(seconds: float) -> str:
    """A time as people say it."""
    for unit, unit_s in (("days", 86_400), ("h", 3_600), ("min", 60)):
        units = seconds / unit_s
        if units >= 1.5:
            return f"about {f'{units:.0f}' if units >= 10 else f'{units:.2g}'} {unit}"
    return f"about {max(1, round(seconds))} s"
