"""Bézier walks as batches: each job is a stretch of a walk's frames, and the batch ends as one video."""

from collections.abc import Iterator
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from medley.records.base import JobId, Record
from medley.records.batches import AnyBatch
from medley.records.jobs import ENGINE, digest_id
from medley.records.networks import STRETCH, WalkOptions
from medley.records.pictures import Picture
from medley.records.results import AnyResult


class Walk(Record):
    """One job: ``count`` frames of a walk, from the frame ``first`` on. The options lie in ``batch.json``."""

    kind: Literal["walk"] = "walk"
    id: JobId
    first: NonNegativeInt
    count: PositiveInt

    @property
    def names(self) -> str:
        """What people are told of it."""
        return f"frames {self.first} to {self.first + self.count - 1}"

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Its inputs: none."""
        return ()


class WalkBatch(AnyBatch):
    """A batch that is one walk; its manifest has the stretches in order."""

    kind: Literal["walk"] = "walk"
    options: WalkOptions


class WalkResult(AnyResult):
    """Of a stretch of a walk; its frames are numbered as those of the whole walk."""

    kind: Literal["walk"] = "walk"
    options: WalkOptions


def walk_job_id(options: WalkOptions, first: int, count: int) -> JobId:
    """The id of a stretch: the digest of everything that bears on its pixels."""
    own = {"options": options.identity(), "first": first, "count": count}
    return digest_id({"kind": "walk", "engine": ENGINE, **own})


def stretch_length(options: WalkOptions, first: int) -> int:
    """How many frames the job has that begins with this one; 0 if none does."""
    return 0 if first % STRETCH else max(0, min(STRETCH, options.frames - first))


def stretches(options: WalkOptions) -> Iterator[Walk]:
    """All of a walk, in jobs."""
    for first in range(0, options.frames, STRETCH):
        count = stretch_length(options, first)
        yield Walk(id=walk_job_id(options, first, count), first=first, count=count)
