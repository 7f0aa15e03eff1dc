"""Pictures to tensors and back."""

import numpy as np
import pytest
import torch
from PIL import Image

from medley_workers.numbers.tensors import MEAN_BGR, Pixels, to_picture, to_tensor


def noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_pixel_becomes_blue_green_red_less_the_mean() -> None:
    picture = Image.new("RGB", (2, 1), (10, 20, 30))
    picture.putpixel((1, 0), (255, 0, 1))
    image = to_tensor(picture, (2, 1))
    assert image.dtype == torch.float32
    expected = np.array([[[30, 1]], [[20, 0]], [[10, 255]]]) - np.reshape(MEAN_BGR, (3, 1, 1))
    np.testing.assert_allclose(image.numpy()[0], expected, atol=1e-4)


def test_a_picture_comes_back_unchanged() -> None:
    pixels = noise(7, 5)
    np.testing.assert_array_equal(to_picture(to_tensor(Image.fromarray(pixels), (5, 7))), pixels)


def test_resizing_is_pillows_on_eight_bits() -> None:
    picture = Image.fromarray(noise(40, 30))
    small = to_picture(to_tensor(picture, (11, 13)))
    np.testing.assert_array_equal(small, np.asarray(picture.resize((11, 13), Image.Resampling.BILINEAR)))


@pytest.mark.parametrize(("grey", "shown"), [(-3.0, 0), (300.0, 255), (99.4, 99), (99.6, 100)])
def test_values_are_rounded_and_clamped(grey: float, shown: int) -> None:
    image = torch.full((1, 3, 2, 2), grey) - torch.tensor(MEAN_BGR).reshape(3, 1, 1)
    pixels = to_picture(image.requires_grad_())
    assert pixels.dtype == np.uint8
    assert (pixels == shown).all()
