"""Pictures are read for what their bytes are, and whatever the bytes are, the error names the picture."""

import contextlib
import io
import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medley.errors import ImageError
from medley.media.images import Probe, encode_jpeg, encode_png, open_picture, probe
from medley.settings import Settings

SETTINGS = Settings()


def picture(form: str, size: tuple[int, int] = (31, 17), mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(5).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, form)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b"\0" * 99))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def refusal(path: Path, settings: Settings = SETTINGS) -> str:
    with pytest.raises(ImageError) as caught:
        probe(path, settings)
    assert str(caught.value).startswith(path.name)
    return str(caught.value)


@pytest.mark.parametrize(
    ("form", "ext"),
    [
        ("JPEG", "jpg"),
        ("PNG", "png"),
        ("WEBP", "webp"),
        ("GIF", "gif"),
        ("BMP", "bmp"),
        ("TIFF", "tiff"),
        ("AVIF", "avif"),
    ],
)
def test_format_comes_from_the_bytes(form: str, ext: str, tmp_path: Path) -> None:
    file = tmp_path / "wrongly named.xyz"
    file.write_bytes(picture(form))
    assert probe(file, SETTINGS) == Probe(ext, 31, 17)
    opened = open_picture(file.read_bytes(), SETTINGS, file.name)
    assert (opened.mode, opened.size) == ("RGB", (31, 17))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I", "F"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    assert open_picture(picture("TIFF", mode=mode), SETTINGS, "p").mode == "RGB"


def test_two_pictures_in_one_jpeg_are_a_jpeg(tmp_path: Path) -> None:
    file = tmp_path / "phone.jpg"
    first, second = (Image.new("RGB", (8, 6), colour) for colour in ("red", "blue"))
    first.save(file, "MPO", save_all=True, append_images=[second])
    assert probe(file, SETTINGS) == Probe("jpg", 8, 6)


def test_what_is_no_picture_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("Dear diary, today I was called a picture.\n" * 20)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "drawing.jpg").write_bytes(picture("PPM"))
    assert "not a picture that medley reads" in refusal(tmp_path / "text.jpg")
    assert "not a picture that medley reads" in refusal(tmp_path / "drawing.jpg")
    assert "is empty" in refusal(tmp_path / "empty.jpg")
    assert "not a regular file" in refusal(tmp_path / "folder.jpg")
    assert "not a regular file" in refusal(tmp_path / "pipe.jpg")
    assert "No such file" in refusal(tmp_path / "missing.jpg")
    assert "symbolic links" in refusal(tmp_path / "loop.jpg")
    assert "null" in refusal(tmp_path / "nul\0.jpg")


def test_size_is_judged_by_the_header_alone(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png_header(60_000, 60_000))
    assert "60000 x 60000 pixels" in refusal(bomb)
    with pytest.raises(ImageError, match="60000 x 60000 pixels"):
        open_picture(bomb.read_bytes(), SETTINGS, "bomb.png")
    large = tmp_path / "large.png"  # over Pillow's limits, but within ours
    large.write_bytes(png_header(19_000, 10_000))
    assert probe(large, SETTINGS) == Probe("png", 19_000, 10_000)


def test_limits_are_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "p.png"
    file.write_bytes(picture("PNG"))
    few_pixels, few_bytes = Settings(image_pixels=31 * 17 - 1), Settings(image_bytes=100)
    assert probe(file, Settings(image_pixels=31 * 17)) == Probe("png", 31, 17)
    assert "MEDLEY_IMAGE_PIXELS" in refusal(file, few_pixels)
    assert "MEDLEY_IMAGE_BYTES" in refusal(file, few_bytes)
    for settings in (few_pixels, few_bytes):
        with pytest.raises(ImageError, match=r"p\.png has"):
            open_picture(file.read_bytes(), settings, "p.png")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_truncated_pictures_are_refused_by_name(form: str) -> None:
    data = picture(form, (200, 150))
    for share in (0.02, 0.3, 0.9):
        with pytest.raises(ImageError, match=r"^half\.pic "):
            open_picture(data[: int(len(data) * share)], SETTINGS, "half.pic")


@pytest.mark.filterwarnings("ignore")  # of oddities in a file that can be read all the same
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_damaged_bytes_end_in_a_picture_or_in_image_error(form: str, tmp_path: Path) -> None:
    rng = random.Random(7)
    small = Settings(image_pixels=100_000)
    for _ in range(60):
        data = bytearray(picture(form))
        for _ in range(rng.randint(1, 12)):
            data[rng.randrange(min(len(data), 400))] = rng.randrange(256)
        (tmp_path / "damaged").write_bytes(data)
        with contextlib.suppress(ImageError):
            probe(tmp_path / "damaged", small)
        with contextlib.suppress(ImageError):
            open_picture(bytes(data), small, "damaged")


def test_messages_can_be_written_as_utf8_whatever_the_name(tmp_path: Path) -> None:
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    file.touch()
    with pytest.raises(ImageError, match="is empty") as caught:
        probe(file, SETTINGS)
    str(caught.value).encode()


def test_png_keeps_every_pixel_and_its_text() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (9, 13, 3), np.uint8)
    data = encode_png(pixels, {"medley": "steps 300", "Title": "Café × 夜"})
    assert np.array_equal(np.asarray(open_picture(data, SETTINGS, "p.png")), pixels)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.info["medley"] == "steps 300"
        assert opened.info["Title"] == "Café × 夜"


def test_jpeg_keeps_colour_at_full_resolution() -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, ::2, 0] = 255  # columns of red, which a subsampled JPEG smears
    decoded = np.asarray(open_picture(encode_jpeg(pixels, quality=95), SETTINGS, "p.jpg")).astype(int)
    assert np.abs(decoded - pixels).max() < 30
