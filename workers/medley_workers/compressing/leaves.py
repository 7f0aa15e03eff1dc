"""Pictures to calibrate on that nobody owns: leaves of all sizes that fall on one another, each with a texture.

"Dead leaves" have edges, occlusion and scales like photographs: Lee, Mumford and Huang, "Occlusion models for natural
images" (2001). That their statistics, with textures, serve in place of photographs: Baradad et al., "Learning to see by
looking at noise" (2021).
"""

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

Floats = npt.NDArray[np.float32]

_MEAN_LEAVES = 400
_LEAST_RADIUS_PX = 3.0
_RADIUS_EXPONENT = 1.6
"""Of the radii's power law. At 2 the small ones hide all others."""


def dead_leaves(seed: int, size: int) -> npt.NDArray[np.uint8]:
    """One picture, (size, size, 3), RGB; the same seed gives the same picture on one machine."""
    rng = np.random.default_rng(seed)
    palette = rng.uniform(0, 255, (int(rng.integers(4, 12)), 3)).astype(np.float32)
    if rng.random() < 0.6:  # colours that go together, as in most pictures
        palette = 0.6 * palette.mean(0) + 0.4 * palette
    picture = palette[0] + _noise(rng, size, rng.uniform(0.8, 1.6))[..., None] * rng.uniform(5, 40)
    for _ in range(int(rng.uniform(0.2, 1.8) * _MEAN_LEAVES)):
        colour = palette[rng.integers(len(palette))] + rng.normal(0, 15, 3)
        _drop(rng, picture, colour.astype(np.float32))
    pixels: npt.NDArray[np.uint8] = np.clip(picture, 0, 255).astype(np.uint8)
    return pixels


def _drop(rng: Generator, picture: Floats, colour: Floats) -> None:
    """Let a leaf fall on the picture."""
    size = len(picture)
    radius = min(_LEAST_RADIUS_PX * rng.random() ** (-1 / _RADIUS_EXPONENT), 0.7 * size)
    centre = rng.uniform(0, size, 2)
    (top, left), (bottom, right) = (np.clip(centre + side * 1.5 * radius, 0, size).astype(int) for side in (-1, 1))
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32) - centre[:, None, None].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    u, v = along / radius, across / radius * rng.uniform(1, 3)
    power = rng.choice([1, 2, 2, 2, 8])  # a rhombus, an ellipse, nearly a rectangle
    distance = (abs(u) ** power + abs(v) ** power) ** (1 / power)
    blur = rng.choice([0.5 / radius, 1 / radius, 3 / radius, 0.3])
    cover = np.clip((1 - distance) / blur + 0.5, 0, 1)[..., None].astype(np.float32)
    shade = (u * rng.normal(0, 25) + v * rng.normal(0, 25))[..., None]
    leaf = colour + shade + _texture(rng, along, size)
    picture[top:bottom, left:right] += cover * (leaf - picture[top:bottom, left:right])


def _texture(rng: Generator, along: Floats, size: int) -> Floats:
    """What is drawn on a leaf, (h, w, 3): noise or stripes, or nothing on every other one."""
    kind, strength = rng.random(), rng.uniform(3, 45) * rng.uniform(0.4, 1, 3).astype(np.float32)
    if kind < 0.35:
        exponent, stretch = rng.uniform(0.3, 2), rng.choice([1, 1, 3, 6])
        grain = _noise(rng, size, exponent, stretch, rng.uniform(0, np.pi))[: along.shape[0], : along.shape[1]]
    elif kind < 0.55:
        grain = np.clip(np.sin(along * 2 * np.pi / rng.uniform(2, 16)) * rng.uniform(1, 6), -1, 1)
    else:
        grain = np.zeros_like(along)
    texture: Floats = (grain[..., None] * strength).astype(np.float32)
    return texture


def _noise(rng: Generator, size: int, exponent: float, stretch: float = 1.0, angle: float = 0.0) -> Floats:
    """Noise (size, size) of mean 0 and deviation 1, whose amplitudes fall by a power of the frequency."""
    y, x = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    frequency = np.hypot(along * stretch, across / stretch)
    frequency[0, 0] = np.inf
    phases = rng.standard_normal(frequency.shape) + 1j * rng.standard_normal(frequency.shape)
    noise = np.fft.irfft2(phases * frequency**-exponent, s=(size, size))
    scaled: Floats = (noise / noise.std()).astype(np.float32)
    return scaled
