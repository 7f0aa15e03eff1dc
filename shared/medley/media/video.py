"""Pictures become an MP4 that browsers and phones play: H.264, 4:2:0, a constant frame rate, chapters."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from medley.errors import MedleyError, OutOfMemory, UsageError
from medley.files import os_errors, whole_file
from medley.media.sheet import PAPER
from medley.records.videos import MOST_VIDEO_PX
from medley.telling import shown

if TYPE_CHECKING:
    from av.container.core import Chapter

LEAST_PX = 64
"""The shortest side of a video; decoders in phones take no less than about that."""

PRESET = "faster"
"""Of x264. A frame of a painting at 512 px takes 8 ms of a processor; ``medium`` makes a file as good 2 % smaller in
13 ms, and ``veryfast`` one 8 % larger in 6 ms."""

SAME_EVERYWHERE = "mbtree=0"
"""x264's macroblock tree reckons in floats, which each kind of processor rounds in its own way, and on those with
AVX-512 small videos differ from run to run. A file as good is 8 % larger without it."""

ENCODER_THREADS = 4
"""A fixed number, as x264's output depends on it: the same frames give the same file however many cores there are.
Two are slower even on two cores; each more holds one more frame in memory."""

KEY_FRAME_S = 4
"""A player seeks to key frames, which cost bytes; each chapter begins on one, too."""

_CODEC = "libx264"
_BT709 = 1
"""The number of BT.709 in H.264's tables: of the matrix, the primaries and the transfer alike."""

_CHAPTER_BYTES = 255
"""The longest title that MP4's list of chapters holds."""

# Its fast paths differ between processors; these flags make it the same everywhere.
_SCALER = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


class VideoWriter:
    """What :func:`open_video` yields."""

    def __init__(self, container: OutputContainer, stream: VideoStream, fps: int, path: Path) -> None:
        self._container, self._stream, self._path = container, stream, path
        self._time_base = Fraction(1, fps)
        self._reformatter = VideoReformatter()
        self._chapters: dict[int, str] = {}
        self.size = (stream.width, stream.height)
        """Of the video, px."""
        self.frames = 0
        """How many were added."""

    def add(self, picture: Image.Image) -> None:
        """One more frame: an RGB picture; of another size than the video's, it is fitted.

        Raises:
            UsageError: x264 refuses.
            StorageRefused: no room for the video.
        """
        frame = self._converted(np.asarray(fitted(picture, self.size)))
        frame.pts, frame.time_base = self.frames, self._time_base
        if self.frames in self._chapters:
            frame.pict_type = PictureType.I
        with _video_errors(self._path):
            self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def chapter(self, title: str) -> None:
        """A chapter begins with the next frame; its title is cut to what MP4 holds."""
        self._chapters[self.frames] = shown(title).encode()[:_CHAPTER_BYTES].decode(errors="ignore") or "-"

    def _converted(self, pixels: NDArray[np.uint8]) -> VideoFrame:
        """RGB as the limited-range YUV of BT.709, 4:2:0, that the stream is tagged as."""
        return self._reformatter.reformat(
            VideoFrame.from_ndarray(pixels),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=_SCALER,
            threads=1,
        )

    def _finish(self) -> None:
        """Write what the encoder still holds, the chapters, and the index."""
        if not self.frames:
            raise UsageError("There is no picture to make a video of; wait until there are results.")
        with _video_errors(self._path):
            self._container.mux(self._stream.encode())
            self._container.set_chapters(self._chapter_list())  # an MP4 takes them until it is closed
            self._container.close()

    def _chapter_list(self) -> "list[Chapter]":
        starts = [start for start in self._chapters if start < self.frames]
        return [
            {
                "id": n,
                "start": start,
                "end": end,
                "time_base": self._time_base,
                "metadata": {"title": self._chapters[start]},
            }
            for n, (start, end) in enumerate(itertools.pairwise([*starts, self.frames]))
        ]


