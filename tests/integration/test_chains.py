"""Chains: jobs that begin with one another's pictures go out one after another, or fail together; nothing is lost."""

import time
from collections import Counter
from pathlib import Path

import pytest
import torch

from medley import keys
from medley.batches.chains import Followers, fail_after, follow_on, ready
from medley.batches.control import pause, resume, retry
from medley.batches.ending import finish_batch
from medley.batches.reconciling import reconcile
from medley.batches.stored import read_batch, read_outcome, write_outcome
from medley.broker.queue import QUEUES
from medley.cluster import Cluster
from medley.errors import ImageError
from medley.records.batches import Batch, Sampling
from medley.records.jobs import StyleTransfer
from medley.records.options import StyleTransferOptions
from medley.records.results import Finished
from medley_producer.submit import Request, submit
from medley_workers.numbers.transfer import start_image
from outcomes import an_outcome, list_outcomes, transfers
from painters import Painter, deliver


@pytest.fixture
def batch(cluster: Cluster, dataset: Path) -> Batch:
    """Two photos in three styles each, chained."""
    contents = tuple(str(dataset / "contents" / f"photo{n}.jpg") for n in range(2))
    sampling = Sampling(content=contents, styles=(str(dataset / "styles"),), pairing="product", chain=True)
    cluster.ledger._redis.set("medley:since", str(time.time() - 2 * cluster.settings.lease_s))
    return submit(cluster, Request("b", sampling, StyleTransferOptions()), "bulk", lambda *_: None).batch


@pytest.fixture
def chain(cluster: Cluster, batch: Batch) -> list[StyleTransfer]:
    """The jobs of the first photo."""
    jobs = transfers(cluster.storage, batch)
    return [job for job in jobs if job.content == jobs[0].content]


def batch_of(cluster: Cluster) -> Batch:
    batch = read_batch(cluster.storage, "b")
    assert isinstance(batch, Batch)
    return batch


def waiting(cluster: Cluster) -> int:
    return cluster.ledger.queue_lengths()["bulk"]


def test_each_photo_has_a_chain_of_its_own(cluster: Cluster, batch: Batch) -> None:
    jobs = transfers(cluster.storage, batch)
    by_id = {job.id: job for job in jobs}
    assert len(by_id) == 6
    before = [by_id[job.init] for job in jobs if job.init]
    assert [job.content for job in before] == [job.content for job in jobs if job.init]
    assert Counter(job.init for job in jobs) == Counter([None, None, *(job.id for job in before)])
    assert len({job.id for job in before}) == 4


def test_a_job_has_another_id_behind_another_picture(cluster: Cluster, batch: Batch) -> None:
    request = Request("c", batch.sampling.model_copy(update={"chain": False}), batch.options)
    apart = submit(cluster, request, "bulk", lambda *_: None).batch
    chained = {job.id: job.init for job in transfers(cluster.storage, batch)}
    alone = {job.id for job in transfers(cluster.storage, apart)}
    assert alone & chained.keys() == {job for job, init in chained.items() if init is None}


def test_only_the_first_of_each_chain_goes_out(cluster: Cluster, batch: Batch) -> None:
    assert waiting(cluster) == 2
    request = Request("b", batch.sampling, batch.options)
    assert [submit(cluster, request, "bulk", lambda *_: None).enqueued, reconcile(cluster, "b"), waiting(cluster)] == [
        0,
        0,
        2,
    ]


def test_each_picture_sends_the_next_one_out_and_the_last_one_the_end(
    cluster: Cluster, batch: Batch, chain: list[StyleTransfer]
) -> None:
    painter = Painter(cluster)
    for number, job in enumerate(chain):
        deliver(painter.desk, "b", job)
        deliver(painter.desk, "b", job)  # the acknowledgement was lost
        assert waiting(cluster) == min(4, 3 + number)
    for job in transfers(cluster.storage, batch):
        deliver(painter.desk, "b", job)
    assert painter.paintings == 6
    assert cluster.ledger.queue_lengths()["finish"] == 1


def test_what_a_dead_painter_did_not_send_out_is_found(cluster: Cluster, chain: list[StyleTransfer]) -> None:
    cluster.ledger._redis.delete(QUEUES["bulk"])
    desk = Painter(cluster).desk
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medley_workers.jobs.concluding.follow_on", lambda *_: None)  # it dies before that
        deliver(desk, "b", chain[0])
    assert waiting(cluster) == 0
    assert reconcile(cluster, "b") == 1
    assert waiting(cluster) == 1
    deliver(desk, "b", chain[1])
    assert waiting(cluster) == 2


def test_what_follows_a_failure_fails_for_its_reason(
    cluster: Cluster, batch: Batch, chain: list[StyleTransfer]
) -> None:
    deliver(Painter(cluster).desk, "b", chain[0])
    deliver(Painter(cluster, ImageError("paint.png is torn.")).desk, "b", chain[1])
    assert list_outcomes(cluster.storage, "b").failed == {job.id for job in chain[1:]}
    failure = read_outcome(cluster.storage, "b", chain[2].id, "failed")
    assert (failure.kind, failure.attempts) == ("image", 0)
    assert failure.reason == "The picture before it in its chain failed: paint.png is torn."
    others = [job for job in transfers(cluster.storage, batch) if job.content != chain[0].content]
    deliver(Painter(cluster, ImageError("photo.jpg is torn.")).desk, "b", others[0])
    assert cluster.ledger.queue_lengths()["finish"] == 1
    assert read_outcome(cluster.storage, "b", others[2].id, "failed").reason.count("failed: ") == 1


