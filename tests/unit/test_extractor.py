"""Features and their gradient by hand, beside the plain one that torch differentiates."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import get_args

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from medley.errors import UsageError
from medley.layers import CONTENT_LAYERS, LAYERS, STYLE_LAYERS
from medley.sizes import smallest_side
from medley_workers.network.vgg import Pooling
from medley_workers.numbers.arithmetic import Arithmetic, Convolution, choose, make
from medley_workers.numbers.extractor import Extractor
from studio import network

CPU = torch.device("cpu")
HERE = LAYERS[: LAYERS.index("block5_relu1") + 1]
"""What the default weights have."""

ASKED: dict[str, tuple[str, ...]] = {
    "the default": (*CONTENT_LAYERS, *STYLE_LAYERS),
    "before the ReLU": ("block1_conv1", "block1_conv2", "block3_conv4", "block4_conv1"),
    "behind the ReLU, before a pooling": ("block1_relu2", "block2_relu2"),
    "behind poolings": ("block1_pool", "block2_pool", "block3_pool"),
    "all of what could be one stage": ("block1_conv2", "block1_relu2", "block1_pool", "block2_relu1"),
    "both sides of a ReLU, the last not asked for": ("block2_conv2", "block3_conv1"),
    "the first convolution alone": ("block1_conv1",),
    "the first ReLU alone": ("block1_relu1",),
}

ROUNDED = ("bfloat16", "winograd_bfloat16")
OUTPUTS, GRADIENT = dict.fromkeys(ROUNDED, 0.02), dict.fromkeys(ROUNDED, 0.12)
"""How far they may be off, as a part of their length."""

EXACT = 1e-5
"""The same of those that compute in float32."""

TURNED = 0.1
"""How far a gradient is off at most where the rounding of one value decided which of four is the largest, or whether a
ReLU lets it through."""


@pytest.fixture(params=get_args(Arithmetic))
def arithmetic(request: pytest.FixtureRequest) -> Arithmetic:
    return usable(request.param)


def usable(arithmetic: Arithmetic) -> Arithmetic:
    try:
        return choose(CPU, arithmetic)
    except UsageError as error:
        pytest.skip(str(error))


def pictures(seed: int, number: int, height: int, width: int) -> Tensor:
    return torch.randn((number, 3, height, width), generator=torch.Generator().manual_seed(seed)) * 40


def plain(
    images: Tensor, layers: Sequence[str], pooling: Pooling
) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
    """The layers' outputs, the pictures' gradient of random multiples of them, and the multiples: each layer has a part
    in the gradient that is as long.
    """
    leaf = images.clone().requires_grad_()
    outputs = network().features(leaf, layers, pooling)
    multiples, total = {}, torch.zeros_like(images)
    for layer, output in outputs.items():
        multiple = torch.randn(output.shape, generator=torch.Generator().manual_seed(LAYERS.index(layer)))
        (part,) = torch.autograd.grad(output, leaf, multiple, retain_graph=True)
        length = part.norm().clamp(min=1e-9)
        multiples[layer] = multiple / length
        total += part / length
    return {layer: output.detach() for layer, output in outputs.items()}, total, multiples


def extractor_of(layers: Sequence[str], pooling: Pooling, arithmetic: Arithmetic) -> Extractor:
    return Extractor(layers, pooling, partial(convolution, arithmetic))


CONVOLUTIONS: dict[tuple[str, str], Convolution] = {}


def convolution(arithmetic: Arithmetic, layer: str) -> Convolution:
    key = arithmetic, layer
    if key not in CONVOLUTIONS:
        CONVOLUTIONS[key] = make(arithmetic, *network().convolution(layer))
    return CONVOLUTIONS[key]


def off(found: Tensor, expected: Tensor) -> float:
    """How far something is from what was expected, as a part of that one's length."""
    assert found.shape == expected.shape
    length = float(expected.double().norm())
    return float((found.double() - expected.double()).norm()) / length if length else float(found.double().norm())


