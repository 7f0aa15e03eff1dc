"""Random networks (compositional pattern-producing networks) that make a picture of each z, as neuralart's do.

A pixel's inputs are 1 (the bias), y, x, its distance from the origin, and z. Each hidden layer is a tanh of weighted
sums of the layer before it and 1, and a sigmoid of such sums is the pixel's colour. Weights are normal, and for a seed
those that neuralart draws on a CPU, on a GPU too.

A frame's bytes depend on the options, on its z, and on the kind of processor, and on nothing else: not on the number of
threads, on the frames that are rendered with it, nor on the rows. For pixels are rendered in tiles, cut at the same
places always, each of the same shape and by one thread from start to end. Another kind of processor, or neuralart,
rounds other last bits, which show as one grey level here and there. Layers make them grow, though: after some 20 of
them, or with large weights, the pictures differ.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medley.records.networks import NetworkOptions
from medley_workers.numbers.tensors import Pixels
from medley_workers.threads import one_thread

Positions = npt.NDArray[np.float64]
"""Values of z, (N, Z)."""

_TILE_FLOATS = {"cpu": 2**18, "cuda": 2**24}
"""Floats of a tile's layer. On a CPU two of them (2 MB) stay in its caches, smaller ones make threads wait for Python's
lock, and a frame of 512 x 512 still has 16 to share out; a GPU is filled by one."""

_STRIP = 256
"""Pixels that numpy multiplies at a time where layers are narrow; a third faster than torch's product of a tile."""

_NARROW = 31
"""Units of the widest such layer: OpenBLAS shares products of over 2**18 multiplications out to threads of its own."""


