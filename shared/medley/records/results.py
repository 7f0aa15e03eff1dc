"""What is kept of how jobs and batches ended."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, FailFast, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, StringConstraints

from medley.records.base import BatchName, Digest, JobId, Record, Size
from medley.records.networks import WalkOptions
from medley.records.options import StyleTransferOptions
from medley.records.pictures import Picture, Style
from medley.records.weights import Weights
from medley.storage.contract import checked

Status = Literal["done", "failed"]
"""How a job of a batch ended; if both stand, done wins."""

_FileName = Annotated[str, StringConstraints(pattern=r"^(frames/)?[A-Za-z0-9_-]+\.[a-z0-9]+$")]

PICTURE_FILE = "pastiche.png"
"""What a result calls the finished picture."""


def frame_file(step: int) -> str:
    """What a result calls the frame after so many steps, or with this number in a walk."""
    return f"frames/{step:06d}.jpg"


class StoredFile(Record):
    """A file in storage."""

    key: Annotated[str, AfterValidator(checked)]
    sha256: Digest
    bytes: NonNegativeInt


class Seconds(Record):
    """Where a job's time went; ``load``, the reading of the weights, is zero for all but a process's first job."""

    load: NonNegativeFloat
    paint: NonNegativeFloat
    store: NonNegativeFloat
    total: NonNegativeFloat


class AnyResult(Record):
    """``result.json``, whatever the job was: its commit. It names its attempt's files with their digests.

    ``size`` is the width and height of its pictures in px, and ``steps`` how many steps were made.
    """

    job_id: JobId
    batch: BatchName
    options: StyleTransferOptions | WalkOptions
    engine: int
    size: Size
    steps: NonNegativeInt
    loss: NonNegativeFloat | None = None
    frames: tuple[NonNegativeInt, ...]
    files: Annotated[dict[_FileName, StoredFile], FailFast()]
    seconds: Seconds
    device: str
    resumed_at: tuple[NonNegativeInt, ...] = Field((), description="steps at which another attempt was gone on with")
    versions: dict[str, str]
    attempt: str
    worker: str
    finished_at: datetime


class Chosen(Record):
    """What a worker chose for a painting: ``exact`` where a fast one was asked for has a reason.

    ``levels`` are the sizes (width and height, px) of the fast path and its steps there in whitened form; at the last
    one, which is full size, plain steps follow. ``left_out`` are style layers that the last steps did without.
    """

    precision: Literal["fast", "exact"]
    reason: str = ""
    arithmetic: str = ""
    levels: tuple[tuple[PositiveInt, PositiveInt, NonNegativeInt], ...] = ()
    left_out: tuple[str, ...] = ()


class Result(AnyResult):
    """Of a style transfer.

    ``losses`` holds the loss of the picture that has had that many steps, at full size: of step 0, and of the last one,
    in plain float32; and of those between that were looked at, as far as it was known there, in the arithmetic of the
    steps. ``png_loss`` is the plain loss of the saved 8-bit picture. ``init`` is the job whose picture it began with.
    """

    content: Picture
    styles: tuple[Style, ...]
    init: JobId | None = None
    options: StyleTransferOptions
    weights: Weights
    losses: Annotated[tuple[tuple[NonNegativeInt, NonNegativeFloat], ...], FailFast()]
    loss: NonNegativeFloat
    content_loss: NonNegativeFloat
    png_loss: NonNegativeFloat
    precision: str
    chosen: Chosen | None = None
    economy: str = Field("", description="what was spared, as memory did not suffice; nothing, if it did")


class Outcome(Record):
    """How a job of a batch ended. ``kind`` is a kind of error, or ``painted`` or ``reused`` for a job that is done.

    ``names`` are its pictures, as the dataset calls them, and ``log`` the last lines of a failure's worker. ``after``
    is the job of its chain whose failure is why it was not even tried.
    """

    job: JobId
    batch: BatchName
    status: Status
    kind: str
    after: JobId | None = None
    names: str = ""
    reason: str = ""
    log: tuple[str, ...] = ()
    attempts: NonNegativeInt
    worker: str
    seconds: NonNegativeFloat
    loss: NonNegativeFloat | None = None
    finished_at: datetime


class Finished(Record):
    """``finished.json``: everything that a batch ends with is there, made from the outcomes with this digest."""

    batch: BatchName
    done: NonNegativeInt
    failed: NonNegativeInt
    outcomes: Digest
    finished_at: datetime
