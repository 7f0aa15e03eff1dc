"""Ways to compute a convolution of the network and its gradient, and which of them is the quickest here."""

import logging
import time
from functools import cache, cached_property
from typing import Literal, Protocol, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from medley.errors import UsageError
from medley_workers.numbers import winograd

log = logging.getLogger(__name__)

Arithmetic = Literal["float32", "channels_last", "bfloat16", "winograd", "winograd_bfloat16"]
"""torch's float32 in its own memory format or with a pixel's channels side by side, the latter in bfloat16, or
float32 by :mod:`medley_workers.numbers.winograd`, which can also round the factors of its products to bfloat16."""

REFERENCE: Arithmetic = "channels_last"
"""In which the losses of the first picture, of the last and of the PNG are computed."""

_TRIED = (1, 256, 32, 32)
"""(N, C, H, W) of what the arithmetics are tried on, with as many output channels: a layer in the middle of the
network, of a picture of 128 px. Which is the quickest hardly depends on the size."""

_TRIES = 3
"""Of which the quickest counts, after one that prepares."""


class Convolution(Protocol):
    """A convolution of the network in both directions; what it gives is of its own type and memory format."""

    def forward(self, x: Tensor, relu: bool = True) -> Tensor:
        """Of (N, C, H, W): (N, K, H, W), with what is negative set to nought or not."""
        ...

    def forward_pooled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same with ReLU and the largest of each 2 x 2: (N, K, H // 2, W // 2), and which of them it was."""
        ...

    def backward(
        self,
        gradient: Tensor,
        size: tuple[int, int],
        index: Tensor | None = None,
        mask: Tensor | None = None,
        add: Tensor | None = None,
    ) -> Tensor:
        """The gradient of its input, (N, C, H, W), from that of its output.

        Args:
            gradient: of the output before the ReLU; or of what was pooled, where that is positive
            size: height and width of the output before it was pooled
            index: as :meth:`forward_pooled` gave it, if it was pooled
            mask: the input, if a ReLU made it: there is no gradient where it is not positive
            add: a gradient of the input from elsewhere, which is added first
        """
        ...


class TorchConvolution:
    """By torch, in float32 or in bfloat16, in either memory format."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, memory_format: torch.memory_format) -> None:
        self._dtype = dtype
        self._memory_format = memory_format
        self._weight = self._own(weight)
        self._bias = bias.to(dtype)

    @cached_property
    def _turned(self) -> Tensor:
        """The weights of the gradient: that of a convolution is one, too, for which libraries are as quick."""
        return self._own(self._weight.flip(2, 3).transpose(0, 1))

    def forward(self, x: Tensor, relu: bool = True) -> Tensor:
        """See :class:`Convolution`."""
        output = F.conv2d(self._own(x), self._weight, self._bias, padding=1)
        return output.relu_() if relu else output

    def forward_pooled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Convolution`."""
        output, index = F.max_pool2d(self.forward(x), 2, return_indices=True)
        return output, index

    def backward(
        self,
        gradient: Tensor,
        size: tuple[int, int],
        index: Tensor | None = None,
        mask: Tensor | None = None,
        add: Tensor | None = None,
    ) -> Tensor:
        """See :class:`Convolution`."""
        gradient = self._own(gradient)
        if index is not None:
            gradient = unpool(gradient, size, index)
        result = F.conv2d(gradient, self._turned, padding=1)
        if add is not None:
            result.add_(add)
        return masked(result, mask)

    def _own(self, x: Tensor) -> Tensor:
        return x.to(self._dtype, memory_format=self._memory_format)


def unpool(gradient: Tensor, size: tuple[int, int], index: Tensor) -> Tensor:
    """The gradient (N, C, H, W) of what was pooled to (N, C, H // 2, W // 2); ``index`` is torch's."""
    is_channels_last = gradient.is_contiguous(memory_format=torch.channels_last)
    memory_format = torch.channels_last if is_channels_last else torch.contiguous_format
    # Of the input, torch looks at the shape alone, so that it need not be kept.
    shape = torch.empty(
        (*gradient.shape[:2], *size), dtype=gradient.dtype, device=gradient.device, memory_format=memory_format
    )
    spread: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
        gradient, shape, [2, 2], [2, 2], [0, 0], [1, 1], False, index
    )
    return spread


def masked(gradient: Tensor, mask: Tensor | None) -> Tensor:
    """The gradient where ``mask`` is positive, and nought elsewhere; all of it where there is no mask."""
    if mask is None:
        return gradient
    let_through: Tensor = torch.ops.aten.threshold_backward(gradient, mask, 0)
    return let_through


def make(arithmetic: Arithmetic, weight: Tensor, bias: Tensor) -> Convolution:
    """A convolution of a weight (K, C, 3, 3) and a bias (K,), both float32."""
    if arithmetic in ("winograd", "winograd_bfloat16"):
        return winograd.WinogradConvolution(weight, bias, bf16=arithmetic == "winograd_bfloat16")
    dtype = torch.bfloat16 if arithmetic == "bfloat16" else torch.float32
    return TorchConvolution(
        weight, bias, dtype, torch.contiguous_format if arithmetic == "float32" else torch.channels_last
    )


def choose(
    device: torch.device, asked: Arithmetic | Literal["auto"] = "auto", *, deterministic: bool = False
) -> Arithmetic:
    """The arithmetic that is asked for. If that is ``auto``: on a GPU bfloat16 where it has that, and on a CPU the
    quickest, or the same each time if it must be.

    Raises:
        UsageError: it cannot be had here.
    """
    if asked == "auto":
        return _steady(device) if deterministic else _quickest(device)
    if problem := _problem(asked, device):
        raise UsageError(f"MEDLEY_ARITHMETIC is {asked}: {problem}")
    return asked


def _steady(device: torch.device) -> Arithmetic:
    """What is chosen without a clock, which may go one way today and the other tomorrow."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "channels_last"
    return "channels_last" if _problem("winograd", device) else "winograd"


@cache
def _quickest(device: torch.device) -> Arithmetic:
    if device.type == "cuda":
        return _steady(device)
    usable: list[Arithmetic] = [arithmetic for arithmetic in get_args(Arithmetic) if not _problem(arithmetic, device)]
    seconds = {arithmetic: _seconds(arithmetic) for arithmetic in usable}
    quickest = min(usable, key=seconds.__getitem__)
    told = ", ".join(f"{arithmetic} {1000 * s:.1f} ms" for arithmetic, s in seconds.items())
    log.info("Convolutions are computed as %s (one of the network takes: %s).", quickest, told)
    return quickest


def _problem(arithmetic: Arithmetic, device: torch.device) -> str | None:
    """Why an arithmetic cannot be used on a device, in a sentence."""
    if arithmetic not in ("winograd", "winograd_bfloat16"):
        return None
    if device.type != "cpu":
        return "The kernel of our own is for CPUs."
    if arithmetic == "winograd_bfloat16" and not winograd.unavailable() and not winograd.has_bf16():
        return "This processor has no instructions for bfloat16 (avx512_bf16)."
    return winograd.unavailable()


def _seconds(arithmetic: Arithmetic) -> float:
    """For a convolution and its gradient; on a CPU."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(_TRIED, generator=generator)
    channels = _TRIED[1]
    convolution = make(arithmetic, torch.randn((channels, channels, 3, 3), generator=generator), torch.zeros(channels))
    seconds = []
    for _ in range(1 + _TRIES):
        started = time.perf_counter()
        convolution.backward(convolution.forward(x), (x.shape[2], x.shape[3]))
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
