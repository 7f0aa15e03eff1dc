"""What open batches lack goes out again, whatever was lost; and nothing that they do not lack."""

import json
import time
from pathlib import Path

import pytest

from medley import keys
from medley.batches.control import cancel, pause, resume, retry
from medley.batches.ending import finish_batch
from medley.batches.enqueuing import enqueue_missing, recount
from medley.batches.reconciling import reconcile, reconcile_all
from medley.batches.stored import read_manifest, write_outcome
from medley.broker.paintings import Progress
from medley.broker.queue import QUEUES
from medley.cluster import Cluster
from medley.errors import BatchStopped, UsageError
from medley.records.batches import Batch, Sampling
from medley.records.options import StyleTransferOptions
from medley_producer.submit import Request, submit
from outcomes import an_outcome, transfers


def submit_again(cluster: Cluster, dataset: Path) -> Batch:
    sampling = Sampling(content=(str(dataset / "contents"),), styles=(str(dataset / "styles"),), pairs=4)
    return submit(cluster, Request("b", sampling, StyleTransferOptions()), "interactive", lambda *_: None).batch


@pytest.fixture
def batch(cluster: Cluster, dataset: Path) -> Batch:
    made = submit_again(cluster, dataset)
    grow_old(cluster)
    return made


def grow_old(cluster: Cluster) -> None:
    """Let a lease pass since Redis came up, and since the batch was first seen silent."""
    client, past = cluster.ledger._redis, str(time.time() - 2 * cluster.settings.lease_s)
    client.set("medley:since", past)
    if client.exists("medley:batch:b:silent"):
        client.set("medley:batch:b:silent", past)


def waiting(cluster: Cluster) -> int:
    return cluster.ledger.queue_lengths()["interactive"]


def lose_messages(cluster: Cluster, count: int) -> None:
    """As a worker that died between taking a message and noting that it has it."""
    for _ in range(count):
        assert cluster.ledger._redis.rpop(QUEUES["interactive"])


@pytest.mark.usefixtures("batch")
def test_a_batch_that_is_well_is_left_alone(cluster: Cluster) -> None:
    assert [reconcile(cluster, "b") for _ in range(3)] == [0, 0, 0]
    assert waiting(cluster) == 4


def test_a_redis_that_lost_everything_is_given_a_lease_and_then_everything_again(
    cluster: Cluster, batch: Batch
) -> None:
    jobs = transfers(cluster.storage, batch)
    write_outcome(cluster.storage, an_outcome(batch, jobs[0]))
    cluster.ledger._redis.flushall()
    assert reconcile(cluster, "b") == 0, "painters that are at work have not reported yet"
    report = Progress(step=1, steps=9, worker="w#0", at=time.time())
    cluster.ledger.report("b", jobs[1].id, report)
    grow_old(cluster)
    assert reconcile(cluster, "b") == 2, "one is done, and one is being painted"
    assert reconcile(cluster, "b") == 0


@pytest.mark.usefixtures("batch")
def test_messages_that_vanished_go_out_again_once_none_waits(cluster: Cluster) -> None:
    lose_messages(cluster, 4)
    assert reconcile(cluster, "b") == 0, "a worker may be about to note that it has them"
    grow_old(cluster)
    assert reconcile(cluster, "b") == 4


@pytest.mark.usefixtures("batch")
def test_a_message_that_vanished_is_found_although_the_queue_is_never_empty(cluster: Cluster, dataset: Path) -> None:
    lose_messages(cluster, 4)
    sampling = Sampling(content=(str(dataset / "contents"),), styles=(str(dataset / "styles"),), pairs=2)
    options = StyleTransferOptions(seed=1, num_steps=7)
    later = time.time() - 60  # published when the other batch's messages had long been delivered
    cluster.ledger._redis.hset("medley:batch:b:published", "interactive", str(later))
    submit(cluster, Request("other", sampling, options), "interactive", lambda *_: None)
    assert reconcile(cluster, "b") == 0
    grow_old(cluster)
    assert reconcile(cluster, "b") == 4


@pytest.mark.usefixtures("batch")
def test_messages_behind_others_are_not_taken_for_lost(cluster: Cluster) -> None:
    reconcile(cluster, "b")
    grow_old(cluster)
    assert reconcile(cluster, "b") == 0
    assert waiting(cluster) == 4


@pytest.mark.usefixtures("batch")
def test_a_message_that_a_worker_holds_is_not_lost(cluster: Cluster) -> None:
    client = cluster.ledger._redis
    for n in range(4):
        message = json.loads(str(client.rpop(QUEUES["interactive"])))
        client.hset("unacked", f"tag{n}", json.dumps([message, "", QUEUES["interactive"]]))
    reconcile(cluster, "b")
    grow_old(cluster)
    assert reconcile(cluster, "b") == 0


