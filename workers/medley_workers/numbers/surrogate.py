"""The loss of several pictures at once, with its gradient by hand: what the fast path minimises.

It is the plain loss of :mod:`medley_workers.numbers.losses`, unless it is told otherwise: Grams may be compared in
whitened form, and the content may count more. The losses that it gives are the plain ones all the same, of its layers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from medley.records.options import StyleTransferOptions
from medley_workers.numbers.extractor import Extractor
from medley_workers.numbers.losses import Losses, content_weights, gram_weight
from medley_workers.numbers.targets import Targets

_POWER_ROUNDS = 30
"""Of the power iteration for a Gram's largest eigenvalue. Features are not negative, so one direction leads by far."""


class Evaluation(NamedTuple):
    """Of N pictures: the plain losses, those of each style layer, (N,) each, and the gradient of what is minimised,
    (N, 3, H, W), if that was wanted.
    """

    losses: Losses
    by_layer: Mapping[str, Tensor]
    gradient: Tensor | None

    def slope(self) -> Tensor:
        """The gradient, which was wanted."""
        if self.gradient is None:
            raise ValueError("the gradient was not asked for")
        return self.gradient


Evaluate = Callable[[Tensor], Evaluation]
"""A :class:`Surrogate`, or its CUDA graph."""


class Surrogate:
    """What is minimised, as a function of pictures (N, 3, H, W)."""

    def __init__(self, extractor: Extractor, options: StyleTransferOptions, targets: Targets) -> None:
        """Compare pictures with targets.

        Args:
            extractor: gives features, and the pictures' gradient; of the targets, those of its layers count
            options: the weights
            targets: what they are compared with
        """
        self._extractor = extractor
        self._tv_weight = options.tv_weight
        content = zip(options.content_layers, content_weights(options), strict=True)
        self._content_weights = {layer: weight for layer, weight in content if layer in extractor.layers}
        self._style_weights = {
            layer: gram_weight(options, n, channels=targets.styles[layer].gram.shape[1])
            for n, layer in enumerate(options.style_layers)
            if layer in extractor.layers
        }
        self._targets = targets
        self._content_factor = 1.0
        self._whiteners: dict[str, Tensor] = {}

    def count_content(self, factor: float) -> None:
        """From now on, what is minimised counts the content so many times."""
        self._content_factor = factor

    def whiten(self, layers: Sequence[str], floor: float, images: Tensor) -> None:
        """From now on, compare the Grams of these layers in whitened form: of d = G - A not tr(d d), but tr(d P d P),
        with P = s (A / l + floor)^-1, where l is A's largest eigenvalue, and s gives the gradient the length that it
        has for ``images`` (N, 3, H, W) otherwise. So directions count that the style has little of; this is medley's
        own.
        """
        self._whiteners = {}
        plain = self(images).slope()
        self._whiteners = {layer: _inverse(self._targets.styles[layer].gram, floor) for layer in layers}
        whitened = self(images).slope()
        lengths = _length(plain), _length(whitened)
        # Where nothing is left to gain, there is no length to keep.
        scale = torch.where(lengths[1] > 0, lengths[0] / lengths[1], 1.0).sqrt().view(-1, 1, 1)
        self._whiteners = {layer: scale * whitener for layer, whitener in self._whiteners.items()}

    def __call__(self, images: Tensor, *, gradient: bool = True) -> Evaluation:
        """Evaluate pictures (N, 3, H, W)."""
        features = self._extractor.forward(images, keep=gradient)
        pulls: dict[str, Tensor] | None = {} if gradient else None  # gradients of features, by layer
        content = self._content(features, pulls)
        by_layer = {layer: self._style(layer, features[layer], pulls) for layer in self._style_weights}
        style = sum(by_layer.values(), torch.zeros_like(content))
        tv, tv_gradient = _total_variation(images, 0.5 * self._tv_weight)
        losses = Losses(content + style + tv, content, style, tv)
        if pulls is None:
            return Evaluation(losses, by_layer, None)
        total = self._extractor.backward(pulls)
        return Evaluation(losses, by_layer, total if tv_gradient is None else total + tv_gradient)

    def _content(self, features: Mapping[str, Tensor], pulls: dict[str, Tensor] | None) -> Tensor:
        any_features = next(iter(features.values()))
        total = any_features.new_zeros(len(any_features), dtype=torch.float32)
        for layer, weight in self._content_weights.items():
            difference = features[layer].float() - self._targets.content[layer]
            total = total + weight * difference.square().mean(dim=(1, 2, 3))
            if pulls is not None:
                pull = difference * (self._content_factor * (2 * weight / difference[0].numel()))
                _add(pulls, layer, pull.to(features[layer].dtype))
        return total

    def _style(self, layer: str, x: Tensor, pulls: dict[str, Tensor] | None) -> Tensor:
        target = self._targets.styles[layer]
        rows = _rows(x)  # (N, h w, C)
        difference = grams(x) - target.gram
        scale = self._style_weights[layer] / difference[0].numel()
        loss = scale * target.distance(difference)
        if pulls is None:
            return loss
        if layer in self._whiteners:
            whitener = self._whiteners[layer]
            difference = whitener @ difference @ whitener
        slope = difference * (target.weight * (4 * scale / rows.shape[1])).view(-1, 1, 1)
        pull = rows @ slope.to(x.dtype)  # (N, h w, C)
        _add(pulls, layer, pull.mT.reshape(x.shape) if x.is_contiguous() else pull.mT.view(x.shape))
        return loss


