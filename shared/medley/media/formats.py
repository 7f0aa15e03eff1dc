"""The formats that are read, told from the bytes whatever a file is called, and who decodes each of them."""

import math
import warnings
from typing import Any, BinaryIO, cast

from PIL import Image, ImageFile, UnidentifiedImageError

from medley.errors import ImageError
from medley.media import png
from medley.media.orientation import orientation

EXTENSIONS = {
    "JPEG": "jpg",
    "MPO": "jpg",  # a JPEG with further ones behind it, as phones write them; Pillow's JPEG reader finds them
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tiff",
    "AVIF": "avif",
    "HEIF": "heic",
}
"""The formats that are read, by Pillow's names, and the extension each one has in storage."""

READS = 2_000_000
"""A file that takes more of them is in crumbs: Pillow would spend minutes, and keep each crumb, on 100 MB of them."""

HEADER_BYTES = 20_000_000
"""Of a JPEG or a PNG, before its pixels. Pillow keeps it all, and copies some of it once for each part of it."""

_READERS = tuple(form for form in EXTENSIONS if form not in ("MPO", "HEIF"))

_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}  # files of these have mif1, too


def open_header(file: BinaryIO, name: str) -> tuple[ImageFile.ImageFile, int]:
    """The picture in a file, its header read and no pixel, and the orientation that is to be undone.

    Raises:
        ImageError: it needs a decoder that is not installed here, or Pillow would take too long over it.
        UnidentifiedImageError: not a picture in one of these formats.
        Exception: Pillow's readers raise whatever the bytes lead them to.
    """
    Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is lower than ours, and raises or warns as it likes
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of oddities in files that can be read all the same
    counted = CountedFile(file, name)
    picture = _open(counted, name)
    counted.room = math.inf
    return picture, orientation(picture, cast(BinaryIO, counted))


class CountedFile:
    """A file that raises ImageError when it was read :data:`READS` times, or has given ``room`` bytes."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name, self._reads = file, name, READS
        self.room = math.inf

    def read(self, size: int = -1) -> bytes:
        """As files read."""
        data = self._file.read(size)
        self._reads -= 1
        self.room -= len(data)
        if self._reads < 0 or self.room < 0:
            much = "is in too many small pieces" if self.room >= 0 else "has far too much before its pixels"
            raise ImageError(f"{self._name} {much}; open it in an image editor and save it anew.")
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _open(file: CountedFile, name: str) -> ImageFile.ImageFile:
    head = file.read(64)
    file.seek(0)
    brands = _brands(head)
    if brands & _HEIF_BRANDS and not brands & _AVIF_BRANDS:
        return _open_heif(file, name)
    if head.startswith((b"\xff\xd8", png.SIGNATURE)):
        file.room = HEADER_BYTES
    try:
        return Image.open(cast(BinaryIO, file), formats=_READERS)
    except UnidentifiedImageError as error:
        if form := _not_built(head):
            raise ImageError(
                f"{name} is a picture in {form}, and this machine's Pillow was built without it; "
                "install Pillow from its own wheel, or convert the picture."
            ) from error
        raise


def _brands(head: bytes) -> set[bytes]:
    """The brands of an ISO base media file, the family of AVIF and HEIC (and of many videos), in its first box."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12], *(head[at : at + 4] for at in range(16, end, 4))}


def _open_heif(file: CountedFile, name: str) -> ImageFile.ImageFile:
    try:
        from pi_heif import HeifImageFile  # not registered with Pillow, which would be for the whole process
    except ImportError as error:
        raise ImageError(
            f"{name} is a HEIC picture, which needs a decoder; `pip install 'medley-farm[heic]'` here and on the "
            "machines that paint, or convert it to JPEG."
        ) from error
    return cast(ImageFile.ImageFile, HeifImageFile(file))


def _not_built(head: bytes) -> str | None:
    """What a picture is in, if only a Pillow that was built for it knows that it is one."""
    from PIL import features

    if head[:4] == b"RIFF" and head[8:12] == b"WEBP" and not features.check("webp"):
        return "WebP"
    return "AVIF" if _brands(head) & _AVIF_BRANDS and not features.check("avif") else None
