"""How large a picture is painted: pastiche's rounding, and the least that the network can look at."""

import math
from collections.abc import Iterable

from medley.errors import UsageError
from medley.layers import up_to
from medley.records.base import Size
from medley.records.options import StyleTransferOptions


def rendered_size(width: int, height: int, longest: int | None = None, pixels: int | None = None) -> Size:
    """The size in px at which a picture of ``width`` x ``height`` is painted, by pastiche's rule.

    The ratio of the sides stays, as far as whole pixels allow, and no side is ever below 1 px. A small picture is
    enlarged.

    Args:
        width: of the picture, px, at least 1
        height: of the picture, px, at least 1
        longest: the longest side of the result, px; overrides ``pixels``
        pixels: about how many pixels the result has

    Returns:
        Width and height; those of the picture if neither ``longest`` nor ``pixels`` is given.
    """
    # The order of the divisions is pastiche's: another one rounds some sizes to a neighbouring pixel.
    if longest is not None:
        if width > height:
            return longest, max(1, round((longest / width) * height))
        return max(1, round((longest / height) * width)), longest
    if pixels is not None:
        new_height = max(1, round(math.sqrt(pixels * height / width)))
        return max(1, round((width / height) * new_height)), new_height
    return width, height


def style_size(width: int, height: int, size: Size, options: StyleTransferOptions) -> Size:
    """The size in px at which a style of ``width`` x ``height`` is looked at, where the result has ``size``.

    It has as many pixels as the result, unless the options say otherwise.
    """
    return rendered_size(width, height, options.style_size, options.style_size_pixels or size[0] * size[1])


def smallest_side(layers: Iterable[str]) -> int:
    """The shortest side in px that leaves every one of these layers (of :data:`medley.layers.LAYERS`) something to see.

    Each pooling layer on the way halves a side and drops what is left over. Two pixels are the least in any case, as
    total variation needs a neighbour.
    """
    return max(2, 1 << sum(layer.endswith("pool") for layer in up_to(*layers)))


def check_size(width: int, height: int, layers: Iterable[str]) -> None:
    """Refuse a size at which one of the layers would be empty.

    Raises:
        UsageError: a side is shorter than :func:`smallest_side`.
    """
    least = smallest_side(layers)
    if min(width, height) < least:
        raise UsageError(
            f"A picture painted at {width} x {height} px is too small: the layers asked for need {least} px a side. "
            "Ask for a larger size, or leave out a picture that is this narrow."
        )
