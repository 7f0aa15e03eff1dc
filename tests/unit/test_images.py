"""Pictures are read for what their bytes are, and whatever the bytes are, the error names the picture."""

import contextlib
import io
import os
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from medley.errors import ImageError
from medley.media.images import Probe, encode_jpeg, encode_png, open_picture, png_text, probe
from medley.settings import Settings
from medley.telling import shown

SETTINGS = Settings()


def picture(form: str, size: tuple[int, int] = (47, 33), mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(5).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, form)
    return file.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 99))


def behind_header(data: bytes, chunks: bytes) -> bytes:
    """A PNG with chunks behind its first one, or a JPEG with segments behind its first two bytes."""
    at = 33 if data.startswith(b"\x89PNG") else 2
    return data[:at] + chunks + data[at:]


def refusal(path: Path, settings: Settings = SETTINGS) -> str:
    with pytest.raises(ImageError) as caught:
        probe(path, settings)
    assert str(caught.value).startswith(shown(path.name))
    assert str(caught.value).isprintable()
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
    assert probe(file, SETTINGS) == Probe(ext, 47, 33)
    opened = open_picture(file.read_bytes(), SETTINGS, file.name)
    assert (opened.mode, opened.size) == ("RGB", (47, 33))


def test_two_pictures_in_one_jpeg_are_a_jpeg(tmp_path: Path) -> None:
    file = tmp_path / "phone.jpg"
    first, second = (Image.new("RGB", (48, 36), colour) for colour in ("red", "blue"))
    first.save(file, "MPO", save_all=True, append_images=[second])
    assert probe(file, SETTINGS) == Probe("jpg", 48, 36)


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
    large.write_bytes(png_header(10_000, 10_000))
    assert probe(large, SETTINGS) == Probe("png", 10_000, 10_000)


def test_limits_are_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "p.png"
    file.write_bytes(picture("PNG"))
    few_pixels, few_bytes = Settings(image_pixels=47 * 33 - 1), Settings(image_bytes=100)
    assert probe(file, Settings(image_pixels=47 * 33)) == Probe("png", 47, 33)
    assert "MEDLEY_IMAGE_PIXELS" in refusal(file, few_pixels)
    assert "MEDLEY_IMAGE_BYTES" in refusal(file, few_bytes)
    for settings in (few_pixels, few_bytes):
        with pytest.raises(ImageError, match=r"p\.png has"):
            open_picture(file.read_bytes(), settings, "p.png")


def test_half_as_much_is_taken_of_formats_whose_decoders_need_twice_the_memory(tmp_path: Path) -> None:
    pixels = 47 * 33
    for form, options in (("WEBP", {}), ("AVIF", {}), ("TIFF", {}), ("JPEG", {"progressive": True})):
        file = tmp_path / form
        with Image.open(io.BytesIO(picture("PNG"))) as plain:
            plain.save(file, form, **options)
        assert probe(file, Settings(image_pixels=2 * pixels))[1:] == (47, 33)
        assert "MEDLEY_IMAGE_PIXELS" in refusal(file, Settings(image_pixels=2 * pixels - 1))
        if form in ("WEBP", "AVIF"):
            size = file.stat().st_size
            assert probe(file, Settings(image_bytes=2 * size))[1:] == (47, 33)
            assert "MEDLEY_IMAGE_BYTES" in refusal(file, Settings(image_bytes=2 * size - 1))


def test_a_picture_that_the_deep_layers_would_not_see_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "icon.png"
    file.write_bytes(picture("PNG", (200, 31)))
    assert "at least 32 a side are needed" in refusal(file)
    with pytest.raises(ImageError, match=r"^icon.png has 200 x 31 pixels"):
        open_picture(file.read_bytes(), SETTINGS, "icon.png")
    assert probe(file, Settings(image_side=31)) == Probe("png", 200, 31)


