"""A video is whole or absent, plays everywhere, and shows every finished picture in its time."""

import errno
import io
import itertools
import os
import resource
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medley.errors import ImageError, ObjectMissing, StorageRefused, StorageUnreachable, UsageError
from medley.media import images
from medley.media import scenes as scenes_module
from medley.media.images import encode_jpeg, encode_png
from medley.media.scenes import AHEAD, DECODERS, MOST_PICTURES, Load, Scene, Summary, video_size, write_medley
from medley.media.video import fitted, open_video
from medley.records.videos import VideoOptions, frame_count, scene_timing
from medley.settings import Settings

Pixels = NDArray[np.uint8]

SIZE = (96, 72)
QUICK = VideoOptions(fps=10, seconds_per_style=2, crf=12)
SETTINGS = Settings()


def picture(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Smooth blots that no other seed gives."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(30, 226, (3, 4, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)


def constantly(data: bytes) -> Load:
    return lambda: data


def png(image: Image.Image) -> Load:
    return constantly(encode_png(np.asarray(image), {}))


def raises(error: Exception) -> Load:
    def load() -> bytes:
        raise error

    return load


def descent(photo: Image.Image, result: Image.Image, count: int, slower: float = 0.9) -> list[Load]:
    """So many frames as they are kept, which change more and more slowly, and the finished picture."""
    shares = [1 - slower**n for n in range(count)]
    return [constantly(encode_jpeg(np.asarray(Image.blend(photo, result, share)), 95)) for share in shares] + [
        png(result)
    ]


def scene(n: int, count: int = 12, size: tuple[int, int] = SIZE) -> Scene:
    return Scene(f"style {n}", f"chapter {n}", descent(picture(n, size), picture(100 + n, size), count))


def made(
    path: Path,
    scenes: Sequence[Scene],
    options: VideoOptions = QUICK,
    size: tuple[int, int] = SIZE,
    advance: Callable[[], None] = lambda: None,
) -> Summary:
    return write_medley(path, scenes, options, size, SETTINGS, title="a batch", advance=advance)


def watched(path: Path) -> list[Pixels]:
    """Every frame, as a player that heeds the tags shows it."""
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24").astype(np.uint8) for frame in container.decode(video=0)]


def distance(a: Pixels | Image.Image, b: Pixels | Image.Image) -> float:
    return float(np.abs(np.asarray(a).astype(np.int64) - np.asarray(b)).mean())


def boxes(data: bytes) -> list[str]:
    """The types of an MP4's outermost boxes."""
    file, found = io.BytesIO(data), []
    while header := file.read(8):
        found.append(header[4:].decode())
        file.seek(int.from_bytes(header[:4], "big") - 8, os.SEEK_CUR)
    return found


def test_browsers_and_phones_play_it(tmp_path: Path) -> None:
    path = tmp_path / "medley.mp4"
    made(path, [scene(0), scene(1)])
    with av.open(path) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt, context.profile) == ("h264", "yuv420p", "High")
        assert (context.width, context.height) == SIZE
        bt709, limited = 1, 1
        tags = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        assert tags == (bt709, bt709, bt709, limited)
        assert stream.average_rate == stream.guessed_rate == 10
        times = [frame.pts for frame in container.decode(stream)]
        assert len(set(np.diff(np.array(times)))) == 1
        assert container.metadata["title"] == "a batch"
        assert "creation_time" not in container.metadata | stream.metadata
    kinds = boxes(path.read_bytes())
    assert kinds.index("moov") < kinds.index("mdat")


@pytest.mark.parametrize("transition", ["crossfade", "rewind", "cut"])
@pytest.mark.parametrize("count", [1, 3])
def test_every_finished_picture_is_shown_in_its_time(tmp_path: Path, transition: str, count: int) -> None:
    options = VideoOptions.model_validate({**QUICK.model_dump(), "transition": transition})
    path, timing = tmp_path / "medley.mp4", scene_timing(options)
    each = sum(timing)
    summary = made(path, [scene(n) for n in range(count)], options)
    frames = watched(path)
    assert len(frames) == frame_count(options, count) == summary.frames == count * each
    with av.open(path) as container:
        assert container.duration == summary.seconds * 1e6 == count * each / 10 * 1e6
    for n in range(count):
        assert distance(frames[n * each], picture(n)) < 3
        for held in frames[n * each + timing.morph :][: timing.hold]:
            assert distance(held, picture(100 + n)) < 3
    assert distance(frames[-1], picture(100 + count - 1)) < 3
    if count > 1:
        middle, expected = {  # of 3 frames, of 4, of none
            "crossfade": (each - 2, Image.blend(picture(100), picture(1), 0.5)),
            "rewind": (each - 3, Image.blend(picture(0), picture(100), 0.5)),
            "cut": (each - 1, picture(100)),
        }[transition]
        assert distance(frames[middle], expected) < 4
    if transition == "rewind" and count > 1:
        assert distance(frames[each - 1], picture(0)) < 3


