"""What a batch ends with: the contact sheet, the list of what failed, and finished.json. Making it twice is a no-op."""

import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from PIL import Image

from medley import keys
from medley.batches import (
    each_outcome,
    read_batch,
    read_finished,
    read_manifest,
    read_outcome,
    read_result,
    recount,
    take_back_end,
)
from medley.cluster import Cluster
from medley.errors import ImageError, MedleyError, ObjectMissing, StorageRefused, UsageError
from medley.jobs import Batch, Picture, StyleTransfer
from medley.media.images import open_picture
from medley.media.sheet import Cell, contact_sheet
from medley.notifying import notify
from medley.ondisk import JobTable
from medley.records import BatchName, Digest
from medley.results import Finished, StoredFile
from medley.settings import Settings
from medley.storage import Storage

log = logging.getLogger(__name__)

SHEET_CELLS = 60
"""Pairs on a contact sheet, evenly chosen from the batch: as many as a page shows well."""

LISTED_AT_ONCE = 1_000
"""Outcomes between two signs of life: a page of a LIST."""

LINES_AT_ONCE = 500
"""Lines of a manifest that are looked at together."""

READS_AT_ONCE = 8
"""Reads wait for the network more than for anything here."""

THUMBNAIL_PX = 480
"""Pictures are reduced to this before they go on the sheet: twice a cell's width."""


def finish_batch(cluster: Cluster, name: BatchName, advance: Callable[[], None]) -> bool:
    """Make what a batch ends with; false if jobs are still missing, it is gone, or another one is at it.

    ``advance`` is called as the work goes on, so that a long one is not taken for a hung one.

    Outcomes may still change while this works (a failed job that a twin then did), so they are listed again at the
    end, and everything is made again if they differ from what finished.json names.

    Raises:
        BatchBusy: another one enqueues it for too long.
        ServiceUnreachable, ServiceRefused: Redis or storage does not serve us.
    """
    batch = read_batch(cluster.storage, name)
    if batch is None:
        log.warning("Batch %s is not ended: it is no longer in storage.", name)
        return False
    ledger, claim, claim_s = cluster.ledger, ending_claim(name), cluster.settings.lease_s
    if not ledger.claim(claim, claim_s):
        log.info("Batch %s is being ended by another one; should that die, the reconciler finds it unfinished.", name)
        return False
    claimed_at = time.monotonic()

    def go_on() -> None:
        nonlocal claimed_at
        advance()
        if time.monotonic() - claimed_at > claim_s / 3:
            ledger.keep_claim(claim, claim_s)
            claimed_at = time.monotonic()

    # One that ends its process each time, as a picture may that decodes to more than there is room for.
    with_sheet = ledger.count_trouble(claim) <= cluster.settings.attempts
    try:
        return _finish(cluster, batch, go_on, with_sheet)
    finally:
        with suppress(MedleyError):
            ledger.end_claim(claim)
            ledger.forget_trouble(claim)


def ending_claim(name: BatchName) -> str:
    """What a finisher claims while it works, so that a second one need not."""
    return f"ending:{name}"


def _finish(cluster: Cluster, batch: Batch, advance: Callable[[], None], with_sheet: bool) -> bool:
    storage = cluster.storage
    while True:
        with JobTable() as failed:
            tally = _tally(storage, batch.name, advance, failed)
            if tally.done + tally.failed < batch.jobs:
                log.info("Batch %s is not ended: %d of %d jobs have outcomes.", batch.name, sum(tally[:2]), batch.jobs)
                recount(cluster, batch)  # whoever had this enqueued believed the ledger
                take_back_end(storage, batch)
                return False
            finished = read_finished(storage, batch.name)
            if finished and finished.outcomes == tally.digest:
                break
            _make(cluster, batch, failed, advance, with_sheet)
        _put_finished(cluster, batch, tally, advance)
    if notify(storage, cluster.settings, finished, advance):
        with cluster.ledger.enqueuing(batch.name):
            if storage.exists(keys.finished(batch.name)):  # or it is being tried again
                storage.delete(keys.open_batch(batch.name))
                if not storage.exists(keys.finished(batch.name)):  # the hold was lost, and it is being tried again
                    storage.put(keys.open_batch(batch.name), b"")
    return True


def _put_finished(cluster: Cluster, batch: Batch, tally: "_Tally", advance: Callable[[], None]) -> None:
    """Say that the batch has ended so, unless that has changed; held against a retry, which says that it has not."""
    with cluster.ledger.enqueuing(batch.name) as go_on:

        def both() -> None:
            advance()
            go_on()

        if _tally(cluster.storage, batch.name, both) != tally:
            return
        standing = read_finished(cluster.storage, batch.name)
        if standing and standing.outcomes == tally.digest:
            return  # one that had lost its claim was sooner
        finished = Finished(
            batch=batch.name, done=tally.done, failed=tally.failed, outcomes=tally.digest, finished_at=datetime.now(UTC)
        )
        cluster.storage.put(keys.finished(batch.name), finished.json_bytes(), "application/json")


class _Tally(NamedTuple):
    """What the outcomes come to; ``digest`` is that of all of them."""

    done: int
    failed: int
    digest: Digest


