"""One job from its message to its commit, with the real network and storage in a folder."""

import io
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import draw_picture
from medley import keys
from medley.errors import ImageError, ObjectMissing, StorageRefused, StorageUnreachable
from medley.records.jobs import ENGINE, HowMade, StyleTransfer
from medley.records.options import StyleTransferOptions
from medley.records.pictures import Picture
from medley.records.results import Result
from medley.records.weights import DEFAULT_WEIGHTS
from medley.settings import Settings
from medley_workers.gpus import take_gpu
from medley_workers.jobs.scene import Studio
from medley_workers.numbers.tensors import to_picture, to_tensor
from medley_workers.numbers.transfer import Step
from outcomes import PREVIEWS
from studio import LAYERS, Faulty, make_batch, make_job, open_studio, paint_job, submitted

FILES = {"frames/000000.jpg", "frames/000002.jpg", "frames/000004.jpg", "pastiche.png", *PREVIEWS, "style-2.jpg"}
"""What a painting in two styles leaves beside its result."""


@pytest.fixture
def faulty(tmp_path: Path) -> Faulty:
    return Faulty(tmp_path / "storage")


@pytest.fixture
def studio(tmp_path: Path, faulty: Faulty) -> Studio:
    return replace(open_studio(tmp_path / "storage"), storage=faulty)


Painting = Callable[..., Result]


@pytest.fixture
def painted(tmp_path: Path, studio: Studio) -> Painting:
    """Paints a small job with these options."""

    def paint(look: Callable[[Step, float | None], None] = lambda *_: None, **options: Any) -> Result:
        chosen = StyleTransferOptions.model_validate(
            {"size": 40, "num_steps": 4, "frame_every": 2, **LAYERS, **options}
        )
        return paint_job(a_job(tmp_path, studio, chosen), make_batch(chosen), studio, look)

    return paint


def a_job(folder: Path, studio: Studio, options: StyleTransferOptions) -> StyleTransfer:
    content, first, second = (draw_picture(folder / f"{n} – très.png", seed=n) for n in range(3))
    return make_job(studio, content, {first: 0.7, second: 0.1}, options)


def stored(studio: Studio, result: Result, name: str = "pastiche.png") -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(studio.storage.get(result.files[name].key))))


def files(studio: Studio) -> list[str]:
    return list(studio.storage.list("jobs/"))


def test_a_finished_picture_says_all_that_painting_it_again_needs(
    tmp_path: Path, studio: Studio, painted: Painting
) -> None:
    init = submitted(studio, draw_picture(tmp_path / "init.png", seed=9, size=(50, 90)))
    asked = {"init": init, "pooling": "avg", "preserve_color": "luminance", "tv_weight": 3.0}
    result = painted(**asked)
    png = studio.storage.get(result.files["pastiche.png"].key)
    assert b"tEXtmedley\0{" in png
    with Image.open(io.BytesIO(png)) as picture:
        made = HowMade.from_json(picture.info["medley"])
        assert picture.info["Software"].startswith("medley ")
    assert made == HowMade(
        job=a_job(tmp_path, studio, result.options), options=result.options, weights=DEFAULT_WEIGHTS, engine=ENGINE
    )
    assert made.options.init == init
    assert made.job.content.name == "0 – très.png"


@pytest.mark.parametrize("preserve_color", [None, "linalg", "luminance"])
def test_painting_begins_with_the_init_picture_at_the_contents_size(
    preserve_color: str | None, tmp_path: Path, studio: Studio, painted: Painting
) -> None:
    path = draw_picture(tmp_path / "init.png", seed=9, size=(50, 90))
    result = painted(init=submitted(studio, path), preserve_color=preserve_color)
    assert result.size == (40, 30)
    frame = stored(studio, result, "frames/000000.jpg").astype(float)
    with Image.open(path) as picture:
        init = to_picture(to_tensor(picture, result.size)).astype(float)
    least = {None: 0.99, "linalg": 0.8, "luminance": 0.6}[preserve_color]  # the content's chroma leaves little room
    likeness = np.corrcoef(frame.mean(axis=2).ravel(), init.mean(axis=2).ravel())[0, 1]
    assert likeness > least
    assert (np.abs(frame - init).mean() < 4) == (preserve_color is None)


def test_an_init_picture_that_changed_or_is_gone_is_refused(tmp_path: Path, studio: Studio, painted: Painting) -> None:
    init = submitted(studio, draw_picture(tmp_path / "init.png", seed=9))
    studio.storage.put(keys.input_picture(init.input), b"another")
    with pytest.raises(ImageError, match=r"init\.png changed in storage"):
        painted(init=init)
    studio.storage.delete(keys.input_picture(init.input))
    with pytest.raises(ObjectMissing):
        painted(init=init)


def test_deterministic_paintings_are_equal_and_the_mode_ends_with_them(painted: Painting) -> None:
    modes: list[bool] = []

    def look(*_: object) -> None:
        modes.append(torch.are_deterministic_algorithms_enabled())

    first, second = (painted(look, deterministic=True) for _ in range(2))
    assert first.files["pastiche.png"].sha256 == second.files["pastiche.png"].sha256
    assert len(modes) == 10
    assert all(modes)
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(ObjectMissing):
        painted(init=Picture(sha256="0" * 64, ext="png", name="gone.png"), deterministic=True)
    assert not torch.are_deterministic_algorithms_enabled()


def test_where_a_process_takes_its_gpu_cublas_is_told_to_be_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads this once, when CUDA starts, whatever the first job asks for."""
    for name in ("CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG"):
        monkeypatch.setenv(name, "")
    take_gpu(Settings(device="cpu"), 0)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.parametrize("at", ["frames/000004.jpg", "pastiche.png", "result.json"])
def test_an_attempt_that_storage_refuses_leaves_nothing(
    at: str, faulty: Faulty, studio: Studio, painted: Painting
) -> None:
    faulty.at = at
    with pytest.raises(StorageRefused, match="full"):
        painted()
    assert files(studio) == []
    faulty.at = None
    result = painted()
    assert sorted(files(studio)) == sorted([*(file.key for file in result.files.values()), keys.result(result.job_id)])
    assert set(result.files) == FILES


def test_an_attempt_that_fails_of_itself_leaves_nothing(studio: Studio, painted: Painting) -> None:
    def look(step: Step, _: float | None) -> None:
        if step.index == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        painted(look)
    assert files(studio) == []


def test_where_nothing_can_be_deleted_the_first_error_is_the_one_raised(
    faulty: Faulty, painted: Painting, caplog: pytest.LogCaptureFixture
) -> None:
    faulty.at, faulty.deletes = "pastiche.png", False
    with caplog.at_level(logging.WARNING), pytest.raises(StorageRefused, match="full"):
        painted()
    assert len(caplog.messages) == 1, "storage that is away is not asked once a frame"
    assert "may be deleted" in caplog.text


def test_files_stay_where_the_commit_may_stand_though_the_answer_was_lost(
    faulty: Faulty, studio: Studio, painted: Painting
) -> None:
    faulty.at, faulty.error = "result.json", StorageUnreachable
    with pytest.raises(StorageUnreachable):
        painted()
    assert {key.split("/", 3)[3] for key in files(studio)} == FILES


def test_a_worker_that_is_told_to_stop_does_not_stay_to_delete(studio: Studio, painted: Painting) -> None:
    def look(step: Step, _: float | None) -> None:
        if step.index == 4:
            raise SystemExit

    with pytest.raises(SystemExit):
        painted(look)
    assert "frames/000000.jpg" in "".join(files(studio))
