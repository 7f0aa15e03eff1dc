"""What the fast path minimises, beside the plain loss that torch differentiates, and beside naive float64."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from medley.layers import convolutions
from medley.records.options import StyleTransferOptions
from medley_workers.network.convolutions import Convolutions
from medley_workers.network.vgg import Network
from medley_workers.numbers.arithmetic import Convolution, make
from medley_workers.numbers.extractor import Extractor
from medley_workers.numbers.losses import Losses, Objective, gram
from medley_workers.numbers.surrogate import Evaluation, Surrogate, grams
from medley_workers.numbers.targets import StyleTarget, Targets
from studio import network

THREE = ("block1_relu1", "block2_relu1", "block3_relu1")
SIZE = (24, 31)
BLEND = ((0.7, 2.0), (1.0, 0.0), (0.0, 0.3))
"""Weights of two styles, by picture."""

CASES: dict[str, dict[str, Any]] = {
    "the default weights": {},
    "weights of layers": {"style_layer_weights": (0.5, 0.002), "content_layer_weights": (0.3,)},
    "content and smoothness count": {"content_weight": 300.0, "tv_weight": 40_000.0},
    "average pooling": {"pooling": "avg"},
    "without content": {"content_layers": ()},
    "without style": {"style_layers": (), "tv_weight": 7.0},
    "a layer of both kinds": {"content_layers": ("block2_relu1", "block3_conv2"), "content_weight": 50.0},
    "layers in any order": {"style_layers": THREE[::-1], "style_layer_weights": (1.0, 0.1, 0.003)},
}


def options(**changes: Any) -> StyleTransferOptions:
    return StyleTransferOptions.model_validate({"content_layers": ("block3_relu1",), "style_layers": THREE, **changes})


def picture(seed: int, height: int = SIZE[0], width: int = SIZE[1]) -> Tensor:
    return torch.randn((1, 3, height, width), generator=torch.Generator().manual_seed(seed)) * 40


CONTENTS = [picture(seed) for seed in range(3)]
IMAGES = torch.cat([picture(seed) for seed in range(10, 13)])
STYLES = [[picture(20 + seed, 27, 22), picture(30 + seed, 18, 40)] for seed in range(3)]


@cache
def convolution(layer: str) -> Convolution:
    return make("float32", *network().convolution(layer))


def extractor_of(asked: StyleTransferOptions) -> Extractor:
    return Extractor({*asked.content_layers, *asked.style_layers}, asked.pooling, convolution)


def targets_of(asked: StyleTransferOptions, numbers: Sequence[int]) -> Targets:
    extractor = extractor_of(asked)
    contents = extractor.forward(torch.cat([CONTENTS[n] for n in numbers]))

    def target(number: int, layer: str) -> StyleTarget:
        seen = [grams(extractor.forward(style)[layer])[0] for style in STYLES[number]]
        return StyleTarget.blended(seen, BLEND[number])

    styles = {layer: StyleTarget.joined([target(n, layer) for n in numbers]) for layer in asked.style_layers}
    return Targets({layer: contents[layer] for layer in asked.content_layers}, styles)


def surrogate_of(asked: StyleTransferOptions, numbers: Sequence[int] = (0, 1, 2)) -> Surrogate:
    return Surrogate(extractor_of(asked), asked, targets_of(asked, numbers))


def plain(asked: StyleTransferOptions, number: int) -> tuple[Losses, Tensor]:
    """The losses of a picture and its gradient, by torch."""
    objective = Objective(network(), CONTENTS[number], STYLES[number], BLEND[number], asked)
    leaf = IMAGES[number : number + 1].clone().requires_grad_()
    losses = objective(leaf)
    (gradient,) = torch.autograd.grad(losses.total, leaf)
    return losses.detach(), gradient


def off(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def assert_losses(found: Losses, number: int, expected: Losses) -> None:
    for name in Losses._fields:
        value, naive = float(getattr(found, name)[number]), float(getattr(expected, name))
        assert value == pytest.approx(naive, rel=1e-5, abs=1e-9), f"{name} of picture {number}"


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradient_are_the_plain_ones(case: str) -> None:
    asked = options(**CASES[case])
    found = surrogate_of(asked)(IMAGES)
    assert set(found.by_layer) == set(asked.style_layers)
    assert torch.allclose(sum(found.by_layer.values(), torch.zeros(3)), found.losses.style)
    for number in range(3):
        losses, gradient = plain(asked, number)
        assert_losses(found.losses, number, losses)
        assert off(found.slope()[number : number + 1], gradient) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_three_pictures_are_as_good_as_each_alone(case: str) -> None:
    asked = options(**CASES[case])
    together = surrogate_of(asked)
    deep = [layer for layer in asked.style_layers if layer == "block3_relu1"]
    together.count_content(3.0)
    together.whiten(deep, 0.01, IMAGES)
    found = together(IMAGES)
    for number in range(3):
        alone = surrogate_of(asked, [number])
        alone.count_content(3.0)
        alone.whiten(deep, 0.01, IMAGES[number : number + 1])
        expected = alone(IMAGES[number : number + 1])
        assert_losses(found.losses, number, Losses(*(loss[0] for loss in expected.losses)))
        assert off(found.slope()[number : number + 1], expected.slope()) < 1e-4


def test_without_a_gradient_the_losses_are_the_same() -> None:
    surrogate = surrogate_of(options())
    found = surrogate(IMAGES, gradient=False)
    assert torch.equal(found.losses.total, surrogate(IMAGES).losses.total)
    with pytest.raises(ValueError, match="not asked for"):
        found.slope()


def test_one_picture_is_compared_with_what_each_is_to_come_to() -> None:
    asked = options()
    found = surrogate_of(asked)(IMAGES[:1], gradient=False)
    for number in range(3):
        objective = Objective(network(), CONTENTS[number], STYLES[number], BLEND[number], asked)
        assert float(found.losses.total[number]) == pytest.approx(float(objective(IMAGES[:1]).total), rel=1e-5)


def test_layers_that_the_chain_lacks_do_not_count_and_the_others_keep_their_weights() -> None:
    weights = (1.0, 0.1, 0.003)
    all_layers = options(style_layer_weights=weights, content_layers=("block2_relu1",))
    few = options(style_layers=THREE[:2], style_layer_weights=weights[:2], content_layers=("block2_relu1",))
    without = Surrogate(extractor_of(few), all_layers, targets_of(all_layers, (0, 1, 2)))(IMAGES)
    expected = surrogate_of(few)(IMAGES)
    assert torch.equal(without.losses.total, expected.losses.total)
    assert torch.equal(without.slope(), expected.slope())


def test_content_that_counts_more_pulls_more_and_is_told_as_it_is() -> None:
    asked = options(content_weight=300.0)
    surrogate = surrogate_of(asked)
    before = surrogate(IMAGES)
    without = surrogate_of(options(content_weight=0.0))(IMAGES).slope()
    surrogate.count_content(10.0)
    counted = surrogate(IMAGES)
    assert all(torch.equal(*pair) for pair in zip(before.losses, counted.losses, strict=True))
    assert off(counted.slope(), without + 10 * (before.slope() - without)) < 1e-5
    assert off(counted.slope(), before.slope()) > 0.1, "or nothing was compared"


@cache
def exact_network() -> Network:
    pairs = {name: network().convolution(name) for name in convolutions(*THREE)}
    return Network(Convolutions({name: (w.double(), b.double()) for name, (w, b) in pairs.items()}), "cpu")


def naive_whitened(number: int, layers: Sequence[str], floor: float, image: Tensor) -> Tensor:
    """The gradient of the sum of tr(d P d P), with P = (A / l + floor)^-1, in float64 by torch: but for its length."""
    leaf = image.double().requires_grad_()
    found = grams_of(leaf)
    styles = [grams_of(style.double()) for style in STYLES[number]]
    total = torch.zeros((), dtype=torch.float64)
    share = sum(BLEND[number])
    for layer in THREE:
        mean = sum((w / share * style[layer] for w, style in zip(BLEND[number], styles, strict=True)), 0 * found[layer])
        difference = found[layer] - mean.detach()
        channels = len(mean)
        if layer in layers:
            values, axes = torch.linalg.eigh(mean.detach())
            inverse = (axes / (values / values.max() + floor)) @ axes.T
            term = torch.trace(difference @ inverse @ difference @ inverse)
        else:
            term = difference.square().sum()
        total = total + share * 10 / channels**2 * term / channels**2
    (gradient,) = torch.autograd.grad(total, leaf)
    return gradient


def grams_of(image: Tensor) -> Mapping[str, Tensor]:
    return {layer: gram(x) for layer, x in exact_network().features(image, THREE).items()}


@pytest.mark.parametrize("floor", [0.01, 0.04, 1.0])
def test_whitened_grams_are_compared_as_the_naive_formula_says(floor: float) -> None:
    """And the gradient is as long as it was where they are whitened first."""
    surrogate = surrogate_of(options(content_layers=()))
    before = surrogate(IMAGES)
    surrogate.whiten(THREE, floor, IMAGES)
    found = surrogate(IMAGES)
    assert torch.equal(found.losses.total, before.losses.total), "what is told are the plain losses"
    for number in range(3):
        naive = naive_whitened(number, THREE, floor, IMAGES[number : number + 1])
        gradient, plain_length = found.slope()[number : number + 1].double(), before.slope()[number].double().norm()
        assert off(gradient / gradient.norm(), naive / naive.norm()) < 1e-3
        assert float(gradient.norm()) == pytest.approx(float(plain_length), rel=1e-4)


def test_a_whitened_gradient_is_the_slope_elsewhere_too() -> None:
    """The length is that of the start, whose scale stays."""
    surrogate = surrogate_of(options(content_layers=()))
    start = torch.cat([picture(seed) * 0.5 for seed in range(40, 43)])
    surrogate.whiten(THREE, 0.01, start)
    plain = surrogate_of(options(content_layers=()))(start).slope()
    for number in range(3):
        at_start = naive_whitened(number, THREE, 0.01, start[number : number + 1])
        scale = plain[number].double().norm() / at_start.norm()
        naive = naive_whitened(number, THREE, 0.01, IMAGES[number : number + 1])
        assert off(surrogate(IMAGES).slope()[number : number + 1].double(), scale * naive) < 1e-3


def ended(evaluation: Evaluation) -> list[bool]:
    return torch.isfinite(evaluation.slope()).flatten(1).all(dim=1).tolist()


def test_a_picture_that_has_nothing_left_to_gain_keeps_its_zero_gradient() -> None:
    """A content in its own style: all that is compared is equal from the start."""
    asked = options()
    extractor = extractor_of(asked)
    features = extractor.forward(CONTENTS[0])
    styles = {layer: StyleTarget.blended([grams(features[layer])[0]], [1.0]) for layer in THREE}
    surrogate = Surrogate(extractor, asked, Targets({"block3_relu1": features["block3_relu1"]}, styles))
    surrogate.whiten(["block3_relu1"], 0.01, CONTENTS[0])
    found = surrogate(CONTENTS[0])
    assert float(found.losses.total) == 0
    assert not found.slope().any(), "it is not NaN"


def test_a_style_without_any_features_can_be_whitened() -> None:
    asked = options(content_layers=())
    targets = targets_of(asked, (0, 1, 2))
    for target in targets.styles.values():
        target.gram[0] = 0
    surrogate = Surrogate(extractor_of(asked), asked, targets)
    surrogate.whiten(THREE, 0.01, IMAGES)
    assert ended(surrogate(IMAGES)) == [True] * 3


def test_several_styles_are_one_target_and_a_constant() -> None:
    generator = torch.Generator().manual_seed(0)
    styles = [torch.randn((6, 6), generator=generator) for _ in range(3)]
    x = torch.randn((1, 6, 6), generator=generator)
    for weights in ([1.0, 2.0, 0.5], [0.0, 3.0, 0.0], [0.0, 0.0, 0.0]):
        target = StyleTarget.blended(styles, weights)
        naive = sum(w * float((x[0] - style).square().sum()) for w, style in zip(weights, styles, strict=True))
        assert float(target.distance(x - target.gram)) == pytest.approx(naive, rel=1e-5)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(3, 8, 5, 7), (1, 8, 1, 1), (2, 8, 1, 6)])
def test_grams_are_sums_of_products_whatever_the_memory_format(
    shape: tuple[int, int, int, int], memory_format: torch.memory_format
) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = grams(x.to(memory_format=memory_format))
    for number in range(shape[0]):
        assert torch.allclose(found[number], gram(x[number : number + 1]), atol=1e-6)


@pytest.mark.parametrize("arithmetic", ["channels_last", "float32"])
def test_a_layer_of_one_pixel_has_a_gradient(arithmetic: Any) -> None:
    """Its memory is of both formats at once."""
    asked = options(style_layers=("block3_relu1",), content_layers=("block2_relu1",))
    layers = {*asked.content_layers, *asked.style_layers}
    extractor = Extractor(layers, "max", lambda layer: make(arithmetic, *network().convolution(layer)))
    image, style = picture(0, 4, 4), picture(1, 4, 5)
    features = extractor.forward(picture(2, 4, 4))
    target = StyleTarget.blended([grams(extractor.forward(style)["block3_relu1"])[0]], [1.0])
    content = {"block2_relu1": features["block2_relu1"].float()}
    found = Surrogate(extractor, asked, Targets(content, {"block3_relu1": target}))(image)
    leaf = image.clone().requires_grad_()
    losses = Objective(network(), picture(2, 4, 4), [style], [1.0], asked)(leaf)
    (gradient,) = torch.autograd.grad(losses.total, leaf)
    assert off(found.slope(), gradient) < 1e-4
    assert float(found.losses.total) == pytest.approx(float(losses.total.detach()), rel=1e-5)
