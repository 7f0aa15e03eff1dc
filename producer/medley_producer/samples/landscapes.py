"""Painted landscapes: ridges of fractal noise under a graded sky, mirrored in a lake; what samples show as contents."""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from medley_producer.samples.pigments import Floats, blend, grid, noise, ramp, rgb, spread

LAYERS = 6
"""Ridges one behind the other."""


class Light(NamedTuple):
    """A time of day: colours as ``#rrggbb``, the sun's place as shares of the sky, snow on far ridges from 0 to 1."""

    zenith: str
    middle: str
    horizon: str
    sun: str
    far: str
    near: str
    sun_x: float
    sun_y: float
    snow: float
    stars: bool = False


LIGHTS = {
    "dawn": Light("#41619f", "#e8a79c", "#ffe3ae", "#fff6d8", "#c99aa6", "#252846", 0.66, 0.40, 0.0),
    "noon": Light("#1c5fb0", "#5ba3dc", "#dceff4", "#ffffff", "#86a9c4", "#17401f", 0.24, 0.16, 1.0),
    "dusk": Light("#2a1c58", "#b03f6e", "#ff9d4a", "#ffe596", "#94486c", "#150d26", 0.36, 0.33, 0.0),
    "night": Light("#050b22", "#11264f", "#44729a", "#f6f4e2", "#36587c", "#050a14", 0.76, 0.20, 0.7, stars=True),
}


def landscape(rng: Generator, size: tuple[int, int], light: Light) -> Floats:
    """Ridges under a graded sky, a lake that mirrors them, and pines before it; (H, W, 3)."""
    width, height = size
    shore = int(height * rng.uniform(0.62, 0.76))
    land = _ridges(rng, _sky(rng, width, shore, light), light)
    picture = np.concatenate([land, _lake(rng, land, height - shore, light)])
    return _pines(rng, picture, light)


def _sky(rng: Generator, width: int, height: int, light: Light) -> Floats:
    x, y = grid(width, height)
    down = y / height
    sky = blend(rgb(light.zenith), rgb(light.middle), ramp(down, 0, 0.45))
    sky = blend(sky, rgb(light.horizon), ramp(down, 0.25, 0.65))
    distance = np.hypot(x / width - light.sun_x, (y / height - light.sun_y) * height / width)
    clouds = noise(rng, (height, width), 2.6, stretch=3.0)
    cover = ramp(clouds, 0.52, 0.8) * ramp(down, 0.75, 0.3)
    lit = blend(rgb(light.middle) * 0.75, rgb(light.sun), np.exp(-distance * 3.2) * 0.9 + 0.1)
    sky = blend(sky, lit, cover * 0.75)
    if light.stars:
        stars = (rng.random((height, width)) > 0.9992) * rng.random((height, width)) * (1 - cover)
        sky = sky + spread(stars.astype(np.float32))[..., None]
    glow = np.exp(-distance * 5) * 0.45 + np.exp(-distance * 16) * 0.5
    sky = blend(sky, rgb(light.sun), glow)
    return blend(sky, rgb(light.sun), ramp(distance, 0.036, 0.033))


def _ridges(rng: Generator, picture: Floats, light: Light) -> Floats:
    height, width, _ = picture.shape
    _, y = grid(width, height)
    rock = noise(rng, (height, width), 3.0, stretch=0.7)
    slope = np.gradient(noise(rng, (height, width), 3.5), axis=1)
    relief = 0.8 + 0.7 * (rock - 0.5) + 0.13 * slope / slope.std() * np.sign(light.sun_x - 0.5)
    for n, near in enumerate(np.linspace(0, 1, LAYERS, dtype=np.float32)):
        line = _ridge(rng, width, near)
        top = height * (0.52 + 0.43 * near - (0.36 - 0.26 * near) * line)
        depth = (y - top) / height
        shade = np.roll(relief, n * width // 3, axis=1)
        colour = blend(rgb(light.far), rgb(light.near), near**1.2) * shade[..., None]
        snow = light.snow * ramp(near, 0.6, 0.1) * ramp(shade - depth * 4.5, 0.35, 0.6)
        colour = blend(colour, rgb(light.sun) * (0.45 + 0.55 * shade[..., None]), snow)
        colour = blend(colour, rgb(light.horizon), ramp(depth, 0.02, 0.34) * (1 - near) ** 0.7 * 0.85)
        picture = blend(picture, colour, ramp(depth, 0, 0.002))
    return picture


def _ridge(rng: Generator, width: int, near: float) -> Floats:
    """A skyline (W,) from 0 to 1: peaks far away, hills with woods on them nearby."""
    peaks = 1 - np.abs(2 * noise(rng, (width,), 3.1) - 1) * 1.5
    woods = noise(rng, (width,), 0.9)
    return peaks * (1 - 0.25 * near) + woods * 0.25 * near


def _lake(rng: Generator, land: Floats, height: int, light: Light) -> Floats:
    width = land.shape[1]
    x, y = grid(width, height)
    near = y / height
    waves = noise(rng, (height, width), 1.7, stretch=9.0) - 0.5
    unit = width / 960
    row = (land.shape[0] - 1 - y * 1.25 + unit * waves * (10 + 90 * near)).clip(0, land.shape[0] - 1).astype(int)
    column = (x + unit * waves * (4 + 20 * near)).clip(0, width - 1).astype(int)
    water = land[row, column] * 0.78 + rgb(light.zenith) * 0.12
    glitter = ramp(waves, 0.10, 0.2) * np.exp(-np.abs(x / width - light.sun_x) * (9 - 4 * near))
    return blend(water, rgb(light.sun), glitter * 0.8)


def _pines(rng: Generator, picture: Floats, light: Light) -> Floats:
    """Pines on the banks at both sides, the nearest ones largest."""
    height, width, _ = picture.shape
    mask = Image.new("L", (width, height))
    draw = ImageDraw.Draw(mask)
    middle = rng.uniform(0.35, 0.65)
    away = np.abs(np.linspace(0, 1, width) - middle) * 2
    bank = height * (1.0 - 0.07 * away**1.2 + 0.04 * (noise(rng, (width,), 2.2) - 0.5))
    draw.polygon([(0, height), *enumerate(bank.tolist()), (width, height)], fill=255)
    for _ in range(46):
        place = rng.beta(0.45, 0.55)
        column = int(place * (width - 1))
        tall = height * (0.05 + 0.20 * float(away[column]) ** 1.3 * rng.uniform(0.5, 1.3))
        _pine(rng, draw, column, float(bank[column]) + 4, tall)
    cover = np.asarray(mask, np.float32) / 255
    ground = rgb(light.near) * (0.35 + 0.5 * noise(rng, (height, width), 1.6))[..., None]
    return blend(picture, ground, cover)


def _pine(rng: Generator, draw: ImageDraw.ImageDraw, x: float, foot: float, tall: float) -> None:
    draw.line([(x, foot), (x, foot - tall)], fill=255, width=max(2, int(tall / 40)))
    tiers = max(6, int(tall / 9))
    for n in range(tiers):
        level = n / tiers
        reach = tall * 0.20 * (1 - level) * rng.uniform(0.65, 1.1) + 1
        y = foot - tall * (0.08 + 0.92 * level)
        draw.polygon([(x - reach, y + tall * 0.05), (x, y - tall * 0.06), (x + reach, y + tall * 0.05)], fill=255)
