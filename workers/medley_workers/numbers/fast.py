"""The fast path: several pictures at once, by levels and phases, to the plain loss in a fraction of the steps.

It minimises what :mod:`medley_workers.numbers.losses` defines. What is told of the first step and of the last is that
loss in plain float32; of those between it is what the steps themselves came upon, in the arithmetic that they are
made in.
"""

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from medley.costs import FAST_HISTORY
from medley.layers import LAYERS, channels
from medley.records.base import Size
from medley.records.options import StyleTransferOptions
from medley.sizes import check_size
from medley_workers.numbers.cuda_graphs import graphed
from medley_workers.numbers.fast_network import FastNetwork
from medley_workers.numbers.lbfgs import STEP_CAP
from medley_workers.numbers.losses import Losses
from medley_workers.numbers.scale import Scale, Subject
from medley_workers.numbers.schedule import Level, plan
from medley_workers.numbers.surrogate import Evaluate, Evaluation, Surrogate
from medley_workers.numbers.tensors import size_of
from medley_workers.numbers.transfer import Snapshot, Step

_NEGLIGIBLE = 0.05
"""Of the style's loss before the first step: the deepest layers are left out of the steps if they have no more of it,
as what they ask for comes with the others, and they cost much. If they have more in the end, the plain steps have
them."""

_DEEP = 256
"""Layers whose Grams are whitened have so many channels at least; those of fewer come to the style's by themselves."""

_PLAIN_STEP = 2.0
"""Grey levels: the first of the plain steps, which begin near where they end."""

_CHECK_EVERY = {"cpu": 1, "cuda": 5}
"""Steps after which the loss is compared with ``target_loss``, as that waits for a GPU."""


