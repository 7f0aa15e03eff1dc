"""What a PNG says beside its pixels; no pixel is decoded for it, and none has to be sound."""

from collections.abc import Iterator
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"

TEXT_BYTES = 1_000_000
"""A longer text is none of medley's."""


def chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The type and length (bytes) of each chunk, up to the end or to where the file is torn.

    While a chunk is at hand, the file stands at its beginning. Of a file that is no PNG, there are none.
    """
    file.seek(0)
    if file.read(8) != SIGNATURE:
        return
    while len(head := file.read(8)) == 8:
        length, begin = int.from_bytes(head[:4], "big"), file.tell()
        yield head[4:], length
        file.seek(begin + length + 4)  # past the checksum


def read_exif(file: BinaryIO) -> bytes:
    """The EXIF block, wherever it stands (often behind the pixels, where programs add it); empty if there is none."""
    lengths = (length for kind, length in chunks(file) if kind == b"eXIf")
    return file.read(min(length, TEXT_BYTES)) if (length := next(lengths, 0)) else b""


def read_text(file: BinaryIO, key: str) -> str | None:
    """The text under a key as :func:`medley.media.images.encode_png` writes it (tEXt, or iTXt where it is not Latin-1).

    None if there is no such text, or only a compressed one.
    """
    for kind, length in chunks(file):
        if kind in (b"tEXt", b"iTXt") and length <= TEXT_BYTES:
            name, _, text = file.read(length).partition(b"\0")
            if name == key.encode() and kind == b"tEXt":
                return text.decode("latin-1")
            if name == key.encode() and text[:1] == b"\0":
                return text[2:].split(b"\0", 2)[-1].decode(errors="replace")  # behind the language and a translated key
    return None
