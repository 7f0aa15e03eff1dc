"""The end of a batch: made twice it changes nothing, and what changed meanwhile is made again."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from medley import keys
from medley.batches.control import retry
from medley.batches.ending import ending_claim, finish_batch
from medley.batches.enqueuing import enqueue_missing, recount
from medley.batches.stored import read_manifest, write_outcome
from medley.cluster import Cluster
from medley.errors import BatchBusy
from medley.records.batches import Batch, Sampling
from medley.records.options import StyleTransferOptions
from medley.records.results import Outcome, Status
from medley_producer.submit import Request, submit


@pytest.fixture
def batch(cluster: Cluster, dataset: Path) -> Batch:
    sampling = Sampling(content=(str(dataset / "contents"),), styles=(str(dataset / "styles"),), pairs=3)
    return submit(cluster, Request("b", sampling, StyleTransferOptions()), "bulk", lambda *_: None).batch


def end(cluster: Cluster, batch: Batch, statuses: list[Status], reason: str = "no luck") -> None:
    """Write outcomes for the first jobs of the batch."""
    for job, status in zip(read_manifest(cluster.storage, batch), statuses, strict=False):
        told: dict[str, Any] = {"kind": "image", "attempts": 1, "worker": "w", "seconds": 1.0, "reason": reason}
        now = datetime.now(UTC)
        write_outcome(cluster.storage, Outcome(job=job.id, batch=batch.name, status=status, finished_at=now, **told))


def finish(cluster: Cluster, advance: Callable[[], None] = lambda: None) -> bool:
    return finish_batch(cluster, "b", advance)


def everything(cluster: Cluster) -> dict[str, bytes]:
    return {key: cluster.storage.get(key) for key in cluster.storage.list()}


def test_nothing_is_made_while_jobs_are_missing(cluster: Cluster, batch: Batch) -> None:
    end(cluster, batch, ["done", "failed"])
    before = everything(cluster)
    assert not finish(cluster)
    assert everything(cluster) == before
    assert cluster.storage.exists(keys.open_batch(batch.name))


def test_made_twice_it_changes_nothing(cluster: Cluster, batch: Batch) -> None:
    end(cluster, batch, ["done", "failed", "done"])
    assert finish(cluster)
    assert not cluster.storage.exists(keys.open_batch(batch.name))
    once = everything(cluster)
    assert finish(cluster)
    assert everything(cluster) == once
    assert b"no luck" in once[keys.failures(batch.name)]


def test_an_outcome_that_comes_meanwhile_is_in_it(cluster: Cluster, batch: Batch) -> None:
    end(cluster, batch, ["failed", "failed", "failed"])
    assert finish(cluster, advance=lambda: end(cluster, batch, ["done"]))
    failures = cluster.storage.get(keys.failures(batch.name)).splitlines()
    assert len(failures) == 2
    assert b'"done":1' in cluster.storage.get(keys.finished(batch.name))


def test_a_record_that_cannot_be_read_does_not_keep_a_batch_from_ending(cluster: Cluster, batch: Batch) -> None:
    end(cluster, batch, ["done", "failed", "failed"])
    jobs = [job.id for job in read_manifest(cluster.storage, batch)]
    cluster.storage.put(keys.result(jobs[0]), b'{"from": "the future"}')
    cluster.storage.put(keys.outcome(batch.name, jobs[1], "failed"), b"{")
    assert finish(cluster)
    assert b"unreadable" in cluster.storage.get(keys.failures(batch.name))


def test_a_batch_that_is_being_enqueued_is_not_enqueued_beside(cluster: Cluster, batch: Batch) -> None:
    with cluster.ledger.enqueuing(batch.name) as go_on:
        go_on()
        with pytest.raises(BatchBusy, match="being enqueued"):
            enqueue_missing(cluster, batch, "bulk", waits_s=0.1)


def test_a_retry_while_a_batch_is_ended_leaves_it_open(cluster: Cluster, batch: Batch) -> None:
    end(cluster, batch, ["done", "done", "failed"])
    recount(cluster, batch)
    retried: list[int] = []

    def retry_once() -> None:
        if not retried:
            retried.append(retry(cluster, batch))

    assert not finish(cluster, retry_once)
    assert retried == [1]
    assert not cluster.storage.exists(keys.finished(batch.name))
    assert cluster.storage.exists(keys.open_batch(batch.name))


def test_the_end_of_a_batch_that_ends_its_process_each_time_does_without_the_sheet(
    cluster: Cluster, batch: Batch
) -> None:
    end(cluster, batch, ["done", "done", "failed"])
    for _ in range(cluster.settings.attempts):  # each of these was killed as it began
        cluster.ledger.count_trouble(ending_claim(batch.name))
    assert finish(cluster)
    assert not cluster.storage.exists(keys.contact_sheet(batch.name))
    assert cluster.storage.exists(keys.finished(batch.name))


def test_only_one_ends_a_batch_at_a_time(cluster: Cluster, batch: Batch) -> None:
    end(cluster, batch, ["done", "done", "failed"])
    others: list[bool] = []

    def another() -> None:
        if not others:
            others.append(finish(cluster))

    assert finish(cluster, another)
    assert others == [False]
