"""The end of a batch: when it has come, its pieces are made, and finished.json. Making it twice is a no-op."""

import hashlib
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

from medley import keys
from medley.batches.enqueuing import recount, take_back_end
from medley.batches.job_table import JobTable
from medley.batches.notifying import notify
from medley.batches.stored import each_outcome, read_batch, read_finished
from medley.cluster import Cluster
from medley.errors import BatchBusy, MedleyError, PaintingStopped, RedisRefused, ServiceUnreachable
from medley.pieces.failures import put_failures
from medley.pieces.gallery import put_gallery
from medley.pieces.sheet import put_sheet
from medley.pieces.source import Source
from medley.records.base import BatchName, Digest, JobId
from medley.records.batches import AnyBatch
from medley.records.results import Finished, Status
from medley.records.walks import WalkBatch
from medley.storage import Storage

log = logging.getLogger(__name__)

TOLD_EVERY_S = 0.5
"""People who watch see the work at the end advance twice a second."""

LISTED_AT_ONCE = 1_000
"""Outcomes between two signs of life: a page of a LIST."""


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
    ledger, claim = cluster.ledger, ending_claim(name)
    if not ledger.claim(claim, cluster.settings.lease_s):
        log.info("Batch %s is being ended by another one; should that die, the reconciler finds it unfinished.", name)
        return False
    # One that ends its process each time, as a picture may that decodes to more than there is room for.
    with_pictures = ledger.count_trouble(claim) <= cluster.settings.attempts
    try:
        return _End(cluster, batch, advance, with_pictures).make()
    finally:
        with suppress(MedleyError):
            ledger.end_claim(claim)
            ledger.forget_trouble(claim)


def ending_claim(name: BatchName) -> str:
    """What a finisher claims while it works, so that a second one need not."""
    return f"ending:{name}"


class _End:
    """The end of a batch while it is made, by whoever claimed that."""

    def __init__(self, cluster: Cluster, batch: AnyBatch, advance: Callable[[], None], with_pictures: bool) -> None:
        self._cluster = cluster
        self._batch = batch
        self._is_alive = advance
        self._with_pictures = with_pictures
        self._claimed_at = time.monotonic()
        self._told_at = float("-inf")

    def make(self) -> bool:
        """Make everything, until it is what the outcomes say; false if jobs are still missing."""
        storage, batch = self._cluster.storage, self._batch
        while True:
            with JobTable() as failed:
                tally = _tally(storage, batch.name, self._advance, failed)
                if (ended := tally.done + tally.failed) < batch.jobs:
                    log.info("Batch %s is not ended: %d of %d jobs have outcomes.", batch.name, ended, batch.jobs)
                    recount(self._cluster, batch)  # whoever had this enqueued believed the ledger
                    take_back_end(storage, batch)
                    return False
                finished = read_finished(storage, batch.name)
                if finished and finished.outcomes == tally.digest:
                    break
                self._make_pieces(failed)
            self._put_finished(tally)
        if notify(storage, self._cluster.settings, finished, self._advance):
            self._close()
        return True

    def _advance(self) -> None:
        """Say that this process is alive, and go on being the only one."""
        self._is_alive()
        claim_s = self._cluster.settings.lease_s
        if time.monotonic() - self._claimed_at > claim_s / 3:
            self._cluster.ledger.keep_claim(ending_claim(self._batch.name), claim_s)
            self._claimed_at = time.monotonic()

    def _tell(self, what: str, done: int, total: int) -> None:
        """Say how far the work is, to people who watch."""
        if total and time.monotonic() - self._told_at >= TOLD_EVERY_S:
            self._told_at = time.monotonic()
            with suppress(MedleyError):
                self._cluster.ledger.note_ending(self._batch.name, f"{what}, {100 * done // total} %")

    def _make_pieces(self, failed: JobTable) -> None:
        """Make all but finished.json; what cannot be made is taken away, as it would be that of another end."""

        def status_of(job: JobId) -> Status:
            return "failed" if failed.values([job]) else "done"

        storage, settings, batch = self._cluster.storage, self._cluster.settings, self._batch
        source = Source(storage, settings, batch, status_of, len(failed), self._advance, self._tell)
        put_failures(source)
        for key, put in _pieces(batch).items():
            if not (self._with_pictures and _is_made(source, key, put)):
                storage.delete(key)
        if not self._with_pictures:
            log.error("Batch %s ends with a list of failures only, as making the rest ended its process.", batch.name)

    def _put_finished(self, tally: _Tally) -> None:
        """Say that the batch has ended so, unless that has changed; held against a retry, which says it has not."""
        storage, name = self._cluster.storage, self._batch.name
        with self._cluster.ledger.enqueuing(name) as go_on:

            def advance() -> None:
                self._advance()
                go_on()

            if _tally(storage, name, advance) != tally:
                return
            standing = read_finished(storage, name)
            if standing and standing.outcomes == tally.digest:
                return  # one that had lost its claim was sooner
            finished = Finished(
                batch=name, done=tally.done, failed=tally.failed, outcomes=tally.digest, finished_at=datetime.now(UTC)
            )
            storage.put(keys.finished(name), finished.json_bytes(), "application/json")

    def _close(self) -> None:
        """Have nobody look after the batch any more, unless it is being tried again."""
        storage, name = self._cluster.storage, self._batch.name
        with self._cluster.ledger.enqueuing(name):
            if storage.exists(keys.finished(name)):
                storage.delete(keys.open_batch(name))
                if not storage.exists(keys.finished(name)):  # the hold was lost, and a retry was sooner
                    storage.put(keys.open_batch(name), b"")


def _is_made(source: Source, key: str, put: Callable[[Source], None]) -> bool:
    """Make a piece; one that cannot be made does not keep a batch from ending."""
    try:
        put(source)
    except (ServiceUnreachable, RedisRefused, PaintingStopped, BatchBusy):
        raise
    except MedleyError as error:  # a full disk may yet take what says so
        log.warning("Batch %s ends without %s: %s", source.batch.name, key.rpartition("/")[2], error)
    except Exception:  # a mistake of ours, which would be made again and again
        log.exception("Batch %s ends without %s.", source.batch.name, key.rpartition("/")[2])
    else:
        return True
    return False


def _pieces(batch: AnyBatch) -> dict[str, Callable[[Source], None]]:
    """What a batch ends with, by its key; the gallery last, as it shows the others."""
    from medley.pieces.video import put_medley, put_walk  # PyAV takes 0.1 s and 30 MB, which few processes need

    video, page = keys.video(batch.name), keys.gallery(batch.name)
    if isinstance(batch, WalkBatch):
        return {video: put_walk, page: put_gallery}
    return {keys.contact_sheet(batch.name): put_sheet, video: put_medley, page: put_gallery}
