"""A reference network, and how far others are from what it sees and paints; it knows no files.

What a network painted is judged by the reference, as a network that sees too little also reports too little loss.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from medley.errors import NumbersError, UsageError
from medley.records.base import Record
from medley.records.options import StyleTransferOptions
from medley_workers.compressing.likeness import MEASURES, Judge
from medley_workers.network.vgg import Network
from medley_workers.numbers.losses import Objective
from medley_workers.numbers.tensors import Pixels
from medley_workers.numbers.transfer import Step, finished_picture, start_image, transfer


class Spread(Record):
    """What several measurements came to."""

    mean: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of one value or more."""
        return cls(mean=sum(values) / len(values), least=min(values), most=max(values))


@dataclass(frozen=True, eq=False)
class Painting:
    """A picture (H, W, 3), and its loss by the reference network."""

    picture: Pixels
    loss: float


class Reference:
    """A reference network, what it sees of some pictures, and what it paints: other networks are judged by it."""

    def __init__(
        self,
        network: Network,
        contents: Sequence[Tensor],
        styles: Sequence[Tensor],
        *,
        num_steps: int,
        starts: int = 1,
        advance: Callable[[], object] = lambda: None,
    ) -> None:
        """Look and paint.

        Args:
            network: whose view counts, and whose losses
            contents: (1, 3, H, W) each
            styles: as contents; every content is painted in every style
            num_steps: of a painting; 0 paints nothing
            starts: how often a pair is painted: from the content first, then from noise of the seeds 1, 2, ...
            advance: called at each picture that is looked at and at each step, of this network and of others

        Raises:
            UsageError: a picture is so small that a layer would be empty, or a content is its own style.
            NumbersError: the reference itself cannot paint a pair.
        """
        self._network = network
        self._pairs = list(product(contents, styles)) if num_steps else []
        if any(torch.equal(content, style) for content, style in self._pairs):
            raise UsageError("A content is its own style, so there is nothing to paint; leave one of the two out.")
        self._options = [
            StyleTransferOptions(num_steps=num_steps, init="noise" if seed else "content", seed=seed)
            for seed in range(starts if num_steps else 0)
        ]
        self._advance = advance
        self._judge = Judge(network, [*contents, *styles], advance)
        self.paintings = self.paint(network)

    def errors(self, network: Network) -> dict[str, Spread]:
        """For each of ``likeness.MEASURES`` the relative error of what a network sees, over all pictures.

        Raises:
            NumbersError: what it sees is not finite.
        """
        errors = self._judge.errors(network)
        if not np.isfinite(errors).all():
            raise NumbersError("What this network sees is not finite; make its file again.")
        return {name: Spread.of(measured) for name, *measured in zip(MEASURES, *errors, strict=True)}

    def paint(self, network: Network) -> list[Painting]:
        """What a network paints of each pair from each start, in order.

        Raises:
            NumbersError: its loss is not finite, or a picture is one flat colour.
        """
        return [painting for content, style in self._pairs for painting in self._paint_pair(network, content, style)]

    def loss_ratio(self, paintings: Sequence[Painting]) -> Spread | None:
        """The losses of what a network painted (all of :meth:`paint`) over those of what the reference painted."""
        ratios = [one.loss / exact.loss for one, exact in zip(paintings, self.paintings, strict=True)]
        return Spread.of(ratios) if ratios else None

    def distance(self, paintings: Sequence[Painting]) -> float | None:
        """From what the reference painted: the root mean square in grey levels, mean over all paintings."""
        pairs = zip(paintings, self.paintings, strict=True)
        distances = [np.sqrt(np.mean((one.picture - exact.picture.astype(np.float64)) ** 2)) for one, exact in pairs]
        return float(np.mean(distances)) if distances else None

    def _paint_pair(self, network: Network, content: Tensor, style: Tensor) -> Iterator[Painting]:
        for options in self._options:
            judge = Objective(self._network, content, [style], [1.0], options)
            objective = judge if network is self._network else Objective(network, content, [style], [1.0], options)
            for step in transfer(objective, start_image(content, options), options):
                if step.index:
                    self._advance()
            picture = finished_picture(step)
            with torch.no_grad():
                judged = Step(step.index, judge(step.canvas), step.canvas)
            yield Painting(picture, judged.loss())