MEMORY = """
import sys
from pathlib import Path
from medley.media.images import open_picture
from medley.settings import Settings

def row(name):
    rows = dict(line.split(":") for line in open("/proc/self/status"))
    return int(rows[name].split()[0]) * 1024

data = Path(sys.argv[1]).read_bytes()
before = row("VmRSS")
width, height = open_picture(data, Settings(), "p").size
print((row("VmHWM") - before) / (width * height))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize(
    ("form", "mode", "options", "most"),
    [
        ("PNG", "RGBA", {"compress_level": 1}, 9.5),
        ("JPEG", "RGB", {}, 9.5),
        ("JPEG", "CMYK", {"progressive": True, "subsampling": 0}, 19),
        ("TIFF", "RGB", {"compression": "tiff_adobe_deflate", "strip_size": 1 << 30}, 19),
        ("WEBP", "RGBA", {"quality": 20, "method": 0}, 19),
    ],
)
def test_memory_for_decoding_is_what_the_limits_count_on(
    form: str, mode: str, options: dict[str, object], most: float, tmp_path: Path
) -> None:
    """Bytes a pixel: at 100 million pixels, and at 50 million of the costly kinds, they are below a gigabyte."""
    file = tmp_path / "large"
    exif = Image.Exif()
    exif[0x0112] = 6
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = Image.linear_gradient("L").resize((3200, 2500)).convert("RGB").convert(mode)
    plain.save(file, form, exif=exif, icc_profile=srgb, **options)
    ran = subprocess.run([sys.executable, "-c", MEMORY, file], capture_output=True, text=True, check=True)
    assert float(ran.stdout) <= most


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_truncated_pictures_are_refused_by_name(form: str) -> None:
    data = picture(form, (200, 150))
    for share in (0.02, 0.3, 0.9):
        with pytest.raises(ImageError, match=r"^half\.pic "):
            open_picture(data[: int(len(data) * share)], SETTINGS, "half.pic")


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


def test_what_swells_when_it_is_unpacked_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bomb.png"
    swollen = zlib.compress(bytes(20_000_000))
    for kind in (b"iCCP", b"zTXt"):
        file.write_bytes(behind_header(picture("PNG"), chunk(kind, b"x\0\0" + swollen)))
        assert "too large" in refusal(file)
    with Image.open(io.BytesIO(picture("PNG"))) as plain:
        rows = zlib.compress(bytes(100_000_000))  # behind the last row, which nobody unpacks
        file.write_bytes(png_header(*plain.size)[:33] + chunk(b"IDAT", rows) + chunk(b"IEND"))
    assert open_picture(file.read_bytes(), SETTINGS, "p").getpixel((46, 32)) == (0, 0, 0)


def test_files_in_crumbs_are_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("medley.media.formats.READS", 5_000)
    file = tmp_path / "crumbs"
    for data, crumb in ((picture("JPEG"), b"\xff\xfe\0\2"), (picture("PNG"), chunk(b"teSt"))):
        file.write_bytes(behind_header(data, crumb * 10))
        assert probe(file, SETTINGS)[1:] == (47, 33)
        file.write_bytes(behind_header(data, crumb * 10_000))
        assert "too many small pieces" in refusal(file)
    late = picture("PNG")
    late = late[:-12] + chunk(b"teSt") * 10_000 + late[-12:]
    with pytest.raises(ImageError, match="too many small pieces"):
        open_picture(late, SETTINGS, "late.png")


def test_a_header_larger_than_pictures_is_given_up(tmp_path: Path) -> None:
    file = tmp_path / "exif.jpg"
    segment = b"\xff\xe1\xff\xfeExif\0\0" + bytes(65_526)  # Pillow copies all that it has for each further one
    file.write_bytes(behind_header(picture("JPEG"), segment * 400))
    assert "far too much before its pixels" in refusal(file)


def test_tags_that_name_the_same_bytes_again_and_again_take_no_memory() -> None:
    entries = b"".join(struct.pack("<HHII", tag, 7, 500_000, 8) for tag in range(1, 20_000) if tag != 0x0112)
    count = struct.pack("<H", len(entries) // 12)
    exif = b"II*\0" + struct.pack("<I", 500_008) + bytes(500_000) + count + entries + bytes(4)
    late = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    data = behind_header(picture("PNG"), chunk(b"eXIf", exif.replace(entries, late + entries[12:])))
    assert open_picture(data, SETTINGS, "p").size == (33, 47)
    file = io.BytesIO()
    with Image.open(io.BytesIO(picture("PNG"))) as plain:
        plain.save(file, "WEBP", exif=b"Exif\0\0" + exif)
    assert open_picture(file.getvalue(), SETTINGS, "p").size == (47, 33)


def test_of_a_hundred_thousand_frames_the_first_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((40, 40)).save(file, "GIF")
    still = file.getvalue()
    film = still[:-1] + still[still.index(b"\x2c") : -1] * 100_000 + b";"
    monkeypatch.setattr("medley.media.formats.READS", 100)
    assert open_picture(film, SETTINGS, "film.gif") == open_picture(still, SETTINGS, "still.gif")


def test_messages_can_be_written_as_utf8_whatever_the_name(tmp_path: Path) -> None:
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    file.touch()
    with pytest.raises(ImageError, match="is empty") as caught:
        probe(file, SETTINGS)
    str(caught.value).encode()


def test_a_name_stays_on_one_line_and_turns_nothing_round() -> None:
    assert shown("a b/ünï 夜 \U0001f3a8 'x'.jpg") == "a b/ünï 夜 \U0001f3a8 'x'.jpg"
    assert shown("a\nb\r\t\x1b[31m\x85\u2028") == r"a\nb\r\t\x1b[31m\x85\u2028"
    assert shown("photo\u202egpj.exe") == r"photo\u202egpj.exe"
    assert shown("caf\udce9.jpg") == "caf\ufffd.jpg"


def test_a_message_is_one_line_whatever_the_name(tmp_path: Path) -> None:
    file = tmp_path / "new\nline.jpg"
    file.write_bytes(b"no picture")
    assert r"new\nline.jpg" in refusal(file)
    with pytest.raises(ImageError, match=r"^new\\nline.jpg is empty"):
        open_picture(b"", SETTINGS, "new\nline.jpg")


def test_png_keeps_every_pixel_and_its_text() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (39, 43, 3), np.uint8)
    data = encode_png(pixels, {"medley": "steps 300", "Title": "Café × 夜"})
    assert np.array_equal(np.asarray(open_picture(data, SETTINGS, "p.png")), pixels)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.info["medley"] == "steps 300"
        assert opened.info["Title"] == "Café × 夜"


def test_text_of_a_png_is_read_without_its_pixels(tmp_path: Path) -> None:
    file = tmp_path / "pastiche.png"
    data = encode_png(np.zeros((40, 50, 3), np.uint8), {"Title": "Café × 夜", "medley": '{"steps": 300}', "Empty": ""})
    for whole in (data, data[: data.index(b"IDAT") + 4]):
        file.write_bytes(whole)
        assert png_text(file, "medley", SETTINGS) == '{"steps": 300}'
        assert png_text(file, "Title", SETTINGS) == "Café × 夜"
        assert png_text(file, "Empty", SETTINGS) == ""
        assert png_text(file, "med", SETTINGS) is None


def test_text_is_read_of_no_more_than_a_png_within_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "p.png"

    def reason(settings: Settings = SETTINGS) -> str:
        with pytest.raises(ImageError) as caught:
            png_text(file, "medley", settings)
        assert str(caught.value).startswith("p.png ")
        return str(caught.value)

    assert "No such file" in reason()
    file.write_bytes(picture("JPEG"))
    assert "is not a PNG" in reason()
    file.write_bytes(b"")
    assert "is empty" in reason()
    file.write_bytes(behind_header(picture("PNG"), chunk(b"tEXt", b"medley\0" + b"x" * 2_000_000)))
    assert png_text(file, "medley", SETTINGS) is None
    assert "MEDLEY_IMAGE_BYTES" in reason(Settings(image_bytes=1_000_000))
    monkeypatch.setattr("medley.media.formats.READS", 5_000)
    file.write_bytes(behind_header(picture("PNG"), chunk(b"teSt") * 10_000))
    assert "too many small pieces" in reason()


def test_jpeg_keeps_colour_at_full_resolution() -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, ::2, 0] = 255  # columns of red, which a subsampled JPEG smears
    decoded = np.asarray(open_picture(encode_jpeg(pixels, quality=95), SETTINGS, "p.jpg")).astype(int)
    assert np.abs(decoded - pixels).max() < 30
