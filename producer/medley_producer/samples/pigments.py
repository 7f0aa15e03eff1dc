"""What painted samples are mixed from: colours, gradients and fractal noise, as arrays of floats from 0 to 1."""

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.floating[Any]]


def rgb(colour: str) -> Floats:
    """A colour ``#rrggbb`` as (3,)."""
    return np.array([int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)], np.float32)


def grid(width: int, height: int) -> tuple[Floats, Floats]:
    """The columns and the rows of each pixel, both (H, W)."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return x, y


def ramp(values: Floats, start: float, end: float) -> Floats:
    """0 at ``start``, 1 at ``end``, smooth between and level beyond; ``start`` may be the larger one."""
    t: Floats = ((values - np.float32(start)) / np.float32(end - start)).clip(0, 1)
    return t * t * (3 - 2 * t)


def blend(back: Floats, front: Floats, cover: Floats) -> Floats:
    """``front`` over ``back``, both (..., 3); ``cover`` (...) is how opaque it is."""
    cover = cover[..., None]
    return back * (1 - cover) + front * cover


def noise(rng: Generator, shape: tuple[int, ...], power: float, stretch: float = 1.0) -> Floats:
    """Fractal noise from 0 to 1 with mean about 0.5: white noise whose spectrum falls by frequency ** -``power`` / 2.

    The larger the power, the smoother. In two dimensions ``stretch`` draws its shapes out along x. Spectral synthesis
    after Voss (1985); it is made square, so that shapes are as wide as high, and cut to (H, W) or (N,).
    """
    side = max(shape)
    axes = [np.fft.fftfreq(side) * factor for factor in (1.0, stretch)[: len(shape)]]
    axes[-1] = axes[-1][: side // 2 + 1]
    radius = np.sqrt(sum(np.square(axis) for axis in np.meshgrid(*axes, indexing="ij")))
    radius[(0,) * len(shape)] = np.inf
    spectrum = np.fft.rfftn(rng.standard_normal((side,) * len(shape), np.float32)) * radius ** (-power / 2)
    values = np.fft.irfftn(spectrum, s=(side,) * len(shape), axes=range(len(shape)))[tuple(slice(n) for n in shape)]
    return np.asarray((0.5 + (values - values.mean()) / values.std() / 5).clip(0, 1), np.float32)


def spread(values: Floats) -> Floats:
    """Each pixel (H, W) also on its four neighbours, at half strength."""
    beside = [np.roll(values, step, axis) for axis in (0, 1) for step in (-1, 1)]
    return np.asarray(values + 0.5 * np.stack(beside).sum(axis=0))


def floats(picture: Image.Image) -> Floats:
    """The pixels of an 8-bit picture, (H, W) or (H, W, 3)."""
    return np.asarray(picture, np.float32) / 255


def image(colours: Floats) -> Image.Image:
    """The picture of (H, W, 3); what is beyond 0 and 1 is cut off."""
    return Image.fromarray((colours.clip(0, 1) * 255 + 0.5).astype(np.uint8))
