"""The network and its weights."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from medley.errors import UsageError, WeightsError
from medley.jobs import DEFAULT_WEIGHTS
from medley_workers.codebook import Codebooks, convolution_shapes, load_weights
from medley_workers.vgg import Network, Pooling, plain_float32
from medley_workers.weights import find_weights

Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def codebooks() -> Codebooks:
    return load_weights(find_weights(DEFAULT_WEIGHTS))


@pytest.fixture
def image() -> Tensor:
    return torch.randn((1, 3, 16, 18), generator=torch.Generator().manual_seed(0)) * 50


class Counted(Codebooks):
    """Codebooks that say what was asked of them."""

    def __init__(self, codebooks: Codebooks) -> None:
        self.codebooks = codebooks
        self.asked: list[str] = []

    def convolution(self, name: str) -> tuple[Tensor, Tensor]:
        self.asked.append(name)
        return self.codebooks.convolution(name)


def convolve(x: Floats, weight: Floats, bias: Floats) -> Floats:
    """A 3 x 3 convolution of (C, H, W), a pixel at a time."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    out = np.empty((len(weight), *x.shape[1:]))
    for row, column in np.ndindex(x.shape[1:]):
        out[:, row, column] = (weight * padded[:, row : row + 3, column : column + 3]).sum((1, 2, 3)) + bias
    return out


def test_layers_are_what_a_naive_network_makes(codebooks: Codebooks, image: Tensor) -> None:
    def convolution(name: str, x: Floats) -> Floats:
        weight, bias = codebooks.convolution(name)
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
    features = Network(codebooks, "cpu").features(image, tuple(expected))
    assert features.keys() == expected.keys()
    for layer, values in expected.items():
        np.testing.assert_allclose(features[layer][0].numpy(), values, rtol=1e-4, atol=1e-2)


def test_one_network_pools_as_each_pass_asks_it_to(codebooks: Codebooks, image: Tensor) -> None:
    network = Network(codebooks, "cpu")
    layers = ["block1_relu2", "block1_pool"]
    poolings: tuple[Pooling, ...] = ("avg", "max", "avg")
    for pooling in poolings:
        features = network.features(image, layers, pooling)
        before, pooled = (features[layer][0].numpy() for layer in layers)
        fours = before.reshape(64, 8, 2, 9, 2)
        expected = fours.mean(axis=(2, 4)) if pooling == "avg" else fours.max(axis=(2, 4))
        np.testing.assert_allclose(pooled, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_an_odd_row_is_dropped_by_pooling(pooling: Pooling, codebooks: Codebooks, image: Tensor) -> None:
    features = Network(codebooks, "cpu").features(image[..., :15, :], ["block1_pool"], pooling)
    assert features["block1_pool"].shape == (1, 64, 7, 9)


def test_only_the_convolutions_needed_are_expanded_and_each_once(codebooks: Codebooks, image: Tensor) -> None:
    counted = Counted(codebooks)
    network = Network(counted, "cpu")
    for _ in range(2):
        network.features(image, ["block2_conv1", "block1_relu1"])
    assert counted.asked == ["block1_conv1", "block1_conv2", "block2_conv1"]


def test_weights_take_no_gradient_and_pictures_do(codebooks: Codebooks, image: Tensor) -> None:
    features = Network(codebooks, "cpu").features(image.requires_grad_(), ["block2_conv1"])
    (gradient,) = torch.autograd.grad(features["block2_conv1"].square().sum(), image)
    assert gradient.abs().max() > 0
    assert not codebooks.convolution("block1_conv1")[0].requires_grad


def test_a_picture_too_small_for_a_layer_is_refused(codebooks: Codebooks, image: Tensor) -> None:
    network = Network(codebooks, "cpu")
    with pytest.raises(UsageError, match="18 x 15 px is too small"):
        network.features(image[..., :15, :], ["block5_relu1"])


def test_a_pass_is_in_plain_float32_and_leaves_torchs_settings_as_they_were() -> None:
    def settings() -> tuple[bool, bool]:
        return torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32

    before = settings()
    with plain_float32():
        assert settings() == (True, False)
    assert settings() == before


def weights() -> dict[str, Tensor]:
    """A small file of codebooks: real shapes, tables of two values, all indices zero."""
    tensors = {}
    for name, shape in convolution_shapes().items():
        # One byte seen at every place: the right shape without the bytes.
        tensors[f"{name}_W_q"] = torch.zeros((), dtype=torch.uint8).expand(shape)
        tensors[f"{name}_W_table"] = torch.tensor([0.5, 1.0])
        tensors[f"{name}_b"] = torch.zeros(shape[0])
    return tensors


def test_a_convolution_is_the_table_at_the_indices(tmp_path: Path) -> None:
    tensors = weights()
    indices = torch.arange(1728).reshape(64, 3, 3, 3) % 2
    tensors["block1_conv1_W_q"] = indices.to(torch.uint8)
    tensors["block1_conv1_b"] = torch.arange(64.0)
    torch.save(tensors, tmp_path / "weights")
    weight, bias = load_weights(tmp_path / "weights").convolution("block1_conv1")
    assert torch.equal(weight, 0.5 + 0.5 * indices)
    assert torch.equal(bias, torch.arange(64.0))


DAMAGES: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "a key is missing": (lambda w: w.pop("block5_conv4_b"), "does not hold the 16 convolutions"),
    "a key too many": (lambda w: w.update(block6_conv1_b=torch.zeros(1)), "does not hold the 16 convolutions"),
    "shape": (lambda w: w.update(block2_conv1_W_q=w["block2_conv1_W_q"].transpose(0, 1)), "indices .* block2_conv1"),
    "type of indices": (lambda w: w.update(block1_conv1_W_q=w["block1_conv1_W_q"].long()), "indices .* block1_conv1"),
    "type of table": (lambda w: w.update(block1_conv1_W_table=torch.zeros(2, dtype=torch.int32)), "table .*float32"),
    "a short table": (lambda w: w.update(block1_conv2_W_table=torch.zeros(0)), "table .* block1_conv2"),
    "a bias too long": (lambda w: w.update(block1_conv2_b=torch.zeros(65)), "bias .* block1_conv2"),
    "NaN": (lambda w: w["block3_conv1_W_table"].fill_(torch.nan), "not finite .* block3_conv1"),
    "no tensor": (lambda w: w.update(block1_conv2_b="text"), "bias .* block1_conv2"),  # type: ignore[call-overload]
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_and_its_fault_named(damage: str, tmp_path: Path) -> None:
    change, message = DAMAGES[damage]
    tensors = weights()
    change(tensors)
    torch.save(tensors, tmp_path / "weights")
    with pytest.raises(WeightsError, match=message):
        load_weights(tmp_path / "weights")


@pytest.mark.parametrize("length", [0, 1, 1000, -1])
def test_a_truncated_file_is_refused(length: int, tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "whole")
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:length])
    with pytest.raises(WeightsError, match="cut is not a file of weights"):
        load_weights(tmp_path / "cut")


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_code_in_a_file_is_not_run(save: Callable[[object, Path], object], tmp_path: Path) -> None:
    save({"block1_conv1_W_q": Bomb(tmp_path / "ran")}, tmp_path / "weights")
    with pytest.raises(WeightsError, match="not a file of weights"):
        load_weights(tmp_path / "weights")
    assert not (tmp_path / "ran").exists()
