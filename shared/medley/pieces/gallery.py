"""The gallery of a batch: where its pages lead, in storage and in the folders that people have."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple

from medley import keys
from medley.batches.stored import read_finished, read_outcome, read_result
from medley.errors import ObjectMissing, UsageError
from medley.media import previews
from medley.media.gallery import PAIRS_A_PAGE, Entry, Input, Page, gallery_page
from medley.media.templates import spoken_loss
from medley.pieces.source import Pair, Source, caption, each_pair, evenly
from medley.records.base import JobId, Record
from medley.records.pictures import Picture
from medley.records.results import PICTURE_FILE, Result, StoredFile, frame_file
from medley.records.walks import WalkBatch, stretches
from medley.storage import Storage

SKIPPED_SHOWN = 20
"""Skipped files that a page names; failures.jsonl has them all."""

FILMSTRIP = 12
"""Frames of a walk beside its video."""

Place = Callable[[JobId, str, StoredFile], str]
"""Where a file of a job's result lies, as a path from the folder of ``index.html``."""


def _in_storage(_job: JobId, _name: str, file: StoredFile) -> str:
    """The place of a file where the page lies in the batch's folder of storage."""
    return f"../../{file.key}"


class Pieces(NamedTuple):
    """What lies beside the pages: where a result's files do, and the paths of the video and the sheet, if any."""

    place: Place
    video: str = ""
    sheet: str = ""


def put_gallery(source: Source) -> None:
    """Store all pages.

    Raises:
        UsageError, ObjectMissing: the manifest cannot be used.
        StorageRefused, StorageUnreachable: as storage says.
    """
    name, first = source.batch.name, b""
    stored = [
        key.rpartition("/")[2] if source.storage.exists(key) else ""
        for key in (keys.video(name), keys.contact_sheet(name))
    ]
    for number, page in enumerate(each_page(source, Pieces(_in_storage, *stored)), start=1):
        first = first or page
        if number > 1:
            source.storage.put(keys.gallery(name, number), page)
    source.storage.put(keys.gallery(name), first)  # last, as it leads to the others


def page_path(number: int) -> str:
    """Where a page lies, as a path from the folder of ``index.html``."""
    return keys.gallery("x", number).removeprefix(keys.batch_folder("x"))


def each_page(source: Source, pieces: Pieces) -> Iterator[bytes]:
    """The pages in order, as HTML, one at a time; raises what reading the manifest does."""
    finished = read_finished(source.storage, source.batch.name)
    finished_at = finished.finished_at if finished else datetime.now(UTC)
    if isinstance(source.batch, WalkBatch):
        yield gallery_page(_walk_page(source, source.batch, pieces, finished_at))
        return
    paths = [page_path(number) for number in range(1, -(-source.batch.pairs // PAIRS_A_PAGE) + 1)]
    pairs = each_pair(source)
    for number, path in enumerate(paths, start=1):
        up = "../" * path.count("/")
        entries = [_entry(source, pieces.place, pair, up) for pair in islice(pairs, PAIRS_A_PAGE)]
        about = _about(source, pieces, entries) if number == 1 else {}
        page = Page(
            batch=source.batch.name, finished_at=finished_at, number=number, urls=[up + to for to in paths],
            entries=entries, done=source.batch.jobs - source.failed, failed=source.failed,
            skipped=len(source.batch.skipped), **about,
        )  # fmt: skip
        yield gallery_page(page)


def _about(source: Source, pieces: Pieces, entries: Sequence[Entry]) -> dict[str, Any]:
    """What only the first page has; the video is about as large as the pictures here, as a browser is told before it
    has looked.
    """
    batch = source.batch
    sizes = [entry.size for entry in entries if entry.size]
    widest, highest = (max(sides) for sides in zip(*sizes or [(0, 0)], strict=True))
    return {
        "video_size": (widest, highest) if sizes else None,
        "video": pieces.video,
        "sheet": pieces.sheet,
        "options": _chosen_options(batch.options),
        "skipped_files": [(file.name, file.reason) for file in batch.skipped[:SKIPPED_SHOWN]],
    }


def _walk_page(source: Source, batch: WalkBatch, pieces: Pieces, finished_at: datetime) -> Page:
    lost = {"missing": f"{source.failed} of {batch.jobs} stretches, which failed"} if source.failed else {}
    return Page(
        batch=batch.name, finished_at=finished_at, video=pieces.video, video_size=batch.options.size,
        options=_chosen_options(batch.options) | lost, filmstrip=list(_filmstrip(source.storage, batch, pieces.place)),
    )  # fmt: skip


def _filmstrip(storage: Storage, batch: WalkBatch, place: Place) -> Iterator[str]:
    """The first frames of stretches, evenly chosen."""
    jobs = list(stretches(batch.options))
    for number in sorted(evenly(FILMSTRIP, len(jobs))):
        job = jobs[number]
        name = frame_file(job.first)
        result = read_result(storage, job.id)
        if result and name in result.files:
            yield place(job.id, name, result.files[name])


def _chosen_options(options: Record) -> dict[str, str]:
    """Those options that are not as they are by default, as people read them."""
    default = type(options)()
    return {name.replace("_", " "): _spoken(value) for name, value in options if value != getattr(default, name)}


def _spoken(value: object) -> str:
    if isinstance(value, Picture):
        return value.name
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "yes" if value is True else str(value)


def _entry(source: Source, place: Place, pair: Pair, up: str) -> Entry:
    job, result = pair.job, pair.result
    files = result.files if result else {}

    def path(name: str) -> str:
        return up + place(job.id, name, files[name]) if name in files else ""

    content = Input(caption(job.content), path(previews.CONTENT))
    styles = [Input(caption(style), path(previews.style(n))) for n, style in enumerate(job.styles)]
    if result is None:
        return Entry(title=pair.title, content=content, styles=styles, problem=_problem(source, pair))
    return Entry(
        title=pair.title,
        content=content,
        styles=styles,
        picture=path(PICTURE_FILE),
        preview=path(previews.PICTURE),
        size=result.size,
        frames=[(step, path(frame_file(step))) for step in sorted(result.frames) if frame_file(step) in files],
        losses=result.losses,
        loss=result.loss,
        seconds=result.seconds.total,
        facts=_facts(result),
    )


def _problem(source: Source, pair: Pair) -> str:
    if not pair.failed:
        return "Its result cannot be read."
    try:
        return read_outcome(source.storage, source.batch.name, pair.job.id, "failed").reason
    except (UsageError, ObjectMissing) as error:
        return str(error)


def _facts(result: Result) -> dict[str, str]:
    facts = {
        "Steps": f"{result.steps:,}",
        "Content loss": spoken_loss(result.content_loss),
        "Weights": result.weights.name,
        "Device": result.device,
        "Spared": result.economy,
        "Gone on at": ", ".join(f"step {step}" for step in result.resumed_at),
    }
    return {name: value for name, value in facts.items() if value}
