"""One picture, in every format and every orientation, is one picture."""

import io
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image, features

from medley.errors import ImageError
from medley.media.images import Probe, open_picture, probe
from medley.media.orientation import parse
from medley.settings import Settings

SETTINGS = Settings()

Pixels = NDArray[np.uint8]
Write = Callable[[Image.Image, Image.Exif], bytes]


def subject() -> Pixels:
    """A picture (40, 56, 3) that no turn leaves as it is, of 140 colours, and smooth, so that lossy formats keep it."""
    y, x = np.mgrid[0:40, 0:56]
    return np.stack([x // 4 * 16 + 10, y // 4 * 24 + 10, 200 - x // 4 * 6 - y // 4 * 8], axis=-1).astype(np.uint8)


STORED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}
"""How each orientation stores a picture: its rows and columns, as EXIF 2.32 tells of tag 0x0112."""


def saved(form: str, **options: object) -> Write:
    def write(picture: Image.Image, exif: Image.Exif) -> bytes:
        file = io.BytesIO()
        picture.save(file, form, exif=exif, **options)
        return file.getvalue()

    return write


def png_with_late_exif(picture: Image.Image, exif: Image.Exif) -> bytes:
    """As programs write it that add EXIF to a PNG that is there."""
    data = saved("PNG")(picture, Image.Exif())
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    late = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return data[:-12] + late + data[-12:]


def heic(picture: Image.Image, exif: Image.Exif) -> bytes:
    """Lossless, and turned twice over: by irot and imir, which count in a HEIC, and by EXIF, which does not."""
    file = io.BytesIO()
    lossless = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}
    pillow_heif.encode("RGB", picture.size, picture.tobytes(), file, exif=exif.tobytes(), **lossless)
    return file.getvalue()


WITH_EXIF: list[tuple[str, Write, int]] = [
    ("jpg", saved("JPEG", quality=98, subsampling=0), 6),
    ("jpg", saved("JPEG", quality=98, subsampling=0, progressive=True), 6),
    ("jpg", saved("MPO", quality=98, subsampling=0, save_all=True, append_images=[Image.new("RGB", (9, 9))]), 6),
    ("png", saved("PNG"), 0),
    ("png", png_with_late_exif, 0),
    ("webp", saved("WEBP", lossless=True), 0),
    ("webp", saved("WEBP", quality=100), 30),  # colours at half resolution
    ("tiff", saved("TIFF"), 0),
    ("tiff", saved("TIFF", compression="tiff_lzw"), 0),
    ("tiff", saved("TIFF", compression="jpeg", quality=98), 12),
    ("avif", saved("AVIF", quality=100, subsampling="4:4:4"), 3),
    ("heic", heic, 0),
]


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize(("ext", "write", "rounding"), WITH_EXIF)
def test_a_picture_is_the_same_however_it_is_turned_and_stored(
    ext: str, write: Write, rounding: int, turn: int, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x010F] = "A camera"
    exif[0x0112] = turn
    file = tmp_path / "turned"
    file.write_bytes(write(Image.fromarray(np.ascontiguousarray(STORED[turn](subject()))), exif))
    assert probe(file, SETTINGS) == Probe(ext, 56, 40)
    opened = np.asarray(open_picture(file.read_bytes(), SETTINGS, "p"))
    assert opened.shape == (40, 56, 3)
    assert np.abs(opened.astype(int) - subject()).max() <= rounding


@pytest.mark.parametrize(
    ("form", "mode"), [("GIF", "P"), ("PNG", "P"), ("TIFF", "P"), ("BMP", "P"), ("BMP", "RGB"), ("PNG", "RGBA")]
)
def test_a_picture_is_the_same_with_a_palette_or_without(form: str, mode: str) -> None:
    picture = Image.fromarray(subject())
    stored = picture.quantize(256) if mode == "P" else picture.convert(mode)
    assert np.array_equal(np.asarray(stored.convert("RGB")), subject())
    data = saved(form)(stored, Image.Exif())
    assert np.array_equal(np.asarray(open_picture(data, SETTINGS, "p")), subject())


def test_bands_of_a_large_picture_are_put_together_whichever_way_it_is_turned() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (1100, 700, 3), np.uint8)
    for turn, stored in STORED.items():
        exif = Image.Exif()
        exif[0x0112] = turn
        data = saved("PNG", compress_level=0)(Image.fromarray(np.ascontiguousarray(stored(pixels))), exif)
        assert np.array_equal(np.asarray(open_picture(data, SETTINGS, "p")), pixels)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_of_an_animation_the_first_frame_is_taken(form: str) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("#c80000", "#00c800", "#0000c8")]
    data = saved(form, save_all=True, append_images=frames[1:])(frames[0], Image.Exif())
    assert np.abs(np.asarray(open_picture(data, SETTINGS, "p")).astype(int) - (200, 0, 0)).max() <= 4


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"Exif\0\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff" + b"\0" * 40,
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0",
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x01\0\x06\0\0",
        b"XX*\0\x08\0\0\0\x01\0",
    ],
)
def test_exif_that_says_nothing_sound_turns_nothing(exif: bytes) -> None:
    assert parse(exif) == 1


def test_heic_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    (tmp_path / "IMG_0001.HEIC").write_bytes(heic(Image.fromarray(subject()), exif))
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(ImageError, match=r"^IMG_0001.HEIC is a HEIC picture.*pip install 'medley-farm\[heic\]'"):
        probe(tmp_path / "IMG_0001.HEIC", SETTINGS)


def test_a_video_is_not_taken_for_heic(tmp_path: Path) -> None:
    (tmp_path / "film.heic").write_bytes(b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41" + bytes(500))
    with pytest.raises(ImageError, match="not a picture that medley reads"):
        probe(tmp_path / "film.heic", SETTINGS)


@pytest.mark.parametrize(("form", "module"), [("WebP", "WebPImagePlugin"), ("AVIF", "AvifImagePlugin")])
def test_what_this_pillow_was_built_without_is_named(form: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(form)(Image.fromarray(subject()), Image.Exif())
    monkeypatch.setattr(f"PIL.{module}.SUPPORTED", False)
    monkeypatch.setattr(features, "check", lambda name: name != form.lower())
    with pytest.raises(ImageError, match=f"p is a picture in {form}, and this machine's Pillow was built without it"):
        open_picture(data, SETTINGS, "p")