def test_chapters_begin_with_their_scenes(tmp_path: Path) -> None:
    path = tmp_path / "medley.mp4"
    titles = ["Nachtcafé \u2013 夜", "a\nb\udcff", "é" * 300]
    made(path, [Scene("", title, scene(n).pictures) for n, title in enumerate(titles)])
    with av.open(path) as container:
        chapters = container.chapters()
    assert [chapter["metadata"]["title"] for chapter in chapters] == [titles[0], "a\\nb\ufffd", "é" * 127]
    spans = [(chapter["start"], chapter["end"]) for chapter in chapters]
    assert spans == [(0, 2000), (2000, 4000), (4000, 6000)]  # ms
    with av.open(path) as container:
        keys = [round(float(frame.time) * 10) for frame in container.decode(video=0) if frame.key_frame]
    assert {0, 20, 40} <= set(keys)


def test_pace_is_even_though_the_pictures_are_not(tmp_path: Path) -> None:
    path, options = tmp_path / "medley.mp4", VideoOptions(fps=20, seconds_per_style=2, crf=4)
    frames = descent(picture(0), picture(100), 20, slower=0.5)
    made(path, [Scene("", "a", [*frames[:8], *[frames[8]] * 10, *frames[8:]])], options)
    seen = watched(path)[: scene_timing(options).morph]
    steps = [distance(a, b) for a, b in itertools.pairwise(seen)]
    assert max(steps) < 2 * float(np.median(steps))
    assert min(steps) > 0.5 * float(np.median(steps))


@pytest.mark.parametrize("count", [0, 1])
def test_scenes_of_one_and_two_pictures(tmp_path: Path, count: int) -> None:
    path = tmp_path / "medley.mp4"
    summary = made(path, [scene(0, count), scene(1, count)])
    frames = watched(path)
    assert len(frames) == frame_count(QUICK, 2)
    assert distance(frames[0], picture(0 if count else 100)) < 3
    assert distance(frames[-1], picture(101)) < 3
    assert not summary.notes


def test_shortest_scenes_still_show_both_ends(tmp_path: Path) -> None:
    path, options = tmp_path / "medley.mp4", VideoOptions(fps=1, seconds_per_style=0.1)
    made(path, [scene(0)], options)
    first, last = watched(path)
    assert distance(first, picture(0)) < 8
    assert distance(last, picture(100)) < 8


def test_pictures_of_all_shapes_are_shown_whole(tmp_path: Path) -> None:
    sizes = [(97, 61), (40, 121), (5, 3), (300, 200)]
    size = video_size(sizes, VideoOptions())
    assert size == (300, 300)
    path = tmp_path / "medley.mp4"
    made(path, [scene(n, 3, shape) for n, shape in enumerate(sizes)], VideoOptions(fps=4, crf=12), size)
    timing = scene_timing(VideoOptions(fps=4))
    for n, (width, height) in enumerate(sizes):
        frame = watched(path)[n * sum(timing) + timing.morph]
        lit = np.argwhere(np.abs(frame.astype(int) - (23, 24, 28)).max(axis=-1) > 12)
        (top, left), (bottom, right) = lit.min(axis=0), lit.max(axis=0) + 1
        assert abs((right - left) - min(300, 300 * width / height)) < 5
        assert abs((bottom - top) - min(300, 300 * height / width)) < 5
        assert abs(left + right - 300) < 5
        assert abs(top + bottom - 300) < 5


@pytest.mark.parametrize(
    ("sizes", "longest", "expected"),
    [
        ([(512, 384)], None, (512, 384)),
        ([(512, 341), (1024, 683)], None, (1024, 682)),
        ([(4000, 3000)], None, (1920, 1440)),
        ([(4000, 3000), (300, 400)], 640, (640, 640)),
        ([(40, 30)], None, (84, 64)),
        ([(30, 4000)], 4096, (64, 4096)),
    ],
)
def test_video_size(sizes: list[tuple[int, int]], longest: int | None, expected: tuple[int, int]) -> None:
    assert video_size(sizes, VideoOptions(size=longest)) == expected


