"""Pictures from bytes and back; whatever the bytes are, the only errors are medley's."""

import contextlib
import io
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from medley.errors import ImageError, MedleyError, OutOfMemory
from medley.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXTENSIONS = {
    "JPEG": "jpg",
    "MPO": "jpg",  # a JPEG with further ones behind it, as phones write them; Pillow's JPEG reader finds them
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tiff",
    "AVIF": "avif",
}
"""The formats that are read, by Pillow's names, and the extension each one has in storage."""

_READERS = tuple(name for name in EXTENSIONS if name != "MPO")


class Probe(NamedTuple):
    """What a picture's header says; ``ext`` is that of the bytes' format, whatever the file's name; sizes in px."""

    ext: str
    width: int
    height: int


def probe(path: Path, settings: Settings) -> Probe:
    """Read a picture's header, and no pixel.

    Raises:
        ImageError: not a regular file, empty, over ``settings.image_bytes`` or ``settings.image_pixels``, or not a
            picture in one of the formats that are read.
        OutOfMemory: this machine has no room even for the header now.
    """
    name = path.name.encode(errors="surrogateescape").decode(errors="replace")  # names on disk need not be Unicode
    with _image_errors(name):
        _check_file(path, settings, name)
        with _open(path, settings, name) as picture:
            return Probe(EXTENSIONS[picture.format or ""], *picture.size)


def open_picture(data: bytes, settings: Settings, name: str) -> Image.Image:
    """Decode a picture whole, as RGB; of an animation, the first frame. ``name`` is what messages call it.

    Raises:
        ImageError: empty, truncated, corrupt, or over the limits that :func:`probe` knows.
        OutOfMemory: this machine has no room for the picture now.
    """
    _check_bytes(len(data), settings, name)
    with _image_errors(name), _open(io.BytesIO(data), settings, name) as picture:
        picture.load()
        picture.info.pop("transparency", None)  # Pillow warns of some kinds, and here alpha is dropped anyway
        return picture.convert("RGB")


def encode_png(array: "NDArray[np.uint8]", text: Mapping[str, str]) -> bytes:
    """A PNG of pixels (H, W, 3), with ``text`` as its text chunks; lossless."""
    chunks = PngImagePlugin.PngInfo()
    for key, value in text.items():
        chunks.add_text(key, value)
    return _encode(array, "PNG", pnginfo=chunks)


def encode_jpeg(array: "NDArray[np.uint8]", quality: int = 90) -> bytes:
    """A JPEG of pixels (H, W, 3), each side at most 65,500; colours at full resolution (4:4:4), quality 1 to 95."""
    return _encode(array, "JPEG", quality=quality, subsampling=0)


def _encode(array: "NDArray[np.uint8]", form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, form, **options)
    return file.getvalue()


def _open(file: Path | io.BytesIO, settings: Settings, name: str) -> Image.Image:
    """The picture with its header read and its size found within the limits."""
    Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is lower than ours, and raises or warns as it likes
    picture = Image.open(file, formats=_READERS)
    width, height = picture.size
    if width * height > settings.image_pixels:
        picture.close()
        raise ImageError(
            f"{name} has {width} x {height} pixels and at most {settings.image_pixels:,} are decoded; "
            "make it smaller or raise MEDLEY_IMAGE_PIXELS."
        )
    return picture


def _check_file(path: Path, settings: Settings, name: str) -> None:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for ever
        raise ImageError(f"{name} is not a regular file; name a picture file.")
    _check_bytes(status.st_size, settings, name)


def _check_bytes(size: int, settings: Settings, name: str) -> None:
    if size == 0:
        raise ImageError(f"{name} is empty; replace or remove it.")
    if size > settings.image_bytes:
        raise ImageError(
            f"{name} has {size:,} bytes and at most {settings.image_bytes:,} are read; "
            "make it smaller or raise MEDLEY_IMAGE_BYTES."
        )


@contextlib.contextmanager
def _image_errors(name: str) -> Iterator[None]:
    try:
        yield
    except MedleyError:
        raise
    except MemoryError as error:
        raise OutOfMemory(f"There is no memory for decoding {name}; try again, or on a larger machine.") from error
    except UnidentifiedImageError as error:
        formats = ", ".join(sorted(set(EXTENSIONS.values())))
        raise ImageError(f"{name} is not a picture that medley reads ({formats}); convert or remove it.") from error
    except Exception as error:  # Pillow's readers raise whatever the bytes lead them to
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageError(f"{name} cannot be read ({reason}); mend, replace or remove it.") from error
