"""The fast path: several pictures at once, by levels and phases, to the plain loss in a fraction of the steps.

It minimises what :mod:`medley_workers.losses` defines. What is told of the first step and of the last is that loss in
plain float32; of those between it is what the steps themselves came upon, in the arithmetic that they are made in.
"""

from collections.abc import Collection, Generator, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from medley.costs import Size
from medley.jobs import StyleTransferOptions
from medley.layers import LAYERS, channels
from medley.sizes import check_size
from medley_workers.chain import Chain
from medley_workers.colours import Colours, keep_colours
from medley_workers.engine import Engine
from medley_workers.graphs import Evaluate
from medley_workers.lbfgs import HISTORY, LBFGS, STEP_CAP, PicturePreconditioner
from medley_workers.losses import Losses
from medley_workers.schedule import Level, plan
from medley_workers.surrogate import Evaluation, StyleTarget, Surrogate, Targets, grams
from medley_workers.tensors import size_of
from medley_workers.transfer import Kept, Step, start_image

_NEGLIGIBLE = 0.05
"""Of the style's loss before the first step: the deepest layers are left out of the steps if they have no more of it,
as what they ask for comes with the others, and they cost much. If they have more in the end, the plain steps have
them."""

_DEEP = 256
"""Channels of the layers whose Grams are whitened; those of fewer come to the style's by themselves."""

_PLAIN_STEP = 2.0
"""Grey levels: the first of the plain steps, which begin near where they end."""

_CHECK_EVERY = {"cpu": 1, "cuda": 5}
"""Steps after which the loss is compared with ``target_loss``, as that waits for a GPU."""


@dataclass(frozen=True, eq=False)
class Subject:
    """What one picture is painted from, on the engine's device: the content (1, 3, H, W), the styles (1, 3, H', W')
    with their weights, and the picture to begin with if the options do not tell.

    ``names`` tell the content and the styles, in this order, from all others, so that what was seen of them is kept.
    """

    content: Tensor
    styles: Sequence[Tensor]
    weights: Sequence[float]
    init: Tensor | None = None
    names: Sequence[str] = ()


class Descent:
    """The painting of subjects whose contents have one size; their canvases, (N, C, H, W), are moved at once."""

    def __init__(
        self, engine: Engine, subjects: Sequence[Subject], options: StyleTransferOptions, history: int = HISTORY
    ) -> None:
        """Look at what is painted from.

        Args:
            engine: what computes
            subjects: of one size, and not more than there is room for
            options: how to paint
            history: pairs of vectors that L-BFGS remembers

        Raises:
            UsageError: a picture is so small that a layer would be empty, or the weights lack one.
        """
        self._history = history
        self._engine = engine
        self._subjects = subjects
        self._options = options
        self._layers = frozenset((*options.content_layers, *options.style_layers))
        for picture in (picture for subject in subjects for picture in (subject.content, *subject.styles)):
            check_size(*size_of(picture), self._layers)
        self._full = _Scale(subjects, options, smaller=1)
        style_sizes = [size_of(style) for subject in subjects for style in subject.styles]
        self.schedule = plan(self._full.size, style_sizes, options)
        self.left_out: frozenset[str] = frozenset()
        reference = engine.reference(self._layers, options.pooling)
        self._targets = self._full.targets(engine, reference)
        self._reference = Surrogate(reference, options, self._targets)
        self._going = list(range(len(subjects)))
        self._correction = torch.zeros(len(subjects), device=engine.device)  # of the steps' losses: what is left out

    @property
    def size(self) -> Size:
        """Width and height of the pictures, px."""
        return self._full.size

    @property
    def colours(self) -> Sequence[Colours]:
        """How each picture keeps its content's colours."""
        return self._full.colours

    def losses(self, images: Tensor) -> Losses:
        """The plain losses (N,), in float32, of pictures (N, 3, H, W) as the network sees them; or of one,
        (1, 3, H, W), if it were each of them.
        """
        return self._reference(images, gradient=False).losses

    def steps(self, kept: Kept | None = None) -> Iterator[Sequence[Step]]:
        """Paint: yields the steps of all pictures that are not finished, before the first one and after each.

        Steps at a smaller size count as one where so many of them take as long as one at full size. They come with no
        loss, and with the canvas enlarged.

        Args:
            kept: what to go on with, of one picture alone
        """
        start = self._full.start
        first = self._reference(self._full.images(start), gradient=False)
        self.left_out = self._negligible(first)
        if kept and kept.index:
            yield from self._at_full_size(kept.index, torch.empty_like(start).copy_(kept.canvas))
            return
        yield self._told(0, start, first.losses)
        canvas = yield from self._coarse()
        yield from self._at_full_size(sum(level.cost for level in self.schedule.levels[:-1]), canvas)

    def _coarse(self) -> Generator[Sequence[Step], None, Tensor]:
        """The smaller levels; returns the canvas to go on with at full size."""
        index, canvas, shown = 0, self._full.start, self._full.start
        for level in self.schedule.levels[:-1]:
            scale = _Scale(self._subjects, self._options, level.smaller)
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

    def _whitened(self, scale: "_Scale", level: Level, canvas: Tensor) -> Evaluate:
        """What is minimised at a level."""
        chain = self._engine.chain(self._layers - self.left_out, self._options.pooling)
        targets = self._targets if scale is self._full else scale.targets(self._engine, chain)
        surrogate = Surrogate(chain, self._options, targets)
        surrogate.count_content(level.content_factor)
        deep = [layer for layer in chain.layers if layer in self._options.style_layers and channels(layer) >= _DEEP]
        surrogate.whiten(deep, level.floor, scale.images(canvas))
        return self._engine.quickly(surrogate, scale.images(canvas))

    def _plain(self, canvas: Tensor) -> Evaluate:
        """What is minimised in the end: the plain loss, of all layers that bear on it."""
        if self.left_out:
            now = self._reference(self._full.images(canvas), gradient=False)
            self._correction = _sum(now.by_layer, self.left_out)
            if _share(now, self.left_out) > _NEGLIGIBLE:
                self.left_out, self._correction = frozenset(), torch.zeros_like(self._correction)
        chain = self._engine.chain(self._layers - self.left_out, self._options.pooling)
        surrogate = Surrogate(chain, self._options, self._targets)
        return self._engine.quickly(surrogate, self._full.images(canvas))

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
        estimated = losses._replace(total=losses.total + self._correction)
        reached: set[int] = set()
        target = self._options.target_loss
        if target is not None and index % _CHECK_EVERY[self._engine.device.type] == 0:
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


