"""A batch's pictures as files that a person finds: ``<content>--<style>.png``, the sheet, what failed."""

import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePosixPath

from medley import keys
from medley.batches import each_outcome, read_manifest, read_result
from medley.errors import ObjectMissing
from medley.jobs import Batch, StyleTransfer
from medley.media.images import shown
from medley.ondisk import JobTable
from medley.records import JobId
from medley.results import Result
from medley.storage import Storage

FETCHES_AT_ONCE = 8
"""Fetches wait for the network more than for anything here."""

CHUNK = 500
"""Jobs that are held in memory."""

TITLE_BYTES = 200
"""File systems take names of 255 bytes; what is left is for a number, an extension, and a name while it is written."""


def title(job: StyleTransfer) -> str:
    """What a job is called: ``<content>--<style>``, a blend's styles joined by ``+``; cut to :data:`TITLE_BYTES`.

    It is printable whatever its pictures are called, and no program takes it for an option.
    """
    styles = "+".join(PurePosixPath(style.name).stem for style in job.styles)
    whole = shown(f"{PurePosixPath(job.content.name).stem}--{styles}").replace("\\", "_")
    return re.sub("^[-.]", "_", whole).encode()[:TITLE_BYTES].decode(errors="ignore")


def titles(storage: Storage, batch: Batch) -> Iterator[tuple[JobId, str]]:
    """Every job of a batch, once and in order, with a title that no other has: later ones are numbered."""
    with JobTable() as seen, JobTable() as taken:
        for job in read_manifest(storage, batch):
            if seen.put([(job.id, "")]):
                yield job.id, _free(title(job), taken)


def _free(name: str, taken: JobTable) -> str:
    candidate, number = name, 2
    while not taken.put([(_id_of(candidate), "")]):
        candidate, number = f"{name}-{number}", number + 1
    return candidate


def _id_of(name: str) -> JobId:
    """A text of a job id's form for a name, as a table takes; case is ignored, as some file systems do."""
    return hashlib.sha256(name.casefold().encode()).hexdigest()[:32]


def lay_out(storage: Storage, batch: Batch, folder: Path) -> int:
    """Put what a batch has so far into a folder; returns how many pictures that are.

    A folder's storage on the same file system is linked rather than copied. What is there already under a name is
    replaced. Frames go to ``frames/<content>--<style>/<step>.jpg``.

    Raises:
        ServiceUnreachable, ServiceRefused: what was fetched stays; doing it again goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def place(item: tuple[JobId, str]) -> int:
        result = read_result(storage, item[0])
        if result is None:
            return 0
        _place(storage, result, folder, item[1])
        return 1

    placed = 0
    with JobTable() as outcomes, ThreadPoolExecutor(FETCHES_AT_ONCE) as threads:
        outcomes.put(each_outcome(storage, batch.name))
        jobs = titles(storage, batch)
        while chunk := dict(islice(jobs, CHUNK)):
            statuses = outcomes.values(list(chunk))
            placed += sum(threads.map(place, [item for item in chunk.items() if statuses.get(item[0]) == "done"]))
        has_failures = bool(batch.skipped or outcomes.count("failed"))
    if storage.exists(keys.finished(batch.name)):
        # What an earlier batch of this folder had must not be taken for this one's.
        for name in ("contact_sheet.jpg", "failures.jsonl"):
            (folder / name).unlink(missing_ok=True)
        with suppress(ObjectMissing):  # there was no room for it
            storage.get_file(keys.contact_sheet(batch.name), folder / "contact_sheet.jpg", link=True)
        if has_failures:
            storage.get_file(keys.failures(batch.name), folder / "failures.jsonl", link=True)
    return placed


def _place(storage: Storage, result: Result, folder: Path, name: str) -> None:
    for file, stored in result.files.items():
        path = PurePosixPath(file)
        target = folder / "frames" / name / path.name if path.parts[0] == "frames" else folder / f"{name}{path.suffix}"
        storage.get_file(stored.key, target, link=True)
