"""Outcomes as workers write them."""

from datetime import UTC, datetime

from medley.jobs import Batch, StyleTransfer
from medley.results import Outcome


def an_outcome(batch: Batch, job: StyleTransfer, kind: str = "painted") -> Outcome:
    """An outcome of a job: done if it was painted or reused, else failed."""
    return Outcome(
        job=job.id, batch=batch.name, status="done" if kind in ("painted", "reused") else "failed", kind=kind,
        names=job.names, attempts=1, worker="w", seconds=1, finished_at=datetime.now(UTC),
    )  # fmt: skip
