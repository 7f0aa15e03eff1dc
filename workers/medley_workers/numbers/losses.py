"""What is minimised: pastiche 1.6.0's loss, to the digit.

Gatys, Ecker and Bethge, "Image Style Transfer Using Convolutional Neural Networks" (2016), with pastiche's layer
weights and total variation.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from medley.records.options import StyleTransferOptions
from medley_workers.network.vgg import Network


class Losses(NamedTuple):
    """The loss of one picture and its terms, weighted as they enter it: tensors of no dimension, or (N,) of N pictures.

    Reading one as a number waits for the device.
    """

    total: Tensor
    content: Tensor
    style: Tensor
    tv: Tensor

    def detach(self) -> "Losses":
        """The same values, without what is needed for gradients."""
        return Losses(*(loss.detach() for loss in self))


class Objective:
    """The loss as a function of the picture. What it compares to is computed once, here."""

    def __init__(
        self,
        network: Network,
        content: Tensor,
        styles: Sequence[Tensor],
        style_weights: Sequence[float],
        options: StyleTransferOptions,
    ) -> None:
        """Look at the content and the styles.

        Args:
            network: whose layers are compared
            content: (1, 3, H, W), on any device
            styles: (1, 3, H', W') each, of any sizes, on any device
            style_weights: of each style, as many as styles
            options: the layers, how the network pools, and the weights of layers, content and total variation

        Raises:
            UsageError: a picture is so small that a layer would be empty.
        """
        self.device = network.device
        self._network = network
        self._options = options
        self._style_weights = tuple(style_weights)
        with torch.no_grad():
            self._content = self._features(content, options.content_layers)
            self._styles = [self._grams(style) for style in styles]

    def __call__(self, image: Tensor) -> Losses:
        """The loss of a picture (1, 3, H, W) of the content's size; it is differentiable in ``image``."""
        image = image.to(self.device)
        options = self._options
        features = self._features(image, options.content_layers + options.style_layers)
        content = self._content_loss(features)
        style = self._style_loss(features)
        tv = 0.5 * options.tv_weight * total_variation(image)
        return Losses(content + style + tv, content, style, tv)

    def _features(self, image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        return self._network.features(image.to(self.device), layers, self._options.pooling)

    def _grams(self, style: Tensor) -> dict[str, Tensor]:
        features = self._features(style, self._options.style_layers)
        return {layer: gram(x) for layer, x in features.items()}

    def _content_loss(self, features: dict[str, Tensor]) -> Tensor:
        loss = torch.zeros((), device=self.device)
        for layer, weight in zip(self._options.content_layers, content_weights(self._options), strict=True):
            loss = loss + weight * mse_loss(features[layer], self._content[layer])
        return loss

    def _style_loss(self, features: dict[str, Tensor]) -> Tensor:
        loss = torch.zeros((), device=self.device)
        for index, layer in enumerate(self._options.style_layers):
            x = gram(features[layer])
            weight = gram_weight(self._options, index, channels=len(x))
            for style_weight, targets in zip(self._style_weights, self._styles, strict=True):
                loss = loss + style_weight * weight * mse_loss(x, targets[layer])
        return loss


def gram(x: Tensor) -> Tensor:
    """How much any two channels of (1, C, H, W) go together: (C, C), the sum of products over H W."""
    flat = x.squeeze(0).flatten(1)  # (C, H W)
    return flat @ flat.T / flat.shape[1]


def total_variation(image: Tensor) -> Tensor:
    """Mean absolute difference of neighbours in a row of (1, 3, H, W), plus that of neighbours in a column."""
    across = (image[..., 1:] - image[..., :-1]).abs().mean()
    down = (image[..., 1:, :] - image[..., :-1, :]).abs().mean()
    return across + down


def content_weights(options: StyleTransferOptions) -> list[float]:
    """What the mean squared error of each content layer counts."""
    given, layers = options.content_layer_weights, range(len(options.content_layers))
    return [options.content_weight * _layer_weight(given, index, default=0.01) for index in layers]


def gram_weight(options: StyleTransferOptions, index: int, channels: int) -> float:
    """What the mean squared error of a style layer's Gram counts, of the layer of this number."""
    return _layer_weight(options.style_layer_weights, index, default=10.0 / channels**2)


def _layer_weight(weights: Sequence[float], index: int, default: float) -> float:
    """The weight of a layer: where they are fewer than the layers, the last one counts on."""
    return weights[min(index, len(weights) - 1)] if weights else default
