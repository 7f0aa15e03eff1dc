"""`medley run --again`: a painted PNG says enough of itself to be painted once more."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import draw_picture

OPTIONS = "--size 48 --num-steps 4 --optimizer adam --preserve-color --pooling avg --style-weights 0.7 --tv-weight 0.5"


def medley_run(*line: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "medley_producer", "run", *map(str, line)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of two blended styles that begins with another one; its inputs lie in ``data`` beside ``out``."""
    folder = tmp_path_factory.mktemp("again")
    content = draw_picture(folder / "data" / "photos" / "my photo.jpg", seed=1)
    styles = [draw_picture(folder / "data" / "paintings" / f"style {n}.png", seed=n) for n in (2, 3)]
    init = draw_picture(folder / "data" / "photos" / "start.png", seed=4, size=(50, 80))
    pools: list[str | Path] = ["-c", content, "-s", *styles, "--styles-per-pair", "2", "--init", init]
    done = medley_run(*pools, *OPTIONS.split(), "--out", folder / "out")
    assert done.returncode == 0, done.stderr
    (picture,) = (folder / "out").glob("*.png")
    return picture


def pixels(picture: Path) -> bytes:
    with Image.open(picture) as image:
        return np.asarray(image).tobytes()


def test_a_picture_is_painted_again_from_what_it_says(painted: Path, tmp_path: Path) -> None:
    done = medley_run("--again", painted, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert pixels(tmp_path / "out" / painted.name) == pixels(painted)


def test_elsewhere_its_inputs_are_found_in_pools_and_options_given_count_instead(painted: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copy(painted, tmp_path / "moved.png"))
    data = painted.parents[1] / "data"
    (data / "photos" / "my photo.jpg").rename(data / "photos" / "renamed.jpg")
    try:
        done = medley_run("--again", moved, "-c", data, "--size", "64", "--out", tmp_path / "out")
    finally:
        (data / "photos" / "renamed.jpg").rename(data / "photos" / "my photo.jpg")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out" / painted.name) as image:
        assert image.size == (64, 48)


def test_what_is_missing_is_named(painted: Path, tmp_path: Path) -> None:
    moved = shutil.copy(painted, tmp_path / "moved.png")
    done = medley_run("--again", moved, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "my photo.jpg, style 2.png, style 3.png, start.png" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_picture_that_says_nothing_is_refused(painted: Path, tmp_path: Path) -> None:
    edited = tmp_path / "edited.png"
    with Image.open(painted) as image:
        image.copy().save(edited)
    (tmp_path / "notes.png").write_text("no picture")
    for file, said in ((edited, "does not say how it was made"), (tmp_path / "notes.png", "--again takes a PNG")):
        done = medley_run("--again", file, "--out", tmp_path / "out")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert said in done.stderr