def test_odd_pictures_are_neither_blurred_nor_framed() -> None:
    odd = picture(0, (97, 73))
    assert np.array_equal(np.asarray(fitted(odd, (96, 72))), np.asarray(odd)[:72, :96])
    assert distance(fitted(picture(0, (1024, 683)), (512, 340)), picture(0, (512, 340))) < 2


def test_no_video_has_that_size_or_no_picture(tmp_path: Path) -> None:
    for size in ((0, 5), (5000, 100)):
        with pytest.raises(UsageError, match="1 to 4096 a side"), open_video(tmp_path / "a.mp4", size):
            pass
    with pytest.raises(UsageError, match="no picture"), open_video(tmp_path / "a.mp4", SIZE):
        pass
    with pytest.raises(UsageError, match="no picture"):
        video_size([], QUICK)
    assert not list(tmp_path.iterdir())


def test_frames_of_a_walk_are_joined(tmp_path: Path) -> None:
    colours = [(200, 30, 40), (20, 180, 60), (30, 40, 210), (128, 128, 128)]
    path = tmp_path / "walk.mp4"
    with open_video(path, (65, 65), fps=25, crf=10) as video:
        for colour in colours:
            video.add(Image.new("RGB", (65, 65), colour))
    frames = watched(path)
    assert [frame.shape for frame in frames] == [(64, 64, 3)] * 4
    for frame, colour in zip(frames, colours, strict=True):
        assert np.abs(frame[32, 32].astype(int) - colour).max() < 6


def test_titles_lie_in_the_lower_left(tmp_path: Path) -> None:
    size, grey = (320, 240), Image.new("RGB", (320, 240), "#909090")
    shown = [Scene("Starry Night", "a", [png(grey)])]
    frames = {}
    for titles in (True, False):
        path = tmp_path / f"{titles}.mp4"
        made(path, shown, VideoOptions(fps=2, crf=4, titles=titles), size)
        frames[titles] = watched(path)[-1].astype(int)
    differs = np.argwhere(np.abs(frames[True] - frames[False]).max(axis=-1) > 12)
    assert differs[:, 0].min() > 200
    assert 4 <= differs[:, 1].min() < 12
    assert 80 < differs[:, 1].max() < 200
    box = frames[True][differs[:, 0].min() : differs[:, 0].max(), : differs[:, 1].max()]
    assert box.max() - box.min() > 120  # light letters on a dark box


@pytest.mark.parametrize("title", ["", "夜" * 300, "W" * 500, "\u202e\0\n"])
def test_any_title_is_written(tmp_path: Path, title: str) -> None:
    options = VideoOptions(fps=2, titles=True)
    assert made(tmp_path / "a.mp4", [Scene(title, title, scene(0, 2).pictures)], options, (64, 64)).scenes == 1


def test_damaged_and_missing_pictures_are_left_out(tmp_path: Path) -> None:
    loads = list(scene(0, 8).pictures)
    loads[0] = raises(ObjectMissing("step 0 is missing"))
    loads[3] = constantly(loads[3]()[:200])
    loads[5] = constantly(b"no picture")
    path = tmp_path / "medley.mp4"
    summary = made(path, [Scene("", "noon", loads), scene(1)])
    assert summary.notes == ("noon lacks 3 of its pictures: step 0 is missing",)
    assert (summary.scenes, summary.left_out, len(watched(path))) == (2, (), frame_count(QUICK, 2))


def test_scene_without_its_finished_picture_is_left_out_and_named(tmp_path: Path) -> None:
    path = tmp_path / "medley.mp4"
    broken = [
        Scene("", "torn", [*scene(0).pictures[:-1], constantly(scene(0).pictures[-1]()[:-300])]),
        Scene("", "gone", [*scene(0).pictures[:-1], raises(ImageError("gone.png is missing."))]),
        Scene("", "empty", []),
    ]
    summary = made(path, [broken[0], scene(1), *broken[1:], scene(2)])
    frames = watched(path)
    assert len(frames) == frame_count(QUICK, 2)
    assert distance(frames[0], picture(1)) < 3
    assert distance(frames[-1], picture(102)) < 3
    assert summary.scenes == 2
    assert [sentence.split()[0] for sentence in summary.left_out] == ["torn", "gone", "empty"]
    assert summary.left_out[1] == "gone lacks its finished picture: gone.png is missing"
    assert made(path, [scene(1), scene(2)]).frames == summary.frames
    with pytest.raises(UsageError, match=r"no scene to make a video of: torn .*; gone .*; empty"):
        made(path, broken)
    assert len(watched(path)) == frame_count(QUICK, 2)


