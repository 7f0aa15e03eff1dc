"""A batch's pictures as files that a person finds: ``<content>--<style>.png``, the sheet, what failed."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath

from medley import keys
from medley.batches import list_outcomes, read_manifest, read_result
from medley.errors import ObjectMissing
from medley.jobs import Batch, StyleTransfer
from medley.media.images import shown
from medley.records import JobId
from medley.results import Result
from medley.storage import Storage

FETCHES_AT_ONCE = 8
"""Fetches wait for the network more than for anything here."""


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
    seen: set[JobId] = set()
    taken: set[str] = set()
    for job in read_manifest(storage, batch):
        if job.id not in seen:
            seen.add(job.id)
            yield job.id, _free(title(job), taken)


def _free(name: str, taken: set[str]) -> str:
    # Case is ignored, as some file systems do.
    candidate, number = name, 2
    while candidate.casefold() in taken:
        candidate, number = f"{name}-{number}", number + 1
    taken.add(candidate.casefold())
    return candidate


def lay_out(storage: Storage, batch: Batch, folder: Path) -> int:
    """Put what a batch has so far into a folder; returns how many pictures that are.

    A folder's storage on the same file system is linked rather than copied. What is there already under a name is
    replaced. Frames go to ``frames/<content>--<style>/<step>.jpg``.

    Raises:
        ServiceUnreachable, ServiceRefused: what was fetched stays; doing it again goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = list_outcomes(storage, batch.name)
    wanted = [(job, name) for job, name in titles(storage, batch) if job in outcomes.done]

    def place(item: tuple[JobId, str]) -> int:
        result = read_result(storage, item[0])
        if result is None:
            return 0
        _place(storage, result, folder, item[1])
        return 1

    with ThreadPoolExecutor(FETCHES_AT_ONCE) as threads:
        placed = sum(threads.map(place, wanted))
    if storage.exists(keys.finished(batch.name)):
        # What an earlier batch of this folder had must not be taken for this one's.
        for name in ("contact_sheet.jpg", "failures.jsonl"):
            (folder / name).unlink(missing_ok=True)
        with suppress(ObjectMissing):  # there was no room for it
            storage.get_file(keys.contact_sheet(batch.name), folder / "contact_sheet.jpg", link=True)
        if batch.skipped or outcomes.failed:
            storage.get_file(keys.failures(batch.name), folder / "failures.jsonl", link=True)
    return placed


def _place(storage: Storage, result: Result, folder: Path, name: str) -> None:
    for file, stored in result.files.items():
        path = PurePosixPath(file)
        target = folder / "frames" / name / path.name if path.parts[0] == "frames" else folder / f"{name}{path.suffix}"
        storage.get_file(stored.key, target, link=True)
