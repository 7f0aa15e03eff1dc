"""A batch on one page: each result with the pictures it was made from, in a grid with captions."""

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

MOST_STYLES = 5
"""Of one blend; more would be too small to see."""

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
    if columns < 0 or not 60 <= cell_px <= 600 or not 1 <= limit <= 500:
        raise UsageError("A contact sheet needs columns >= 0, cells of 60 to 600 px, and a limit of 1 to 500 cells.")
    tiles = [_tile(cell, cell_px) for cell in islice(cells, limit)]
    if not tiles:
        raise UsageError("There is nothing to put on a contact sheet; wait until the batch has results.")
    gap = cell_px // 12
    width, height = tiles[0].width + gap, tiles[0].height + gap
    columns = min(columns or math.ceil(math.sqrt(len(tiles))), len(tiles), (JPEG_SIDE - gap) // width)
    rows = min(-(-len(tiles) // columns), (JPEG_SIDE - gap) // height)
    sheet = Image.new("RGB", (columns * width + gap, rows * height + gap), PAPER)
    for n, tile in enumerate(tiles[: rows * columns]):
        sheet.paste(tile, (gap + n % columns * width, gap + n // columns * height))
    return encode_jpeg(np.asarray(sheet))


def _tile(cell: Cell, px: int) -> Image.Image:
    """One cell: the result, then its inputs, then two lines of caption."""
    picture, inset, text = px * 3 // 4, px // 5, max(9, px // 18)
    space = px // 30
    tile = Image.new("RGB", (px, picture + inset + 2 * space + text * 3), PAPER)
    draw = ImageDraw.Draw(tile)
    font = ImageFont.load_default(text)
    if cell.result is not None:
        _place(tile, cell.result, (0, 0, px, picture))
    else:
        draw.rectangle((0, 0, px - 1, picture - 1), fill=PANEL)
        lines = _wrap(cell.reason or "not painted", font, px - 4 * space, picture // (text * 4 // 3) - 1)
        draw.multiline_text((px / 2, picture / 2), lines, FAINT, font, anchor="mm", align="center")
    inputs = [small for small in (cell.content, *cell.styles[:MOST_STYLES]) if small is not None]
    each = min(inset * 4 // 3, (px - space * (len(inputs) - 1)) // max(1, len(inputs)))
    for n, small in enumerate(inputs):
        left = n * (each + space)
        _place(tile, small, (left, picture + space, left + each, picture + space + inset))
    caption = _wrap(cell.caption, font, px, 2)
    draw.multiline_text((0, picture + inset + 2 * space), caption, INK, font, spacing=text // 4)
    return tile


def _place(tile: Image.Image, picture: Image.Image, box: tuple[int, int, int, int]) -> None:
    """Put a picture whole into the middle of a box."""
    left, top, right, bottom = box
    scale = min((right - left) / picture.width, (bottom - top) / picture.height)
    small = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    tile.paste(small, (left + (right - left - small.width) // 2, top + (bottom - top - small.height) // 2))


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int, lines: int) -> str:
    """The text in at most so many lines of at most so many px; what does not fit ends in an ellipsis."""
    text = " ".join(_plain(text).split())
    letters = int(width * len(text) / max(1, font.getlength(text)) * 0.95)  # by the mean width of this text's letters
    return "\n".join(textwrap.wrap(text, max(1, letters), max_lines=lines, placeholder="…"))


def _plain(text: str) -> str:
    """The text in ASCII, all that Pillow's own font has: accents are dropped, and what is left over becomes ``?``."""
    letters = unicodedata.normalize("NFKD", text.translate(str.maketrans("×–—‘’“”", "x--''\"\"")))
    return "".join(c for c in letters if not unicodedata.combining(c)).encode("ascii", "replace").decode()