class _Scale:
    """The subjects at full size, or so many times smaller."""

    def __init__(self, subjects: Sequence[Subject], options: StyleTransferOptions, smaller: int) -> None:
        self._subjects = subjects
        self._options = options
        self._smaller = smaller
        contents = [self._resized(subject.content) for subject in subjects]
        self.colours = [keep_colours(content, options) for content in contents]
        self.size = size_of(contents[0])
        self._contents = contents
        self._is_plain = options.preserve_color is None
        starts = [
            start_image(content, options, None if subject.init is None else self._resized(subject.init))
            for content, subject in zip(contents, subjects, strict=True)
        ]
        self.start = self.within(
            torch.cat([colours.canvas(start) for colours, start in zip(self.colours, starts, strict=True)])
        )

    def images(self, canvas: Tensor) -> Tensor:
        """What the network sees of the canvases, (N, 3, H, W)."""
        if self._is_plain:
            return canvas
        return torch.cat([colours.view(canvas[n : n + 1]) for n, colours in enumerate(self.colours)])

    def within(self, canvas: Tensor) -> Tensor:
        """The canvases, with what can be shown of them."""
        if self._is_plain:
            return self.colours[0].within(canvas)
        return torch.cat([colours.within(canvas[n : n + 1]) for n, colours in enumerate(self.colours)])

    def evaluate(self, evaluate: Evaluate, canvas: Tensor) -> Evaluation:
        """A surrogate's evaluation, with the gradient of the canvases."""
        if self._is_plain:
            return evaluate(canvas)
        with torch.enable_grad():
            leaf = canvas.detach().requires_grad_()
            images = self.images(leaf)
        evaluation = evaluate(images.detach())
        (gradient,) = torch.autograd.grad(images, leaf, evaluation.gradient)
        return evaluation._replace(gradient=gradient)

    def optimizer(self, first: float, history: int) -> LBFGS:
        """A new one for the canvases."""
        return LBFGS(self.start, PicturePreconditioner(self.start), first=first, history=history, within=self.within)

    def targets(self, engine: Engine, chain: Chain) -> Targets:
        """What the canvases are compared with at the chain's layers."""
        content = [self._content(engine, chain, n) for n in range(len(self._subjects))]
        styles = [self._styles(engine, chain, n) for n in range(len(self._subjects))]
        return Targets(
            {layer: torch.cat([features[layer] for features in content]) for layer in content[0]},
            {layer: StyleTarget.joined([targets[layer] for targets in styles]) for layer in styles[0]},
        )

    def _content(self, engine: Engine, chain: Chain, number: int) -> Mapping[str, Tensor]:
        layers = [layer for layer in self._options.content_layers if layer in chain.layers]

        def look() -> Mapping[str, Tensor]:
            features = chain.forward(self.colours[number].seen(self._contents[number]), keep=False)
            return {layer: features[layer].float() for layer in layers}

        names = tuple(self._subjects[number].names[:1])
        return engine.targets.get(self._key(chain, "content", names), look)

    def _styles(self, engine: Engine, chain: Chain, number: int) -> Mapping[str, StyleTarget]:
        subject = self._subjects[number]
        layers = [layer for layer in self._options.style_layers if layer in chain.layers]
        # Where colours are kept, what is seen of a style depends on the content.
        of_content = () if self._is_plain else tuple(subject.names[:1])

        def look(style: Tensor) -> Mapping[str, Tensor]:
            features = chain.forward(self.colours[number].style(self._resized(style)), keep=False)
            return {layer: grams(features[layer])[0] for layer in layers}

        names: Sequence[str | None] = subject.names[1:] or [None] * len(subject.styles)
        seen = [
            engine.targets.get(self._key(chain, "style", name and (name, *of_content)), partial(look, style))
            for name, style in zip(names, subject.styles, strict=True)
        ]
        return {layer: StyleTarget.blended([grams[layer] for grams in seen], subject.weights) for layer in layers}

    def _key(self, chain: Chain, what: str, names: Hashable) -> Hashable | None:
        """Under which what was seen is kept: all that it depends on."""
        if not names:
            return None
        options = self._options
        sizes = (size_of(self._subjects[0].content), self._smaller, options.style_size, options.style_size_pixels)
        layers = (chain.layers, options.content_layers, options.style_layers)
        return (chain.name, layers, options.pooling, options.preserve_color, what, names, sizes)

    def _resized(self, picture: Tensor) -> Tensor:
        """(1, 3, H, W), as many times smaller as the scale says."""
        if self._smaller == 1:
            return picture
        width, height = Level(self._smaller, 0).size(size_of(picture))
        return F.interpolate(picture, size=(height, width), mode="bilinear", antialias=True)


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
    return torch.stack([by_layer[layer] for layer in layers]).sum(dim=0)
