"""The commands that make again what people look at: a batch's video, and its contact sheet or all of its pages."""

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from rich.console import Console

from medley import keys
from medley.errors import UsageError
from medley.files import whole_file
from medley.pieces import sheet as sheets
from medley.pieces.gallery import put_gallery
from medley.pieces.source import Source, opened
from medley.records.base import BatchName
from medley.records.videos import MedleyOptions
from medley.records.walks import WalkBatch
from medley.settings import Settings
from medley.storage import open_storage
from medley.storage.patient import PatientStorage
from medley.telling import Told
from medley_producer.commands.outputs import output_file
from medley_producer.commands.requesting import batch_name
from medley_producer.commands.telling import count, tell, telling
from medley_producer.layout import laid_out, lay_out
from medley_producer.local import interruptible
from medley_producer.options.fields import record_from
from medley_producer.reaching import PATIENCE_S
from medley_producer.status import named_batch


class Found(NamedTuple):
    """A batch, and the folder of the ``medley run`` that it is of, if it is."""

    source: Source
    folder: Path | None


def video(args: Namespace) -> int:
    """Make a batch's video again."""
    interruptible()
    options, out = record_from(MedleyOptions, args), output_file(args.out, ".mp4") if args.out else None
    with telling(Console(stderr=True)) as told, _found(args) as found:
        _require_medley(found, [name for name in MedleyOptions.model_fields if getattr(args, name) is not None])
        made = _Made(found, keys.video(found.source.batch.name), out)
        with made.file() as path:
            notes = _make_video(found.source, path, options, told)
    tell(args, {"batch": found.source.batch.name, "out": made.where, "left_out": notes}, *notes, f"video: {made.where}")
    return 0


def sheet(args: Namespace) -> int:
    """Make a batch's contact sheet again, or all pages."""
    interruptible()
    if args.page is not None and not args.out:
        raise UsageError("--page is one of the pages that --out DIR gets; name a folder.")
    sheets.require_possible(args.columns, args.cells)
    with telling(Console(stderr=True)) as told, _found(args) as found:
        if isinstance(found.source.batch, WalkBatch):
            raise UsageError(f"Batch {found.source.batch.name!r} is a walk, and has no contact sheet.")
        files = _pages(args, found, told) if args.out else [_overview(args, found)]
    lines = files if len(files) < 3 else [files[0], "...", files[-1]]
    tell(args, {"batch": found.source.batch.name, "files": files}, *lines, count(len(files), "sheet"))
    return 0


def _require_medley(found: Found, given: list[str]) -> None:
    """Refuse options of a medley where there is none.

    Raises:
        UsageError: it is a walk, whose video is as it was asked for.
    """
    if given and isinstance(found.source.batch, WalkBatch):
        option = f"--{given[0].replace('_', '-')}"
        raise UsageError(f"Batch {found.source.batch.name!r} is a walk, so {option} bears on nothing; leave it out.")


class _Made:
    """Where a piece goes: to a file that was named, or to the batch's place in storage, and so to its folder."""

    def __init__(self, found: Found, key: str, out: Path | None) -> None:
        self._source, self._folder, self._key, self._out = found.source, found.folder, key, out

    @property
    def where(self) -> str:
        """Where people find it."""
        if self._out:
            return str(self._out)
        name = self._key.rpartition("/")[2]
        return str(self._folder / name) if self._folder else f"{self._source.storage.root}/{self._key}"

    @contextmanager
    def file(self) -> Iterator[Path]:
        """A file to make; when that is done, it is put in its place, and the gallery shows it."""
        if self._out:
            yield self._out
            return
        storage, batch = self._source.storage, self._source.batch
        with TemporaryDirectory(prefix="medley-") as temporary:
            path = Path(temporary, "made")
            yield path
            storage.put_file(self._key, path)
        if storage.exists(keys.finished(batch.name)):
            put_gallery(self._source)
        if self._folder:
            lay_out(storage, self._source.settings, batch, self._folder)


def _make_video(source: Source, path: Path, options: MedleyOptions, told: Told) -> list[str]:
    """Make it; returns what had to be left out, a sentence each."""
    from medley.pieces.video import make_medley, make_walk

    if isinstance(source.batch, WalkBatch):
        make_walk(source, path, told)
        return []
    summary = make_medley(source, path, options, told)
    return [*summary.left_out, *summary.notes]


def _overview(args: Namespace, found: Found) -> str:
    made = _Made(found, keys.contact_sheet(found.source.batch.name), None)
    with made.file() as path:
        path.write_bytes(sheets.overview(found.source, args.columns, args.cells))
    return made.where


def _pages(args: Namespace, found: Found, told: Told) -> list[str]:
    """All pages, or one, in a folder, under names that sort."""
    total = sheets.page_count(found.source, args.cells)
    if args.page is not None and not 1 <= args.page <= total:
        raise UsageError(f"There is no page {args.page}: batch {found.source.batch.name!r} has {count(total, 'page')}.")
    files: list[str] = []
    pages = sheets.pages(found.source, args.columns, args.cells, only=args.page)
    for number, page in enumerate(pages, start=args.page or 1):
        path = Path(args.out, f"contact_sheet-{number:0{len(str(total))}}.jpg")
        with whole_file(path) as file:
            file.write(page)
        files.append(str(path))
        told("making sheets", len(files), 1 if args.page else total)
    return files


@contextmanager
def _found(args: Namespace) -> Iterator[Found]:
    """The batch that is named, or that a folder of ``medley run`` was made by; only storage has to answer.

    Raises:
        UsageError: there is none.
    """
    folder = Path(args.batch)
    own = folder.absolute() / ".medley" / "storage"
    is_ours = own.is_dir()
    if folder.is_dir() and not is_ours:
        raise UsageError(f"{folder} is a folder, but not that of a `medley run`; name that, or a batch.")
    settings = Settings.load(**({"storage_url": own.as_uri()} if is_ours else {}))
    storage = open_storage(settings.storage, settings)
    storage.check()
    storage = PatientStorage(storage, PATIENCE_S)
    batch = named_batch(storage, _laid_out_from(folder) if is_ours else batch_name(args.batch))
    with opened(storage, settings, batch) as source:
        yield Found(source, folder if is_ours else None)


def _laid_out_from(folder: Path) -> BatchName:
    """The batch whose pictures a folder of ``medley run`` shows."""
    if note := laid_out(folder):
        return note.batch
    raise UsageError(f"No batch is laid out in {folder} as yet; `medley run --out {folder}` goes on until one is.")
