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
from medley.telling import shown
from medley_workers.compressing.leaves import dead_leaves
from medley_workers.numbers.tensors import to_tensor

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
    seen = [_tensor(Image.fromarray(dead_leaves(seed, SIDE_PX)), SIDE_PX) for seed in range(LEAVES)]
    held = [_tensor(Image.fromarray(dead_leaves(LEAVES + n, SIDE_PX)), SIDE_PX) for n in range(_HELD_BACK_LEAVES)]
    for n, path in enumerate(paths):
        picture = _open(path, settings)
        if n % _HELD_BACK_EVERY == _HELD_BACK_EVERY - 1:
            held.append(_tensor(picture, SIDE_PX))
        else:
            seen += [_tensor(each, SIDE_PX) for each in (picture, _detail(picture, seed=n))]
    return seen, held


def read_tensor(path: Path, longest_px: int, settings: Settings) -> Tensor:
    """A picture as the network takes it, (1, 3, H, W), whose longer side is ``longest_px``.

    Raises:
        ImageError: it cannot be read, or is over a limit of the settings.
        OutOfMemory: this machine has no room for the picture now.
    """
    return _tensor(_open(path, settings), longest_px)


def _open(path: Path, settings: Settings) -> Image.Image:
    try:
        return open_picture(path.read_bytes(), settings, path.name)
    except OSError as error:
        raise ImageError(
            f"{shown(str(path))} cannot be read ({error.strerror}); mend that, or name another."
        ) from error


def _tensor(picture: Image.Image, longest_px: int) -> Tensor:
    return to_tensor(picture, rendered_size(*picture.size, longest=longest_px))


def _detail(picture: Image.Image, seed: int) -> Image.Image:
    """A part of the picture, at its own resolution."""
    rng = np.random.default_rng(seed)
    width, height = (min(side, SIDE_PX) for side in picture.size)
    left, top = (
        int(rng.integers(0, whole - part + 1)) for whole, part in zip(picture.size, (width, height), strict=True)
    )
    return picture.crop((left, top, left + width, top + height))
