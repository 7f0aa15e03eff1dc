"""What a batch was asked for and what it came to, ``batch.json``; and what people decided about it."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import FailFast, Field, NonNegativeFloat, PositiveInt, StringConstraints, model_validator

from medley.records.base import BatchName, Digest, Record
from medley.records.jobs import ENGINE
from medley.records.networks import WalkOptions
from medley.records.options import StyleTransferOptions
from medley.records.pictures import Picture
from medley.records.weights import Weights

QueueKind = Literal["finish", "interactive", "bulk"]
"""What a queue is for, in the order in which they are served: a batch that is done waits for no other one."""

ControlState = Literal["running", "paused", "cancelled"]
"""What people can decide about a batch."""

PoolItem = Annotated[str, StringConstraints(min_length=1)]
"""A file, a folder, a glob or a CSV; never nothing, as an unset variable of a shell, which would mean this folder."""


class Sampling(Record):
    """Which pairs were asked for: the pools as they were typed, and how pairs are drawn from them."""

    content: tuple[PoolItem, ...] = Field(
        min_length=1, description="photos: files, folders, globs, CSVs, s3://bucket/prefix"
    )
    styles: tuple[PoolItem, ...] = Field(min_length=1, description="paintings: as --content")
    pairing: Literal["random", "product", "zip"] = Field(
        "random", description="random pairs, every pair in order, or the first with the first"
    )
    pairs: PositiveInt | None = Field(None, description="how many pairs; all there are, if not given")
    styles_per_pair: PositiveInt = Field(1, description="styles that one picture blends")
    style_weights: tuple[NonNegativeFloat, ...] = Field(
        (), description="by style of a pair; 1 / --styles-per-pair for each that has none"
    )
    sample_seed: str = Field("", description="chooses the pairs; the batch's name, if not given")
    chain: bool = Field(
        False, description="paint a photo's pairs one after another, each beginning with the picture before it"
    )
    where: tuple[str, ...] = Field((), description="column=value: take these rows of a CSV only; may be repeated")
    image_column: str | None = Field(None, description="column of a CSV that names the pictures")
    image_root: str | None = Field(
        None,
        description="folder, or s3://bucket/prefix, below which a CSV's pictures lie; the CSV's folder, if not given",
    )

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        if len(self.style_weights) > self.styles_per_pair:
            raise ValueError(
                f"{len(self.style_weights)} style_weights for {self.styles_per_pair} styles_per_pair; "
                "give as many, or fewer"
            )
        return self

    def weight(self, position: int) -> float:
        """The weight of the style at this position of a pair."""
        return self.style_weights[position] if position < len(self.style_weights) else 1.0 / self.styles_per_pair


class Skipped(Record):
    """A file of the dataset that could not be used, and why."""

    name: str
    reason: str


class AnyBatch(Record):
    """What every ``batch.json`` says, whatever its jobs are: written once and never changed."""

    name: BatchName
    options: StyleTransferOptions | WalkOptions
    engine: int
    queue: QueueKind = "bulk"
    manifest: Digest
    pairs: PositiveInt = Field(description="lines of the manifest")
    jobs: PositiveInt = Field(description="distinct jobs; fewer than pairs where lines share one")
    skipped: Annotated[tuple[Skipped, ...], FailFast()] = ()
    created_at: datetime


class Batch(AnyBatch):
    """A batch of style transfers: what was asked for and what it came to."""

    sampling: Sampling
    options: StyleTransferOptions
    weights: Weights

    def differences(self, sampling: Sampling, options: StyleTransferOptions, weights: Weights) -> list[str]:
        """Where this batch differs from what is asked for now, as ``name: ours, not theirs``."""
        same = weights.sha256 == self.weights.sha256  # whatever the file is called
        ours = {**self.sampling.model_dump(), **_compared(self.options)}
        ours |= {"weights": self.weights.label, "engine": self.engine}
        theirs = {**sampling.model_dump(), **_compared(options)}
        theirs |= {"weights": (self.weights if same else weights).label, "engine": ENGINE}
        return [f"{key}: {ours[key]!r}, not {theirs[key]!r}" for key in ours if ours[key] != theirs[key]]


class Control(Record):
    """``control.json``: what people decided about a batch."""

    state: ControlState
    at: datetime


def _compared(options: StyleTransferOptions) -> dict[str, Any]:
    """The options as people gave them, but of a picture to begin with its bytes, whatever it is called."""
    init = options.init.sha256 if isinstance(options.init, Picture) else options.init
    return options.model_dump() | {"init": init}
