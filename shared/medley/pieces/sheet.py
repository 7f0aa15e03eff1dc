"""The contact sheet of a batch: its pairs at a glance, or page by page."""

from collections.abc import Iterator
from itertools import islice

from PIL import Image

from medley import keys
from medley.errors import ImageError, ObjectMissing, UsageError
from medley.media import previews
from medley.media.images import any_side, open_picture
from medley.media.previews import reduced
from medley.media.sheet import MOST_CELLS, Cell, contact_sheet
from medley.pieces import PAGE_CELLS
from medley.pieces.source import Pair, Source, each_job, each_pair, evenly
from medley.records.results import PICTURE_FILE


def overview(source: Source, columns: int = 0, cells: int = PAGE_CELLS) -> bytes:
    """One sheet (JPEG) of the whole batch; of a larger one, so many pairs evenly chosen.

    Raises:
        UsageError: the manifest cannot be used, or a number is out of range.
        ObjectMissing: there is no manifest.
    """
    chosen = evenly(cells, source.batch.pairs)
    jobs = (job for number, job in enumerate(each_job(source)) if number in chosen)
    return contact_sheet(_cells(source, each_pair(source, jobs)), columns, limit=cells)


def pages(source: Source, columns: int = 0, cells: int = PAGE_CELLS, only: int | None = None) -> Iterator[bytes]:
    """The sheets of all pairs, so many on each, or ``only`` one of them, from 1 on; one sheet at a time in memory.

    Raises:
        UsageError, ObjectMissing: as of :func:`overview`.
    """
    jobs = each_job(source)
    if only is not None:
        jobs = islice(jobs, (only - 1) * cells, only * cells)
    pairs = each_pair(source, jobs)
    for _ in range(page_count(source, cells) if only is None else 1):
        yield contact_sheet(_cells(source, pairs), columns, limit=cells)


def require_possible(columns: int, cells: int) -> None:
    """See that a sheet can have so many columns and cells.

    Raises:
        UsageError: it cannot.
    """
    if columns < 0 or not 1 <= cells <= MOST_CELLS:
        raise UsageError(f"A sheet has 1 to {MOST_CELLS} --cells, and 0 --columns (about a square) or more.")


def page_count(source: Source, cells: int = PAGE_CELLS) -> int:
    """How many sheets hold all pairs."""
    return -(-source.batch.pairs // cells)


def _cells(source: Source, pairs: Iterator[Pair]) -> Iterator[Cell]:
    for pair in pairs:
        job = pair.job
        kept = {name: file.key for name, file in pair.result.files.items()} if pair.result else {}
        inputs = {previews.style(n): keys.input_picture(style.input) for n, style in enumerate(job.styles)}
        styles = [_small(source, kept.get(name, whole)) for name, whole in inputs.items()]
        yield Cell(
            caption=pair.title,
            content=_small(source, kept.get(previews.CONTENT, keys.input_picture(job.content.input))),
            styles=[picture for picture in styles if picture],
            result=_small(source, kept.get(previews.PICTURE, kept.get(PICTURE_FILE))),
            reason="failed" if pair.failed else "",
        )


def _small(source: Source, key: str | None) -> Image.Image | None:
    """A picture made small, as the copies are that attempts keep; None if it cannot be read, which may be why its job
    failed.
    """
    settings = any_side(source.settings)
    try:
        return reduced(open_picture(source.storage.get(key, settings.image_bytes), settings, key)) if key else None
    except (ImageError, ObjectMissing, UsageError):
        return None


def put_sheet(source: Source) -> None:
    """Store the overview as the batch's contact sheet; raises as :func:`overview` does, and what storage raises."""
    source.storage.put(keys.contact_sheet(source.batch.name), overview(source), "image/jpeg")
