"""Painted styles: four techniques with strokes and palettes of their own; what samples show as styles."""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from medley_producer.samples.landscapes import LIGHTS, landscape
from medley_producer.samples.pigments import Floats, blend, floats, grid, image, noise, ramp, rgb

NIGHT = ("#081233", "#12296b", "#2350a3", "#4f8fc9", "#a9d3d6", "#f0ead0")
GOLD = ("#2f6aa8", "#c98a1b", "#f2b92c", "#fbdd5e", "#fff6c4")
GLASS = ("#b3122d", "#e2571e", "#f6a81c", "#f9d94e", "#1d7a4b", "#119c9c", "#1b4aa3", "#4b1f7a")
INKS = ("#23364a", "#2f6077", "#c63a2b", "#dd5a35", "#eebb84", "#f5e8cd")


def swirls(rng: Generator, size: tuple[int, int]) -> Floats:
    """Thick strokes that follow eddies in a night sky, lit from one side as ridges of paint are."""
    direction, glow = _eddies(rng, size)
    tone = noise(rng, size[::-1], 3.2)
    colours, relief = Image.new("RGB", size, NIGHT[0]), Image.new("L", size, 128)
    paint, height = ImageDraw.Draw(colours), ImageDraw.Draw(relief)
    for width, number in ((16, 2600), (10, 4200), (6, 5200)):
        thick = max(1, round(width * max(size) / 960))
        for line in _follow(direction, rng.random((number, 2)) * size, steps=8, stride=thick * 0.8):
            x, y = line[0].astype(int)
            light = float(glow[y, x]) + rng.normal(0, 0.10)
            shade = float(tone[y, x]) * 0.8 + light * 0.7 - 0.05 + rng.normal(0, 0.12)
            colour = _pick(GOLD, light * 1.5 - 0.5) if light > 0.42 else _pick(NIGHT, shade)
            points = [tuple(point) for point in line.tolist()]
            paint.line(points, fill=colour, width=thick, joint="curve")
            height.line(points, fill=int(rng.integers(40, 216)), width=thick, joint="curve")
            height.line(points, fill=int(rng.integers(160, 256)), width=max(1, thick // 3))
    return _lit(colours, relief)


def _eddies(rng: Generator, size: tuple[int, int]) -> tuple[Floats, Floats]:
    """Which way strokes go, as unit vectors (H, W, 2), and how near a star is, from 0 to 1 (H, W)."""
    x, y = grid(*size)
    wave = (noise(rng, size[::-1], 3.6) - 0.5) * 2.5
    flow = np.stack([np.cos(wave), np.sin(wave)], -1)
    glow = np.zeros_like(x)
    for _ in range(9):
        dx, dy = x - rng.uniform(0.03, 0.97) * size[0], y - rng.uniform(0.05, 0.95) * size[1]
        radius = np.hypot(dx, dy) + 1
        reach = rng.uniform(0.07, 0.19) * size[0]
        around = np.stack([-dy, dx], -1) / radius[..., None] * rng.choice([-1, 1])
        flow += around * (5 * np.exp(-((radius / reach / 1.3) ** 2)))[..., None]
        rings = 0.78 + 0.22 * np.cos(radius / reach * 11)
        glow = np.maximum(glow, np.exp(-((radius / reach * 1.15) ** 2)) * rings)
    return flow / np.linalg.norm(flow, axis=-1, keepdims=True), glow


def _follow(direction: Floats, starts: Floats, steps: int, stride: float) -> Floats:
    """Lines that follow a field of unit vectors (H, W, 2) from points (N, 2), as (N, steps, 2)."""
    limit = np.array(direction.shape[1::-1]) - 1
    points = [starts.clip(0, limit)]
    for _ in range(steps - 1):
        x, y = points[-1].astype(int).T
        points.append((points[-1] + direction[y, x] * stride).clip(0, limit))
    return np.stack(points, axis=1)


def dots(rng: Generator, size: tuple[int, int]) -> Floats:
    """A landscape in points of bright colour, with their neighbours and opposites on the colour wheel among them."""
    scene = image(landscape(rng, size, LIGHTS["noon"])).filter(ImageFilter.GaussianBlur(3))
    canvas = Image.new("RGB", size, "#e9d8b4")
    draw = ImageDraw.Draw(canvas)
    unit = max(size) / 960
    for radius, gap in ((11 * unit, 11 * unit), (7 * unit, 9 * unit)):
        places = np.stack(grid(int(size[0] / gap) + 2, int(size[1] / gap) + 2), -1).reshape(-1, 2)
        places = ((places + rng.normal(0, 0.3, places.shape)) * gap).clip(0, np.array(size) - 1)
        x, y = rng.permutation(places).T
        hsv = np.asarray(scene.convert("HSV"), np.float32)[y.astype(int), x.astype(int)]
        hsv[:, 0] = (hsv[:, 0] + rng.choice([0, 16, -20, 128], len(x), p=[0.5, 0.2, 0.2, 0.1])) % 256
        hsv[:, 1:] = (hsv[:, 1:] * (1.3, 1.05) + (55, 30) + rng.normal(0, 24, (len(x), 2))).clip(0, 255)
        colours = Image.fromarray(hsv.astype(np.uint8)[None], "HSV").convert("RGB")
        for px, py, r, n in zip(x, y, radius * rng.uniform(0.6, 1, len(x)), range(len(x)), strict=True):
            draw.ellipse([px - r, py - r, px + r, py + r], fill=colours.getpixel((n, 0)))
    return floats(canvas)


def glass(rng: Generator, size: tuple[int, int]) -> Floats:
    """Stained glass: rings of pieces about a sun, each lit from behind, between lines of lead."""
    width, height = size
    x, y = grid(width, height)
    bend = (noise(rng, (height, width), 6.0) - 0.5) * 0.14 * max(size)
    dx, dy = x + bend - width * rng.uniform(0.35, 0.65), y - bend - height * rng.uniform(0.4, 0.6)
    radius, turn = np.hypot(dx, dy) / (max(size) / 14), np.arctan2(dy, dx) / (2 * np.pi) + 0.5
    ring = radius.astype(int)
    pieces = np.array([1, 8, 8, 16, 16, 24, 24, 32])[ring.clip(0, 7)]
    along = turn * pieces + (ring % 2) / 2
    across = np.where(pieces > 1, np.abs(along - np.round(along)) * 2 * np.pi * radius / pieces, 1)
    edge = np.minimum(np.abs(radius - np.round(radius).clip(1)), across)
    choice = rng.integers(0, 4, (64, 64))[ring, along.astype(int) % pieces]
    colour = np.array([rgb(c) for c in GLASS])[(ring * 2 // 3 + choice) % len(GLASS)]
    streaks = noise(rng, (height, width), 2.6, stretch=0.4)
    light = 0.55 + 0.5 * ramp(edge, 0.02, 0.4) + 0.7 * (streaks - 0.5) + 0.35 * np.exp(-radius / 3)
    lead = ramp(edge, 0.075, 0.05)
    metal = rgb("#15141a") + 0.25 * (ramp(edge, 0.02, 0.0) * noise(rng, (height, width), 1.5))[..., None]
    return blend(colour * light[..., None], metal, lead)


def woodcut(rng: Generator, size: tuple[int, int]) -> Floats:
    """A landscape cut in wood: a few flat inks, and lines that swell where it is dark."""
    width, height = size
    scene = image(landscape(rng, size, LIGHTS["dawn"])).convert("L").filter(ImageFilter.GaussianBlur(3))
    tone = floats(ImageOps.equalize(scene))
    x, y = grid(width, height)
    flat = np.array([rgb(c) for c in INKS])[(tone * len(INKS)).astype(int).clip(0, len(INKS) - 1)]
    grain = noise(rng, (height, width), 1.8, stretch=14)
    warp = noise(rng, (height, width), 5.0) * 0.5 * height
    cut = np.zeros_like(tone)
    for phase, bright in ((y + warp, 0.75), ((x - y) * 0.7 + warp, 0.3)):
        wave = 0.5 + 0.5 * np.sin(phase / max(size) * (2 * np.pi * 64))
        cut = np.maximum(cut, ramp(0.75 * ramp(tone, bright, -0.1) - wave, -0.06, 0.06))
    ink = floats(scene)
    outline = ramp(np.hypot(np.gradient(ink, axis=0), np.gradient(ink, axis=1)), 0.02, 0.04)
    return blend(flat * (0.88 + 0.24 * grain[..., None]), rgb("#14171f"), np.maximum(cut, outline))


STYLES = {"swirls": swirls, "glass": glass, "woodcut": woodcut, "dots": dots}


def _pick(palette: Sequence[str], share: float) -> str:
    return palette[min(max(int(share * len(palette)), 0), len(palette) - 1)]


def _lit(colours: Image.Image, relief: Image.Image) -> Floats:
    """Paint as thick as ``relief`` (L) is bright, lit from the upper left."""
    thick = floats(relief.filter(ImageFilter.GaussianBlur(1.5)))
    slope = np.gradient(thick, axis=0) + np.gradient(thick, axis=1)
    return floats(colours) * (1 + 2.2 * slope[..., None])
