"""Painters of tests that need no pictures: what is to be painted is committed at once, or fails as it is told."""

from datetime import UTC, datetime

from medley import keys
from medley.broker.queue import Sent
from medley.cluster import Cluster
from medley.records.base import BatchName
from medley.records.batches import AnyBatch, Batch
from medley.records.jobs import StyleTransfer
from medley.records.kinds import Job
from medley.records.results import Result, Seconds
from medley_workers.jobs.delivery import deliver_message
from medley_workers.jobs.desk import Desk


def result_of(job: StyleTransfer, batch: Batch) -> Result:
    """A commit, as a painter returns it."""
    return Result(
        job_id=job.id, batch=batch.name, content=job.content, styles=job.styles, options=batch.options,
        engine=batch.engine, weights=batch.weights, size=(4, 3), steps=1, losses=((0, 2.0), (1, 1.0)), loss=1.0,
        content_loss=0.5, png_loss=1.5, frames=(), files={}, device="cpu", precision="float32", versions={},
        seconds=Seconds(load=0, paint=1, store=0, total=1), attempt="a", worker="w", finished_at=datetime.now(UTC),
    )  # fmt: skip


class Painter:
    """Paints by committing at once, or raises what it is told to."""

    def __init__(self, cluster: Cluster, error: BaseException | None = None) -> None:
        self.cluster = cluster
        self.error = error
        self.paintings = 0

    def __call__(self, job: Job, batch: AnyBatch) -> Result:
        assert isinstance(job, StyleTransfer)
        assert isinstance(batch, Batch)
        self.paintings += 1
        if self.error:
            raise self.error
        result = result_of(job, batch)
        self.cluster.storage.put_new(keys.result(job.id), result.json_bytes())
        return result

    @property
    def desk(self) -> Desk:
        return self.desk_of("w")

    def desk_of(self, painter: str) -> Desk:
        return Desk(self.cluster, painter, self, lambda: ("the last", "lines"))


def deliver(desk: Desk, batch: BatchName, job: Job) -> None:
    """Deliver a job whose message has no other, and was not delivered before."""
    deliver_message(desk, batch, [job], Sent("bulk", at=1_700_000_000.0))
