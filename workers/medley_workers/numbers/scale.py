"""What pictures are painted from, at full size or smaller: their canvases, and what those are compared with."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from medley.records.options import StyleTransferOptions
from medley_workers.numbers.colours import keep_colours
from medley_workers.numbers.extractor import Extractor
from medley_workers.numbers.fast_network import FastNetwork
from medley_workers.numbers.lbfgs import LBFGS, PicturePreconditioner
from medley_workers.numbers.schedule import shrunk
from medley_workers.numbers.surrogate import Evaluate, Evaluation, grams
from medley_workers.numbers.targets import StyleTarget, Targets
from medley_workers.numbers.tensors import size_of
from medley_workers.numbers.transfer import start_image


@dataclass(frozen=True, eq=False)
class Subject:
    """What one picture is painted from, on the network's device: the content (1, 3, H, W), the styles (1, 3, H', W')
    with their weights, and the picture to begin with if the options do not tell.

    ``names`` tell the content and the styles, in this order, from all others, so that what was seen of them is kept.
    """

    content: Tensor
    styles: Sequence[Tensor]
    weights: Sequence[float]
    init: Tensor | None = None
    names: Sequence[str] = ()


class Scale:
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

    def targets(self, network: FastNetwork, extractor: Extractor) -> Targets:
        """What the canvases are compared with at the extractor's layers."""
        content = [self._content(network, extractor, n) for n in range(len(self._subjects))]
        styles = [self._styles(network, extractor, n) for n in range(len(self._subjects))]
        return Targets(
            {layer: torch.cat([features[layer] for features in content]) for layer in content[0]},
            {layer: StyleTarget.joined([targets[layer] for targets in styles]) for layer in styles[0]},
        )

    def _content(self, network: FastNetwork, extractor: Extractor, number: int) -> Mapping[str, Tensor]:
        layers = [layer for layer in self._options.content_layers if layer in extractor.layers]

        def look() -> Mapping[str, Tensor]:
            features = extractor.forward(self.colours[number].seen(self._contents[number]), keep=False)
            return {layer: features[layer].float() for layer in layers}

        names = tuple(self._subjects[number].names[:1])
        return network.targets.get(self._key(extractor, "content", names), look)

    def _styles(self, network: FastNetwork, extractor: Extractor, number: int) -> Mapping[str, StyleTarget]:
        subject = self._subjects[number]
        layers = [layer for layer in self._options.style_layers if layer in extractor.layers]
        # Where colours are kept, what is seen of a style depends on the content.
        of_content = () if self._is_plain else tuple(subject.names[:1])

        def look(style: Tensor) -> Mapping[str, Tensor]:
            features = extractor.forward(self.colours[number].style(self._resized(style)), keep=False)
            return {layer: grams(features[layer])[0] for layer in layers}

        names: Sequence[str | None] = subject.names[1:] or [None] * len(subject.styles)
        seen = [
            network.targets.get(self._key(extractor, "style", name and (name, *of_content)), partial(look, style))
            for name, style in zip(names, subject.styles, strict=True)
        ]
        return {layer: StyleTarget.blended([grams[layer] for grams in seen], subject.weights) for layer in layers}

    def _key(self, extractor: Extractor, what: str, names: Hashable) -> Hashable | None:
        """Under which what was seen is kept: all that it depends on."""
        if not names:
            return None
        options = self._options
        sizes = (size_of(self._subjects[0].content), self._smaller, options.style_size, options.style_size_pixels)
        layers = (extractor.layers, options.content_layers, options.style_layers)
        return (extractor.name, layers, options.pooling, options.preserve_color, what, names, sizes)

    def _resized(self, picture: Tensor) -> Tensor:
        """(1, 3, H, W), as many times smaller as the scale says."""
        if self._smaller == 1:
            return picture
        width, height = shrunk(size_of(picture), self._smaller)
        return F.interpolate(picture, size=(height, width), mode="bilinear", antialias=True)