class RandomNetwork:
    """A network with its weights, on a device; it renders any z of ``z_dims`` numbers.

    ``size`` is width and height in px, ``channels`` the colours of a pixel, and ``tile`` the pixels of a tile.
    """

    def __init__(self, options: NetworkOptions, z_dims: int, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.size = options.size
        self.channels = options.channels
        self._radius, self._ones = not options.no_radius, int(not options.no_bias)
        self._units = options.units
        width = max(16, options.units)  # colours take their room, too
        self.tile = max(_STRIP, _TILE_FLOATS[self.device.type] // width // _STRIP * _STRIP)
        self._narrow = self.device.type == "cpu" and options.units <= _NARROW
        self._strips = self.tile // _STRIP if self._narrow else 1
        self._x = torch.linspace(*options.xlim, self.size[0]).to(self.device)
        self._y = torch.linspace(*options.y_limits, self.size[1]).to(self.device)
        first, *hidden, last = _weights(options, z_dims)
        pixel_inputs = len(first) - z_dims
        self._of_z = first[pixel_inputs:].double().numpy()  # (Z, units)
        self._first = self._moved(first[:pixel_inputs])
        self._hidden = [self._moved(weights) for weights in hidden]
        self._last = self._moved(last * 0.5)  # sigmoid(v) = tanh(v / 2) / 2 + 1 / 2

    def render(self, z: Positions, threads: int | None = None, advance: Callable[[], None] = lambda: None) -> Pixels:
        """A picture for each z, (N, H, W, C), rounded to 8 bits; C is 3 (RGB) or 1.

        Args:
            z: (N, Z)
            threads: of a CPU; as many as torch works with, if not given
            advance: called for each tile, in this thread; what it raises ends the work
        """
        width, height = self.size
        frames = np.empty((len(z), height * width, self.channels), np.uint8)

        def fill(begin: int) -> None:
            part = frames[:, begin : begin + self.tile]
            part[:] = self.pixels(z, begin, begin + part.shape[1])

        with rendering_threads(threads or self.default_threads) as pool:
            for _ in pool.map(fill, range(0, height * width, self.tile)):  # errors are raised here
                advance()
        return frames.reshape(len(z), height, width, self.channels)

    def pixels(self, z: Positions, begin: int, end: int) -> Pixels:
        """Pixels ``begin`` to ``end`` of the pictures, counted along the rows, (N, end - begin, C).

        Only the calling thread works, if it is inside :func:`rendering_threads` or ``one_thread``.
        """
        tiles = range(begin // self.tile, -(-end // self.tile))
        rendered = np.empty((len(z), len(tiles) * self.tile, self.channels), np.uint8)
        buffers = self._buffers()
        for n, tile in enumerate(tiles):
            self._render_tile(tile, z, rendered[:, n * self.tile : (n + 1) * self.tile], buffers)
        skipped = begin - tiles.start * self.tile
        return rendered[:, skipped : skipped + end - begin]

    @property
    def default_threads(self) -> int:
        """Threads that share the work: torch's on a CPU, which is told of other processes there, and one on a GPU."""
        return torch.get_num_threads() if self.device.type == "cpu" else 1

    def _render_tile(self, tile: int, z: Positions, out: Pixels, buffers: "_Buffers") -> None:
        """All frames of one tile, into ``out`` (N, pixels, C)."""
        self._multiply(self._first, self._inputs(tile), buffers.shared)  # what is the same for every z
        for position, pixels in zip(z, out, strict=True):
            torch.add(buffers.shared, self._offsets(position), out=buffers.sums)
            _tanh(buffers.sums, buffers.units)
            for weights in self._hidden:
                self._multiply(weights, buffers.layer, buffers.sums)
                _tanh(buffers.sums, buffers.units)
            self._multiply(self._last, buffers.layer, buffers.colours)
            _tanh(buffers.colours, buffers.colours)
            levels = buffers.colours.mul_(127.5).add_(127.5).round_().to(torch.uint8)  # (S, C, pixels of a strip)
            pixels.reshape(self._strips, -1, self.channels)[:] = levels.cpu().numpy().transpose(0, 2, 1)

    def _multiply(self, weights: Tensor, values: Tensor, out: Tensor) -> None:
        """Weights, (out, in), times values, (S, in, pixels of a strip)."""
        if self._narrow:
            np.matmul(weights.numpy(), values.numpy(), out=out.numpy())
        else:
            torch.mm(weights, values[0], out=out[0])

    def _inputs(self, tile: int) -> Tensor:
        """What the first layer sees of a tile, (S, 2 to 4, pixels of a strip); pixels behind the last one repeat it."""
        width, height = self.size
        index = torch.arange(tile * self.tile, (tile + 1) * self.tile, device=self.device)
        index.clamp_(max=width * height - 1)
        y, x = self._y[index // width], self._x[index % width]
        rows = [torch.ones_like(x)] * self._ones + [y, x] + [(y * y + x * x).sqrt()] * self._radius
        return torch.stack([row.reshape(self._strips, -1) for row in rows], dim=1)

    def _offsets(self, position: npt.NDArray[np.float64]) -> Tensor:
        """What a z adds to the first layer's sums, (units, 1); summed in one order, as BLAS would not promise."""
        rounded = position.astype(np.float32).astype(np.float64)  # as neuralart has it
        offsets = (rounded[:, np.newaxis] * self._of_z).sum(axis=0).astype(np.float32)
        return torch.from_numpy(offsets).to(self.device).unsqueeze(1)

    def _moved(self, weights: Tensor) -> Tensor:
        """Weights as tiles need them: (out, in), on the device."""
        return weights.t().contiguous().to(self.device)

    def _buffers(self) -> "_Buffers":
        count, width = self._strips, self.tile // self._strips
        shared, sums = torch.empty((2, count, self._units, width), device=self.device)
        layer = torch.ones((count, self._ones + self._units, width), device=self.device)
        colours = torch.empty((count, self.channels, width), device=self.device)
        return _Buffers(shared, sums, layer, layer[:, self._ones :], colours)


@dataclass(frozen=True, eq=False)
class _Buffers:
    """Where one thread works on a tile, cut into S strips of pixels: the first layer's sums without z's share, and a
    layer's sums, (S, units, pixels); its values below a row of ones, if there are biases; these values alone; and
    colours, (S, C, pixels).
    """

    shared: Tensor
    sums: Tensor
    layer: Tensor
    units: Tensor
    colours: Tensor


@contextmanager
def rendering_threads(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads each of which works alone: what torch does in one is not shared out to others."""
    with one_thread(), ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(cancel_futures=True)  # who interrupts waits for what has begun, and for no more
            raise


def _weights(options: NetworkOptions, z_dims: int) -> list[Tensor]:
    """Each layer's weights, (in, out), in the order in which neuralart draws them; the first row is the bias's."""
    generator = torch.Generator().manual_seed(options.seed)
    ones = int(not options.no_bias)
    inputs = 2 + (not options.no_radius) + z_dims
    widths = [inputs, *[options.units] * options.depth, options.channels]
    deviations = [options.hidden_std] * options.depth + [options.output_std]
    return [
        torch.randn((ones + before, after), generator=generator) * deviation
        for before, after, deviation in zip(widths, widths[1:], deviations, strict=False)
    ]


def _tanh(values: Tensor, out: Tensor) -> None:
    """numpy's, on a CPU: six times as fast as torch's, and as near to the true value as its roundings show."""
    if values.is_cpu:
        np.tanh(values.numpy(), out=out.numpy())
    else:
        torch.tanh(values, out=out)
