"""A video's time is shared out exactly, and equal time shows equal change."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from medley.media.pace import Mix, chosen, mixes, places
from medley.records.videos import VideoOptions, frame_count, scene_timing


@settings(derandomize=True, deadline=None)
@given(
    fps=st.integers(1, 120),
    seconds=st.floats(0.001, 60),
    transition=st.sampled_from(["crossfade", "rewind", "cut"]),
    scenes=st.integers(0, 1000),
)
def test_every_frame_of_a_scene_has_its_part(fps: int, seconds: float, transition: str, scenes: int) -> None:
    options = VideoOptions.model_validate({"fps": fps, "seconds_per_style": seconds, "transition": transition})
    timing = scene_timing(options)
    assert sum(timing) == max(2, int(seconds * fps + 0.5))
    assert timing.morph >= 1
    assert 1 <= timing.hold <= max(1, 2 * fps)
    assert 0 <= timing.transition <= fps
    assert frame_count(options, scenes) == scenes * sum(timing)


def test_timing_of_the_defaults() -> None:
    assert scene_timing(VideoOptions()) == (55, 22, 13)
    assert scene_timing(VideoOptions(transition="rewind")) == (50, 22, 18)
    assert scene_timing(VideoOptions(transition="cut", seconds_per_style=20)) == (540, 60, 0)


@pytest.mark.parametrize(
    "wrong", [{"fps": 0}, {"crf": 0}, {"size": 63}, {"seconds_per_style": 0}, {"seconds_per_style": 61}]
)
def test_options_that_make_no_video_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        VideoOptions.model_validate(wrong)


@settings(derandomize=True, deadline=None)
@given(count=st.integers(1, 5000), most=st.integers(2, 120))
def test_chosen_pictures_are_denser_at_the_beginning(count: int, most: int) -> None:
    numbers = chosen(count, most)
    assert len(numbers) == min(count, most)
    assert (numbers[0], numbers[-1]) == (0, count - 1)
    gaps = np.diff(numbers)
    assert (gaps > 0).all()
    assert (np.diff(gaps) >= -1).all()  # they grow, but for rounding


def plain(values: list[float]) -> list[NDArray[np.uint8]]:
    return [np.full((4, 4, 3), value, np.uint8) for value in values]


def shown_values(values: list[float], moments: list[float]) -> list[float]:
    """What stands at each moment, of pictures of one grey."""
    plan = mixes(places(plain(values)), moments)
    return [values[mix.near] * (1 - mix.share) + values[mix.far] * mix.share for mix in plan]


def test_equal_time_shows_equal_change_however_uneven_the_pictures() -> None:
    values = [200 * (1 - 0.6**n) for n in range(30)]
    moments = [n / 40 for n in range(41)]
    steps = np.diff(shown_values(values, moments))
    assert steps.max() < 1.5 * np.median(steps)
    assert steps.min() > 0.5 * np.median(steps)
    naive = np.diff(np.interp(np.linspace(0, 29, 41), np.arange(30), values))
    assert naive.max() > 20 * np.median(naive)


def test_the_way_back_is_the_way_there() -> None:
    placed = places(plain([0, 10, 50, 60, 200]))
    moments = [n / 7 for n in range(8)]
    there, back = mixes(placed, moments), mixes(placed, moments[::-1])
    turned = [(mix.far, mix.near, 1 - mix.share if mix.share else 0) for mix in back[::-1]]
    assert np.array(turned) == pytest.approx(np.array(there))
    needed = [number for mix in back for number in (mix.near, mix.far)]
    assert all(before >= after for before, after in itertools.pairwise(dict.fromkeys(needed)))


def test_still_and_single_pictures_have_places() -> None:
    assert places(plain([7, 7, 7])).tolist() == [0, 0.5, 1]
    assert mixes(places(plain([7])), [0, 0.5]) == [Mix(0, 0, 0.0)] * 2
    still = mixes(places(plain([7, 7, 90, 90])), [0, 0.5, 1])
    assert np.array(still) == pytest.approx(np.array([(0, 0, 0), (1, 2, 0.5), (3, 3, 0)]))