def test_what_follows_a_failure_fails_even_if_its_painter_died(cluster: Cluster, batch: Batch) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medley_workers.jobs.concluding.follow_on", lambda *_: None)
        for job in (job for job in transfers(cluster.storage, batch) if job.init is None):
            deliver(Painter(cluster, ImageError("It is torn.")).desk, "b", job)
    assert reconcile(cluster, "b") == 0
    assert len(list_outcomes(cluster.storage, "b").failed) == 6
    assert cluster.ledger.queue_lengths()["finish"] == 1
    assert finish_batch(cluster, "b", lambda: None)


def test_a_retried_chain_goes_on_where_it_failed(cluster: Cluster, batch: Batch, chain: list[StyleTransfer]) -> None:
    painter = Painter(cluster)
    deliver(painter.desk, "b", chain[0])
    deliver(Painter(cluster, ImageError("It is torn.")).desk, "b", chain[1])
    for job in transfers(cluster.storage, batch):
        if job.content != chain[0].content:
            deliver(painter.desk, "b", job)
    assert finish_batch(cluster, "b", lambda: None)
    cluster.ledger._redis.delete(QUEUES["bulk"])
    assert retry(cluster, batch) == 2
    assert waiting(cluster) == 1
    deliver(painter.desk, "b", chain[1])
    assert waiting(cluster) == 2
    deliver(painter.desk, "b", chain[2])
    assert finish_batch(cluster, "b", lambda: None)
    finished = Finished.from_json(cluster.storage.get("batches/b/finished.json"))
    assert (finished.done, finished.failed) == (6, 0)


def test_a_paused_chain_goes_on_where_it_was(cluster: Cluster, batch: Batch, chain: list[StyleTransfer]) -> None:
    painter = Painter(cluster)
    deliver(painter.desk, "b", chain[0])
    pause(cluster, batch)
    deliver(Painter(cluster).desk, "b", chain[1])
    assert list_outcomes(cluster.storage, "b").done == {chain[0].id}
    cluster.ledger.forget("b")
    cluster.ledger._redis.delete(QUEUES["bulk"])
    assert resume(cluster, batch) == 2


def test_following_on_twice_adds_nothing(cluster: Cluster, batch: Batch, chain: list[StyleTransfer]) -> None:
    deliver(Painter(cluster).desk, "b", chain[0])
    for _ in range(3):
        follow_on(cluster, batch, chain[0].id, Followers())
    assert waiting(cluster) == 3


def test_a_chain_that_was_given_up_too_early_goes_on(cluster: Cluster, chain: list[StyleTransfer]) -> None:
    painter = Painter(cluster)
    deliver(Painter(cluster, ImageError("It is torn.")).desk, "b", chain[0])
    assert list_outcomes(cluster.storage, "b").failed == {job.id for job in chain}
    # Another painter had it, too, and was slow.
    painter(chain[0], batch_of(cluster))
    write_outcome(cluster.storage, an_outcome(batch_of(cluster), chain[0]))
    deliver(painter.desk, "b", chain[0])
    assert waiting(cluster) == 3
    deliver(painter.desk, "b", chain[1])
    deliver(painter.desk, "b", chain[2])
    assert list_outcomes(cluster.storage, "b").done == {job.id for job in chain}


def test_a_twin_that_fails_late_fails_nobody(cluster: Cluster, chain: list[StyleTransfer]) -> None:
    deliver(Painter(cluster).desk, "b", chain[0])
    write_outcome(cluster.storage, an_outcome(batch_of(cluster), chain[0], "image"))
    follow_on(cluster, batch_of(cluster), chain[0].id, Followers())
    assert list_outcomes(cluster.storage, "b").failed == set()


def test_what_follows_a_failure_that_is_being_tried_again_does_not_fail(
    cluster: Cluster, batch: Batch, chain: list[StyleTransfer]
) -> None:
    write_outcome(cluster.storage, an_outcome(batch, chain[0], "image"))
    cluster.ledger.record_outcome("b", chain[0].id, "failed")
    cluster.storage.delete(keys.outcome("b", chain[0].id, "failed"))
    assert not fail_after(cluster, batch, chain[1])
    assert list(ready(cluster, batch, chain[1:])) == []
    assert not list_outcomes(cluster.storage, "b").all


def test_nothing_is_left_of_a_removed_batch(cluster: Cluster, batch: Batch, chain: list[StyleTransfer]) -> None:
    write_outcome(cluster.storage, an_outcome(batch, chain[0], "image"))
    cluster.storage.delete(keys.batch("b"))
    assert not fail_after(cluster, batch, chain[1])


def test_a_message_that_comes_before_its_time_ends_and_comes_again(
    cluster: Cluster, chain: list[StyleTransfer]
) -> None:
    painter = Painter(cluster)
    deliver(painter.desk, "b", chain[1])
    assert painter.paintings == 0
    assert not list_outcomes(cluster.storage, "b").all
    deliver(painter.desk, "b", chain[0])
    assert waiting(cluster) == 3


def test_noise_is_what_the_first_of_a_chain_begins_with() -> None:
    content = torch.zeros((1, 3, 4, 4))
    before = torch.ones((1, 3, 4, 4))
    options = StyleTransferOptions(init="noise")
    assert torch.equal(start_image(content, options, before), before)
    assert not torch.equal(start_image(content, options), content)