def _tally(storage: Storage, name: BatchName, advance: Callable[[], None], failed: JobTable | None = None) -> _Tally:
    """Count the outcomes, by one LIST, and note the failed ones in a table."""
    counts = {"done": 0, "failed": 0}
    digest = hashlib.sha256()
    outcomes = each_outcome(storage, name)
    while some := list(islice(outcomes, LISTED_AT_ONCE)):
        for job, status in some:
            counts[status] += 1
            digest.update(f"{job} {status}\n".encode())
        if failed is not None:
            failed.put((job, status) for job, status in some if status == "failed")
        advance()
    return _Tally(counts["done"], counts["failed"], digest.hexdigest())


def _make(cluster: Cluster, batch: Batch, failed: JobTable, advance: Callable[[], None], with_sheet: bool) -> None:
    """Make everything from these outcomes, but for finished.json."""
    storage = cluster.storage
    with tempfile.TemporaryDirectory(prefix="medley-") as folder:
        path = Path(folder, "failures.jsonl")
        with path.open("wb") as file:
            for line in _failures(storage, batch, failed, advance):
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        storage.put_file(keys.failures(batch.name), path)
    if not with_sheet:
        log.error("Batch %s ends without its contact sheet, which ended its process again and again.", batch.name)
        return
    try:
        jobs = _advancing(_chosen(storage, batch), advance)
        sheet = contact_sheet(_cells(storage, cluster.settings, failed, jobs), limit=SHEET_CELLS)
        storage.put(keys.contact_sheet(batch.name), sheet, "image/jpeg")
    except (StorageRefused, ObjectMissing, UsageError) as error:  # a full disk may yet take what says so
        log.warning("Batch %s ends without its contact sheet: %s", batch.name, error)


def _failures(
    storage: Storage, batch: Batch, failed: JobTable, advance: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    """Each file that was skipped and each pair that failed, by name, in the manifest's order."""
    yield from ({"skipped": skipped.name, "reason": skipped.reason} for skipped in batch.skipped)
    if not len(failed):
        return
    lines = _advancing(read_manifest(storage, batch), advance)
    try:
        with ThreadPoolExecutor(READS_AT_ONCE) as threads:
            while chunk := list(islice(lines, LINES_AT_ONCE)):
                lost = failed.values([job.id for job in chunk])
                failures = [job for job in chunk if job.id in lost]
                yield from threads.map(lambda job: _failure(storage, batch, job), failures)
    except (UsageError, ObjectMissing) as error:  # what has ended ends all the same
        yield {"skipped": "the manifest", "reason": str(error)}


def _failure(storage: Storage, batch: Batch, job: StyleTransfer) -> dict[str, Any]:
    names = {"content": job.content.name, "styles": [style.name for style in job.styles]}
    try:
        outcome = read_outcome(storage, batch.name, job.id, "failed")
    except (UsageError, ObjectMissing) as error:  # another version wrote it; the batch ends all the same
        return {"job": job.id, "kind": "unreadable", "reason": str(error), **names}
    told = outcome.model_dump(mode="json", include={"job", "kind", "reason", "attempts", "worker", "log"})
    return {**told, **names}


def _chosen(storage: Storage, batch: Batch) -> Iterator[StyleTransfer]:
    """The pairs for the sheet, evenly chosen."""
    every = max(1, -(-batch.pairs // SHEET_CELLS))
    return (job for number, job in enumerate(read_manifest(storage, batch)) if number % every == 0)


def _advancing(jobs: Iterator[StyleTransfer], advance: Callable[[], None]) -> Iterator[StyleTransfer]:
    for job in jobs:
        advance()
        yield job


def _cells(storage: Storage, settings: Settings, failed: JobTable, jobs: Iterator[StyleTransfer]) -> Iterator[Cell]:
    for job in jobs:
        has_failed = bool(failed.values([job.id]))
        painted = None if has_failed else _painted(storage, job)
        yield Cell(
            caption=f"{_caption(job.content)} x {', '.join(map(_caption, job.styles))}",
            content=_thumbnail(storage, settings, keys.input_picture(job.content.input)),
            styles=[
                picture
                for style in job.styles
                if (picture := _thumbnail(storage, settings, keys.input_picture(style.input)))
            ],
            result=_thumbnail(storage, settings, painted.key) if painted else None,
            reason="failed" if has_failed else "",
        )


def _painted(storage: Storage, job: StyleTransfer) -> StoredFile | None:
    try:
        result = read_result(storage, job.id)
    except UsageError:  # written by another version; the sheet does without
        return None
    return result.files.get("pastiche.png") if result else None


def _caption(picture: Picture) -> str:
    return picture.label or PurePosixPath(picture.name).stem


def _thumbnail(storage: Storage, settings: Settings, key: str) -> Image.Image | None:
    """A small copy of a picture; None if it cannot be read, which then is why its job failed."""
    try:
        any_size = settings.model_copy(update={"image_side": 1})  # a result may be smaller than what it is made from
        picture = open_picture(storage.get(key, settings.image_bytes), any_size, key)
    except (ImageError, ObjectMissing, UsageError):
        return None
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    return picture
