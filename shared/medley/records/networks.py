"""What is asked of a random network: one picture, or the frames of a walk. Names and meanings are neuralart's."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from medley.records.base import Record
from medley.records.videos import MOST_VIDEO_PX

STRETCH = 48
"""Frames of a walk that one job renders: at 512 x 512 about a second of two slow cores, and under a minute at 4096 x
4096; a video of ten seconds still keeps seven workers busy."""

MOST_ART_PX = 65_500
"""The longest side of a picture, as of the JPEGs that medley writes. It is rendered in bands, so memory is no limit."""

_Coordinate = Annotated[float, Field(ge=-1e6, le=1e6)]
"""Beyond this, float32 has fewer distinct numbers between two limits than a picture has pixels."""

Limits = tuple[_Coordinate, _Coordinate]
"""The least and the greatest coordinate along an axis: those of the centres of the first and the last pixel."""


class NetworkOptions(Record):
    """A random network, and what it looks at.

    A pixel's coordinates (y, x), its distance from the origin, and z, go through ``depth`` layers of ``units`` tanh
    units each, and a sigmoid makes colours of what comes out.
    """

    most_px: ClassVar[int] = MOST_ART_PX

    seed: int = Field(0, ge=0, lt=2**63, description="draws the network's weights")
    xlim: Limits = Field((-1.0, 1.0), description="x of the first and the last column: MIN MAX")
    ylim: Limits | None = Field(None, description="y of the first and the last row: MIN MAX; as --xlim, if not given")
    xres: int = Field(1024, ge=1, le=MOST_ART_PX, description="width of the picture, px")
    yres: int | None = Field(
        None, ge=1, le=MOST_ART_PX, description="height, px; what --xlim, --ylim and --xres make it, if not given"
    )
    units: int = Field(16, ge=1, le=1024, description="units of each hidden layer; more make finer structure")
    depth: int = Field(8, ge=1, le=128, description="hidden layers; more make finer structure")
    hidden_std: float = Field(
        1.0, ge=0, le=1000, description="standard deviation of the hidden layers' weights; more make finer structure"
    )
    output_std: float = Field(
        1.0, ge=0, le=1000, description="standard deviation of the last layer's weights; more make purer colours"
    )
    color_space: Literal["rgb", "bw"] = Field("rgb", description="in colour, or in black and white")
    no_radius: bool = Field(False, description="the network is not told a pixel's distance from the origin")
    no_bias: bool = Field(False, description="its layers have no bias; with --no-radius, pictures are then symmetric")

    @model_validator(mode="after")
    def _limits_ascend(self) -> Self:
        for name, limits in (("xlim", self.xlim), ("ylim", self.ylim)):
            if limits and not limits[0] < limits[1]:
                raise ValueError(f"{name} is {limits[0]:g} to {limits[1]:g}; give two numbers, the smaller one first")
        return self

    @model_validator(mode="after")
    def _height_is_possible(self) -> Self:
        height = self.size[1]
        if not 1 <= height <= self.most_px:
            raise ValueError(
                f"xlim, ylim and xres make the picture {height} px high, and 1 to {self.most_px:,} can be; "
                "give yres, or other limits"
            )
        return self

    @property
    def y_limits(self) -> Limits:
        """``ylim``, or what stands for it."""
        return self.ylim or self.xlim

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px, reckoned as neuralart does."""
        (left, right), (top, bottom) = self.xlim, self.y_limits
        return self.xres, self.yres or int((bottom - top) / (right - left) * self.xres)

    @property
    def channels(self) -> int:
        """Colours of a pixel."""
        return 3 if self.color_space == "rgb" else 1


class ArtOptions(NetworkOptions):
    """One picture, whose z is given."""

    z: tuple[_Coordinate, ...] = Field(
        (), max_length=1024, description="further inputs, the same for all pixels; others give another picture"
    )


class WalkOptions(NetworkOptions):
    """A walk of z: a picture for each of its positions, to be seen as a video."""

    most_px: ClassVar[int] = MOST_VIDEO_PX

    kind: Literal["walk"] = "walk"
    xres: int = Field(512, ge=1, le=MOST_VIDEO_PX, description="width of the video, px")
    yres: int | None = Field(
        None, ge=1, le=MOST_VIDEO_PX, description="height, px; what --xlim, --ylim and --xres make it, if not given"
    )
    frames: PositiveInt = Field(300, le=200_000, description="pictures of the video")
    step: float = Field(
        0.01, ge=1e-4, le=0.5, description="how far z goes from frame to frame; more make a livelier video"
    )
    z_dims: int = Field(4, ge=2, le=32, description="dimensions of z; more make the network depend more on it")
    loop: bool = Field(False, description="the walk ends where it began, so that the video can be repeated")
    fps: int = Field(30, ge=1, le=120, description="frames a second")
    crf: int = Field(20, ge=1, le=51, description="x264's constant rate factor: the lower, the better and the larger")

    @model_validator(mode="after")
    def _loop_has_room(self) -> Self:
        if self.loop and self.frames < 3:
            raise ValueError(f"a loop of {self.frames} frames does not go round; give 3 or more, or no loop")
        return self

    @property
    def num_steps(self) -> int:
        """Frames of one job, but of the last one, which may have fewer."""
        return min(STRETCH, self.frames)

    def identity(self) -> dict[str, Any]:
        """What of the options bears on the pixels and files of a stretch of frames.

        Defaults that follow from other options are filled in; what bears on the video alone is left out. The number of
        frames counts in a loop only: another walk goes on as it began, however long it is.
        """
        left_out = {"fps", "crf"} if self.loop else {"fps", "crf", "frames"}
        return self.model_dump(mode="json", exclude=left_out) | {"ylim": list(self.y_limits), "yres": self.size[1]}
