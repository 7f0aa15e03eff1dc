"""The convolutions of VGG-19: their shapes, and weights for them, expanded or not."""

from collections.abc import Mapping
from functools import cache
from typing import Protocol

from torch import Tensor

from medley.layers import CHANNELS, LAYERS, convolutions

Shape = tuple[int, int, int, int]

WeightAndBias = tuple[Tensor, Tensor]
"""Of a convolution: (out, in, 3, 3) and (out,), float32, on the CPU."""


@cache
def convolution_shapes() -> dict[str, Shape]:
    """The shape (out, in, 3, 3) of every convolution of VGG-19, in order."""
    shapes: dict[str, Shape] = {}
    channels = 3
    for name in convolutions(LAYERS[-1]):
        out = CHANNELS[int(name[len("block")]) - 1]
        shapes[name] = (out, channels, 3, 3)
        channels = out
    return shapes


class NetworkWeights(Protocol):
    """The convolutions that somebody has; all of them from the first to some last one."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Their names, in order."""

    def convolution(self, name: str) -> WeightAndBias:
        """One of them, by a name such as ``block1_conv1``."""


class Convolutions:
    """Convolutions that are there as float32."""

    def __init__(self, convolutions: Mapping[str, WeightAndBias]) -> None:
        self._convolutions = convolutions
        self.layers = tuple(convolutions)

    def convolution(self, name: str) -> WeightAndBias:
        """See :class:`NetworkWeights`."""
        return self._convolutions[name]


class Codebooks:
    """Checked weights, kept small: a convolution is expanded each time it is asked for."""

    def __init__(self, parts: Mapping[str, tuple[Tensor, Tensor, Tensor]]) -> None:
        """Keep the indices (out, in, 3, 3), the table (k,) and the bias (out,) of each convolution."""
        self._parts = parts
        self.layers = tuple(parts)

    def convolution(self, name: str) -> WeightAndBias:
        """See :class:`NetworkWeights`."""
        indices, table, bias = self._parts[name]
        # Indexing a tensor by bytes would take them for a mask, hence int().
        return table.index_select(0, indices.flatten().int()).reshape(indices.shape), bias
