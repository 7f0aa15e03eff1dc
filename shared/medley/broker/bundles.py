"""Bundles: jobs of one batch that share a message.

A message costs its painter some round trips; and of a bundle, the inputs of the next job can be fetched while one is
painted, as one lease holds them all. All else is each job's own: its outcome, its attempts, and what it fails of.
"""

import json
from collections.abc import Iterable, Iterator

from medley.records.batches import AnyBatch, Batch
from medley.records.jobs import StyleTransfer
from medley.records.kinds import Job
from medley.settings import Settings

MOST_JOBS = 16
"""In one message."""

JOBS_BYTES = 4_900
"""Of the jobs of a bundle, as JSON: eleven pairs with long names. One job alone may be longer."""

BODY_BYTES = 7_000
"""What that comes to in base64, with a long batch's name. With what Celery says beside it, a bundle is under 8 KB."""


def bundle_of(batch: AnyBatch, settings: Settings) -> int:
    """How many jobs of a batch may share a message.

    One, if it is chained: what follows a job must not wait for the rest of its message. One, if it is a walk: each of
    its jobs is long enough for a message of its own.
    """
    return settings.bundle if isinstance(batch, Batch) and not batch.sampling.chain else 1


def bundled(jobs: Iterable[Job], most: int) -> Iterator[list[Job]]:
    """The jobs in bundles of at most so many.

    Those of one content are put together: they are painted at one size, whatever sizes the others have, which no
    manifest tells; and what is fetched for one is there for the next.
    """
    if most == 1:
        yield from ([job] for job in jobs)
        return
    bundle: list[Job] = []
    left = JOBS_BYTES
    for job in _by_content(jobs):
        size = len(json.dumps(as_sent(job)))
        if bundle and (len(bundle) == most or size > left):
            yield bundle
            bundle, left = [], JOBS_BYTES
        bundle.append(job)
        left -= size
    if bundle:
        yield bundle


def as_sent(job: Job) -> dict[str, object]:
    """A job as a message carries it."""
    return job.model_dump(mode="json", exclude_none=True)


def check_bundle(jobs: tuple[Job, ...]) -> tuple[Job, ...]:
    """See that jobs may share a message.

    Raises:
        ValueError: they may not.
    """
    if len(jobs) == 1:
        return jobs
    if len({job.id for job in jobs}) < len(jobs):
        raise ValueError("a job is there twice")
    if not all(isinstance(job, StyleTransfer) and not job.init for job in jobs):
        raise ValueError("a job that must be alone in its message is not")
    return jobs


def _by_content(jobs: Iterable[Job]) -> list[Job]:
    """The jobs, each content's where its first one is."""
    contents: dict[str, list[Job]] = {}
    for job in jobs:
        contents.setdefault(job.content.sha256 if isinstance(job, StyleTransfer) else job.id, []).append(job)
    return [job for some in contents.values() for job in some]