@contextmanager
def untouched(path: Path) -> Iterator[None]:
    """An older video at this path stays as it is, and alone."""
    path.write_bytes(b"an older video")
    threads = threading.active_count()
    yield
    assert path.read_bytes() == b"an older video"
    assert list(path.parent.iterdir()) == [path]
    assert threading.active_count() == threads


class Ctrl:
    """Raises an error at the nth call."""

    def __init__(self, nth: int, error: BaseException) -> None:
        self.left, self.error = nth, error

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error


@pytest.mark.parametrize("nth", [1, 15, 38])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), UsageError("paused")])
def test_who_stops_it_leaves_an_older_video(tmp_path: Path, nth: int, error: BaseException) -> None:
    with untouched(tmp_path / "medley.mp4"), pytest.raises(type(error)):
        made(tmp_path / "medley.mp4", [scene(0), scene(1), scene(2)], advance=Ctrl(nth, error))


@pytest.mark.parametrize("picture_number", [3, -1])
def test_storage_that_is_away_leaves_an_older_video(tmp_path: Path, picture_number: int) -> None:
    loads = list(scene(1).pictures)
    loads[picture_number] = raises(StorageUnreachable("away"))
    with untouched(tmp_path / "medley.mp4"), pytest.raises(StorageUnreachable):
        made(tmp_path / "medley.mp4", [scene(0), Scene("", "b", loads), scene(2)])


@pytest.fixture
def little_room() -> Iterator[None]:
    """No file may be larger than 30 kB, which fails as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("count", [2, 60], ids=["when it is closed", "at a frame"])
@pytest.mark.usefixtures("little_room")
def test_full_disk_leaves_an_older_video(tmp_path: Path, count: int) -> None:
    path, rng = tmp_path / "medley.mp4", np.random.default_rng(1)

    def write() -> None:
        with open_video(path, (128, 128), crf=10) as video:
            for _ in range(count):
                video.add(Image.fromarray(rng.integers(0, 256, (128, 128, 3), np.uint8)))

    with untouched(path), pytest.raises(StorageRefused, match=os.strerror(errno.EFBIG)):
        write()


def test_pyav_without_the_codec_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with (
        untouched(tmp_path / "medley.mp4"),
        pytest.raises(UsageError, match=r"no H\.264 encoder \(libx264\); `pip install av` brings one\."),
    ):
        made(tmp_path / "medley.mp4", [scene(0)])


def test_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    made(tmp_path / "a.mp4", [scene(0), scene(1)])
    for _ in range(3):
        made(tmp_path / "b.mp4", [scene(0), scene(1)])
        assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_scenes_are_taken_as_they_are_needed(tmp_path: Path) -> None:
    taken, frames, ahead = 0, 0, []

    def scenes() -> Iterator[Scene]:
        nonlocal taken
        for n in range(8):
            taken += 1
            yield scene(n, 2)

    def advance() -> None:
        nonlocal frames
        ahead.append(taken - frames // frame_count(QUICK, 1))
        frames += 1

    write_medley(tmp_path / "a.mp4", scenes(), QUICK, SIZE, SETTINGS, advance=advance)
    assert max(ahead) <= 3


def test_memory_is_bounded_however_many_pictures_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive, most, loads, lock = 0, 0, 0, threading.RLock()
    decode = images.open_picture

    def freed() -> None:
        nonlocal alive
        with lock:
            alive -= 1

    def counted(*args: Any) -> Image.Image:
        nonlocal alive, most
        opened = decode(*args)
        with lock:
            alive += 1
            most = max(most, alive)
        weakref.finalize(opened, freed)
        return opened

    def load(data: bytes) -> bytes:
        nonlocal loads
        with lock:
            loads += 1
        return data

    monkeypatch.setattr(scenes_module, "open_picture", counted)
    kept = [partial(load, step()) for step in scene(0, 20, (64, 48)).pictures]
    long = Scene("", "long", [*kept * 140, kept[-1]])
    made(tmp_path / "a.mp4", [long, long], VideoOptions(fps=30, seconds_per_style=8), (64, 48))
    assert loads == 2 * MOST_PICTURES
    assert (
        most <= AHEAD + DECODERS + 7
    )  # two blended, the finished one, the next first one, the reader's, two in passing
