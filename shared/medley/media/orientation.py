"""Which way up a picture is: EXIF's tag 0x0112, and the eight turns that it can ask for."""

import struct
from typing import BinaryIO

from PIL import Image

from medley.media import png

UPRIGHT = 1

_TAG, _SHORT = 0x0112, 3

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(picture: Image.Image, file: BinaryIO) -> int:
    """EXIF's orientation, 1 to 8, of a picture that was opened from ``file``; 1 where its decoder does the turning.

    Only the header is read. What XMP says of orientation is left aside, as browsers do: it is often out of date.
    """
    if picture.format in ("TIFF", "HEIF"):  # Pillow turns a TIFF, and libheif follows irot and imir
        return UPRIGHT
    if picture.format == "PNG":
        place = file.tell()
        turn = parse(png.read_exif(file))
        file.seek(place)
        return turn
    exif = picture.info.get("exif")  # of an AVIF, Pillow says here what irot and imir ask for
    return parse(exif) if isinstance(exif, bytes) else UPRIGHT


def parse(exif: bytes) -> int:
    """The orientation, 1 to 8, in a block of EXIF (a TIFF header and its first directory); 1 if it says nothing sound.

    Not Pillow's parser, which reads every tag to find this one.
    """
    data = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(data[:2], "<")
    try:
        (directory,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", data, entry)
            if (tag, kind) == (_TAG, _SHORT):
                return value if value in _TURNS else UPRIGHT
    except struct.error:  # torn
        pass
    return UPRIGHT


def turned_size(size: tuple[int, int], turn: int) -> tuple[int, int]:
    """Width and height, after the turn."""
    return (size[1], size[0]) if turn >= 5 else size


def turned(picture: Image.Image, turn: int) -> Image.Image:
    """The picture the right way up."""
    return picture.transpose(_TURNS[turn]) if turn in _TURNS else picture


def turned_place(top: int, bottom: int, height: int, turn: int) -> tuple[int, int]:
    """Left and upper px, after the turn, of what were the rows from ``top`` to ``bottom`` of ``height``."""
    offset = height - bottom if turn in (3, 4, 6, 7) else top
    return (offset, 0) if turn >= 5 else (0, offset)
