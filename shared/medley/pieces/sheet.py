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
        job, show = pair.job, _Shower(source, pair)
        styles = (show(previews.style(n), keys.input_picture(style.input)) for n, style in enumerate(job.styles))
        yield Cell(
            caption=pair.title,
            content=show(previews.CONTENT, keys.input_picture(job.content.input)),
            styles=[picture for picture in styles if picture],
            result=show(previews.PICTURE, show.picture),
            reason="failed" if pair.failed else "",
        )


class _Shower:
    """Fetches the small copies that a pair's attempt kept; where it has none, larger pictures are made small."""

    def __init__(self, source: Source, pair: Pair) -> None:
        self._source = source
        self._files = pair.result.files if pair.result else {}

    @property
    def picture(self) -> str:
        """The key of the finished picture; nothing where there is none."""
        return self._files[PICTURE_FILE].key if PICTURE_FILE in self._files else ""

    def __call__(self, what: str, otherwise: str) -> Image.Image | None:
        """A small picture; None if it cannot be read, which may be why its job failed."""
        file = self._files.get(f"{what}.jpg")
        key = file.key if file else otherwise
        settings = any_side(self._source.settings)
        try:
            return (
                reduced(open_picture(self._source.storage.get(key, settings.image_bytes), settings, key))
                if key
                else None
            )
        except (ImageError, ObjectMissing, UsageError):
            return None


def put_sheet(source: Source) -> None:
    """Store the overview as the batch's contact sheet; raises as :func:`overview` does, and what storage raises."""
    source.storage.put(keys.contact_sheet(source.batch.name), overview(source), "image/jpeg")
