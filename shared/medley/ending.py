"""What a batch ends with: the contact sheet, the list of what failed, and finished.json. Making it twice is a no-op."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from PIL import Image

from medley import keys
from medley.batches import Outcomes, list_outcomes, read_batch, read_manifest, read_outcome, read_result
from medley.errors import ImageError, ObjectMissing, StorageRefused, UsageError
from medley.jobs import Batch, Picture, StyleTransfer
from medley.media.images import open_picture
from medley.media.sheet import Cell, contact_sheet
from medley.records import BatchName
from medley.results import Finished, Result
from medley.settings import Settings
from medley.storage import Storage

log = logging.getLogger(__name__)

SHEET_CELLS = 60
"""Pairs on a contact sheet, evenly chosen from the batch: as many as a page shows well."""

THUMBNAIL_PX = 480
"""Pictures are reduced to this before they go on the sheet: twice a cell's width."""


def finish_batch(storage: Storage, settings: Settings, name: BatchName, advance: Callable[[], None]) -> bool:
    """Make what a batch ends with; false if jobs are still missing, or the batch is gone.

    ``advance`` is called as the work goes on, so that a long one is not taken for a hung one.

    Outcomes may still change while this works (a failed job that a twin then did), so they are listed again at the
    end, and everything is made again if they differ from what finished.json names.
    """
    batch = read_batch(storage, name)
    if batch is None:
        log.warning("Batch %s is not ended: it is no longer in storage.", name)
        return False
    outcomes = list_outcomes(storage, name)
    while len(outcomes.all) >= batch.jobs:
        if not _is_finished(storage, name, outcomes):
            _make(storage, settings, batch, outcomes, advance)
        again = list_outcomes(storage, name)
        if again == outcomes:
            storage.delete(keys.open_batch(name))
            return True
        outcomes = again
    log.info("Batch %s is not ended: %d of %d jobs have outcomes.", name, len(outcomes.all), batch.jobs)
    return False


def _make(storage: Storage, settings: Settings, batch: Batch, outcomes: Outcomes, advance: Callable[[], None]) -> None:
    """Make everything from these outcomes; finished.json comes last, and names them."""
    storage.put(keys.failures(batch.name), _failures(storage, batch, outcomes, advance), "application/jsonl")
    jobs = _advancing(_chosen(storage, batch), advance)
    sheet = contact_sheet(_cells(storage, settings, outcomes, jobs), limit=SHEET_CELLS)
    try:
        storage.put(keys.contact_sheet(batch.name), sheet, "image/jpeg")
    except StorageRefused as error:  # a full disk may yet take what says so
        log.warning("Batch %s ends without its contact sheet: %s", batch.name, error)
    finished = Finished(
        batch=batch.name,
        done=len(outcomes.done),
        failed=len(outcomes.failed),
        outcomes=_digest(outcomes),
        finished_at=datetime.now(UTC),
    )
    storage.put(keys.finished(batch.name), finished.json_bytes(), "application/json")


def _digest(outcomes: Outcomes) -> str:
    text = "\n".join([*sorted(outcomes.done), "failed", *sorted(outcomes.failed)])
    return hashlib.sha256(text.encode()).hexdigest()


def _is_finished(storage: Storage, name: BatchName, outcomes: Outcomes) -> bool:
    try:
        return Finished.from_json(storage.get(keys.finished(name))).outcomes == _digest(outcomes)
    except (ObjectMissing, UsageError):  # none, or one that another version wrote
        return False


def _failures(storage: Storage, batch: Batch, outcomes: Outcomes, advance: Callable[[], None]) -> bytes:
    """A JSON line for each file that was skipped and each pair that failed, by name."""
    lines: list[dict[str, Any]] = [{"skipped": skipped.name, "reason": skipped.reason} for skipped in batch.skipped]
    for job in _advancing(read_manifest(storage, batch), advance) if outcomes.failed else ():
        if job.id in outcomes.failed:
            line = _failure(storage, batch, job)
            lines.append({**line, "content": job.content.name, "styles": [style.name for style in job.styles]})
    return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)


def _failure(storage: Storage, batch: Batch, job: StyleTransfer) -> dict[str, Any]:
    try:
        outcome = read_outcome(storage, batch.name, job.id, "failed")
    except UsageError as error:  # written by another version; the batch ends all the same
        return {"job": job.id, "kind": "unreadable", "reason": str(error)}
    return outcome.model_dump(mode="json", include={"job", "kind", "reason", "attempts", "worker"})


def _chosen(storage: Storage, batch: Batch) -> Iterator[StyleTransfer]:
    """The pairs for the sheet, evenly chosen."""
    every = max(1, -(-batch.pairs // SHEET_CELLS))
    return (job for number, job in enumerate(read_manifest(storage, batch)) if number % every == 0)


def _advancing(jobs: Iterator[StyleTransfer], advance: Callable[[], None]) -> Iterator[StyleTransfer]:
    for job in jobs:
        advance()
        yield job


def _cells(storage: Storage, settings: Settings, outcomes: Outcomes, jobs: Iterator[StyleTransfer]) -> Iterator[Cell]:
    for job in jobs:
        result = _result(storage, job) if job.id in outcomes.done else None
        yield Cell(
            caption=f"{_caption(job.content)} x {', '.join(map(_caption, job.styles))}",
            content=_thumbnail(storage, settings, keys.input_picture(job.content.input)),
            styles=[
                picture
                for style in job.styles
                if (picture := _thumbnail(storage, settings, keys.input_picture(style.input)))
            ],
            result=_thumbnail(storage, settings, result.files["pastiche.png"].key) if result else None,
            reason="failed" if job.id in outcomes.failed else "",
        )


def _result(storage: Storage, job: StyleTransfer) -> Result | None:
    try:
        return read_result(storage, job.id)
    except UsageError:  # written by another version; the sheet does without
        return None


def _caption(picture: Picture) -> str:
    return picture.label or PurePosixPath(picture.name).stem


def _thumbnail(storage: Storage, settings: Settings, key: str) -> Image.Image | None:
    """A small copy of a picture; None if it cannot be read, which then is why its job failed."""
    try:
        any_size = settings.model_copy(update={"image_side": 1})  # a result may be smaller than what it is made from
        picture = open_picture(storage.get(key), any_size, key)
    except (ImageError, ObjectMissing):
        return None
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    return picture
