"""The samples are pictures with something in them, the same ones each time, and nothing of the user's is touched."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medley.errors import UsageError
from medley_producer.samples.dataset import CALIBRATION_SEEDS, calibration_pictures, paint_samples

SMALL = (96, 72)


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return paint_samples(tmp_path_factory.mktemp("samples"), 5, 5, size=SMALL)


def test_pictures_lie_where_they_belong(painted: list[Path]) -> None:
    assert [f"{path.parent.name}/{path.name}" for path in painted] == [
        *(f"contents/{name}.jpg" for name in ("dawn", "noon", "dusk", "night", "dawn-2")),
        *(f"styles/{name}.jpg" for name in ("swirls", "glass", "woodcut", "dots", "swirls-2")),
    ]
    assert sorted(painted) == sorted(path for path in painted[0].parents[1].rglob("*") if path.is_file())


def test_pictures_have_structure_and_differ(painted: list[Path]) -> None:
    pixels = []
    for path in painted:
        with Image.open(path) as picture:
            assert (picture.format, picture.size, picture.mode) == ("JPEG", SMALL, "RGB")
            pixels.append(np.asarray(picture, np.float64))
    for n, one in enumerate(pixels):
        assert one.std() > 20
        assert np.abs(np.diff(one, axis=1)).mean() > 2
        assert all(np.abs(one - other).mean() > 5 for other in pixels[:n])


def test_same_seed_gives_the_same_bytes_however_many_are_painted(painted: list[Path], tmp_path: Path) -> None:
    again = paint_samples(tmp_path / "again", 2, 1, size=SMALL)
    assert [path.read_bytes() for path in again] == [painted[n].read_bytes() for n in (0, 1, 5)]
    other = paint_samples(tmp_path / "other", 1, 0, size=SMALL, seed=2)
    assert other[0].read_bytes() != painted[0].read_bytes()


def test_what_is_there_is_kept_and_what_is_missing_painted(tmp_path: Path) -> None:
    mine = tmp_path / "contents" / "dawn.jpg"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    told: list[tuple[str, int, int]] = []
    paths = paint_samples(tmp_path, 2, 0, size=SMALL, told=lambda *args: told.append(args))
    assert told == [("painting samples", done, 2) for done in (1, 2)]
    assert mine.read_bytes() == b"mine"
    assert sorted(tmp_path.rglob("*.*")) == sorted(paths)


@pytest.mark.parametrize("size", [(32, 300), (300, 32), (33, 35)])
def test_any_shape_can_be_painted(size: tuple[int, int], tmp_path: Path) -> None:
    for path in paint_samples(tmp_path, 1, 4, size=size):
        with Image.open(path) as picture:
            assert picture.size == size


def test_calibration_pictures_are_the_samples_of_their_seeds(tmp_path: Path) -> None:
    for seed in CALIBRATION_SEEDS:  # what is there is kept, so nothing need be painted
        paint_samples(tmp_path / str(seed), 4, 3, size=(32, 32), seed=seed)
    told: list[tuple[str, int, int]] = []
    paths = calibration_pictures(tmp_path, lambda *args: told.append(args))
    assert len({path.read_bytes() for path in paths}) == len(paths) == 42
    assert [path.parents[1].name for path in paths] == [str(seed) for seed in CALIBRATION_SEEDS for _ in range(7)]
    assert told == [("painting samples", 7 * n, 42) for n in range(6)]


def test_mistakes_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        paint_samples(tmp_path / "file", 1, 0, size=SMALL)
    with pytest.raises(UsageError, match="32 to 2048"):
        paint_samples(tmp_path, size=(4, 4))
