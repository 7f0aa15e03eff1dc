"""The video of a batch: the medley of its finished pictures, or its walk."""

import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path

from PIL import Image

from medley import keys
from medley.batches.chains import is_chained
from medley.batches.stored import read_manifest, read_result
from medley.errors import ImageError, ObjectMissing, UsageError
from medley.media.images import any_side, open_picture
from medley.media.scenes import Load, Scene, Summary, video_size, write_medley
from medley.media.video import open_video
from medley.pieces.source import Pair, Source, each_job, each_pair, evenly, styles_of
from medley.records.jobs import StyleTransfer
from medley.records.results import PICTURE_FILE, Result, StoredFile, frame_file
from medley.records.videos import MedleyOptions, frame_count
from medley.records.walks import WalkBatch
from medley.threads import in_order

log = logging.getLogger(__name__)

FETCHED_AHEAD = 6
"""Frames of a walk that are fetched and decoded before they are needed; one of 4096 x 4096 px takes 50 MB."""


def put_medley(source: Source) -> None:
    """Store the medley as it is by default; raises as :func:`make_medley` does, and what storage raises."""

    def make(path: Path) -> None:
        summary = make_medley(source, path, MedleyOptions())
        for said in (*summary.left_out, *summary.notes):
            log.warning("The video of batch %s: %s", source.batch.name, said)

    _put(source, make)


def put_walk(source: Source) -> None:
    """Store the walk's video; raises as :func:`make_walk` does, and what storage raises."""
    _put(source, partial(make_walk, source))


def _put(source: Source, make: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory(prefix="medley-") as folder:
        path = Path(folder, "medley.mp4")
        make(path)
        source.storage.put_file(keys.video(source.batch.name), path)


def make_medley(source: Source, path: Path, options: MedleyOptions) -> Summary:
    """Make the medley: a scene for each finished picture, those of one photo behind one another.

    Raises:
        UsageError: nothing is finished, or the manifest or the options cannot be used.
        ObjectMissing: there is no manifest.
        StorageRefused: no room for the video.
    """
    pairs = _by_content(_finished(source, options.pairs))
    if not pairs:
        raise UsageError(f"Batch {source.batch.name!r} has no finished picture to make a video of.")
    if is_chained(source.batch):
        options = options.model_copy(update={"transition": "cut"})  # each scene begins where the one before it ends
    size = video_size([result.size for _, result in pairs], options)
    scenes = (_scene(source, job, result) for job, result in pairs)
    numbers, total = count(), frame_count(options, len(pairs))

    def advance() -> None:
        source.advance()
        source.told("making the video", next(numbers), total)

    return write_medley(path, scenes, options, size, source.settings, title=source.batch.name, advance=advance)


def _finished(source: Source, most: int) -> list[tuple[StyleTransfer, Result]]:
    """So many of the finished pairs, evenly chosen; of chains the first, as none may lack the picture before it."""
    chosen = set(range(most))
    if source.batch.pairs > most and not is_chained(source.batch):
        chosen = evenly(most, sum(1 for _ in _ended_well(source)))
    jobs = (job for number, job in enumerate(_ended_well(source)) if number in chosen)
    return [found for pair in each_pair(source, jobs) if (found := _done(pair))]


def _ended_well(source: Source) -> Iterator[StyleTransfer]:
    return (job for job in each_job(source) if source.status_of(job.id) == "done")


def _done(pair: Pair) -> tuple[StyleTransfer, Result] | None:
    has_picture = pair.result is not None and PICTURE_FILE in pair.result.files
    return (pair.job, pair.result) if pair.result and has_picture else None


def _by_content(pairs: Iterable[tuple[StyleTransfer, Result]]) -> list[tuple[StyleTransfer, Result]]:
    """Those of one photo behind one another, in the order in which photos first appear."""
    places: dict[str, int] = {}
    return sorted(pairs, key=lambda pair: places.setdefault(pair[0].content.sha256, len(places)))


def _scene(source: Source, job: StyleTransfer, result: Result) -> Scene:
    """From the photo, or what else it began with, over the frames that were kept, to the finished picture."""
    frames = [result.files[name] for step in sorted(result.frames) if (name := frame_file(step)) in result.files]
    pictures: list[Load] = [partial(_read, source, file) for file in frames] or [partial(_first, source, job)]
    style = styles_of(job)
    return Scene(title=style, chapter=style, pictures=[*pictures, partial(_read, source, result.files[PICTURE_FILE])])


def _first(source: Source, job: StyleTransfer) -> bytes:
    """What stands for a beginning of which no frame was kept: the picture before it in its chain, or the photo."""
    try:
        before = read_result(source.storage, job.init) if job.init else None
        if before and PICTURE_FILE in before.files:
            return _read(source, before.files[PICTURE_FILE])
        return source.storage.get(keys.input_picture(job.content.input), source.settings.image_bytes)
    except UsageError as error:  # it grew in storage, or another version wrote it
        raise ImageError(str(error)) from error


def _read(source: Source, file: StoredFile) -> bytes:
    """A stored picture.

    Raises:
        ObjectMissing: it is gone.
        ImageError: it is not as it was.
    """
    try:
        data = source.storage.get(file.key, file.bytes)
    except UsageError as error:
        raise ImageError(str(error)) from error
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise ImageError(f"{file.key} is not as it was stored.")
    return data


def make_walk(source: Source, path: Path) -> int:
    """Join a walk's frames into a video; returns how many it has. Stretches that failed are left out.

    Raises:
        UsageError: it is no walk, or none of it is there.
        ImageError, ObjectMissing: a frame is damaged or gone.
        StorageRefused: no room for the video.
    """
    batch = source.batch
    if not isinstance(batch, WalkBatch):
        raise UsageError(f"Batch {batch.name!r} is no walk.")
    options = batch.options
    with open_video(path, options.size, fps=options.fps, crf=options.crf, title=batch.name) as video:
        for frame in _ahead(source, _walk_files(source)):
            source.advance()
            source.told("making the video", video.frames, options.frames)
            video.add(frame)
        return video.frames


def _walk_files(source: Source) -> Iterator[StoredFile]:
    for job in read_manifest(source.storage, source.batch):
        if source.status_of(job.id) != "done":
            continue
        result = read_result(source.storage, job.id)
        files = [result.files.get(frame_file(number)) for number in result.frames] if result else []
        if not files or None in files:
            raise ObjectMissing(f"Job {job.id} ({job.names}) is done, but its result or a frame of it is gone.")
        yield from filter(None, files)


def _ahead(source: Source, files: Iterable[StoredFile]) -> Iterator[Image.Image]:
    """Frames in order, fetched and decoded by threads before they are needed."""
    settings = any_side(source.settings)

    def frame(file: StoredFile) -> Image.Image:
        return open_picture(_read(source, file), settings, file.key)

    with ThreadPoolExecutor(FETCHED_AHEAD) as threads:
        yield from in_order(threads, frame, files, FETCHED_AHEAD)
