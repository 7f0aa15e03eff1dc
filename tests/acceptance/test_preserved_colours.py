"""Of three pairs painted with --preserve-color, the painted pictures have the contents' colours."""

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medley.records.options import StyleTransferOptions
from medley.records.results import Result
from medley_producer.samples.dataset import paint_samples
from medley_workers.jobs.scene import set_up
from medley_workers.numbers.tensors import to_tensor
from studio import make_batch, make_job, open_studio, paint_job

Floats = NDArray[np.float64]
CHROMA_RGB = np.array([[0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])  # I and Q, by the NTSC's definition


class Painted(NamedTuple):
    """A picture and a frame on its way, as stored, and the content at their size; (H, W, 3), 0..255."""

    picture: Floats
    frame: Floats
    content: Floats
    result: Result
    loss_as_seen: float
    """Of the stored picture, by what the job minimises."""


@pytest.fixture(scope="module", params=range(3))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    paths = paint_samples(tmp_path_factory.mktemp("samples"), 3, 3, size=(160, 120))
    return paths[request.param], paths[3 + request.param]


Way = Literal["linalg", "luminance"] | None
Painting = Callable[[Way], Painted]


@pytest.fixture(scope="module")
def painted(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Painting:
    """The pair painted, once each way."""
    return cache(lambda way: paint(pair, tmp_path_factory.mktemp("storage"), way))


def paint(pair: tuple[Path, Path], folder: Path, way: Way) -> Painted:
    studio = open_studio(folder)
    chosen = StyleTransferOptions(size=64, num_steps=24, frame_every=12, preserve_color=way)
    job = make_job(studio, pair[0], {pair[1]: 1.0}, chosen)
    result = paint_job(job, make_batch(chosen), studio, lambda *_: None)
    with Image.open(pair[0]) as content:
        resized = content.convert("RGB").resize(result.size, Image.Resampling.BILINEAR)
    picture = Image.open(io.BytesIO(studio.storage.get(result.files["pastiche.png"].key)))
    frame = Image.open(io.BytesIO(studio.storage.get(result.files["frames/000012.jpg"].key)))
    scene = set_up(job, chosen, studio)
    loss = scene.objective(scene.colours.seen(to_tensor(picture, result.size))).total
    return Painted(floats(picture), floats(frame), floats(resized), result, float(loss))


def floats(picture: Image.Image) -> Floats:
    return np.asarray(picture).astype(np.float64)


def off(picture: Floats, content: Floats) -> tuple[float, float]:
    """How far the mean of its colours is off, in grey levels, and the covariance, relative to the content's."""
    painted, wanted = picture.reshape(-1, 3), content.reshape(-1, 3)
    covariances = np.cov(painted.T), np.cov(wanted.T)
    mean = np.abs(painted.mean(axis=0) - wanted.mean(axis=0)).max()
    return float(mean), float(np.linalg.norm(covariances[0] - covariances[1]) / np.linalg.norm(covariances[1]))


def test_linalg_keeps_mean_and_covariance(painted: Painting) -> None:
    kept = painted("linalg")
    for picture, loss_of_jpeg in ((kept.picture, 0.0), (kept.frame, 0.03)):
        mean, covariance = off(picture, kept.content)
        assert mean < 0.5
        assert covariance < 0.005 + loss_of_jpeg
    assert np.abs(kept.picture - kept.content).mean() > 5, "something was painted"


def test_luminance_keeps_the_chroma_of_every_pixel(painted: Painting) -> None:
    kept = painted("luminance")
    chroma = kept.content @ CHROMA_RGB.T
    np.testing.assert_allclose(kept.picture @ CHROMA_RGB.T, chroma, atol=1.0)
    assert np.abs(kept.frame @ CHROMA_RGB.T - chroma).mean() < 2.0, "a JPEG keeps it nearly"
    assert np.abs(kept.picture - kept.content).mean() > 5, "something was painted"


@pytest.mark.parametrize("way", ["linalg", "luminance"])
def test_the_loss_is_that_of_what_people_see(way: Way, painted: Painting) -> None:
    kept = painted(way)
    assert kept.result.png_loss == pytest.approx(kept.loss_as_seen, rel=1e-4)
    assert kept.result.png_loss == pytest.approx(kept.result.loss, rel=0.05)
    assert kept.result.loss < kept.result.losses[0][1] / 5


def test_without_the_option_colours_are_the_styles(painted: Painting) -> None:
    plain = painted(None)
    mean, covariance = off(plain.picture, plain.content)
    assert mean > 3.0
    assert covariance > 0.1
