"""What a batch can be of: style transfers, or the stretches of a walk; and what reads records of either kind."""

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, TypeAdapter

from medley.records.base import JobId
from medley.records.batches import AnyBatch, Batch
from medley.records.jobs import JobIds, StyleTransfer
from medley.records.results import AnyResult, Result
from medley.records.walks import Walk, WalkBatch, WalkResult, stretch_length, walk_job_id

Job = Annotated[StyleTransfer | Walk, Field(discriminator="kind")]
"""A line of a manifest, and what a message carries."""


def _kind(value: Any) -> str:
    """Which kind of batch or result it is; those of style transfers do not say so."""
    return "walk" if isinstance(value, dict) and value.get("kind") == "walk" else "style_transfer"


JOB: TypeAdapter[Job] = TypeAdapter(Job)
BATCH: TypeAdapter[AnyBatch] = TypeAdapter(
    Annotated[Annotated[Batch, Tag("style_transfer")] | Annotated[WalkBatch, Tag("walk")], Discriminator(_kind)]
)
RESULT: TypeAdapter[AnyResult] = TypeAdapter(
    Annotated[Annotated[Result, Tag("style_transfer")] | Annotated[WalkResult, Tag("walk")], Discriminator(_kind)]
)
"""What reads a line of a manifest, a ``batch.json`` and a ``result.json``, whatever the batch is of."""


def as_job(value: Any) -> Job:
    """A job out of a message that was found to be one."""
    return JOB.validate_python(value)


def id_of(job: Job, batch: AnyBatch) -> JobId | None:
    """The id that a job of a batch must have; None if the batch has no such jobs."""
    if isinstance(job, StyleTransfer) and isinstance(batch, Batch):
        return JobIds(batch.options, batch.weights).of(job.content, job.styles, job.init)
    if isinstance(job, Walk) and isinstance(batch, WalkBatch) and job.count == stretch_length(batch.options, job.first):
        return walk_job_id(batch.options, job.first, job.count)
    return None
