"""The commands that make again what people look at: a batch's video, and its contact sheet or all of its pages."""

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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
from medley.telling import Told
from medley_producer.commands.checks import output_file
from medley_producer.commands.printing import count, print_result
from medley_producer.commands.progress import telling
from medley_producer.commands.requesting import batch_name
from medley_producer.connecting import connect_storage
from medley_producer.layout import laid_out, lay_out
from medley_producer.local import interruptible
from medley_producer.options.fields import record_from
from medley_producer.status import named_batch


class _Found(NamedTuple):
    """A batch, and the folder of the ``medley run`` that it is of, if it is."""

    source: Source
    folder: Path | None

    def where(self, key: str) -> str:
        """Where people find what the batch has in storage under this key."""
        return str(self.folder / key.rpartition("/")[2]) if self.folder else f"{self.source.storage.root}/{key}"

    @contextmanager
    def anew(self, key: str) -> Iterator[Path]:
        """A file to make; when that is done, it is put in its place, and the gallery shows it."""
        storage, batch = self.source.storage, self.source.batch
        with TemporaryDirectory(prefix="medley-") as temporary:
            path = Path(temporary, "made")
            yield path
            storage.put_file(key, path)
        if storage.exists(keys.finished(batch.name)):
            put_gallery(self.source)
        if self.folder:
            lay_out(storage, self.source.settings, batch, self.folder)


def video(args: Namespace) -> int:
    """Make a batch's video again."""
    interruptible()
    options, out = record_from(MedleyOptions, args), output_file(args.out, ".mp4") if args.out else None
    given = [f"--{name.replace('_', '-')}" for name in MedleyOptions.model_fields if getattr(args, name) is not None]
    with telling(Console(stderr=True)) as told, _found(args, told) as found:
        batch = found.source.batch
        if given and isinstance(batch, WalkBatch):
            raise UsageError(f"Batch {batch.name!r} is a walk, so {given[0]} bears on nothing; leave it out.")
        key = keys.video(batch.name)
        with nullcontext(out) if out else found.anew(key) as path:
            notes = _make_video(found.source, path, options)
    where = str(out or found.where(key))
    print_result(args, {"batch": batch.name, "out": where, "left_out": notes}, *notes, f"video: {where}")
    return 0


def sheet(args: Namespace) -> int:
    """Make a batch's contact sheet again, or all pages."""
    interruptible()
    if args.page is not None and not args.out:
        raise UsageError("--page is one of the pages that --out DIR gets; name a folder.")
    sheets.require_possible(args.columns, args.cells)
    with telling(Console(stderr=True)) as told, _found(args, told) as found:
        if isinstance(found.source.batch, WalkBatch):
            raise UsageError(f"Batch {found.source.batch.name!r} is a walk, and has no contact sheet.")
        files = _pages(args, found) if args.out else [_overview(args, found)]
    lines = files if len(files) < 3 else [files[0], "...", files[-1]]
    print_result(args, {"batch": found.source.batch.name, "files": files}, *lines, count(len(files), "sheet"))
    return 0


def _make_video(source: Source, path: Path, options: MedleyOptions) -> list[str]:
    """Make it; returns what had to be left out, a sentence each."""
    from medley.pieces.video import make_medley, make_walk

    if isinstance(source.batch, WalkBatch):
        make_walk(source, path)
        return []
    summary = make_medley(source, path, options)
    return [*summary.left_out, *summary.notes]


def _overview(args: Namespace, found: _Found) -> str:
    key = keys.contact_sheet(found.source.batch.name)
    with found.anew(key) as path:
        path.write_bytes(sheets.overview(found.source, args.columns, args.cells))
    return found.where(key)


def _pages(args: Namespace, found: _Found) -> list[str]:
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
        found.source.told("making sheets", len(files), 1 if args.page else total)
    return files


@contextmanager
def _found(args: Namespace, told: Told) -> Iterator[_Found]:
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
    storage = connect_storage(settings)
    batch = named_batch(storage, _laid_out_from(folder) if is_ours else batch_name(args.batch))
    with opened(storage, settings, batch, told) as source:
        yield _Found(source, folder if is_ours else None)


def _laid_out_from(folder: Path) -> BatchName:
    """The batch whose pictures a folder of ``medley run`` shows."""
    if note := laid_out(folder):
        return note.batch
    raise UsageError(f"No batch is laid out in {folder} as yet; `medley run --out {folder}` goes on until one is.")
