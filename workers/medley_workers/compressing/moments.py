"""What the convolutions of a network see, measured on pictures: it tells which errors of the weights matter."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from medley.layers import LAYERS
from medley.telling import Told
from medley_workers.network.vgg import Network

Shift = tuple[int, int]
"""From one tap to another: (dy, dx)."""

_SHIFTS: list[Shift] = [(dy, dx) for dy in range(3) for dx in range(-2, 3) if dy > 0 or dx >= 0]
"""One of each two that are opposite."""

Moments = Mapping[str, Tensor]
"""For each convolution E[x x^T] over patches x (9 in,) of its input, ordered by channel and tap; its trace is 9 in."""


def second_moments(network: Network, layers: Iterable[str], images: Sequence[Tensor], told: Told) -> Moments:
    """Measure the inputs of these convolutions on images (1, 3, H, W); each image counts as much as another."""
    inputs = {layer: LAYERS[LAYERS.index(layer) - 1] for layer in layers}
    sums: dict[str, dict[Shift, Tensor]] = {layer: {} for layer in inputs}
    for done, image in enumerate(images):
        told("looking at pictures", done, len(images))
        with torch.no_grad():
            features = network.features(image, set(inputs.values()))
        for layer, before in inputs.items():
            _add(sums[layer], _autocorrelation(features[before][0]))
    return {layer: _assemble(correlation) for layer, correlation in sums.items()}


def _autocorrelation(x: Tensor) -> dict[Shift, Tensor]:
    """For shifts (dy, dx) between two taps of a kernel, the sum over p of x(p) x(p + shift)^T, (C, C).

    Beyond the picture x (C, H, W) is zero, as it is for the convolution. Opposite shifts are one another's transpose.
    """
    _, height, width = x.shape
    found = {}
    for dy, dx in _SHIFTS:
        here = x[:, : height - dy, max(0, -dx) : width - max(0, dx)].flatten(1)
        there = x[:, dy:, max(0, dx) : width - max(0, -dx)].flatten(1)
        found[dy, dx] = here @ there.T
    return found


def _add(sums: dict[Shift, Tensor], correlation: Mapping[Shift, Tensor]) -> None:
    power = correlation[0, 0].diagonal().mean().clamp_min(torch.finfo(torch.float32).tiny)
    for shift, values in correlation.items():
        sums[shift] = sums.get(shift, torch.zeros(())) + values / power


def _assemble(correlation: Mapping[Shift, Tensor]) -> Tensor:
    """The moments of patches, (9 C, 9 C), from correlations by shift, with a mean diagonal of 1."""
    channels = len(correlation[0, 0])
    moments = torch.empty(channels, 9, channels, 9)
    for tap, other in np.ndindex(9, 9):
        dy, dx = other // 3 - tap // 3, other % 3 - tap % 3
        values = correlation[dy, dx] if (dy, dx) in correlation else correlation[-dy, -dx].T
        moments[:, tap, :, other] = values
    flat = moments.reshape(9 * channels, 9 * channels)
    return flat / flat.diagonal().mean().clamp_min(torch.finfo(torch.float32).tiny)
