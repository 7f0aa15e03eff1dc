"""A small dataset painted by medley itself, so that a newcomer needs no download: landscapes, and styles for them."""

from pathlib import Path

import numpy as np
from PIL import Image

from medley.errors import UsageError
from medley.files import whole_file
from medley.media.images import encode_jpeg
from medley.telling import Told, quiet
from medley_producer.samples.brushwork import STYLES
from medley_producer.samples.landscapes import LIGHTS, landscape
from medley_producer.samples.pigments import image

FINER = 2
"""Pictures are painted this many times larger on a side and then reduced, which smooths edges."""

CALIBRATION_SEEDS = range(1, 7)
"""Of the samples that weights are calibrated on; those of other seeds may judge them."""


def paint_samples(
    folder: Path,
    contents: int = 4,
    styles: int = 3,
    *,
    size: tuple[int, int] = (480, 360),
    seed: int = 1,
    told: Told = quiet,
) -> list[Path]:
    """Paint ``folder/contents/*.jpg`` and ``folder/styles/*.jpg``, and say where they are, contents first.

    Files that are there already are kept, whatever they show; so a second call paints what is missing. The same
    arguments give the same bytes on one machine. ``size`` is width and height in px, from 32 to 2048; ``seed`` is not
    negative; ``told`` hears of each file once it is there.

    Raises:
        UsageError: a number is out of range, or the folder cannot be written.
    """
    if min(contents, styles, seed) < 0 or not 32 <= min(size) <= max(size) <= 2048:
        raise UsageError("Samples need sides of 32 to 2048 pixels, and counts and a seed that are not negative.")
    paths = []
    for kind, wanted in (("contents", contents), ("styles", styles)):
        for n in range(wanted):
            path = folder / kind / f"{_name(kind, n)}.jpg"
            try:
                if not path.exists():
                    data = _paint(kind, n, size, seed)
                    with whole_file(path) as file:
                        file.write(data)
            except OSError as error:
                raise UsageError(f"{path} cannot be written ({error.strerror}); choose another folder.") from error
            paths.append(path)
            told("painting samples", len(paths), contents + styles)
    return paths


def calibration_pictures(folder: Path, told: Told = quiet) -> list[Path]:
    """Paint the samples that weights are calibrated on: 4 contents and 3 styles of each seed, in ``folder/<seed>``.

    Raises:
        UsageError: the folder cannot be written.
    """
    contents, styles = 4, 3
    painted: list[Path] = []
    for seed in CALIBRATION_SEEDS:
        told("painting samples", len(painted), len(CALIBRATION_SEEDS) * (contents + styles))
        painted += paint_samples(folder / str(seed), contents, styles, seed=seed)
    return painted


def _name(kind: str, n: int) -> str:
    """The first ones are called after what they show, the next ones numbered too."""
    names = list(LIGHTS if kind == "contents" else STYLES)
    again, which = divmod(n, len(names))
    return f"{names[which]}-{again + 1}" if again else names[which]


def _paint(kind: str, n: int, size: tuple[int, int], seed: int) -> bytes:
    """The ``n``-th picture of a kind as a JPEG; it has a seed of its own, so others do not change it."""
    rng = np.random.default_rng([seed, kind == "styles", n])
    width, height = size[0] * FINER, size[1] * FINER
    if kind == "contents":
        colours = landscape(rng, (width, height), list(LIGHTS.values())[n % len(LIGHTS)])
    else:
        colours = list(STYLES.values())[n % len(STYLES)](rng, (width, height))
    picture = image(colours).resize(size, Image.Resampling.LANCZOS)
    return encode_jpeg(np.asarray(picture), quality=93)
