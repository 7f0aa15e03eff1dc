"""How coarse each convolution may be, on a network thin enough to try them all."""

import math

import pytest
import torch

from medley.layers import LAYERS, convolutions
from medley_workers.compressing.allotment import allot
from medley_workers.compressing.grid import Rounding
from medley_workers.compressing.likeness import Judge
from medley_workers.network.convolutions import Convolutions, convolution_shapes
from medley_workers.network.vgg import Network

WIDTH = 32
"""Channels of every layer; the real ones have 64 to 512."""


@pytest.fixture(scope="module")
def weights() -> Convolutions:
    """All sixteen convolutions, thin ones, with random weights."""
    generator = torch.Generator().manual_seed(5)
    made, channels = {}, 3
    for name in convolution_shapes():
        weight = torch.randn((WIDTH, channels, 3, 3), generator=generator) * (2 / (9 * channels)) ** 0.5
        made[name] = weight, torch.zeros(WIDTH)
        channels = WIDTH
    return Convolutions(made)


def judge_of(weights: Convolutions) -> Judge:
    generator = torch.Generator().manual_seed(6)
    return Judge(Network(weights, "cpu"), [torch.randn((1, 3, 48, 48), generator=generator) * 50 for _ in range(2)])


def test_layers_that_nothing_compared_sees_are_rounded_as_the_last_seen_one(weights: Convolutions) -> None:
    roundings = {name: Rounding(weights.convolution(name)[0], None) for name in weights.layers[1:]}
    heard: list[int] = []
    found = allot(weights, roundings, judge_of(weights), lambda _, done, __: heard.append(done))
    assert heard == list(range(15))
    unseen = set(convolutions(LAYERS[-1])) - set(convolutions("block5_relu1"))
    assert {found[name] for name in unseen} == {found["block5_conv1"]}
    assert all(0.02 < coarseness < 50 for coarseness in found.values())
    sizes = {name: weights.convolution(name)[0].numel() for name in found}
    assert sum(sizes[name] * math.log(found[name]) for name in found) == pytest.approx(
        0, abs=1e-6 * sum(sizes.values())
    )


def test_the_exact_network_has_no_error_and_rounding_has_some(weights: Convolutions) -> None:
    judge = judge_of(weights)
    assert judge.worst_gram(Network(weights, "cpu")) == 0
    rounded = Convolutions(
        {
            name: (Rounding(weight, None).at(0.3).weight(), bias)
            for name, (weight, bias) in ((name, weights.convolution(name)) for name in weights.layers)
        }
    )
    assert 0.001 < judge.worst_gram(Network(rounded, "cpu")) < 1
