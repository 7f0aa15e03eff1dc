"""Pictures on one page, in a grid with captions: a batch's results with their inputs, or variants of one result."""

import math
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medley.errors import UsageError
from medley.media.images import encode_jpeg

JPEG_SIDE = 65_500
"""The longest side that libjpeg writes, in px."""

MOST_CELLS = 500
"""On one sheet: 25 MB of pixels, and a JPEG of a few megabytes."""

MOST_STYLES = 5
"""Of one blend; more would be too small to see."""

LEGIBLE_PX = 200
"""Variants that are narrower are enlarged, as their captions could not be read."""

PAPER, PANEL, INK, FAINT = "#17181c", "#34363d", "#e8e6e1", "#a3a19b"


@dataclass(frozen=True)
class Cell:
    """One pair of a batch: RGB pictures of any size, None where there is none to show.

    ``reason`` is what stands in the place of a result that failed or was not painted.
    """

    caption: str
    content: Image.Image | None = None
    styles: Sequence[Image.Image] = ()
    result: Image.Image | None = None
    reason: str = ""


def contact_sheet(cells: Iterable[Cell], columns: int = 0, *, cell_px: int = 240, limit: int = 60) -> bytes:
    """A JPEG of the first ``limit`` cells (1 to 500), row by row; ``columns`` of them a row, or about square if 0.

    A cell is ``cell_px`` wide (60 to 600): the result on top, below it small the content and the styles, and the
    caption. Cells are taken one at a time and reduced before the next, so an iterator that loads them keeps one in
    memory. Rows that a JPEG cannot hold are left out.

    Raises:
        UsageError: no cell, or a number out of range.
    """
    if columns < 0 or not 60 <= cell_px <= 600 or not 1 <= limit <= MOST_CELLS:
        raise UsageError("A contact sheet needs columns >= 0, cells of 60 to 600 px, and a limit of 1 to 500 cells.")
    tiles = [_tile(cell, (cell_px, cell_px * 3 // 4), cell_px // 5) for cell in islice(cells, limit)]
    if not tiles:
        raise UsageError("There is nothing to put on a contact sheet; wait until the batch has results.")
    return encode_jpeg(np.asarray(_page(tiles, columns)))


def variants_sheet(cells: Sequence[Cell], columns: int = 0) -> Image.Image:
    """The results of one or more cells with their captions, pixel by pixel, for eyes that look for small differences.

    ``columns`` of them are in a row, or about as many as there are rows if 0.
    """
    sizes = [cell.result.size for cell in cells if cell.result is not None] or [(4, 3)]
    width, height = (max(sides) for sides in zip(*sizes, strict=True))
    times = math.ceil(LEGIBLE_PX / width)
    return _page([_tile(cell, (width * times, height * times), 0) for cell in cells], columns)


def _page(tiles: Sequence[Image.Image], columns: int) -> Image.Image:
    """Tiles of one size in rows; those that a JPEG cannot hold are left out."""
    gap = tiles[0].width // 12
    width, height = tiles[0].width + gap, tiles[0].height + gap
    columns = min(columns or math.ceil(math.sqrt(len(tiles))), len(tiles), (JPEG_SIDE - gap) // width)
    rows = min(-(-len(tiles) // columns), (JPEG_SIDE - gap) // height)
    page = Image.new("RGB", (columns * width + gap, rows * height + gap), PAPER)
    for n, tile in enumerate(tiles[: rows * columns]):
        page.paste(tile, (gap + n % columns * width, gap + n // columns * height))
    return page


def _tile(cell: Cell, size: tuple[int, int], inset: int) -> Image.Image:
    """One cell: the result within ``size``, then its inputs, ``inset`` px high, then two lines of caption."""
    px, picture = size
    space, text = px // 30, max(9, px // 18)
    below = picture + (inset and inset + space)
    tile = Image.new("RGB", (px, below + space + text * 3), PAPER)
    draw = ImageDraw.Draw(tile)
    font = ImageFont.load_default(text)
    if cell.result is not None:
        _place(tile, cell.result, (0, 0, px, picture))
    else:
        draw.rectangle((0, 0, px - 1, picture - 1), fill=PANEL)
        lines = wrapped(cell.reason or "not painted", font, px - 4 * space, max(1, picture // (text * 4 // 3) - 1))
        draw.multiline_text((px / 2, picture / 2), lines, FAINT, font, anchor="mm", align="center")
    inputs = [small for small in (cell.content, *cell.styles[:MOST_STYLES]) if inset and small is not None]
    each = min(inset * 4 // 3, (px - space * (len(inputs) - 1)) // max(1, len(inputs)))
    for n, small in enumerate(inputs):
        left = n * (each + space)
        _place(tile, small, (left, picture + space, left + each, picture + space + inset))
    caption = wrapped(cell.caption, font, px, 2)
    draw.multiline_text((0, below + space), caption, INK, font, spacing=text // 4)
    return tile


def _place(tile: Image.Image, picture: Image.Image, box: tuple[int, int, int, int]) -> None:
    """Put a picture whole into the middle of a box."""
    left, top, right, bottom = box
    scale = min((right - left) / picture.width, (bottom - top) / picture.height)
    small = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    tile.paste(small, (left + (right - left - small.width) // 2, top + (bottom - top - small.height) // 2))


def wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, lines: int) -> str:
    """The text in at most so many lines of at most so many px; what does not fit ends in an ellipsis."""
    text = " ".join(_plain(text).split())
    letters = int(width * len(text) / max(1, font.getlength(text)) * 0.95)  # by the mean width of this text's letters
    return "\n".join(textwrap.wrap(text, max(1, letters), max_lines=lines, placeholder="…"))


def _plain(text: str) -> str:
    """The text in ASCII, all that Pillow's own font has: accents are dropped, and what is left over becomes ``?``."""
    letters = unicodedata.normalize("NFKD", text.translate(str.maketrans("×–—‘’“”", "x--''\"\"")))
    return "".join(c for c in letters if not unicodedata.combining(c)).encode("ascii", "replace").decode()
