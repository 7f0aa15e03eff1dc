"""How a batch's video is made, and how its time is shared out; what numbers of frames follow from it."""

from typing import Literal, NamedTuple

from pydantic import Field, PositiveInt

from medley.records.base import Record

Transition = Literal["crossfade", "rewind", "cut"]

MOST_VIDEO_PX = 4096
"""The longest side of a video: H.264's level 5.1, which phones play, ends at 4096 x 2304."""

HOLD_S = 2
"""The longest time that a finished picture stands still, however long its scene is."""

TRANSITION_S = 1
"""The longest time from a finished picture to the next scene."""

_TRANSITION_SHARES = {"crossfade": 15, "rewind": 20, "cut": 0}
"""Percent of a scene's time."""


class VideoOptions(Record):
    """How a video looks. Its time is shared out by :func:`scene_timing`."""

    fps: int = Field(30, ge=1, le=120, description="frames a second")
    size: int | None = Field(
        None,
        ge=64,
        le=MOST_VIDEO_PX,
        description="longest side of the video, px; that of the largest picture, but at most 1920, if not given",
    )
    crf: int = Field(
        20, ge=1, le=51, description="x264's constant rate factor: the lower, the better and the larger"
    )  # 0 is lossless, a profile of H.264 that browsers and phones don't play
    seconds_per_style: float = Field(
        3.0,
        gt=0,
        le=60,
        description="seconds from one picture's beginning to the next one's, standing still and transition included",
    )
    transition: Transition = Field(
        "crossfade",
        description="from a finished picture to the next one's beginning: fade over, rewind to the photo, or cut; none "
        "in a chain, whose pictures begin as the last one ended",
    )
    titles: bool = Field(False, description="write each picture's style in its lower left corner")


class MedleyOptions(VideoOptions):
    """How a batch's medley looks, and how many pictures it has."""

    pairs: PositiveInt = Field(
        50, description="finished pictures in it, evenly chosen from the batch; of chains the first ones"
    )


class SceneTiming(NamedTuple):
    """Frames of one scene: of its pictures turning into the finished one, of that standing still, and of the way on."""

    morph: int
    hold: int
    transition: int


def scene_timing(options: VideoOptions) -> SceneTiming:
    """How a scene's frames are shared out.

    A scene has ``seconds_per_style`` x ``fps`` frames, rounded half up, and at least 2. A quarter of them, at least
    one and at most :data:`HOLD_S`, show the finished picture; 15 % (``crossfade``), 20 % (``rewind``) or none
    (``cut``), at most :data:`TRANSITION_S`, are the transition; all others are the morph, which begins on the first
    picture. Shares are rounded down. The last scene stands still instead of its transition.
    """
    frames = max(2, int(options.seconds_per_style * options.fps + 0.5))
    hold = max(1, min(frames // 4, HOLD_S * options.fps))
    transition = min(frames * _TRANSITION_SHARES[options.transition] // 100, TRANSITION_S * options.fps)
    return SceneTiming(frames - hold - transition, hold, transition)


def frame_count(options: VideoOptions, scenes: int) -> int:
    """How many frames a video of so many scenes has, exactly; its duration is that by ``fps``."""
    return scenes * sum(scene_timing(options))
