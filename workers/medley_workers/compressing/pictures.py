"""The pictures that weights are calibrated on, and those held back to choose by."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from medley.errors import ImageError
from medley.media.images import open_picture
from medley.settings import Settings
from medley.sizes import rendered_size
from medley_workers.compressing.leaves import dead_leaves
from medley_workers.tensors import to_tensor

SIDE_PX = 256
"""Of the pictures' longer side. Larger ones tell about as much, for more time."""

LEAVES = 100
"""With more, the errors on other pictures did not fall further."""

_HELD_BACK_LEAVES = 8
_HELD_BACK_EVERY = 8


def pictures(paths: Sequence[Path], settings: Settings) -> tuple[list[Tensor], list[Tensor]]:
    """Pictures to measure on, and others held back to judge by, as the network takes them.

    The first are dead leaves, and each given picture twice, as a whole and a detail of it. Every 8th given picture, and
    a few leaves, are held back.

    Raises:
        ImageError: a picture cannot be read.
    """
    seen = [_tensor(Image.fromarray(dead_leaves(seed, SIDE_PX))) for seed in range(LEAVES)]
    held = [_tensor(Image.fromarray(dead_leaves(LEAVES + n, SIDE_PX))) for n in range(_HELD_BACK_LEAVES)]
    for n, path in enumerate(paths):
        picture = _open(path, settings)
        if n % _HELD_BACK_EVERY == _HELD_BACK_EVERY - 1:
            held.append(_tensor(picture))
        else:
            seen += [_tensor(picture), _tensor(_detail(picture, seed=n))]
    return seen, held


def _open(path: Path, settings: Settings) -> Image.Image:
    try:
        return open_picture(path.read_bytes(), settings, path.name)
    except OSError as error:
        raise ImageError(f"{path} cannot be read ({error.strerror}).") from error


def _tensor(picture: Image.Image) -> Tensor:
    return to_tensor(picture, rendered_size(*picture.size, longest=SIDE_PX))


def _detail(picture: Image.Image, seed: int) -> Image.Image:
    """A part of the picture, at its own resolution."""
    rng = np.random.default_rng(seed)
    width, height = (min(side, SIDE_PX) for side in picture.size)
    left, top = (
        int(rng.integers(0, whole - part + 1)) for whole, part in zip(picture.size, (width, height), strict=True)
    )
    return picture.crop((left, top, left + width, top + height))
