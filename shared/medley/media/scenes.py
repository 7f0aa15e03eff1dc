"""The medley: each job's pictures, from the first one to the finished one, and on to the next, as one video."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medley.errors import ImageError, ObjectMissing, UsageError
from medley.media.images import any_side, open_picture
from medley.media.pace import Mix, chosen, mixes, places
from medley.media.sheet import INK, PAPER, wrapped
from medley.media.video import LEAST_PX, VideoWriter, fitted, open_video, playable_size
from medley.records.videos import VideoOptions, scene_timing
from medley.settings import Settings
from medley.threads import in_order

Load = Callable[[], bytes]

MOST_PICTURES = 120
"""Of one scene that are used; more would differ too little to be seen."""

HELD_BYTES = 64_000_000
"""What the used pictures of one scene may take, about, as files; three scenes are held at most."""

LOADERS = 8
"""Threads that wait for storage."""

DECODERS = 2
"""Threads that decode; one picture takes less time than encoding one frame."""

AHEAD = 4
"""Pictures that are decoded before they are needed."""

USUAL_PX = 1920
"""The longest side of a video for which none was chosen."""

THUMBNAIL_PX = 48
"""The side by which change is measured: what is finer is grain, and does not look like motion."""


@dataclass(frozen=True)
class Scene:
    """One finished job.

    ``pictures`` are loaders of picture files, in order, the finished one last; each is called once at most, from any
    thread, several at a time. They raise ObjectMissing or ImageError for a picture that is to be left out, and
    whatever else they raise ends the video. ``title`` is what stands in the picture with ``titles``, ``chapter`` is
    what players list and what notes call the scene.
    """

    title: str
    chapter: str
    pictures: Sequence[Load]


@dataclass(frozen=True)
class Summary:
    """What a medley became: ``scenes`` are those shown; the rest are sentences.

    ``left_out`` has one for each scene that is not shown, ``notes`` one for each that lacks pictures.
    """

    frames: int
    seconds: float
    scenes: int
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Ready:
    """A scene that can be shown: the files of its used pictures, and their places in its time."""

    chapter: str
    label: Image.Image | None
    files: Sequence[bytes]
    places: NDArray[np.float64]
    note: str

    @property
    def last(self) -> int:
        return len(self.files) - 1


def video_size(sizes: Iterable[tuple[int, int]], options: VideoOptions) -> tuple[int, int]:
    """A video's size (px) for pictures of these sizes: as wide as the widest and as high as the highest of them.

    That is when each has ``options.size`` on its longest side, or else what the largest has, at most
    :data:`USUAL_PX`. Sides are even, and at least 64.

    Raises:
        UsageError: no picture.
    """
    known = set(sizes)
    if not known:
        raise UsageError("There is no picture to make a video of; wait until there are results.")
    most = options.size or min(USUAL_PX, max(map(max, known)))
    scaled = [[max(1, round(side * most / max(size))) for side in size] for size in known]
    return playable_size((max(width for width, _ in scaled), max(height for _, height in scaled)))


def write_medley(
    path: Path,
    scenes: Iterable[Scene],
    options: VideoOptions,
    size: tuple[int, int],
    settings: Settings,
    *,
    title: str = "",
    advance: Callable[[], None] = lambda: None,
) -> Summary:
    """Write the video; it replaces what is at ``path`` when it is whole, and nothing is left of it after an error.

    It has :func:`medley.records.videos.frame_count` frames for the scenes that are shown. Of a scene with M frames of
    morph, H of hold and T of transition (:func:`medley.records.videos.scene_timing`), morph i (0 to M - 1) shows what
    has gone through i/M of all change; then comes the finished picture, H times; transition j (0 to T - 1) of a
    crossfade has (j + 1)/(T + 1) of the next scene's first picture, and of a rewind shows what has gone through 1 - (j
    + 1)/T.

    Scenes are taken one at a time, in this thread; the next one is loaded while one is encoded. ``advance`` is called
    before each frame; what it raises ends the video.

    Raises:
        UsageError: no scene can be shown, or :func:`open_video` refuses.
        StorageRefused: no room for the video.
        OutOfMemory: no room for a picture.
    """
    with open_video(path, size, fps=options.fps, crf=options.crf, title=title) as video:
        with _Studio(video, options, settings, advance) as studio:
            studio.play(scenes)
        if not video.frames:
            what = "; ".join(studio.left_out[:3]) or "there are none yet"
            raise UsageError(f"There is no scene to make a video of: {what}.")
        return Summary(
            video.frames, video.frames / options.fps, studio.shown, tuple(studio.left_out), tuple(studio.notes)
        )


class _Studio:
    """Reads scenes ahead in threads, and shows them in this one."""

    def __init__(
        self, video: VideoWriter, options: VideoOptions, settings: Settings, advance: Callable[[], None]
    ) -> None:
        self._video, self._options, self._advance = video, options, advance
        self._settings = any_side(settings)
        self._timing = scene_timing(options)
        self._threads = ExitStack()
        self.shown = 0
        self.left_out: list[str] = []
        self.notes: list[str] = []

    def __enter__(self) -> Self:
        self._reader, self._loaders, self._decoders = (ThreadPoolExecutor(n) for n in (1, LOADERS, DECODERS))
        for each in (self._reader, self._loaders, self._decoders):  # the reader, which waits for loaders, ends last
            self._threads.callback(each.shutdown, cancel_futures=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.close()

    def play(self, scenes: Iterable[Scene]) -> None:
        """Show every scene that can be shown."""
        ready = self._ready(scenes)
        scene = next(ready, None)
        while scene is not None:
            self._video.chapter(scene.chapter)
            moments = [n / self._timing.morph for n in range(self._timing.morph)]
            self._show(self._reel(scene, mixes(scene.places, moments)))
            finished = self._decoded(scene, scene.last)
            self._show([finished] * self._timing.hold)
            following = next(ready, None)
            self._show(self._transition(scene, finished, following))
            self.shown += 1
            if scene.note:
                self.notes.append(scene.note)
            scene = following

    def _transition(self, scene: _Ready, finished: Image.Image, following: _Ready | None) -> Iterable[Image.Image]:
        count = self._timing.transition
        if following is None:
            return [finished] * count
        if self._options.transition == "rewind":
            return self._reel(scene, mixes(scene.places, [1 - (n + 1) / count for n in range(count)]))
        first = self._decoded(following, 0) if count else finished
        return (Image.blend(finished, first, (n + 1) / (count + 1)) for n in range(count))

    def _show(self, frames: Iterable[Image.Image]) -> None:
        for frame in frames:
            self._advance()
            self._video.add(frame)

    def _reel(self, scene: _Ready, plan: Sequence[Mix]) -> Iterator[Image.Image]:
        """The frames of a plan that goes one way, so that each picture is decoded once and two are held."""
        needed = list(dict.fromkeys(number for mix in plan for number in (mix.near, mix.far)))
        coming = in_order(self._decoders, partial(self._decoded, scene), needed, AHEAD)
        held: dict[int, Image.Image] = {}
        for mix in plan:
            pair = (mix.near, mix.far)
            held = {number: held[number] if number in held else next(coming) for number in dict.fromkeys(pair)}
            near, far = (held[number] for number in pair)
            yield Image.blend(near, far, mix.share) if mix.share else near

    def _decoded(self, scene: _Ready, number: int) -> Image.Image:
        """A picture as the video has it, title included."""
        picture = fitted(open_picture(scene.files[number], self._settings, scene.chapter), self._video.size)
        if scene.label is not None:
            margin = scene.label.info["margin"]
            picture.paste(scene.label, (margin, picture.height - scene.label.height - margin), scene.label)
        return picture

    def _ready(self, scenes: Iterable[Scene]) -> Iterator[_Ready]:
        """The scenes that can be shown; when one is yielded, the next one is being read."""
        waiting: deque[Future[_Ready | str]] = deque()
        for scene in scenes:
            waiting.append(self._reader.submit(self._read, scene))
            if len(waiting) > 1:
                yield from self._usable(waiting.popleft())
        for last in waiting:
            yield from self._usable(last)

    def _usable(self, read: Future[_Ready | str]) -> Iterator[_Ready]:
        outcome = read.result()
        if isinstance(outcome, str):
            self.left_out.append(outcome)
        else:
            yield outcome

    def _read(self, scene: Scene) -> _Ready | str:
        """A scene's used pictures, in the reader's thread; or why it is left out."""
        if not scene.pictures:
            return f"{scene.chapter} has no pictures"
        try:
            finished = scene.pictures[-1]()
            thumbnail = self._thumbnail(finished, scene.chapter)
        except (ObjectMissing, ImageError) as error:
            return f"{scene.chapter} lacks its finished picture: {str(error).rstrip('.')}"
        files, thumbnails, problems = self._before(scene, len(finished))
        note = f"{scene.chapter} lacks {len(problems)} of its pictures: {problems[0]}" if problems else ""
        label = _label(scene.title, self._video.size) if self._options.titles else None
        return _Ready(scene.chapter, label, [*files, finished], places([*thumbnails, thumbnail]), note)

    def _before(self, scene: Scene, size: int) -> tuple[list[bytes], list[NDArray[np.uint8]], list[str]]:
        """The files of the pictures that lead up to a finished one of so many bytes, their thumbnails, and problems."""
        most = max(2, min(MOST_PICTURES, self._timing.morph + 1, HELD_BYTES // size))
        files, thumbnails, problems = [], [], []
        used = [scene.pictures[number] for number in chosen(len(scene.pictures), most)[:-1]]
        for loading in [self._loaders.submit(load) for load in used]:
            try:
                file = loading.result()
                thumbnails.append(self._thumbnail(file, scene.chapter))
                files.append(file)
            except (ObjectMissing, ImageError) as error:
                problems.append(str(error))
        return files, thumbnails, problems

    def _thumbnail(self, file: bytes, name: str) -> NDArray[np.uint8]:
        """What change is measured by; decoded as it will be shown, so that what cannot be shown is known now."""
        picture = open_picture(file, self._settings, name)
        return np.asarray(picture.resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX))


def _label(title: str, size: tuple[int, int]) -> Image.Image | None:
    """A title on a dark box that lets some of the picture through; ``info`` has its margin, px."""
    px = max(LEAST_PX // 6, min(size) // 20)
    font = ImageFont.load_default(px)
    text = wrapped(title, font, size[0] - 3 * px, 2)
    if not text:
        return None
    left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), text, font)
    pad = px // 2
    label = Image.new("RGBA", (round(right - left) + 2 * pad, round(bottom - top) + 2 * pad), f"{PAPER}b0")
    ImageDraw.Draw(label).multiline_text((pad - left, pad - top), text, INK, font)
    label.info["margin"] = px // 2
    return label
