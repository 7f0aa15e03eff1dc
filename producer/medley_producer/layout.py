"""A batch as files that a person finds: ``<content>--<style>.png``, the sheet, the video, the gallery, what failed."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import StringConstraints

from medley import keys
from medley.batches.job_table import JobTable
from medley.batches.stored import read_manifest, read_result
from medley.errors import ObjectMissing, UsageError
from medley.files import os_errors, whole_file
from medley.pieces.gallery import Pieces, each_page, page_path
from medley.pieces.source import Source, opened
from medley.records.base import BatchName, JobId, Record
from medley.records.batches import AnyBatch
from medley.records.kinds import Job
from medley.records.results import PICTURE_FILE, StoredFile
from medley.records.walks import Walk
from medley.settings import Settings
from medley.storage import Storage
from medley.telling import shown

FETCHES_AT_ONCE = 8
"""Fetches wait for the network more than for anything here."""

CHUNK = 500
"""Jobs that are held in memory."""

_NOTE = Path(".medley", "laid_out.json")

TITLE_BYTES = 200
"""File systems take names of 255 bytes; what is left is for a number, an extension, and a name while it is written."""


def title(job: Job) -> str:
    """What a job is called: ``<content>--<style>``, a blend's styles joined by ``+``; cut to :data:`TITLE_BYTES`. Those
    of a walk have no names of their own.

    It is printable whatever its pictures are called, and no program takes it for an option.
    """
    if isinstance(job, Walk):
        return ""
    styles = "+".join(PurePosixPath(style.name).stem for style in job.styles)
    whole = shown(f"{PurePosixPath(job.content.name).stem}--{styles}").replace("\\", "_")
    return re.sub("^[-.]", "_", whole).encode()[:TITLE_BYTES].decode(errors="ignore")


def titles(storage: Storage, batch: AnyBatch) -> Iterator[tuple[JobId, str]]:
    """Every job of a batch, once and in order, with a title that no other has: later ones are numbered."""
    with JobTable() as seen, JobTable() as taken:
        for job in read_manifest(storage, batch):
            if seen.put([(job.id, "")]):
                name = title(job)
                yield job.id, _free(name, taken) if name else ""


def _free(name: str, taken: JobTable) -> str:
    candidate, number = name, 2
    while not taken.put([(_id_of(candidate), "")]):
        candidate, number = f"{name}-{number}", number + 1
    return candidate


def _id_of(name: str) -> JobId:
    """A text of a job id's form for a name, as a table takes; case is ignored, as some file systems do."""
    return hashlib.sha256(name.casefold().encode()).hexdigest()[:32]


def lay_out(storage: Storage, settings: Settings, batch: AnyBatch, folder: Path) -> int:
    """Put what a batch has so far into a folder; returns how many results that are.

    A folder's storage on the same file system is linked rather than copied. What is there already under a name is
    replaced. See :func:`place` for where things go; a batch that has ended has its sheet, its video and its gallery
    there, too.

    Raises:
        ServiceUnreachable, ServiceRefused: storage, or the folder's disk, does not serve us; what was fetched stays,
            and doing it again goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    placed = 0
    with (
        os_errors(shown(str(folder))),
        opened(storage, settings, batch) as source,
        JobTable() as named,
        ThreadPoolExecutor(FETCHES_AT_ONCE) as threads,
    ):
        jobs = titles(storage, batch)
        while chunk := dict(islice(jobs, CHUNK)):
            named.put(chunk.items())
            done = [item for item in chunk.items() if source.status_of(item[0]) == "done"]
            placed += sum(threads.map(lambda item: _fetch(storage, item, folder), done))
        _replace(folder, batch, _pieces(source, folder, lambda job: named.values([job])[job]))
    return placed


class LaidOut(Record):
    """Which batch a folder was last laid out from, and what else than its jobs' files it has of it."""

    batch: BatchName
    files: tuple[Annotated[str, StringConstraints(pattern=r"^(gallery/page-[0-9]+\.html|[a-z_]+\.[a-z0-9]+)$")], ...]


def laid_out(folder: Path) -> LaidOut | None:
    """What :func:`lay_out` noted of a folder; None if it never was there, or another version noted it."""
    try:
        return LaidOut.from_json((folder / _NOTE).read_bytes())
    except (FileNotFoundError, NotADirectoryError, UsageError):
        return None


def _replace(folder: Path, batch: AnyBatch, files: Iterable[str]) -> None:
    """Note what was laid out, and delete what was there before: an earlier batch's must not be taken for this one's."""
    before, now = laid_out(folder), LaidOut(batch=batch.name, files=tuple(files))
    for old in set(before.files if before else ()) - set(now.files):
        (folder / old).unlink(missing_ok=True)
    with whole_file(folder / _NOTE) as file:
        file.write(now.json_bytes())


def place(name: str, file: str) -> str:
    """Where a file of a result goes, as a path from the folder; ``name`` is the job's title.

    ``<name>.png``, its frames as ``frames/<name>/<step>.jpg``, and small copies below ``gallery/<name>/``. A walk's
    frames are those of the whole, ``frames/<number>.jpg``.
    """
    path = PurePosixPath(file)
    if path.parts[0] == "frames":
        return f"frames/{name}/{path.name}" if name else file
    return f"{name}{path.suffix}" if file == PICTURE_FILE else f"gallery/{name}/{path.name}"


def _fetch(storage: Storage, item: tuple[JobId, str], folder: Path) -> bool:
    """Put the files of a job, which has this title, into a folder; false if it has no result."""
    job, name = item
    result = read_result(storage, job)
    if result is None:
        return False
    for file, stored in result.files.items():
        try:
            storage.get_file(stored.key, folder / place(name, file), link=True)
        except ObjectMissing:
            if not keys.is_frame(stored.key):  # frames may expire, by a rule of the bucket
                raise
    return True


def _pieces(source: Source, folder: Path, name_of: Callable[[JobId], str]) -> Iterator[str]:
    """Put what a batch ended with, if it has, into the folder, and yield the files' names."""
    storage, name = source.storage, source.batch.name
    if not storage.exists(keys.finished(name)):
        return
    wanted = [keys.contact_sheet(name), keys.video(name)]
    wanted += [keys.failures(name)] if source.failed or source.batch.skipped else []
    placed = []
    for key in wanted:
        with suppress(ObjectMissing):  # there was no room for it, or nothing to show
            storage.get_file(key, folder / key.rpartition("/")[2], link=True)
            placed.append(key.rpartition("/")[2])
    yield from placed
    yield from _gallery(source, folder, placed, name_of)


def _gallery(source: Source, folder: Path, placed: Sequence[str], name_of: Callable[[JobId], str]) -> Iterator[str]:
    """Write the gallery's pages, whose links are others here than in storage."""

    def where(job: JobId, file: str, _stored: StoredFile) -> str:
        return place(name_of(job), file)

    video, sheet = (name if name in placed else "" for name in ("medley.mp4", "contact_sheet.jpg"))
    for number, page in enumerate(each_page(source, Pieces(where, video, sheet)), start=1):
        with whole_file(folder / page_path(number)) as file:
            file.write(page)
        yield page_path(number)
