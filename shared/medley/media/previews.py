"""Small copies of pictures, for people who look at many: each attempt keeps those of its inputs and of its picture."""

import numpy as np
from PIL import Image

from medley.media.images import encode_jpeg

PREVIEW_PX = 480
"""The longest side: twice the width of a cell of the contact sheet, and of a card of the gallery on a dense screen."""

PICTURE = "preview.jpg"
"""What a result calls that of the finished picture."""

CONTENT = "content.jpg"
"""That of the content."""


def style(number: int) -> str:
    """That of a style, by its place in the pair, from 0 on."""
    return f"style-{number + 1}.jpg"


def reduced(picture: Image.Image) -> Image.Image:
    """An RGB picture with a longest side of :data:`PREVIEW_PX`; one that is smaller stays as it is."""
    scale = PREVIEW_PX / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)


def small(picture: Image.Image) -> bytes:
    """A small copy (JPEG) of an RGB picture."""
    return encode_jpeg(np.asarray(reduced(picture)), quality=85)
