"""A network prepared for the fast path: its convolutions in the arithmetic that was chosen, and what it has seen."""

from collections.abc import Collection
from contextlib import AbstractContextManager
from functools import partial
from typing import Literal

import torch

from medley_workers.network.vgg import Network, Pooling, plain_float32
from medley_workers.numbers.arithmetic import REFERENCE, Arithmetic, Convolution, choose, make
from medley_workers.numbers.extractor import Extractor
from medley_workers.numbers.targets import TargetCache


class FastNetwork:
    """A network on its device, with all that a process keeps for the fast path."""

    def __init__(
        self,
        network: Network,
        arithmetic: Arithmetic | Literal["auto"] = "auto",
        target_bytes: int = 0,
        *,
        graphs: bool = True,
        deterministic: bool = False,
    ) -> None:
        """Choose the arithmetic.

        Args:
            network: what paints
            arithmetic: one of :mod:`medley_workers.numbers.arithmetic`, or ``auto`` for what is quick here
            target_bytes: of the device's memory, for what pictures are compared with
            graphs: whether a GPU is handed a step as one CUDA graph
            deterministic: whether ``auto`` is to choose the same each time

        Raises:
            UsageError: this arithmetic cannot be had here.
        """
        self.network = network
        self.device = network.device
        self.arithmetic = choose(network.device, arithmetic, deterministic=deterministic)
        self.graphs = graphs and network.device.type == "cuda"
        self._deterministic = deterministic
        self.targets = TargetCache(target_bytes)
        self._convolutions: dict[tuple[str, str], Convolution] = {}

    def extractor(self, layers: Collection[str], pooling: Pooling) -> Extractor:
        """The network in the arithmetic that was chosen, up to the deepest of these layers."""
        return self._extractor(layers, pooling, self.arithmetic)

    def reference(self, layers: Collection[str], pooling: Pooling) -> Extractor:
        """The network in plain float32."""
        return self._extractor(layers, pooling, REFERENCE)

    def _extractor(self, layers: Collection[str], pooling: Pooling, arithmetic: Arithmetic) -> Extractor:
        self.network.require(layers)
        flags = plain_float32 if arithmetic == REFERENCE or self._deterministic else _quick
        return Extractor(layers, pooling, partial(self._convolution, arithmetic), name=arithmetic, flags=flags)

    def _convolution(self, arithmetic: Arithmetic, layer: str) -> Convolution:
        key = (arithmetic, layer)
        if key not in self._convolutions:
            self._convolutions[key] = make(arithmetic, *self.network.convolution(layer))
        return self._convolutions[key]


def _quick() -> AbstractContextManager[None]:
    """Convolutions inside are done by whichever of cuDNN's algorithms is the quickest, in the type that they are in."""
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=True, deterministic=False, allow_tf32=False
    )
    return flags
