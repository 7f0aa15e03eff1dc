"""How pictures are painted, fast or exact: their steps, and what is told of them beside."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medley.records.options import StyleTransferOptions
from medley.records.results import Chosen
from medley_workers.jobs.scene import Scene, Studio
from medley_workers.numbers.fast import Descent
from medley_workers.numbers.fast_network import FastNetwork
from medley_workers.numbers.schedule import shrunk
from medley_workers.numbers.transfer import Snapshot, Step, transfer


@dataclass(frozen=True)
class Method:
    """``steps`` paints: it yields the steps of the pictures that are not finished, given what is gone on with; ``loss``
    is the plain loss of the picture of a number, as the network sees it, (1, 3, H, W); ``chosen`` tells what was
    chosen, once the steps have begun.
    """

    steps: Callable[[Snapshot | None], Iterator[Sequence[Step]]]
    loss: Callable[[Tensor, int], float]
    chosen: Callable[[], Chosen]


def method_of(scenes: Sequence[Scene], options: StyleTransferOptions, studio: Studio, history: int) -> Method:
    """How to paint these scenes, whose canvases have one size; an exact painting is of one alone.

    ``history`` are the pairs of vectors that L-BFGS remembers.
    """
    if options.is_exact:
        return _exact(scenes[0], options, history)
    fast_network = studio.fast_network(options)
    descent = Descent(fast_network, [scene.subject for scene in scenes], options, history)
    return Method(
        descent.steps,
        lambda image, number: float(descent.losses(image).total[number]),
        lambda: _chosen(descent, fast_network),
    )


def _exact(scene: Scene, options: StyleTransferOptions, history: int) -> Method:
    def steps(snapshot: Snapshot | None) -> Iterator[Sequence[Step]]:
        painting = transfer(
            scene.objective, scene.canvas, options, scene.colours.view, snapshot=snapshot, history=history
        )
        for step in painting:
            yield [step]

    def loss(image: Tensor, number: int) -> float:  # noqa: ARG001  # there is but one
        with torch.no_grad():
            return float(scene.objective(image).total)

    reason = "The fast path has an optimiser of its own, and adam was asked for."
    chosen = Chosen(precision="exact", reason=reason if options.precision == "fast" else "", arithmetic="float32")
    return Method(steps, loss, lambda: chosen)


def _chosen(descent: Descent, fast_network: FastNetwork) -> Chosen:
    return Chosen(
        precision="fast",
        arithmetic=fast_network.arithmetic,
        levels=tuple((*shrunk(descent.size, level.smaller), level.steps) for level in descent.schedule.levels),
        left_out=tuple(sorted(descent.left_out)),
    )
