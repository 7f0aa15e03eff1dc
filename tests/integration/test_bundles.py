"""Jobs that share a message: each ends as if it were alone; with a real Redis and a folder, and painters as told."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import redis

from conftest import wait_until
from medley.batches.control import cancel, pause, resume
from medley.batches.stored import read_outcome
from medley.broker.bundles import bundle_of, bundled
from medley.broker.messages import read_message
from medley.broker.paintings import Progress
from medley.broker.queue import QUEUES, Sent, publish_finish, publish_paint
from medley.broker.roster import Painter as Greeting
from medley.cluster import Cluster
from medley.errors import ImageError, JobHeld, NumbersError, OutOfMemory, PaintingStopped, StorageUnreachable
from medley.records.base import JobId
from medley.records.batches import AnyBatch, Batch, Sampling
from medley.records.jobs import StyleTransfer
from medley.records.kinds import Job
from medley.records.networks import WalkOptions
from medley.records.options import StyleTransferOptions
from medley.records.pictures import Picture, Style
from medley.records.results import AnyResult, Result
from medley.records.walks import WalkBatch
from medley.settings import Settings
from medley_producer.submit import Request, submit
from medley_workers.jobs.delivery import deliver_message
from medley_workers.jobs.desk import Commit, Desk
from outcomes import list_outcomes, transfers
from painters import Painter

SENT = Sent("bulk", at=1_700_000_000.0)


@pytest.fixture
def batch(cluster: Cluster, dataset: Path) -> Batch:
    """Of four jobs, whose messages are taken away."""
    sampling = Sampling(content=(str(dataset / "contents"),), styles=(str(dataset / "styles"),), pairs=4)
    made = submit(cluster, Request("b", sampling, StyleTransferOptions()), "bulk", lambda *_: None).batch
    cluster.ledger._redis.delete(QUEUES["bulk"])
    return made


@pytest.fixture
def jobs(cluster: Cluster, batch: Batch) -> list[StyleTransfer]:
    return transfers(cluster.storage, batch)


class Told(Painter):
    """Paints; or does what it was told to do at a job."""

    def __init__(self, cluster: Cluster, what: dict[JobId, BaseException | Callable[[], None]]) -> None:
        super().__init__(cluster)
        self.what = what
        self.begun: list[JobId] = []
        self.expected: list[JobId] = []

    def __call__(self, job: Job, batch: AnyBatch) -> Result:
        self.begun.append(job.id)
        match self.what.get(job.id):
            case BaseException() as error:
                raise error
            case None:
                pass
            case act:
                act()
        return super().__call__(job, batch)

    def expect(self, job: Job, _: AnyBatch) -> None:
        self.expected.append(job.id)

    @property
    def desk(self) -> Desk:
        return replace(super().desk, expect=self.expect)


def out(cluster: Cluster, queue: str = QUEUES["bulk"]) -> list[list[JobId]]:
    """The jobs of each message that waits, in the order in which they would be taken."""
    texts: Any = cluster.ledger._redis.lrange(queue, 0, -1)
    bodies = [json.loads(base64.b64decode(json.loads(text)["body"])) for text in reversed(texts)]
    return [[job["id"] for job in jobs] for (_, jobs), *_ in bodies]


def ids(jobs: Iterable[Job]) -> list[JobId]:
    return [job.id for job in jobs]


def greet(cluster: Cluster, count: int) -> None:
    for number in range(count):
        painter = Greeting(name=f"w{number}", queues=(QUEUES["bulk"],), device="cpu", model_loads=1, jobs=0)
        cluster.ledger.greet(painter)


# One after another


def test_one_bad_job_fails_alone(cluster: Cluster, batch: Batch, jobs: list[StyleTransfer]) -> None:
    painter = Told(cluster, {jobs[1].id: ImageError("sky.jpg is truncated.")})
    deliver_message(painter.desk, batch.name, jobs, SENT)
    assert painter.begun == ids(jobs)
    outcomes = list_outcomes(cluster.storage, batch.name)
    assert outcomes.failed == {jobs[1].id}
    assert len(outcomes.done) == 3
    assert read_outcome(cluster.storage, batch.name, jobs[1].id, "failed").reason == "sky.jpg is truncated."
    assert cluster.ledger.queue_lengths()["finish"] == 1


def test_the_next_job_is_expected_while_one_is_painted(
    cluster: Cluster, batch: Batch, jobs: list[StyleTransfer]
) -> None:
    painter = Told(cluster, {})
    deliver_message(painter.desk, batch.name, jobs[:3], SENT)
    assert painter.expected == ids(jobs[1:3])


def test_a_bundle_that_was_delivered_before_is_split_and_goes_before_all_others(
    cluster: Cluster, batch: Batch, jobs: list[StyleTransfer]
) -> None:
    publish_paint(cluster.app, cluster.settings, "bulk", batch.name, jobs[3:])
    painter = Told(cluster, {})
    deliver_message(painter.desk, batch.name, jobs[:3], SENT._replace(redelivered=True))
    assert painter.begun == []
    assert out(cluster) == [[job.id] for job in jobs]
    assert cluster.ledger.waiting_since()["bulk"] == SENT.at, "it has waited for as long as its bundle had"
    deliver_message(painter.desk, batch.name, jobs[:1], SENT._replace(redelivered=True))
    assert painter.begun == ids(jobs[:1])


def test_a_job_that_must_be_given_back_holds_none_of_the_others_up(
    cluster: Cluster, batch: Batch, jobs: list[StyleTransfer]
) -> None:
    cluster.ledger.report(batch.name, jobs[0].id, Progress(step=1, steps=9, worker="another", at=time.time()))
    painter = Told(cluster, {jobs[2].id: OutOfMemory("There is no room.")})
    with pytest.raises(JobHeld, match="another"):
        deliver_message(painter.desk, batch.name, jobs, SENT)
    assert list_outcomes(cluster.storage, batch.name).done == {jobs[1].id, jobs[3].id}
    assert cluster.ledger.count_attempt(batch.name, jobs[2].id, "w").number == 1, "it was given back"


@pytest.mark.parametrize("error", [PaintingStopped("The worker drains."), StorageUnreachable("away"), SystemExit(0)])
def test_what_is_not_begun_when_the_painter_stops_goes_back_uncounted(
    cluster: Cluster, batch: Batch, jobs: list[StyleTransfer], error: BaseException
) -> None:
    painter = Told(cluster, {jobs[1].id: error})
    with pytest.raises(type(error)):
        deliver_message(painter.desk, batch.name, jobs, SENT)
    assert painter.begun == ids(jobs[:2])
    assert list_outcomes(cluster.storage, batch.name).all == {jobs[0].id}
    again = Told(cluster, {})
    deliver_message(again.desk, batch.name, jobs, SENT._replace(redelivered=True))
    for job in jobs:
        deliver_message(again.desk, batch.name, [job], SENT)
    assert again.begun == ids(jobs[1:]), "what was done is not painted again"
    assert {read_outcome(cluster.storage, batch.name, job.id, "done").attempts for job in jobs} == {1}


@pytest.mark.parametrize("decide", [pause, cancel])
def test_a_batch_that_is_stopped_in_the_midst_of_a_bundle(
    cluster: Cluster, batch: Batch, jobs: list[StyleTransfer], decide: Callable[[Cluster, AnyBatch], None]
) -> None:
    def stop() -> None:
        decide(cluster, batch)
        desk._controls = {}  # it is a while ago
        raise PaintingStopped("The batch is stopped.")

    painter = Told(cluster, {jobs[1].id: stop})
    desk = painter.desk
    deliver_message(desk, batch.name, jobs, SENT)
    assert painter.begun == ids(jobs[:2])
    assert list_outcomes(cluster.storage, batch.name).all == {jobs[0].id}
    assert resume(cluster, batch) == 3
    assert sorted(out(cluster)) == sorted([job.id] for job in jobs[1:])


def test_a_poisonous_job_ends_itself_alone(cluster: Cluster, batch: Batch, jobs: list[StyleTransfer]) -> None:
    for _ in range(cluster.settings.attempts):
        cluster.ledger.count_attempt(batch.name, jobs[1].id, "gone")
    deliver_message(Told(cluster, {}).desk, batch.name, jobs, SENT)
    outcomes = list_outcomes(cluster.storage, batch.name)
    assert (outcomes.failed, len(outcomes.done)) == ({jobs[1].id}, 3)
    assert read_outcome(cluster.storage, batch.name, jobs[1].id, "failed").kind == "poison"


def test_a_batch_that_is_gone_drops_all_of_a_bundle(cluster: Cluster, jobs: list[StyleTransfer]) -> None:
    painter = Told(cluster, {})
    deliver_message(painter.desk, "another", jobs, SENT)
    assert painter.begun == []


# At the same time


class Storing(Told):
    """Paints, and leaves it to others to store that."""

    def __init__(self, cluster: Cluster, stores: Callable[[JobId], None]) -> None:
        super().__init__(cluster, {})
        self.stores = stores

    def paint(self, job: Job, batch: AnyBatch) -> Commit:
        self.begun.append(job.id)

        def finish() -> AnyResult:
            self.stores(job.id)
            return Painter.__call__(self, job, batch)

        return finish

    @property
    def desk(self) -> Desk:
        return replace(super().desk, paint=self.paint)


def test_a_job_is_stored_while_the_next_one_is_painted(
    cluster: Cluster, batch: Batch, jobs: list[StyleTransfer]
) -> None:
    def stores(job: JobId) -> None:
        if job != jobs[-1].id:
            following = jobs[ids(jobs).index(job) + 1]
            wait_until(lambda: following.id in painter.begun, 10, "the painting of the next one")

    painter = Storing(cluster, stores)
    deliver_message(painter.desk, batch.name, jobs, SENT)
    assert list_outcomes(cluster.storage, batch.name).done == set(ids(jobs))
    assert cluster.ledger.queue_lengths()["finish"] == 1


def test_what_cannot_be_stored_is_given_back_or_fails_as_if_it_were_alone(
    cluster: Cluster, batch: Batch, jobs: list[StyleTransfer]
) -> None:
    def stores(job: JobId) -> None:
        if job == jobs[0].id:
            raise StorageUnreachable("away")
        if job == jobs[1].id:
            raise NumbersError("It is one flat colour.")

    painter = Storing(cluster, stores)
    with pytest.raises(StorageUnreachable):
        deliver_message(painter.desk, batch.name, jobs, SENT)
    assert len(painter.begun) < 4, "what follows is not begun for nothing"
    assert cluster.ledger.count_attempt(batch.name, jobs[0].id, "w").number == 1
    failed = list_outcomes(cluster.storage, batch.name).failed
    assert failed == {jobs[1].id} & set(painter.begun)


def test_a_painter_that_is_ended_gives_back_what_is_being_stored(
    cluster: Cluster, batch: Batch, jobs: list[StyleTransfer]
) -> None:
    go = threading.Event()

    def stores(_: JobId) -> None:
        go.wait(10)

    painter = Storing(cluster, stores)

    def paint(job: Job, batch: AnyBatch) -> Commit:
        if painter.begun:
            raise SystemExit(0)
        return painter.paint(job, batch)

    with pytest.raises(SystemExit):
        deliver_message(replace(painter.desk, paint=paint), batch.name, jobs, SENT)
    try:
        for job in jobs[:2]:
            assert cluster.ledger.count_attempt(batch.name, job.id, "w").number == 1
            assert cluster.ledger.hold(job.id, "another") == "another"
    finally:
        go.set()


# Shares


def test_painters_that_have_nothing_to_do_get_a_share(
    cluster: Cluster, batch: Batch, jobs: list[StyleTransfer]
) -> None:
    greet(cluster, 2)
    cluster.ledger._redis.zadd("unacked_index", {"ours": time.time()})
    painter = Told(cluster, {})
    deliver_message(painter.desk, batch.name, jobs, SENT)
    assert painter.begun == ids(jobs[:2])
    assert out(cluster) == [ids(jobs[2:])]


def test_nothing_is_shared_while_messages_wait(cluster: Cluster, batch: Batch, jobs: list[StyleTransfer]) -> None:
    greet(cluster, 9)
    publish_paint(cluster.app, cluster.settings, "bulk", batch.name, jobs[3:])
    painter = Told(cluster, {})
    deliver_message(painter.desk, batch.name, jobs[:3], SENT)
    assert painter.begun == ids(jobs[:3])


def test_something_more_urgent_waits_for_one_job_and_not_for_a_bundle(
    cluster: Cluster, batch: Batch, jobs: list[StyleTransfer]
) -> None:
    publish_finish(cluster.app, cluster.settings, "another")
    painter = Told(cluster, {})
    deliver_message(painter.desk, batch.name, jobs, SENT)
    assert painter.begun == ids(jobs[:1])
    assert [*chain(*out(cluster))] == ids(jobs[1:])
    deliver_message(painter.desk, batch.name, jobs[1:2], SENT)
    assert painter.begun == ids(jobs[:2]), "it goes on even if nobody takes what is urgent"


# Together


class Together:
    """Paints together: ``what`` of a job is what it gives instead; and then it ``ends`` with an error, perhaps."""

    def __init__(self, painter: Told, what: dict[JobId, Exception | None], ends: BaseException | None = None) -> None:
        self.painter, self.what, self.ends = painter, what, ends
        self.begun: list[JobId] = []

    def __call__(self, jobs: Sequence[Job], batch: AnyBatch) -> Iterator[tuple[JobId, AnyResult | Exception]]:
        self.begun += ids(jobs)
        for job in reversed(jobs):
            if job.id not in self.what:
                yield job.id, Painter.__call__(self.painter, job, batch)
            elif error := self.what[job.id]:
                yield job.id, error
        if self.ends:
            raise self.ends

    @property
    def desk(self) -> Desk:
        return replace(self.painter.desk, paint_together=self)


def test_what_is_painted_together_ends_each_in_its_own_way(
    cluster: Cluster, batch: Batch, jobs: list[StyleTransfer]
) -> None:
    alone = Told(cluster, {})
    errors = NumbersError("The loss is nan."), OutOfMemory("No room."), ZeroDivisionError("by nought")
    together = Together(alone, dict(zip(ids(jobs), errors, strict=False)))
    deliver_message(together.desk, batch.name, jobs, SENT)
    assert together.begun == ids(jobs)
    assert sorted(alone.begun) == sorted(ids(jobs[1:3])), "these may do better alone"
    outcomes = list_outcomes(cluster.storage, batch.name)
    assert (outcomes.failed, len(outcomes.done)) == ({jobs[0].id}, 3)
    assert cluster.ledger.queue_lengths()["finish"] == 1
    deliver_message(together.desk, batch.name, jobs, SENT)
    assert len(together.begun) == 4, "there is nothing left to paint"


@pytest.mark.parametrize("ends", [ZeroDivisionError("by nought"), OutOfMemory("There is no room."), None])
def test_what_nothing_is_said_of_is_painted_alone(
    cluster: Cluster, batch: Batch, jobs: list[StyleTransfer], ends: Exception | None
) -> None:
    alone = Told(cluster, {})
    together = Together(alone, dict.fromkeys(ids(jobs[:2])), ends)
    deliver_message(together.desk, batch.name, jobs, SENT)
    assert sorted(alone.begun) == sorted(ids(jobs[:2]))
    assert list_outcomes(cluster.storage, batch.name).done == set(ids(jobs))


@pytest.mark.parametrize("error", [PaintingStopped("The worker drains."), StorageUnreachable("away"), SystemExit(0)])
def test_painters_that_stop_keep_what_is_done_and_give_the_rest_back(
    cluster: Cluster, batch: Batch, jobs: list[StyleTransfer], error: BaseException
) -> None:
    alone = Told(cluster, {})
    together = Together(alone, dict.fromkeys(ids(jobs[:2])), error)
    with pytest.raises(type(error)):
        deliver_message(together.desk, batch.name, jobs, SENT)
    assert alone.begun == []
    assert list_outcomes(cluster.storage, batch.name).done == set(ids(jobs[2:]))
    for job in jobs[:2]:
        assert cluster.ledger.count_attempt(batch.name, job.id, "w").number == 1
        assert cluster.ledger.hold(job.id, "another") == "another"


def test_jobs_painted_together_stop_with_their_batch(cluster: Cluster, batch: Batch, jobs: list[StyleTransfer]) -> None:
    pausing = Told(cluster, {})

    def paint(jobs: Sequence[Job], batch: AnyBatch) -> Iterator[tuple[JobId, AnyResult | Exception]]:
        pause(cluster, batch)
        desk._controls = {}
        yield jobs[0].id, pausing(jobs[0], batch)
        for job in jobs[1:]:
            yield job.id, PaintingStopped("The batch is paused.")

    desk = replace(pausing.desk, paint_together=paint)
    deliver_message(desk, batch.name, jobs, SENT)
    assert list_outcomes(cluster.storage, batch.name).all == {jobs[0].id}
    assert resume(cluster, batch) == 3


def test_a_job_that_may_have_ended_a_painter_is_painted_apart(
    cluster: Cluster, batch: Batch, jobs: list[StyleTransfer]
) -> None:
    cluster.ledger.count_attempt(batch.name, jobs[1].id, "gone")
    alone = Told(cluster, {})
    together = Together(alone, {})
    deliver_message(together.desk, batch.name, jobs, SENT)
    assert (together.begun, alone.begun) == (ids([jobs[0], *jobs[2:]]), [jobs[1].id])
    assert list_outcomes(cluster.storage, batch.name).done == set(ids(jobs))


# Messages


def some_jobs(count: int, contents: int, name: str = "") -> list[StyleTransfer]:
    """Jobs whose contents take turns."""
    return [
        StyleTransfer(
            id=f"{n:032x}",
            content=Picture(sha256=f"{n % contents:064x}", ext="jpg", name=f"{name}{n % contents}"),
            styles=(Style(sha256=f"{n:064x}", ext="jpg", name=f"style {n}"),),
        )
        for n in range(count)
    ]


def test_what_is_of_one_content_shares_a_message() -> None:
    jobs = some_jobs(12, contents=3)
    found = list(bundled(jobs, 4))
    assert [ids(some) for some in found] == [ids(jobs[n::3]) for n in range(3)]
    assert sorted(ids(job for some in found for job in some)) == ids(jobs)
    assert list(bundled(jobs, 1)) == [[job] for job in jobs]
    assert list(bundled([], 4)) == []


@pytest.mark.parametrize("name", ["photo.jpg", "n" * 255, "\U0001f3a8" * 60, "n" * 6_000])
def test_a_bundle_is_under_eight_kilobytes(cluster: Cluster, name: str) -> None:
    jobs = some_jobs(64, contents=64, name=name)
    publish_paint(cluster.app, cluster.settings, "bulk", "b" * 100, jobs, bundle=16)
    with redis.Redis.from_url(cluster.settings.redis) as client:
        texts: Any = client.lrange(QUEUES["bulk"], 0, -1)
    assert [*chain(*out(cluster))] == ids(jobs)
    for text, some in zip(reversed(texts), out(cluster), strict=True):
        assert len(text) < 8 * 2**10 or len(some) == 1
        read_message(text)
    print(f"{len(texts)} messages, the longest of {max(map(len, texts))} bytes")


def test_chains_and_walks_are_not_bundled(batch: Batch) -> None:
    settings = Settings(bundle=8)
    chained = batch.model_copy(update={"sampling": batch.sampling.model_copy(update={"chain": True})})
    walk = WalkBatch(
        name="w", options=WalkOptions(), **batch.model_dump(include={*AnyBatch.model_fields} - {"name", "options"})
    )
    assert [bundle_of(each, settings) for each in (batch, chained, walk)] == [8, 1, 1]


def test_a_batch_goes_out_in_bundles(cluster: Cluster, dataset: Path) -> None:
    bundling = replace(cluster, settings=cluster.settings.model_copy(update={"bundle": 8}))
    sampling = Sampling(content=(str(dataset / "contents"),), styles=(str(dataset / "styles"),))
    submitted = submit(bundling, Request("whole", sampling, StyleTransferOptions()), "bulk", lambda *_: None)
    assert submitted.enqueued == 12
    assert [len(jobs) for jobs in out(cluster)] == [8, 4]
    assert cluster.ledger.counts("whole").enqueued == 12
