"""Outcomes as workers write them, and those of a whole batch."""

from datetime import UTC, datetime
from typing import NamedTuple

from medley.batches.stored import each_outcome, read_manifest
from medley.records.base import BatchName, JobId
from medley.records.batches import AnyBatch
from medley.records.jobs import StyleTransfer
from medley.records.kinds import Job
from medley.records.results import Outcome
from medley.storage import Storage

PREVIEWS = ("preview.jpg", "content.jpg", "style-1.jpg")
"""The small copies that a job of one style leaves."""


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


def transfers(storage: Storage, batch: AnyBatch) -> list[StyleTransfer]:
    """The pairs of a batch of style transfers, in the manifest's order."""
    jobs = list(read_manifest(storage, batch))
    pairs = [job for job in jobs if isinstance(job, StyleTransfer)]
    assert pairs == jobs
    return pairs


def an_outcome(batch: AnyBatch, job: Job, kind: str = "painted") -> Outcome:
    """An outcome of a job: done if it was painted or reused, else failed."""
    return Outcome(
        job=job.id, batch=batch.name, status="done" if kind in ("painted", "reused") else "failed", kind=kind,
        names=job.names, attempts=1, worker="w", seconds=1, finished_at=datetime.now(UTC),
    )  # fmt: skip