def assert_equal_to_the_plain_network(
    draw: Callable[[int], Tensor], layers: Sequence[str], pooling: Pooling, arithmetic: Arithmetic
) -> None:
    """``draw`` gives pictures by a seed. Of three, one at least has no value that rounding turns to the other side."""
    far = []
    for seed in count():
        images = draw(seed)
        outputs, gradient, multiples = plain(images, layers, pooling)
        extractor = extractor_of(layers, pooling, arithmetic)
        found = extractor.forward(images)
        assert set(found) == set(layers)
        for layer in layers:
            where = f"{layer} of {layers}, {pooling}, {arithmetic}, seed {seed}, {tuple(images.shape)}"
            assert off(found[layer], outputs[layer]) <= OUTPUTS.get(arithmetic, EXACT), where
        back = extractor.backward({layer: multiple.to(found[layer].dtype) for layer, multiple in multiples.items()})
        assert back.dtype == torch.float32
        assert back.is_contiguous()
        far += [off(one, other) for one, other in zip(back, gradient, strict=True)]
        if len(far) >= 3:
            break
    told = f"{layers}, {pooling}, {arithmetic}, {tuple(images.shape)}: {far}"
    assert min(far) <= GRADIENT.get(arithmetic, EXACT), told
    assert max(far) <= GRADIENT.get(arithmetic, TURNED), told


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("asked", ASKED)
def test_outputs_and_gradient_are_the_plain_networks(asked: str, pooling: Pooling, arithmetic: Arithmetic) -> None:
    """Of three pictures with odd sides, of which the poolings drop a row and a column."""
    assert_equal_to_the_plain_network(lambda seed: pictures(seed, 3, 27, 35), ASKED[asked], pooling, arithmetic)


def test_one_picture_is_as_good_as_three(arithmetic: Arithmetic) -> None:
    assert_equal_to_the_plain_network(lambda seed: pictures(seed, 1, 48, 32), ASKED["the default"], "max", arithmetic)


@st.composite
def requests(draw: st.DrawFn) -> tuple[list[str], tuple[int, int, int]]:
    layers = draw(st.lists(st.sampled_from(HERE), min_size=1, max_size=5, unique=True))
    least = smallest_side(layers)
    return layers, (draw(st.sampled_from([1, 3])), draw(st.integers(least, 40)), draw(st.integers(least, 40)))


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(
    request=requests(),
    pooling=st.sampled_from(["max", "avg"]),
    arithmetic=st.sampled_from(["winograd", "channels_last", "float32"]),
)
@example(request=(["block2_relu2", "block2_conv2"], (1, 2, 40)), pooling="avg", arithmetic="channels_last")
@example(request=(["block1_pool"], (3, 3, 3)), pooling="max", arithmetic="float32")
@example(request=(["block5_relu1"], (1, 16, 31)), pooling="max", arithmetic="winograd")
def test_whatever_layers_are_asked_for_they_are_the_plain_networks(
    request: tuple[list[str], tuple[int, int, int]], pooling: Pooling, arithmetic: Arithmetic
) -> None:
    layers, shape = request
    try:
        choose(CPU, arithmetic)
    except UsageError:
        arithmetic = "float32"
    assert_equal_to_the_plain_network(lambda seed: pictures(seed, *shape), layers, pooling, arithmetic)


def test_layers_without_a_gradient_of_their_own_add_nothing(arithmetic: Arithmetic) -> None:
    """The deepest must have one, and the others need not."""
    images = pictures(0, 3, 16, 20)
    few, many = ("block3_relu1",), ("block1_relu1", "block2_conv1", "block3_relu1")
    _, gradient, multiples = plain(images, few, "max")
    extractor = extractor_of(many, "max", arithmetic)
    extractor.forward(images)
    far = [off(*pair) for pair in zip(extractor.backward(multiples), gradient, strict=True)]
    assert min(far) <= GRADIENT.get(arithmetic, EXACT), far


def test_what_was_given_and_what_was_told_stays_as_it_was(arithmetic: Arithmetic) -> None:
    """Callers go on with the pictures, the features and their gradients."""
    images = pictures(0, 1, 19, 22)
    extractor = extractor_of(ASKED["all of what could be one stage"], "max", arithmetic)
    outputs = extractor.forward(images)
    gradients = {layer: torch.ones_like(output) for layer, output in outputs.items()}
    before: list[Mapping[str, Tensor]] = [
        {name: tensor.clone() for name, tensor in tensors.items()}
        for tensors in ({"images": images}, outputs, gradients)
    ]
    extractor.backward(gradients)
    for was, now in zip(before, ({"images": images}, outputs, gradients), strict=True):
        assert all(torch.equal(was[name], now[name]) for name in was)


def test_a_look_without_a_gradient_sees_the_same(arithmetic: Arithmetic) -> None:
    """In less memory."""
    images = pictures(0, 2, 19, 22)
    extractor = extractor_of(ASKED["the default"][:3], "max", arithmetic)
    kept = extractor.forward(images)
    seen = extractor.forward(images, keep=False)
    assert set(seen) == set(kept)
    assert all(torch.equal(seen[layer], kept[layer]) for layer in kept)


def test_no_deeper_convolution_is_needed_than_the_layers_have() -> None:
    asked: list[str] = []

    def noted(layer: str) -> Convolution:
        asked.append(layer)
        return convolution("float32", layer)

    Extractor(["block2_conv1", "block1_relu1"], "max", noted)
    assert asked == ["block1_conv1", "block1_conv2", "block2_conv1"]
