"""Features of the network's layers, with the gradient by hand: nothing is kept for autograd, and much is fused.

How a convolution is computed is up to :mod:`medley_workers.numbers.arithmetic`. The plain network, in float32 and
differentiated by torch, is :mod:`medley_workers.network.vgg`; tests compare the two.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from medley.layers import LAYERS
from medley_workers.network.vgg import Pooling, plain_float32
from medley_workers.numbers.arithmetic import Convolution, masked, unpool


class Extractor:
    """The network up to the deepest of some layers, as a function of pictures, and its gradient."""

    def __init__(
        self,
        layers: Collection[str],
        pooling: Pooling,
        convolution: Callable[[str], Convolution],
        name: str = "",
        flags: Callable[[], AbstractContextManager[None]] = plain_float32,
    ) -> None:
        """Choose the stages.

        Args:
            layers: those of :data:`medley.layers.LAYERS` whose outputs are asked for, at least one
            pooling: how the pooling layers reduce
            convolution: gives a convolution by its layer's name
            name: of how the convolutions are computed
            flags: within which they are
        """
        self._flags = flags
        self.name = name
        self._stages = list(_stages(frozenset(layers), pooling, convolution))
        self.layers = frozenset(layers)
        self._outputs: list[Tensor] = []
        self._kept: list[Any] = []

    def forward(self, image: Tensor, *, keep: bool = True) -> dict[str, Tensor]:
        """The outputs of the layers for pictures (N, 3, H, W): each (N, C, H // 2^p, W // 2^p) after p poolings.

        What :meth:`backward` needs is kept for it, the outputs among it, which must not be changed; or it is not.
        """
        self._outputs, self._kept = [], []
        features = {}
        x = image
        with self._flags():
            for stage in self._stages:
                x, kept = stage.forward(x)
                if stage.layer in self.layers:
                    features[stage.layer] = x
                if keep:
                    self._outputs.append(x)
                    self._kept.append(kept)
        return features

    def backward(self, gradients: Mapping[str, Tensor]) -> Tensor:
        """The gradient of the pictures of the last :meth:`forward`, (N, 3, H, W) of float32, from those of its outputs,
        of which the deepest must have one.
        """
        masks = [output if stage.rectified else None for stage, output in zip(self._stages, self._outputs, strict=True)]
        gradient = _settled(gradients[self._stages[-1].layer], masks[-1], None)
        with self._flags():
            for number in range(len(self._stages) - 1, 0, -1):
                before = self._stages[number - 1]
                gradient = self._stages[number].backward(
                    gradient, self._kept[number], masks[number - 1], gradients.get(before.layer)
                )
            gradient = self._stages[0].backward(gradient, self._kept[0], None, None)
        self._outputs, self._kept = [], []
        return gradient.float().contiguous()


class _Stage(ABC):
    """A layer, or several in one; ``layer`` names its output, which is ``rectified`` if nothing in it is negative as a
    ReLU made it: there is then no gradient where it is nought.
    """

    def __init__(self, layer: str, *, rectified: bool) -> None:
        self.layer = layer
        self.rectified = rectified

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        """The output, and what the gradient needs beside it."""

    @abstractmethod
    def backward(self, gradient: Tensor, kept: Any, mask: Tensor | None, add: Tensor | None) -> Tensor:
        """The gradient of the input from that of the output, settled for the stage before: with ``add``, and none where
        ``mask`` is nought.
        """


class _Convolved(_Stage):
    """A convolution, and the ReLU and the pooling that are fused with it."""

    def __init__(self, layer: str, convolution: Convolution) -> None:
        super().__init__(layer, rectified="conv" not in layer)
        self._convolution = convolution
        self._pooled = layer.endswith("pool")

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        index = None
        if self._pooled:
            output, index = self._convolution.forward_pooled(x)
        else:
            output = self._convolution.forward(x, relu=self.rectified)
        return output, ((x.shape[2], x.shape[3]), index)

    def backward(self, gradient: Tensor, kept: Any, mask: Tensor | None, add: Tensor | None) -> Tensor:
        size, index = kept
        return self._convolution.backward(gradient, size, index, mask, add)


class _Rectified(_Stage):
    """A ReLU behind a convolution whose output is asked for."""

    def __init__(self, layer: str) -> None:
        super().__init__(layer, rectified=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        return F.relu(x), None

    def backward(self, gradient: Tensor, kept: Any, mask: Tensor | None, add: Tensor | None) -> Tensor:  # noqa: ARG002
        return _settled(gradient, mask, add)  # its own mask was settled already


class _LargestOfFour(_Stage):
    """Pooling behind a ReLU whose output is asked for."""

    def __init__(self, layer: str) -> None:
        super().__init__(layer, rectified=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        output, index = F.max_pool2d(x, 2, return_indices=True)
        return output, ((x.shape[2], x.shape[3]), index)

    def backward(self, gradient: Tensor, kept: Any, mask: Tensor | None, add: Tensor | None) -> Tensor:
        return _settled(unpool(gradient, *kept), mask, add)


class _MeanOfFour(_Stage):
    """Average pooling. What is nought in its output says that all four were, but not which of them were otherwise."""

    def __init__(self, layer: str) -> None:
        super().__init__(layer, rectified=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        return F.avg_pool2d(x, 2), (x.shape[2], x.shape[3])

    def backward(self, gradient: Tensor, kept: Any, mask: Tensor | None, add: Tensor | None) -> Tensor:
        height, width = kept
        spread = F.interpolate(gradient / 4, scale_factor=2, mode="nearest")
        # A last row or column may have been in none of the means.
        odd = (0, width - spread.shape[3], 0, height - spread.shape[2])
        return _settled(F.pad(spread, odd) if any(odd) else spread, mask, add)


def _stages(layers: frozenset[str], pooling: Pooling, convolution: Callable[[str], Convolution]) -> Iterator[_Stage]:
    """The stages up to the deepest layer, as few as its layers allow."""
    run: Sequence[str] = LAYERS[: max(LAYERS.index(layer) for layer in layers) + 1]
    fused = 0
    for layer, *following in (run[n : n + 3] for n in range(len(run))):
        if fused:
            fused -= 1
            continue
        if "conv" in layer:
            fused = _fused(layer, following, layers, pooling)
            yield _Convolved((layer, *following)[fused], convolution(layer))
        elif "relu" in layer:
            yield _Rectified(layer)
        else:
            yield _LargestOfFour(layer) if pooling == "max" else _MeanOfFour(layer)


def _fused(conv: str, following: Sequence[str], layers: frozenset[str], pooling: Pooling) -> int:
    """How many layers that follow a convolution are fused with it: none of those before the last is asked for."""
    if conv in layers or not following:
        return 0
    relu, *after = following
    is_pooled = after and after[0].endswith("pool") and pooling == "max"
    return 2 if is_pooled and relu not in layers else 1


def _settled(gradient: Tensor, mask: Tensor | None, add: Tensor | None) -> Tensor:
    """See :meth:`_Stage.backward`."""
    if add is not None:
        gradient = gradient + add.to(gradient.dtype)
    return masked(gradient if mask is None else gradient.to(mask.dtype), mask)
