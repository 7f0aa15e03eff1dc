"""Pictures from bytes and back; whatever the bytes are, the only errors are medley's."""

import contextlib
import io
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from medley.errors import ImageError, MedleyError, OutOfMemory
from medley.media import png
from medley.media.colours import NO_RANGE, to_srgb
from medley.media.formats import EXTENSIONS, CountedFile, open_header
from medley.media.orientation import turned_size
from medley.settings import Settings
from medley.telling import shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Probe(NamedTuple):
    """What a picture's header says.

    ``ext`` is that of the bytes' format, whatever the file's name; width and height are those of the picture the
    right way up, in px.
    """

    ext: str
    width: int
    height: int


def probe(path: Path, settings: Settings) -> Probe:
    """Read a picture's header, and no pixel.

    Raises:
        ImageError: not a regular file, empty, not a picture in one of the formats that are read (or in one whose
            decoder is not installed), of samples that have no known range, or over a limit: ``settings.image_bytes``,
            ``image_pixels``, ``image_side``.
        OutOfMemory: this machine has no room even for the header now.
    """
    name = shown(path.name)
    with _image_errors(name):
        size = _file_size(path, settings, name)
        with path.open("rb") as file, _open(file, size, settings, name) as (picture, turn):
            return Probe(EXTENSIONS[picture.format or ""], *turned_size(picture.size, turn))


def open_picture(data: bytes, settings: Settings, name: str) -> Image.Image:
    """Decode a picture whole, as people see it: RGB in sRGB, upright, over white; of an animation, the first frame.

    ``name`` is what messages call it. A picture at the limits that settings have by default takes less than 1 GB,
    its bytes included.

    Raises:
        ImageError: truncated, corrupt, or what :func:`probe` refuses.
        OutOfMemory: this machine has no room for the picture now.
    """
    name = shown(name)
    _check_bytes(len(data), settings.image_bytes, name)
    with _image_errors(name), _open(io.BytesIO(data), len(data), settings, name) as (picture, turn):
        return to_srgb(picture, turn)


def any_side(settings: Settings) -> Settings:
    """Settings by which a picture may be narrow: ``image_side`` is of the network's inputs, not of what comes out."""
    return settings.model_copy(update={"image_side": 1})


def encode_png(array: "NDArray[np.uint8]", text: Mapping[str, str]) -> bytes:
    """A PNG of pixels (H, W, 3), with ``text`` as its text chunks; lossless."""
    chunks = PngImagePlugin.PngInfo()
    for key, value in text.items():
        chunks.add_text(key, value)
    return _encode(array, "PNG", pnginfo=chunks)


def png_text(path: Path, key: str, settings: Settings) -> str | None:
    """What :func:`encode_png` wrote under a key, or None; no pixel is decoded.

    Raises:
        ImageError: not a regular file, empty, over ``settings.image_bytes``, or not a PNG.
    """
    name = shown(path.name)
    with _image_errors(name):
        _file_size(path, settings, name)
        with path.open("rb") as file:
            if file.read(8) != png.SIGNATURE:
                raise ImageError(f"{name} is not a PNG; name one.")
            return png.read_text(cast(BinaryIO, CountedFile(file, name)), key)


def encode_jpeg(array: "NDArray[np.uint8]", quality: int = 90) -> bytes:
    """A JPEG of pixels (H, W, 3), each side at most 65,500; colours at full resolution (4:4:4), quality 1 to 95."""
    return _encode(array, "JPEG", quality=quality, subsampling=0)


def _encode(array: "NDArray[np.uint8]", form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, form, **options)
    return file.getvalue()


@contextlib.contextmanager
def _open(file: BinaryIO, size: int, settings: Settings, name: str) -> Iterator[tuple[ImageFile.ImageFile, int]]:
    """The picture with its header read and found within the limits, and the orientation that is to be undone."""
    header, turn = open_header(file, name)
    with header as picture:
        _check_header(picture, size, settings, name)
        yield picture, turn


def _check_header(picture: ImageFile.ImageFile, size: int, settings: Settings, name: str) -> None:
    if picture.format in ("WEBP", "AVIF", "HEIF"):  # their decoders copy the bytes, too
        _check_bytes(size, settings.image_bytes // 2, name)
    # What decoders take of memory was measured, in bytes a pixel: 4 as a rule, and up to 12 of a progressive JPEG or a
    # TIFF with one strip, 16 of a WebP, 20 of a HEIC with 10 bits and alpha.
    costly = picture.format in ("WEBP", "AVIF", "HEIF", "TIFF") or "progressive" in picture.info
    most = settings.image_pixels // (2 if costly else 1)
    width, height = picture.size
    if width * height > most:
        raise ImageError(
            f"{name} has {width} x {height} pixels and at most {most:,} are decoded{' of its kind' if costly else ''}; "
            "make it smaller or raise MEDLEY_IMAGE_PIXELS."
        )
    if min(width, height) < settings.image_side:
        raise ImageError(
            f"{name} has {width} x {height} pixels and at least {settings.image_side} a side are needed, as the "
            "network's deep layers see nothing of less; leave it out, or enlarge it."
        )
    if picture.mode in NO_RANGE:
        raise ImageError(
            f"{name} has 32-bit or signed samples, which do not say what is white; convert it to 8 or 16 bits."
        )


def _file_size(path: Path, settings: Settings, name: str) -> int:
    """The bytes of a file, which is regular and within the limit."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for ever
        raise ImageError(f"{name} is not a regular file; name a picture file.")
    _check_bytes(status.st_size, settings.image_bytes, name)
    return status.st_size


def _check_bytes(size: int, most: int, name: str) -> None:
    if size == 0:
        raise ImageError(f"{name} is empty; replace or remove it.")
    if size > most:
        raise ImageError(
            f"{name} has {size:,} bytes and at most {most:,} are read; make it smaller or raise MEDLEY_IMAGE_BYTES."
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
        reason = shown(getattr(error, "strerror", None) or str(error) or type(error).__name__)
        raise ImageError(f"{name} cannot be read ({reason}); mend, replace or remove it.") from error
