"""The network: what its layers make of a picture."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from medley.errors import UsageError
from medley.records.weights import DEFAULT_WEIGHTS
from medley_workers.network.convolutions import NetworkWeights
from medley_workers.network.loading import load_weights
from medley_workers.network.vgg import Network, Pooling, plain_float32
from medley_workers.network.weights import find_weights

Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def weights() -> NetworkWeights:
    return load_weights(find_weights(DEFAULT_WEIGHTS))


@pytest.fixture
def image() -> Tensor:
    return torch.randn((1, 3, 16, 18), generator=torch.Generator().manual_seed(0)) * 50


class Counted:
    """Weights that say what was asked of them."""

    def __init__(self, weights: NetworkWeights) -> None:
        self.weights = weights
        self.layers = weights.layers
        self.asked: list[str] = []

    def convolution(self, name: str) -> tuple[Tensor, Tensor]:
        self.asked.append(name)
        return self.weights.convolution(name)


def convolve(x: Floats, weight: Floats, bias: Floats) -> Floats:
    """A 3 x 3 convolution of (C, H, W), a pixel at a time."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    out = np.empty((len(weight), *x.shape[1:]))
    for row, column in np.ndindex(x.shape[1:]):
        out[:, row, column] = (weight * padded[:, row : row + 3, column : column + 3]).sum((1, 2, 3)) + bias
    return out


def test_layers_are_what_a_naive_network_makes(weights: NetworkWeights, image: Tensor) -> None:
    def convolution(name: str, x: Floats) -> Floats:
        weight, bias = weights.convolution(name)
        return convolve(x, weight.double().numpy(), bias.double().numpy())

    conv1 = convolution("block1_conv1", image[0].double().numpy())
    conv2 = convolution("block1_conv2", np.maximum(conv1, 0))
    relu2 = np.maximum(conv2, 0)
    pool = relu2.reshape(64, 8, 2, 9, 2).max(axis=(2, 4))
    expected = {
        "block1_conv1": conv1,
        "block1_conv2": conv2,
        "block1_relu2": relu2,
        "block1_pool": pool,
        "block2_conv1": convolution("block2_conv1", pool),
    }
    features = Network(weights, "cpu").features(image, tuple(expected))
    assert features.keys() == expected.keys()
    for layer, values in expected.items():
        np.testing.assert_allclose(features[layer][0].numpy(), values, rtol=1e-4, atol=1e-2)


def test_one_network_pools_as_each_pass_asks_it_to(weights: NetworkWeights, image: Tensor) -> None:
    network = Network(weights, "cpu")
    layers = ["block1_relu2", "block1_pool"]
    poolings: tuple[Pooling, ...] = ("avg", "max", "avg")
    for pooling in poolings:
        features = network.features(image, layers, pooling)
        before, pooled = (features[layer][0].numpy() for layer in layers)
        fours = before.reshape(64, 8, 2, 9, 2)
        expected = fours.mean(axis=(2, 4)) if pooling == "avg" else fours.max(axis=(2, 4))
        np.testing.assert_allclose(pooled, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_an_odd_row_is_dropped_by_pooling(pooling: Pooling, weights: NetworkWeights, image: Tensor) -> None:
    features = Network(weights, "cpu").features(image[..., :15, :], ["block1_pool"], pooling)
    assert features["block1_pool"].shape == (1, 64, 7, 9)


def test_only_the_convolutions_needed_are_expanded_and_each_once(weights: NetworkWeights, image: Tensor) -> None:
    counted = Counted(weights)
    network = Network(counted, "cpu")
    for _ in range(2):
        network.features(image, ["block2_conv1", "block1_relu1"])
    assert counted.asked == ["block1_conv1", "block1_conv2", "block2_conv1"]


def test_weights_take_no_gradient_and_pictures_do(weights: NetworkWeights, image: Tensor) -> None:
    features = Network(weights, "cpu").features(image.requires_grad_(), ["block2_conv1"])
    (gradient,) = torch.autograd.grad(features["block2_conv1"].square().sum(), image)
    assert gradient.abs().max() > 0
    assert not weights.convolution("block1_conv1")[0].requires_grad


def test_a_picture_too_small_for_a_layer_is_refused(weights: NetworkWeights, image: Tensor) -> None:
    network = Network(weights, "cpu")
    with pytest.raises(UsageError, match="18 x 15 px is too small"):
        network.features(image[..., :15, :], ["block5_relu1"])


def test_a_pass_is_in_plain_float32_and_leaves_torchs_settings_as_they_were() -> None:
    def settings() -> tuple[bool, bool]:
        return torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32

    before = settings()
    with plain_float32():
        assert settings() == (True, False)
    assert settings() == before
