"""The loss, beside a naive one and beside its own slope."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from medley.errors import UsageError
from medley.records.options import StyleTransferOptions
from medley.records.weights import DEFAULT_WEIGHTS
from medley_workers.network.convolutions import Convolutions, NetworkWeights
from medley_workers.network.loading import load_weights
from medley_workers.network.vgg import Network
from medley_workers.network.weights import find_weights
from medley_workers.numbers.losses import Losses, Objective

Floats = npt.NDArray[np.float64]
SMALL = StyleTransferOptions(content_layers=("block2_relu1",), style_layers=("block1_relu1", "block2_relu2"))


@pytest.fixture(scope="module")
def weights() -> NetworkWeights:
    return load_weights(find_weights(DEFAULT_WEIGHTS))


@pytest.fixture(scope="module")
def network(weights: NetworkWeights) -> Network:
    return Network(weights, "cpu")


def picture(seed: int, height: int, width: int) -> Tensor:
    return torch.randn((1, 3, height, width), generator=torch.Generator().manual_seed(seed)) * 40


@dataclass
class Scene:
    """A painting under way: what is painted, after what."""

    content: Tensor
    styles: list[Tensor]
    weights: list[float]
    image: Tensor


@pytest.fixture
def scene() -> Scene:
    return Scene(picture(0, 9, 7), [picture(1, 6, 8), picture(2, 10, 5)], [0.7, 2.0], picture(3, 9, 7))


def losses(network: Network, scene: Scene, options: StyleTransferOptions) -> Losses:
    return Objective(network, scene.content, scene.styles, scene.weights, options)(scene.image)


def naive_gram(x: Floats) -> Floats:
    channels, height, width = x.shape
    result = np.zeros((channels, channels))
    for row, column in np.ndindex(height, width):
        result += np.outer(x[:, row, column], x[:, row, column]) / (height * width)
    return result


def naive_mse(a: Floats, b: Floats) -> float:
    return sum((float(x) - float(y)) ** 2 for x, y in zip(a.flat, b.flat, strict=True)) / a.size


def features(network: Network, image: Tensor, layer: str) -> Floats:
    array: Floats = network.features(image, [layer])[layer][0].double().numpy()
    return array


def test_the_terms_are_those_of_a_naive_sum(network: Network, scene: Scene) -> None:
    found = losses(network, scene, SMALL.model_copy(update={"content_weight": 3.0, "tv_weight": 0.25}))

    content = naive_mse(*(features(network, x, "block2_relu1") for x in (scene.image, scene.content)))
    assert float(found.content) == pytest.approx(3.0 * 0.01 * content, rel=1e-5)

    style = 0.0
    for layer, channels in (("block1_relu1", 64), ("block2_relu2", 128)):
        gram = naive_gram(features(network, scene.image, layer))
        for target, weight in zip(scene.styles, scene.weights, strict=True):
            difference = naive_mse(gram, naive_gram(features(network, target, layer)))
            style += weight * 10 / channels**2 * difference
    assert float(found.style) == pytest.approx(style, rel=1e-5)

    x = scene.image[0].double().numpy()
    across = [abs(x[c, i, j + 1] - x[c, i, j]) for c, i, j in np.ndindex(3, 9, 6)]
    down = [abs(x[c, i + 1, j] - x[c, i, j]) for c, i, j in np.ndindex(3, 8, 7)]
    assert float(found.tv) == pytest.approx(0.5 * 0.25 * (np.mean(across) + np.mean(down)), rel=1e-5)

    assert float(found.total) == pytest.approx(float(found.content + found.style + found.tv), rel=1e-6)


def test_the_last_layer_weight_counts_on(network: Network, scene: Scene) -> None:
    def with_weights(*weights: float) -> Losses:
        return losses(network, scene, SMALL.model_copy(update={"style_layer_weights": weights}))

    assert with_weights(0.5).style == with_weights(0.5, 0.5).style
    assert with_weights(0.5, 0.1).style != with_weights(0.5).style
    assert with_weights(0.5, 0.1).style == with_weights(0.5, 0.1, 9.0).style


def test_contents_and_styles_are_pooled_as_the_picture_is(network: Network, scene: Scene) -> None:
    averaging = StyleTransferOptions(
        content_layers=("block2_conv1",), style_layers=("block2_conv1",), pooling="avg", style_layer_weights=(1.0,)
    )
    largest = averaging.model_copy(update={"pooling": "max"})
    assert losses(network, scene, averaging).total != losses(network, scene, largest).total
    scene.styles, scene.weights, scene.image = [scene.content], [1.0], scene.content
    for options in (averaging, largest):
        assert losses(network, scene, options).total == 0


def test_the_content_itself_has_no_content_loss(network: Network, scene: Scene) -> None:
    scene.image = scene.content
    assert losses(network, scene, SMALL).content == 0


def test_a_style_itself_has_no_style_loss(network: Network, scene: Scene) -> None:
    scene.image, scene.weights = scene.styles[1], [0.0, 1.0]
    scene.content = scene.image
    assert losses(network, scene, SMALL).style == 0


@pytest.mark.parametrize("term", ["content", "style"])
def test_a_term_without_layers_is_zero(term: str, network: Network, scene: Scene) -> None:
    found = losses(network, scene, SMALL.model_copy(update={f"{term}_layers": ()}))
    assert getattr(found, term) == 0
    assert found.total > 0


def test_the_gradient_is_the_slope(weights: NetworkWeights, scene: Scene) -> None:
    """In float64, where a finite difference is exact to many digits."""
    convolutions = {name: weights.convolution(name) for name in weights.layers}
    network = Network(Convolutions({name: (w.double(), b.double()) for name, (w, b) in convolutions.items()}), "cpu")
    options = SMALL.model_copy(update={"tv_weight": 100.0})
    objective = Objective(network, scene.content.double(), [s.double() for s in scene.styles], scene.weights, options)
    image = scene.image.double().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(image).total, image)
    for seed in range(4):
        direction = picture(seed, 9, 7).double()
        with torch.no_grad():
            ahead, behind = (objective(image + sign * 1e-7 * direction).total for sign in (1, -1))
        assert float((ahead - behind) / 2e-7) == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


@pytest.mark.parametrize("size", [(1, 64), (64, 1), (15, 64)])
def test_pictures_too_small_are_refused(size: tuple[int, int], network: Network) -> None:
    small, fine = picture(0, *size), picture(1, 16, 16)
    options = StyleTransferOptions()
    with pytest.raises(UsageError, match="too small"):
        Objective(network, fine, [small], [1.0], options)
    with pytest.raises(UsageError, match="too small"):
        Objective(network, small, [fine], [1.0], options)(small)
