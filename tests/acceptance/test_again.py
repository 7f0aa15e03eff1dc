"""`medley run --again`: a painted PNG says enough of itself to be painted once more."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import draw_picture
from medley.media.images import encode_png

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


def told_otherwise(painted: Path, copy: Path, **changes: object) -> Path:
    """A copy of a picture that says something else of how it was made."""
    with Image.open(painted) as image:
        made = json.loads(image.info["medley"])
        copy.write_bytes(encode_png(np.asarray(image), {"medley": json.dumps(made | changes)}))
    return copy


@pytest.mark.parametrize("changes", [{"engine": 1}, {"job": 7}])
def test_what_another_version_painted_is_refused(painted: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    done = medley_run("--again", told_otherwise(painted, tmp_path / "other.png", **changes), "--out", tmp_path / "out")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "other.png was painted by" in done.stderr


def test_the_weights_that_it_needs_are_named(painted: Path, tmp_path: Path) -> None:
    needed = {"name": "own.bin", "sha256": "0" * 64}
    other = told_otherwise(painted, tmp_path / "other.png", weights=needed)
    done = medley_run("--again", other, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "other.png was painted with the weights own.bin (SHA-256 000000000000...)" in done.stderr
    assert "set MEDLEY_VGG to that file" in done.stderr


def test_a_damaged_input_is_not_painted_from(painted: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(painted.parent, tmp_path / "out"))
    with Image.open(painted) as image:
        content = json.loads(image.info["medley"])["job"]["content"]
    stored = folder / ".medley" / "storage" / "inputs" / f"{content['sha256']}.{content['ext']}"
    stored.unlink()  # as it may be a hard link
    draw_picture(stored, seed=9)
    done = medley_run("--again", folder / painted.name, "--out", tmp_path / "again")
    assert done.returncode == 2
    assert "my photo.jpg would be needed" in done.stderr


@pytest.mark.parametrize("option", ["--style-weights 0.3 0.7", "--pairs 2", "--pairing zip", "--sample-seed x"])
def test_what_chooses_pairs_has_no_place_there(painted: Path, tmp_path: Path, option: str) -> None:
    done = medley_run("--again", painted, *option.split(), "--out", tmp_path / "out")
    assert done.returncode == 2
    assert f"{option.split(maxsplit=1)[0]} chooses pairs" in done.stderr
