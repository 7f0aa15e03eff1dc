"""How pictures are painted, fast or exact: their steps, and what is told of them beside."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medley.records.options import StyleTransferOptions
from medley.records.results import Chosen
from medley_workers.jobs.scene import Scene, Studio
from medley_workers.numbers.engine import Engine
from medley_workers.numbers.fast import Descent
from medley_workers.numbers.schedule import shrunk
from medley_workers.numbers.transfer import Kept, Step, transfer


@dataclass(frozen=True)
class Course:
    """``steps`` paints: it yields the steps of the pictures that are not finished, given what is gone on with; ``loss``
    is the plain loss of the picture of a number, as the network sees it, (1, 3, H, W); ``chosen`` tells what was
    chosen, once the steps have begun.
    """

    steps: Callable[[Kept | None], Iterator[Sequence[Step]]]
    loss: Callable[[Tensor, int], float]
    chosen: Callable[[], Chosen]


def course_of(scenes: Sequence[Scene], options: StyleTransferOptions, studio: Studio, history: int) -> Course:
    """How to paint these scenes, whose canvases have one size; an exact painting is of one alone.

    ``history`` are the pairs of vectors that L-BFGS remembers.
    """
    if options.is_exact:
        return _exact(scenes[0], options, history)
    engine = studio.engine(options)
    descent = Descent(engine, [scene.subject for scene in scenes], options, history)
    return Course(
        descent.steps,
        lambda image, number: float(descent.losses(image).total[number]),
        lambda: _chosen(descent, engine),
    )


def _exact(scene: Scene, options: StyleTransferOptions, history: int) -> Course:
    def steps(kept: Kept | None) -> Iterator[Sequence[Step]]:
        painting = transfer(scene.objective, scene.canvas, options, scene.colours.view, kept=kept, history=history)
        for step in painting:
            yield [step]

    def loss(image: Tensor, number: int) -> float:  # noqa: ARG001  # there is but one
        with torch.no_grad():
            return float(scene.objective(image).total)

    reason = "The fast path has an optimiser of its own, and adam was asked for."
    chosen = Chosen(precision="exact", reason=reason if options.precision == "fast" else "", arithmetic="float32")
    return Course(steps, loss, lambda: chosen)


def _chosen(descent: Descent, engine: Engine) -> Chosen:
    return Chosen(
        precision="fast",
        arithmetic=engine.arithmetic,
        levels=tuple((*shrunk(descent.size, level.smaller), level.steps) for level in descent.schedule.levels),
        left_out=tuple(sorted(descent.left_out)),
    )