@contextmanager
def open_video(
    path: Path, size: tuple[int, int], *, fps: int = 30, crf: int = 20, title: str = ""
) -> Iterator[VideoWriter]:
    """A video to add frames to; it appears at ``path``, over what is there, when the ``with`` ends, and not before.

    After an error nothing is left of it. Its size is :func:`playable_size` of ``size``. The same frames give the same
    bytes with one version of PyAV, on all x86 processors with AVX.

    Raises:
        UsageError: no frame was added, no video has this size, or PyAV has no encoder.
        StorageRefused: no room for the video, or no right to write it there.
        OutOfMemory: the encoder has no room now.
    """
    if _CODEC not in av.codecs_available:
        raise UsageError(f"This machine's PyAV has no H.264 encoder ({_CODEC}); `pip install av` brings one.")
    playable = playable_size(size)
    with ExitStack() as opened:
        with _video_errors(path):
            part = Path(opened.enter_context(whole_file(path)).name)
            container = av.open(part, "w", format="mp4", options={"movflags": "+faststart"})
        opened.callback(_give_up, container)
        container.metadata["title"] = shown(title)
        writer = VideoWriter(container, _stream(container, playable, fps, crf), fps, path)
        yield writer
        writer._finish()
        with _video_errors(path):
            opened.close()


def playable_size(size: tuple[int, int]) -> tuple[int, int]:
    """The size of a video for pictures of this size, px: enlarged to :data:`LEAST_PX` a side, and even, a px less.

    Raises:
        UsageError: a side is under 1 px or over 4096.
    """
    if min(size) < 1 or max(size) > MOST_VIDEO_PX:
        raise UsageError(f"No video has {size[0]} x {size[1]} pixels; ask for 1 to {MOST_VIDEO_PX} a side.")
    times = max(1, LEAST_PX / min(size))
    width, height = (min(MOST_VIDEO_PX, round(side * times)) for side in size)
    return width - width % 2, height - height % 2


def fitted(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An RGB picture whole, as large as it can be, in the middle of a dark ground of this size.

    To fill the ground all but 2 px it is stretched, and an odd row or column is cut off.
    """
    over = [side - most for side, most in zip(picture.size, size, strict=True)]
    if over == [0, 0]:
        return picture
    if min(over) >= 0 and max(over) == 1:
        return picture.crop((0, 0, *size))
    scale = min(most / side for side, most in zip(picture.size, size, strict=True))
    inside = [max(1, round(side * scale)) for side in picture.size]
    if all(most - side <= 2 for side, most in zip(inside, size, strict=True)):
        return picture.resize(size, Image.Resampling.LANCZOS)
    ground = Image.new("RGB", size, PAPER)
    small = picture.resize((inside[0], inside[1]), Image.Resampling.LANCZOS)
    ground.paste(small, ((size[0] - inside[0]) // 2, (size[1] - inside[1]) // 2))
    return ground


def _stream(container: OutputContainer, size: tuple[int, int], fps: int, crf: int) -> VideoStream:
    options = {"preset": PRESET, "crf": str(crf), "profile": "high", "forced-idr": "1"}
    options["x264-params"] = SAME_EVERYWHERE
    stream = cast(VideoStream, container.add_stream(_CODEC, rate=fps, options=options))
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.gop_size = KEY_FRAME_S * fps
    context.time_base = Fraction(1, fps)
    # Untagged, players take a large video for BT.709 and a small one for BT.601.
    context.colorspace, context.color_primaries = _BT709, ColorPrimaries.BT709
    context.color_trc, context.color_range = ColorTrc.BT709, ColorRange.MPEG
    # PyAV's default is slices, which cost quality.
    context.thread_count, context.thread_type = ENCODER_THREADS, "FRAME"
    return stream


def _give_up(container: OutputContainer) -> None:
    """Let go of the file; it is closed already if the video is whole, and deleted if not."""
    with suppress(FFmpegError):
        container.close()


@contextmanager
def _video_errors(path: Path) -> Iterator[None]:
    try:
        with os_errors(shown(str(path))):
            yield
    except MedleyError:
        raise
    except MemoryError as error:
        raise OutOfMemory("There is no memory for encoding the video; try again, or make it smaller.") from error
    except FFmpegError as error:
        raise UsageError(f"x264 cannot encode this video ({error.strerror}); choose another size or --crf.") from error