def test_a_producer_that_died_while_it_enqueued(cluster: Cluster, batch: Batch) -> None:
    jobs = [job.id for job in read_manifest(cluster.storage, batch)]
    lose_messages(cluster, 2)
    cluster.ledger.remove_enqueued("b", jobs[:2])  # it got no further than the other two
    assert reconcile(cluster, "b") == 2


def test_what_lacks_only_its_end_is_ended(cluster: Cluster, batch: Batch) -> None:
    for job in read_manifest(cluster.storage, batch):
        write_outcome(cluster.storage, an_outcome(batch, job))
    recount(cluster, batch)
    for _ in range(2):
        reconcile_all(cluster)
    assert cluster.ledger.queue_lengths()["finish"] == 1, "one message is enough"
    cluster.ledger._redis.delete(QUEUES["finish"])
    assert finish_batch(cluster, "b", lambda: None)
    reconcile_all(cluster)
    assert cluster.ledger.queue_lengths()["finish"] == 0, "a batch that has ended is not open"


@pytest.mark.usefixtures("batch")
def test_a_batch_without_its_record_and_one_of_another_version_hold_nobody_up(cluster: Cluster) -> None:
    cluster.storage.put(keys.open_batch("a-half"), b"")
    cluster.storage.put(keys.open_batch("a-later"), b"")
    cluster.storage.put(keys.batch("a-later"), b'{"from": "another version"}')
    cluster.ledger._redis.flushall()
    cluster.ledger.age_s()
    grow_old(cluster)
    reconcile_all(cluster)
    assert waiting(cluster) == 4


def test_a_paused_batch_stays_so_whatever_redis_loses(cluster: Cluster, batch: Batch, dataset: Path) -> None:
    pause(cluster, batch)
    cluster.ledger._redis.flushall()
    cluster.ledger.age_s()
    grow_old(cluster)
    reconcile_all(cluster)
    assert waiting(cluster) == 0
    with pytest.raises(BatchStopped, match="medley resume b"):
        submit_again(cluster, dataset)
    assert resume(cluster, batch) == 4


def test_a_cancelled_batch_is_not_open_and_can_be_resumed(cluster: Cluster, batch: Batch) -> None:
    cancel(cluster, batch)
    assert list(cluster.storage.list(keys.OPEN)) == []
    with pytest.raises(UsageError, match="cancelled"):
        pause(cluster, batch)
    resume(cluster, batch)
    assert list(cluster.storage.list(keys.OPEN)) == [keys.open_batch("b")]
    assert waiting(cluster) == 4, "those that are out are not enqueued twice"


def test_retry_takes_what_failed_for_this_reason_and_ends_the_batch_again(cluster: Cluster, batch: Batch) -> None:
    cluster.ledger._redis.delete(QUEUES["interactive"])
    jobs = transfers(cluster.storage, batch)
    for job, kind in zip(jobs, ("painted", "image", "poison", "poison"), strict=True):
        write_outcome(cluster.storage, an_outcome(batch, job, kind=kind))
        cluster.ledger.count_attempt("b", job.id, "w#0")
    recount(cluster, batch)
    assert finish_batch(cluster, "b", lambda: None)
    assert retry(cluster, batch, ["poison"]) == 2
    assert waiting(cluster) == 2
    assert cluster.ledger.counts("b")[:3] == (1, 1, 2)
    assert not cluster.storage.exists(keys.finished("b"))
    assert cluster.ledger.count_attempt("b", jobs[2].id, "w#0") == (1, "", ""), "its attempts are counted anew"
    assert retry(cluster, batch, ["numbers"]) == 0
    for job in jobs[2:]:
        write_outcome(cluster.storage, an_outcome(batch, job))
        cluster.ledger.record_outcome("b", job.id, "done")
    assert finish_batch(cluster, "b", lambda: None)
    assert retry(cluster, batch, ["numbers"]) == 0
    assert list(cluster.storage.list(keys.OPEN)) == [], "a retry of nothing leaves the batch ended"


def test_a_ledger_that_believes_too_much_is_put_right(cluster: Cluster, batch: Batch) -> None:
    cluster.ledger._redis.delete(QUEUES["interactive"])
    for job in read_manifest(cluster.storage, batch):
        cluster.ledger.record_outcome("b", job.id, "done")  # and none is in storage
    reconcile(cluster, "b")
    assert cluster.ledger.queue_lengths()["finish"] == 1
    assert not finish_batch(cluster, "b", lambda: None)
    assert reconcile(cluster, "b") == 4


def test_enqueuing_twice_adds_nothing_even_if_jobs_end_meanwhile(cluster: Cluster, batch: Batch) -> None:
    job = transfers(cluster.storage, batch)[0]
    write_outcome(cluster.storage, an_outcome(batch, job))
    cluster.ledger.record_outcome("b", job.id, "done")
    cluster.ledger.add_enqueued("b", [job.id], "interactive")  # as a producer that is slower than the painter
    assert cluster.ledger.counts("b")[:3] == (1, 0, 3)
    assert enqueue_missing(cluster, batch, "interactive") == 0
