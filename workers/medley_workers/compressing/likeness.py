"""How far a network's view of a picture is from another one's, by what style transfer looks at."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from medley.layers import CONTENT_LAYERS, STYLE_LAYERS
from medley_workers.network.vgg import Network
from medley_workers.numbers.losses import gram

MEASURES = STYLE_LAYERS + CONTENT_LAYERS
"""What is compared: the Gram matrices of the default style layers, then the features of the content layer."""

View = Sequence[Tensor]
"""What a network makes of one picture, in the order of :data:`MEASURES`."""


def view(network: Network, image: Tensor) -> View:
    """What a network makes of an image (1, 3, H, W)."""
    with torch.no_grad():
        features = network.features(image, MEASURES)
    return [gram(features[layer]) for layer in STYLE_LAYERS] + [features[layer] for layer in CONTENT_LAYERS]


def relative_errors(seen: View, exact: View) -> list[float]:
    """For each of :data:`MEASURES`, the norm of the difference over that of the exact one (Frobenius)."""
    return [float((one - other).norm() / other.norm()) for one, other in zip(seen, exact, strict=True)]


class Judge:
    """Knows what an exact network makes of some pictures, and how far others are from it."""

    def __init__(self, exact: Network, images: Sequence[Tensor], advance: Callable[[], object] = lambda: None) -> None:
        """Look at images (1, 3, H, W); ``advance`` is called at each that is looked at, now and later."""
        self._images = images
        self._advance = advance
        self._exact = [self._view(exact, image) for image in images]

    def errors(self, network: Network) -> list[list[float]]:
        """The relative errors of what a network sees, of each image."""
        pairs = zip(self._images, self._exact, strict=True)
        return [relative_errors(self._view(network, image), exact) for image, exact in pairs]

    def worst_gram(self, network: Network) -> float:
        """The largest relative error of a Gram matrix, over all images and style layers."""
        return max(max(errors[: len(STYLE_LAYERS)]) for errors in self.errors(network))

    def _view(self, network: Network, image: Tensor) -> View:
        self._advance()
        return view(network, image)
