"""What convolutions see, beside all their patches laid out."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import unfold

from medley_workers.compressing.leaves import dead_leaves
from medley_workers.compressing.moments import second_moments
from medley_workers.network.convolutions import Convolutions, convolution_shapes
from medley_workers.network.vgg import Network


@pytest.fixture(scope="module")
def network() -> Network:
    """The first three convolutions, with random weights."""
    generator = torch.Generator().manual_seed(3)
    shapes = list(convolution_shapes().items())[:3]
    return Network(
        Convolutions(
            {
                name: (torch.randn(shape, generator=generator) / (9 * shape[1]) ** 0.5, torch.zeros(shape[0]))
                for name, shape in shapes
            }
        ),
        "cpu",
    )


def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [torch.randn((1, 3, *size), generator=generator) * 40 for size in ((12, 10), (7, 16))]


@pytest.mark.parametrize(("layer", "before"), [("block1_conv2", "block1_relu1"), ("block2_conv1", "block1_pool")])
def test_moments_are_those_of_all_patches(layer: str, before: str, network: Network) -> None:
    expected = torch.zeros(9 * 64, 9 * 64)
    for image in images():
        x = network.features(image, [before])[before]
        patches = unfold(x, 3, padding=2)[0]  # (9 C, positions): all that touch the picture, zero beyond it
        product = patches @ patches.T
        expected += product / product.diagonal().mean()  # a picture counts as much as another
    found = second_moments(network, [layer], images(), lambda *_: None)[layer]
    torch.testing.assert_close(found, expected / expected.diagonal().mean(), rtol=1e-3, atol=1e-4)


def test_progress_is_told_a_picture_at_a_time(network: Network) -> None:
    heard: list[tuple[str, int, int]] = []
    second_moments(network, ["block1_conv2"], images(), lambda *what: heard.append(what))
    assert [(done, total) for _, done, total in heard] == [(0, 2), (1, 2)]


def test_leaves_are_a_picture_and_others_by_seed() -> None:
    pictures = [dead_leaves(seed, 64) for seed in (5, 5, 6)]
    assert pictures[0].shape == (64, 64, 3)
    assert pictures[0].dtype == np.uint8
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert (pictures[0] != pictures[2]).mean() > 0.5
    assert all(picture.std() > 10 for picture in pictures)
