"""Random networks: what may be asked, the same bytes however they are rendered, and pictures in files."""

import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from medley.errors import StorageRefused, UsageError
from medley.records.networks import MOST_ART_PX, STRETCH, ArtOptions, NetworkOptions, WalkOptions
from medley_workers.random_networks.art import frames, render_png
from medley_workers.random_networks.bezier import walk
from medley_workers.random_networks.cppn import RandomNetwork


def art(**changes: Any) -> ArtOptions:
    return ArtOptions.model_validate({"seed": 3, "xres": 61, "z": (0.5, -0.25), **changes})


def rendered(options: ArtOptions) -> Any:
    """(H, W, C)."""
    return RandomNetwork(options, len(options.z)).render(np.array([options.z]))[0]


# What may be asked for.


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"xlim": (1, -1)}, "xlim is 1 to -1; give two numbers, the smaller one first"),
        ({"ylim": (2, 2)}, "ylim is 2 to 2; give two numbers, the smaller one first"),
        ({"xlim": (float("nan"), 1)}, "finite"),
        ({"xlim": (-1, float("inf"))}, "finite"),
        ({"z": (0.0, float("nan"))}, "finite"),
        ({"hidden_std": float("inf")}, "finite"),
        ({"xlim": (-1e7, 1)}, "greater than or equal to -1000000"),
        ({"output_std": -1}, "greater than or equal to 0"),
        ({"units": 0}, "greater than or equal to 1"),
        ({"depth": 129}, "less than or equal to 128"),
        ({"seed": 2**63}, "less than 9223372036854775808"),
        ({"xres": MOST_ART_PX + 1}, "less than or equal to 65500"),
        ({"ylim": (0, 0.001)}, "make the picture 0 px high"),
        ({"ylim": (-9999, 9999)}, "make the picture 609939 px high"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(asked: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(problem)):
        art(**asked)


def test_a_video_is_smaller_than_a_picture_may_be() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 4096"):
        WalkOptions(xres=8193)
    with pytest.raises(ValidationError, match="8192 px high, and 1 to 4,096 can be"):
        WalkOptions(xres=4096, ylim=(-2, 2))


@pytest.mark.parametrize(
    ("asked", "size"),
    [
        ({}, (61, 61)),
        ({"ylim": (0, 3)}, (61, 91)),
        ({"yres": 5}, (61, 5)),
        ({"xlim": (0, 3), "ylim": (0, 1)}, (61, 20)),
    ],
)
def test_the_height_follows_from_the_limits(asked: dict[str, Any], size: tuple[int, int]) -> None:
    assert art(**asked).size == size


def test_options_are_read_back_and_hostile_ones_are_not() -> None:
    walk_options = WalkOptions(seed=4, loop=True, ylim=(0.0, 0.5))
    assert WalkOptions.from_json(walk_options.json_bytes()) == walk_options
    with pytest.raises(UsageError, match="frames"):
        WalkOptions.from_json(b'{"frames": 1e30}')


def test_only_what_bears_on_a_stretch_of_frames_is_its_identity() -> None:
    plain = WalkOptions().identity()
    assert plain == WalkOptions(frames=301).identity() == WalkOptions(ylim=(-1.0, 1.0), yres=512).identity()
    assert WalkOptions(fps=60, crf=30).identity() == plain
    others = [WalkOptions(seed=1), WalkOptions(step=0.011), WalkOptions(loop=True)]
    assert all(options.identity() != plain for options in others)
    assert WalkOptions(loop=True).identity() != WalkOptions(loop=True, frames=301).identity()


def test_a_job_has_a_chunk_of_frames() -> None:
    assert WalkOptions().num_steps == STRETCH
    assert WalkOptions(frames=7).num_steps == 7


# The same bytes however they are rendered.


@pytest.fixture(scope="module")
def video() -> WalkOptions:
    return WalkOptions(
        seed=11, xres=203, yres=170, frames=6, z_dims=3
    )  # tiles end within rows, and the last one outside


def test_bytes_depend_neither_on_threads_nor_on_the_frames_beside(video: WalkOptions) -> None:
    network, z = RandomNetwork(video, 3), walk(video)
    alone = np.concatenate([network.render(z[n : n + 1], threads=1) for n in range(6)])
    assert alone.shape == (6, 170, 203, 3)
    assert len(np.unique(alone.reshape(6, -1), axis=0)) == 6
    for threads in (1, 2, 3):
        assert network.render(z, threads).tobytes() == alone.tobytes()
    assert network.render(z[2:5], 2).tobytes() == alone[2:5].tobytes()


def test_stretches_of_a_walk_join(video: WalkOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.stack(list(frames(video, 0, 6)))
    assert whole.tobytes() == RandomNetwork(video, 3).render(walk(video)).tobytes()
    monkeypatch.setattr("medley_workers.random_networks.art._BATCH_BYTES", 2 * 203 * 170 * 3)  # two frames at a time
    stretches = [*frames(video, 0, 1, threads=3), *frames(video, 1, 3, threads=2), *frames(video, 4, 2, threads=1)]
    assert np.stack(stretches).tobytes() == whole.tobytes()


@pytest.mark.parametrize("units", [1, 16, 200])
def test_any_range_of_pixels_is_cut_from_the_same_picture(units: int) -> None:
    options = art(xres=150, yres=133, units=units, depth=3)
    whole = rendered(options).reshape(-1, 3)
    network, z = RandomNetwork(options, 2), np.array([options.z])
    for begin, end in ((0, 1), (1, 4096), (4095, 4098), (7001, 15000), (19949, 19950), (0, 19950)):
        assert (network.pixels(z, begin, end)[0] == whole[begin:end]).all()


def test_rendering_leaves_torch_as_it_was() -> None:
    torch.manual_seed(9)
    expected, threads = torch.random.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        rendered(art())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.random.get_rng_state(), expected)


def test_an_error_in_a_thread_is_raised() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        RandomNetwork(art(), 2).render(np.zeros((1, 3)), threads=2)


# Pictures in files.


@pytest.mark.parametrize(("color_space", "mode"), [("rgb", "RGB"), ("bw", "L")])
@pytest.mark.parametrize("size", [(61, 40), (1, 3), (700, 400)])
def test_the_file_is_a_png_of_the_picture(color_space: str, mode: str, size: tuple[int, int], tmp_path: Path) -> None:
    options = art(color_space=color_space, xres=size[0], yres=size[1], depth=2)
    path, told = tmp_path / "new" / "art.png", []
    render_png(options, path, lambda done, total: told.append((done, total)))
    with Image.open(path) as picture:
        assert (picture.mode, picture.size) == (mode, size)
        assert (np.asarray(picture).reshape(size[1], size[0], -1) == rendered(options)).all()
        assert str(picture.info["Software"]).startswith("medley ")
        assert ArtOptions.from_json(picture.info["medley_art"]) == options
        assert json.loads(picture.info["medley_art"])["z"] == [0.5, -0.25]
    assert told == sorted(set(told))
    assert told[-1] == (size[1], size[1])
    assert list(path.parent.iterdir()) == [path]


def test_the_file_depends_neither_on_threads_nor_on_how_far_others_are(tmp_path: Path) -> None:
    options = art(xres=600, yres=900, depth=1, units=4)
    for threads in (1, 2, 3):
        render_png(options, tmp_path / f"{threads}.png", threads=threads)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_bands_leave_no_seams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medley_workers.random_networks.art._BAND_TILES", 0)
    for pixels in (1, 5_000, 10**6):
        monkeypatch.setattr("medley_workers.random_networks.art._BAND_PIXELS", pixels)
        render_png(art(xres=99, depth=2), tmp_path / "art.png")
        with Image.open(tmp_path / "art.png") as picture:
            assert (np.asarray(picture) == rendered(art(xres=99, depth=2))).all()


def test_what_is_interrupted_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "art.png"
    path.write_bytes(b"before")

    def interrupted(done: int, _total: int) -> None:
        assert 0 < done < 2000
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_png(art(xres=500, yres=2000, depth=1, units=2), path, interrupted)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"before"


def test_a_folder_in_the_way_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StorageRefused, match="cannot be used"):
        render_png(art(), tmp_path)


def test_memory_is_for_a_few_bands_only(tmp_path: Path) -> None:
    options = art(xres=1000, yres=12_000, units=2, depth=1, color_space="bw")
    tracemalloc.start()
    try:
        render_png(options, tmp_path / "art.png", threads=2)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000, "the picture has 12,000,000 bytes"
    finally:
        tracemalloc.stop()


def test_a_picture_of_the_greatest_size_can_be_begun() -> None:
    options = art(xres=MOST_ART_PX, z=())
    network = RandomNetwork(NetworkOptions.model_validate(options.model_dump(exclude={"z"})), 0)
    last = network.pixels(np.zeros((1, 0)), MOST_ART_PX**2 - 2, MOST_ART_PX**2)
    corner = RandomNetwork(art(xres=2, xlim=(1 - 2 / (MOST_ART_PX - 1), 1), ylim=(0.5, 1), yres=2, z=()), 0)
    assert (last[0, -1] == corner.render(np.zeros((1, 0)))[0, -1, -1]).all()
