"""Outcomes as workers write them, and those of a whole batch."""

from datetime import UTC, datetime
from typing import NamedTuple

from medley.batches import each_outcome
from medley.jobs import Batch, StyleTransfer
from medley.records import BatchName, JobId
from medley.results import Outcome
from medley.storage import Storage


class Outcomes(NamedTuple):
    """The jobs of a batch that have ended; one that is done is not among the failed."""

    done: set[JobId]
    failed: set[JobId]

    @property
    def all(self) -> set[JobId]:
        """Done and failed together."""
        return self.done | self.failed


def list_outcomes(storage: Storage, name: BatchName) -> Outcomes:
    """Which jobs have ended."""
    outcomes = Outcomes(set(), set())
    for job, status in each_outcome(storage, name):
        (outcomes.done if status == "done" else outcomes.failed).add(job)
    return outcomes


def an_outcome(batch: Batch, job: StyleTransfer, kind: str = "painted") -> Outcome:
    """An outcome of a job: done if it was painted or reused, else failed."""
    return Outcome(
        job=job.id, batch=batch.name, status="done" if kind in ("painted", "reused") else "failed", kind=kind,
        names=job.names, attempts=1, worker="w", seconds=1, finished_at=datetime.now(UTC),
    )  # fmt: skip
