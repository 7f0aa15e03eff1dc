"""A few steps of a picture that nobody keeps, to learn what this machine takes for one: ``python -m`` this module.

It reads a :class:`TrialRequest` as JSON from stdin and prints a :class:`Trial`. A process of its own does this, as
whoever asks may have no torch, and gets all of the memory back when it ends.
"""

import math
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from medley.costs import histories, room_problem
from medley.errors import MedleyError
from medley.records.base import Size
from medley.records.trials import Trial, TrialRequest
from medley.settings import Settings
from medley.sizes import rendered_size
from medley_workers.gpus import take_gpu, visible_gpus
from medley_workers.network.loading import load_weights
from medley_workers.network.vgg import Network
from medley_workers.network.weights import find_weights
from medley_workers.numbers.devices import choose_device, device_name, free_bytes, out_of_memory
from medley_workers.numbers.fast import Descent
from medley_workers.numbers.fast_network import FastNetwork
from medley_workers.numbers.losses import Objective
from medley_workers.numbers.scale import Subject
from medley_workers.numbers.tensors import size_of
from medley_workers.numbers.transfer import Step, transfer

_MOST_PIXELS = {"cpu": 250_000, "cuda": 1_000_000}
"""A larger picture is tried smaller, and its time reckoned by pixels. On a CPU a pixel costs up to half as much again
where layers outgrow the caches, so this is no smaller than it need be: about two seconds a step on two slow cores."""

_LEAST_PIXELS = 10_000

_ENOUGH_S = 3.0
"""Steps are made for this long, which is one or two on a slow CPU."""

_MOST_STEPS = 20
"""A GPU would make thousands."""


def main() -> int:
    """Answer one request; returns the exit code. What goes wrong is one sentence on stderr."""
    try:
        request = TrialRequest.from_json(sys.stdin.read())
        print(try_out(request, Settings.load()).json_bytes().decode())
    except MedleyError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def try_out(request: TrialRequest, settings: Settings) -> Trial:
    """Paint a few steps, unless there is no room for the picture; this process then has its GPU.

    Raises:
        WeightsError: the network's weights are not here, or their file is none.
        ServiceUnreachable: MEDLEY_DEVICE asks for a GPU that torch cannot use.
        OutOfMemory: there was no room after all.
        UsageError: the picture is so small that a layer would be empty.
    """
    gpus = len(visible_gpus(settings))
    painters = min(settings.processes or max(1, gpus), request.jobs)
    take_gpu(settings, process_index=0)
    started = time.monotonic()
    device = choose_device(settings)
    file = Path(request.weights_file) if request.weights_file else find_weights(request.weights)
    network = Network(load_weights(file), device)
    load_s = time.monotonic() - started
    sharers = math.ceil(painters / gpus) if device.type == "cuda" else painters
    free = free_bytes(device)
    asked = (request.size, request.style_sizes, request.options)
    cheapest = histories(request.options)[-1]
    problem = None if free is None else room_problem(*asked, free // sharers, cheapest)
    with out_of_memory():
        step_s = None if problem else _step_s(network, request, settings)
    return Trial(device=device_name(device), painters=painters, load_s=load_s, step_s=step_s, problem=problem)


def _step_s(network: Network, request: TrialRequest, settings: Settings) -> float:
    """Seconds of a step at full size, of the size that was asked for."""
    pixels = math.prod(request.size)
    shrunk = min(1.0, _MOST_PIXELS[network.device.type] / pixels)
    content, *styles = (_noise(size, shrunk) for size in (request.size, *request.style_sizes))
    options = request.options.model_copy(update={"num_steps": _MOST_STEPS + 1, "levels": 1, "target_loss": None})
    subject = Subject(content.to(network.device), [style.to(network.device) for style in styles], [1.0] * len(styles))
    if options.is_exact:
        objective = Objective(network, content, styles, subject.weights, options)
        steps = transfer(objective, content, options)
    else:
        fast_network = FastNetwork(network, settings.arithmetic, graphs=settings.graphs)
        steps = chain.from_iterable(Descent(fast_network, [subject], options).steps())
    return _timed(steps) * pixels / math.prod(size_of(content))


def _timed(steps: Iterator[Step]) -> float:
    """Seconds of a step, but for the first one, before which there is much to prepare."""
    _wait(next(steps))
    first = next(steps)
    _wait(first)
    started = time.monotonic()
    for step in steps:
        _wait(step)
        elapsed_s = time.monotonic() - started
        if elapsed_s >= _ENOUGH_S or step.index == _MOST_STEPS:
            break
    return elapsed_s / (step.index - first.index)


def _wait(step: Step) -> None:
    """Wait for the device: a value that is read has been computed."""
    step.loss()


def _noise(size: Size, shrunk: float) -> Tensor:
    """A picture (1, 3, H, W) with this share of the pixels of a size; what it shows does not bear on the time."""
    # A style that is small already stays large enough for every layer.
    pixels = max(min(math.prod(size), _LEAST_PIXELS), round(math.prod(size) * shrunk))
    width, height = rendered_size(*size, pixels=pixels)
    return torch.randn((1, 3, height, width), generator=torch.Generator().manual_seed(0))


if __name__ == "__main__":
    sys.exit(main())