def grams(x: Tensor) -> Tensor:
    """The Grams (N, C, C) of features (N, C, h, w), in float32: sums of products over h w."""
    rows = _rows(x)
    return _product(rows.mT, rows) / rows.shape[1]


def _product(left: Tensor, right: Tensor) -> Tensor:
    """A product of matrices in float32; what bfloat16 holds is not rounded again."""
    if left.dtype == torch.bfloat16 and left.is_cuda and torch.__version__ >= "2.8":
        return torch.bmm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()


def _rows(x: Tensor) -> Tensor:
    """Features (N, C, h, w) as (N, h w, C): of each pixel what its channels say."""
    return x.flatten(2).mT if x.is_contiguous() else x.permute(0, 2, 3, 1).flatten(1, 2)


def _add(pulls: dict[str, Tensor], layer: str, pull: Tensor) -> None:
    pulls[layer] = pulls[layer] + pull if layer in pulls else pull


def _total_variation(images: Tensor, weight: float) -> tuple[Tensor, Tensor | None]:
    """pastiche's total variation of (N, 3, H, W), (N,), times a weight, and its gradient; None where that is nought."""
    if not weight:
        return images.new_zeros(len(images)), None
    loss = images.new_zeros(len(images))
    gradient = torch.zeros_like(images)
    for dim in (2, 3):
        steps = images.diff(dim=dim)
        if not steps[0].numel():
            continue
        loss = loss + weight * steps.abs().mean(dim=(1, 2, 3))
        slope = steps.sign() * (weight / steps[0].numel())
        length = images.shape[dim]
        gradient.narrow(dim, 1, length - 1).add_(slope)
        gradient.narrow(dim, 0, length - 1).sub_(slope)
    return loss, gradient


def _inverse(gram: Tensor, floor: float) -> Tensor:
    """(A / l + floor)^-1 of Grams A (N, C, C) with largest eigenvalues l; nothing is looked at."""
    vector = gram.new_ones(*gram.shape[:2], 1)
    for _ in range(_POWER_ROUNDS):
        vector = torch.nn.functional.normalize(gram @ vector, dim=1)
    largest = (vector.mT @ gram @ vector).clamp(min=torch.finfo(gram.dtype).tiny)
    identity = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    factor, _ = torch.linalg.cholesky_ex(gram / largest + floor * identity)
    inverse: Tensor = torch.cholesky_inverse(factor)
    return inverse


def _length(gradient: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
    return length
