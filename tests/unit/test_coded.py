"""Weights on a grid: what goes into a file comes out of it, exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import weight_files
from medley_workers.network.coded import LANES, CodedLayer, decode_layers, encode_layers, steps_of
from medley_workers.network.convolutions import convolution_shapes

LAYERS = weight_files.LAYERS
NAMES = weight_files.names()


@pytest.fixture(scope="module")
def layers() -> list[CodedLayer]:
    return weight_files.coded_layers()


@pytest.fixture(scope="module")
def first() -> Tensor:
    return torch.randn(convolution_shapes()[NAMES[0]], generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def biases() -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(convolution_shapes()[name][0], generator=generator) for name in NAMES]


def plain(layer: CodedLayer) -> CodedLayer:
    """The same integers, to be seen in the weights: steps are one, and a tap is its coefficient."""
    return replace(layer, step_logs=np.zeros_like(layer.step_logs), taps=np.eye(9, dtype=np.float16))


@pytest.mark.parametrize("contexts", [True, False])
def test_integers_come_back_exactly(
    contexts: bool, first: Tensor, biases: list[Tensor], layers: list[CodedLayer]
) -> None:
    assert min(layer.integers.min() for layer in layers) < -127
    arrays = encode_layers(first, biases, [plain(layer) for layer in layers], contexts=contexts)
    assert arrays["escape_at"].size > 0
    decoded = decode_layers(arrays, NAMES)
    assert list(decoded) == NAMES
    for name, layer in zip(NAMES[1:], layers, strict=True):
        assert (decoded[name][0].reshape(layer.integers.shape).numpy() == layer.integers).all()


def test_the_first_convolution_and_biases_come_back_in_half_precision(
    first: Tensor, biases: list[Tensor], layers: list[CodedLayer]
) -> None:
    decoded = decode_layers(encode_layers(first, biases, layers), NAMES)
    assert torch.equal(decoded[NAMES[0]][0], first.half().float())
    for name, bias in zip(NAMES, biases, strict=True):
        assert torch.equal(decoded[name][1], bias.half().float())


def test_weights_are_what_a_naive_sum_makes_of_integers_steps_and_taps(
    first: Tensor, biases: list[Tensor], layers: list[CodedLayer]
) -> None:
    decoded = decode_layers(encode_layers(first, biases, layers), NAMES)
    for name, layer in zip(NAMES[1:], layers, strict=True):
        weight = decoded[name][0]
        assert weight.dtype == torch.float32
        assert weight.shape == convolution_shapes()[name]
        scaled = layer.integers * 2.0 ** (layer.step_logs / 2.0)  # (out, 9 in)
        taps = layer.taps.astype(np.float64)
        for out, channel in [(0, 0), (3, 0), (5, 0), (11, 20), (-1, -1)]:
            kernel = taps @ scaled[out].reshape(-1, 9)[channel]
            np.testing.assert_allclose(
                weight[out, channel].reshape(9), kernel, rtol=1e-5, atol=1e-5 * abs(kernel).max()
            )


def test_two_steps_are_an_octave() -> None:
    steps = steps_of(np.array([-128, -2, 0, 1, 2, 127], np.int8))
    np.testing.assert_allclose(steps, [2.0**-64, 0.5, 1, 2**0.5, 2, 2**63.5], rtol=1e-6)


def test_contexts_save_bytes_where_columns_differ(
    first: Tensor, biases: list[Tensor], layers: list[CodedLayer]
) -> None:
    def size(contexts: bool) -> int:
        return sum(array.nbytes for array in encode_layers(first, biases, layers, contexts=contexts).values())

    assert size(contexts=True) < 0.9 * size(contexts=False)


@pytest.mark.parametrize("value", [0, 1, -127, 127, -128, 2**15 - 1, -(2**15 - 1)])
def test_layers_of_one_value_come_back(value: int, first: Tensor, biases: list[Tensor]) -> None:
    shapes = [convolution_shapes()[name] for name in NAMES[1:]]
    same = [
        CodedLayer(
            integers=np.full((out, 9 * inputs), value, np.int16),
            step_logs=np.zeros(9 * inputs, np.int8),
            taps=np.eye(9, dtype=np.float16),
        )
        for out, inputs, _, _ in shapes
    ]
    decoded = decode_layers(encode_layers(first, biases, same), NAMES)
    assert all((decoded[name][0] == value).all() for name in NAMES[1:])


def test_the_lanes_divide_every_convolution_but_the_first() -> None:
    assert all(np.prod(shape) % LANES == 0 for shape in list(convolution_shapes().values())[1:])