class Descent:
    """The painting of subjects whose contents have one size; their canvases, (N, C, H, W), are moved at once."""

    def __init__(
        self,
        network: FastNetwork,
        subjects: Sequence[Subject],
        options: StyleTransferOptions,
        history: int = FAST_HISTORY,
    ) -> None:
        """Look at what is painted from.

        Args:
            network: what sees and computes
            subjects: of one size, and not more than there is room for
            options: how to paint
            history: pairs of vectors that L-BFGS remembers; fewer than usual where memory is short

        Raises:
            UsageError: a picture is so small that a layer would be empty, or the weights lack one.
        """
        self._history = history
        self._graphs = network.graphs and history >= FAST_HISTORY  # a graph keeps its memory
        self._network = network
        self._subjects = subjects
        self._options = options
        self._layers = frozenset((*options.content_layers, *options.style_layers))
        for picture in (picture for subject in subjects for picture in (subject.content, *subject.styles)):
            check_size(*size_of(picture), self._layers)
        self._full = Scale(subjects, options, smaller=1)
        style_sizes = [size_of(style) for subject in subjects for style in subject.styles]
        self.schedule = plan(self._full.size, style_sizes, options)
        self.left_out: frozenset[str] = frozenset()
        reference = network.reference(self._layers, options.pooling)
        self._targets = self._full.targets(network, reference)
        self._reference = Surrogate(reference, options, self._targets)
        self._going = list(range(len(subjects)))
        self._correction = torch.zeros(len(subjects), device=network.device)  # of the steps' losses: what is left out

    @property
    def size(self) -> Size:
        """Width and height of the pictures, px."""
        return self._full.size

    def losses(self, images: Tensor) -> Losses:
        """The plain losses (N,), in float32, of pictures (N, 3, H, W) as the network sees them; or of one,
        (1, 3, H, W), if it were each of them.
        """
        return self._reference(images, gradient=False).losses

    def steps(self, snapshot: Snapshot | None = None) -> Iterator[Sequence[Step]]:
        """Paint: yields the steps of all pictures that are not finished, before the first one and after each.

        Steps at a smaller size count as one where so many of them take as long as one at full size. They come with no
        loss, and with the canvas enlarged.

        Args:
            snapshot: what to go on with, of one picture alone
        """
        start = self._full.start
        first = self._reference(self._full.images(start), gradient=False)
        self.left_out = self._negligible(first)
        if snapshot and snapshot.index:
            yield from self._at_full_size(snapshot.index, torch.empty_like(start).copy_(snapshot.canvas))
            return
        yield from self._looked_at(0, start, first.losses)
        if not self._going:
            return
        canvas = yield from self._coarse()
        yield from self._at_full_size(sum(level.cost for level in self.schedule.levels[:-1]), canvas)

    def _coarse(self) -> Generator[Sequence[Step], None, Tensor]:
        """The smaller levels; returns the canvas to go on with at full size."""
        index, canvas, shown = 0, self._full.start, self._full.start
        for level in self.schedule.levels[:-1]:
            scale = Scale(self._subjects, self._options, level.smaller)
            canvas = _enlarged(canvas, scale.start) if index else scale.start
            evaluate = self._whitened(scale, level, canvas)
            optimizer = scale.optimizer(STEP_CAP, self._history)
            for number in range(1, level.steps + 1):
                canvas = optimizer.step(canvas, scale.evaluate(evaluate, canvas).slope())
                if number % level.smaller**2 == 0 or number == level.steps:
                    if index:
                        yield self._told(index, shown, None)
                    index += 1
                    shown = self._full.within(_enlarged(canvas, self._full.start))
        return shown

    def _at_full_size(self, index: int, canvas: Tensor) -> Iterator[Sequence[Step]]:
        """The whitened steps, or those that are left of them, and the plain ones."""
        last = self._options.num_steps
        for is_plain, end in (False, last - self.schedule.plain_steps), (True, last):
            if index < end and self._going:
                canvas = yield from self._phase(range(index, end), canvas, is_plain=is_plain)
                index = end
        if self._going:
            yield self._told(last, canvas, self.losses(self._full.images(canvas)), is_last=True)

    def _phase(self, indices: range, canvas: Tensor, *, is_plain: bool) -> Generator[Sequence[Step], None, Tensor]:
        """Steps at full size; returns the canvas to go on with. What they need is let go of with them."""
        level = self.schedule.levels[-1]
        if self.left_out:
            self._judge_left_out(canvas, is_plain=is_plain)
        evaluate = self._plain(canvas) if is_plain else self._whitened(self._full, level, canvas)
        optimizer = self._full.optimizer(_PLAIN_STEP if is_plain else STEP_CAP, self._history)
        for index in indices:
            evaluation = self._full.evaluate(evaluate, canvas)
            if index:
                yield from self._looked_at(index, canvas, evaluation.losses)
            if not self._going:
                break
            canvas = optimizer.step(canvas, evaluation.slope())
        return canvas

    def _whitened(self, scale: Scale, level: Level, canvas: Tensor) -> Evaluate:
        """What is minimised at a level."""
        extractor = self._network.extractor(self._layers - self.left_out, self._options.pooling)
        targets = self._targets if scale is self._full else scale.targets(self._network, extractor)
        surrogate = Surrogate(extractor, self._options, targets)
        surrogate.count_content(level.content_factor)
        deep = [layer for layer in self._options.style_layers if layer in extractor.layers and channels(layer) >= _DEEP]
        surrogate.whiten(deep, level.floor, scale.images(canvas))
        return self._quickly(surrogate, scale.images(canvas))

    def _plain(self, canvas: Tensor) -> Evaluate:
        """What is minimised in the end: the plain loss, of all layers that bear on it."""
        extractor = self._network.extractor(self._layers - self.left_out, self._options.pooling)
        surrogate = Surrogate(extractor, self._options, self._targets)
        return self._quickly(surrogate, self._full.images(canvas))

    def _quickly(self, surrogate: Surrogate, images: Tensor) -> Evaluate:
        """What evaluates pictures like these as the surrogate does, as it is now."""
        return graphed(surrogate, images) if self._graphs else surrogate

    def _judge_left_out(self, canvas: Tensor, *, is_plain: bool) -> None:
        """Know the loss of the layers that are left out, before a phase; plain steps have them, if it matters."""
        now = self._reference(self._full.images(canvas), gradient=False)
        self._correction = _sum(now.by_layer, self.left_out)
        if is_plain and _share(now, self.left_out) > _NEGLIGIBLE:
            self.left_out, self._correction = frozenset(), torch.zeros_like(self._correction)

    def _negligible(self, first: Evaluation) -> frozenset[str]:
        """The deepest style layers that have next to nothing of the style's loss, if there are others."""
        left_out: frozenset[str] = frozenset()
        for layer in sorted(self._options.style_layers, key=LAYERS.index, reverse=True)[:-1]:
            deeper = left_out | {layer}
            if layer in self._options.content_layers or _share(first, deeper) > _NEGLIGIBLE:
                break
            left_out = deeper
        depth = max(LAYERS.index(layer) for layer in self._layers - left_out)
        return frozenset(layer for layer in left_out if LAYERS.index(layer) > depth)

    def _looked_at(self, index: int, canvas: Tensor, losses: Losses) -> Iterator[Sequence[Step]]:
        """Tell of a step, and end the pictures whose loss is as low as was asked for."""
        estimated = losses._replace(
            total=(losses.total + self._correction).clamp(min=0), style=(losses.style + self._correction).clamp(min=0)
        )
        reached: set[int] = set()
        target = self._options.target_loss
        if target is not None and index % _CHECK_EVERY[self._network.device.type] == 0:
            estimates = estimated.total.tolist()
            if any(estimates[picture] <= target for picture in self._going):
                plain = self.losses(self._full.images(canvas))
                self._correction = plain.total - losses.total
                reached = {picture for picture in self._going if float(plain.total[picture]) <= target}
                if reached:
                    yield [step for step in self._told(index, canvas, plain, is_last=True) if step.picture in reached]
        self._going = [picture for picture in self._going if picture not in reached]
        if self._going:
            yield self._told(index, canvas, estimated)

    def _told(self, index: int, canvas: Tensor, losses: Losses | None, *, is_last: bool = False) -> Sequence[Step]:
        return [
            Step(
                index,
                losses and Losses(*(loss[picture] for loss in losses)),
                canvas[picture : picture + 1],
                picture=picture,
                is_last=is_last,
            )
            for picture in self._going
        ]


def _enlarged(canvas: Tensor, start: Tensor) -> Tensor:
    """A canvas at the size of ``start``, with the detail of that which a smaller size has not."""
    size = start.shape[2:]
    smaller = F.interpolate(start, size=canvas.shape[2:], mode="bicubic", antialias=True)
    return start + F.interpolate(canvas - smaller, size=size, mode="bicubic")


def _share(evaluation: Evaluation, layers: Collection[str]) -> float:
    """The part that these layers have of the style's loss, of the picture where it is largest."""
    part = _sum(evaluation.by_layer, layers) / evaluation.losses.style.clamp(min=torch.finfo(torch.float32).tiny)
    return float(part.nan_to_num(nan=0.0).max())  # a picture that is not finite chooses nothing for the others


def _sum(by_layer: Mapping[str, Tensor], layers: Collection[str]) -> Tensor:
    return torch.stack([by_layer[layer] for layer in sorted(layers)]).sum(dim=0)
