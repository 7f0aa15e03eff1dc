"""Every kind of pixels becomes the RGB that a screen would show; compared with naive sums in numpy."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from medley.errors import ImageError
from medley.media.images import open_picture, probe
from medley.settings import Settings

SETTINGS = Settings()
SIDE = 32

Pixels = NDArray[np.uint8]


def noise(*bands: int, most: int = 256, seed: int = 1) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, most, (SIDE, SIDE, *bands))


def stored(picture: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def opened(data: bytes) -> NDArray[np.int64]:
    picture = open_picture(data, SETTINGS, "p")
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(np.int64)


def over_white(colours: NDArray[np.int64], alpha: NDArray[np.int64]) -> NDArray[np.float64]:
    return (colours * alpha[..., None] + 255 * (255 - alpha[..., None])) / 255


def grey(samples: NDArray[np.generic]) -> NDArray[Any]:
    return np.repeat(samples[..., None], 3, axis=-1)


def png(depth: int, kind: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG of any depth (bits) and colour type, which Pillow does not write."""
    each = len(rows) // SIDE
    lines = b"".join(b"\0" + rows[n * each : (n + 1) * each] for n in range(SIDE))
    header = b"IHDR" + struct.pack(">IIBBBBB", SIDE, SIDE, depth, kind, 0, 0, 0)
    parts = (header, *chunks, b"IDAT" + zlib.compress(lines), b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts
    )


def tiff(bits: int, photometric: int, data: bytes, order: str = "<") -> bytes:
    """A TIFF of one grey sample a pixel, in one strip."""
    tags = [(256, SIDE), (257, SIDE), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, SIDE)]
    entries = b"".join(struct.pack(order + "HHIHH", tag, 3, 1, *(value, 0)) for tag, value in tags)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(data))
    length = struct.pack(order + "HHII", 279, 4, 1, len(data))
    return head + data + struct.pack(order + "H", len(tags) + 1) + entries + length + bytes(4)


def test_grey_and_black_and_white_are_repeated() -> None:
    samples = noise()
    assert np.array_equal(opened(stored(Image.fromarray(samples.astype(np.uint8)), "PNG")), grey(samples))
    bits = samples > 127
    assert np.array_equal(opened(stored(Image.fromarray(bits), "PNG")), grey(bits * 255))


@pytest.mark.parametrize(
    ("form", "mode"), [("PNG", "RGBA"), ("WEBP", "RGBA"), ("TIFF", "RGBA"), ("PNG", "LA"), ("TIFF", "LA")]
)
def test_alpha_is_composed_over_white(form: str, mode: str) -> None:
    samples = noise(len(mode))
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    data = stored(Image.fromarray(samples.astype(np.uint8), mode), form, **options)
    colours = samples[..., :3] if mode == "RGBA" else grey(samples[..., 0])
    assert np.abs(opened(data) - over_white(colours, samples[..., -1])).max() <= 0.5


def test_alpha_that_was_multiplied_into_the_colours_is_composed_over_white() -> None:
    alpha = noise()
    colours = noise(3, seed=2) * alpha[..., None] // 255
    samples = np.concatenate([colours, alpha[..., None]], axis=-1)
    data = stored(Image.fromarray(samples.astype(np.uint8)), "TIFF")
    extra_samples = struct.pack("<HHI", 338, 3, 1)
    data = data.replace(extra_samples + b"\2", extra_samples + b"\1")  # unassociated alpha becomes associated
    assert np.abs(opened(data) - (colours + 255 - alpha[..., None])).max() <= 1.5


def test_palettes_may_be_transparent_in_part_or_at_one_colour() -> None:
    indices = noise(most=4).astype(np.uint8)
    colours = np.array([[250, 10, 20], [30, 240, 50], [60, 70, 230], [0, 0, 0]])
    alphas = np.array([255, 0, 128, 77])
    picture = Image.fromarray(indices, "P")
    picture.putpalette(colours.astype(np.uint8).tobytes())
    some = stored(picture, "PNG", transparency=bytes(alphas.tolist()))
    assert np.abs(opened(some) - over_white(colours[indices], alphas[indices])).max() <= 0.5
    for form in ("PNG", "GIF"):
        one = stored(picture, form, transparency=2)
        assert np.array_equal(opened(one), np.where((indices == 2)[..., None], 255, colours[indices]))
    assert np.array_equal(opened(stored(picture, "PNG")), colours[indices])


def test_one_colour_may_stand_for_nothing() -> None:
    samples = noise(3, most=2) * 200
    data = stored(Image.fromarray(samples.astype(np.uint8)), "PNG", transparency=(200, 0, 200))
    nothing = (samples == (200, 0, 200)).all(axis=-1)
    assert np.array_equal(opened(data), np.where(nothing[..., None], 255, samples))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_one_grey_may_stand_for_nothing_at_every_depth(depth: int) -> None:
    most = (1 << depth) - 1
    samples = noise(most=most + 1)
    samples[0, :2] = (most, most - 1)
    bits = np.unpackbits(samples.astype(">u2").view(np.uint8).reshape(SIDE, SIDE, 2), axis=-1)[..., 16 - depth :]
    rows = np.packbits(bits.reshape(SIDE, -1), axis=-1).tobytes()
    key = max(0, most - 1)
    plain, keyed = png(depth, 0, rows), png(depth, 0, rows, b"tRNS" + struct.pack(">H", key))
    expected = grey(samples >> 8 if depth == 16 else samples * 255 // most)
    assert np.array_equal(opened(plain), expected)
    assert np.array_equal(opened(keyed), np.where((samples == key)[..., None], 255, expected))


def test_colours_of_16_bits_keep_their_upper_eight() -> None:
    samples = noise(3, most=1 << 16)
    samples[0, 0] = (0x1234, 0xABCD, 0x00FF)
    rows = samples.astype(">u2").tobytes()
    assert np.array_equal(opened(png(16, 2, rows)), samples >> 8)
    keyed = opened(png(16, 2, rows, b"tRNS" + struct.pack(">3H", 0x1234, 0xABCD, 0x00FF)))
    assert tuple(keyed[0, 0]) == (255, 255, 255)
    assert np.array_equal(keyed[1:], samples[1:] >> 8)


@pytest.mark.parametrize("order", ["<", ">"])
def test_grey_of_16_bits_is_scaled_in_either_byte_order(order: str) -> None:
    samples = noise(most=1 << 16)
    data = tiff(16, 1, samples.astype(f"{order}u2").tobytes(), order)
    assert np.array_equal(opened(data), grey(samples >> 8))


def test_grey_of_a_scanner_may_have_12_bits_or_white_at_zero() -> None:
    samples = noise(most=1 << 12)
    first, second = samples[:, ::2], samples[:, 1::2]
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=-1)
    assert np.array_equal(opened(tiff(12, 1, packed.astype(np.uint8).tobytes())), grey(samples >> 4))
    samples = noise(most=1 << 16)
    assert np.array_equal(opened(tiff(16, 0, samples.astype("<u2").tobytes())), grey(255 - (samples >> 8)))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_without_a_known_range_are_refused_before_they_are_decoded(mode: str, tmp_path: Path) -> None:
    (tmp_path / "depth.tiff").write_bytes(stored(Image.fromarray(noise().astype(np.uint8)).convert(mode), "TIFF"))
    with pytest.raises(ImageError, match=r"^depth.tiff has 32-bit or signed samples.*convert it to 8 or 16 bits"):
        probe(tmp_path / "depth.tiff", SETTINGS)


def without_adobe(jpeg: bytes) -> bytes:
    """Without the marker that says who wrote it."""
    at = jpeg.index(b"\xff\xee\0\x0eAdobe")
    return jpeg[:at] + jpeg[at + 16 :]


def test_inks_are_mixed_as_screens_do_without_a_profile() -> None:
    inks = np.repeat(np.repeat(noise(4)[:4, :4], 8, axis=0), 8, axis=1)
    expected = (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255
    picture = Image.fromarray(inks.astype(np.uint8), "CMYK")
    assert np.abs(opened(stored(picture, "TIFF")) - expected).max() <= 1
    jpeg = stored(picture, "JPEG", quality=100)
    assert np.abs(opened(jpeg) - expected).max() <= 6
    assert np.array_equal(opened(without_adobe(jpeg)), opened(jpeg))  # as browsers take it


def test_luminance_and_lab_become_colours() -> None:
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    picture = Image.fromarray(np.stack([x * 8, y * 8, 255 - x * 4 - y * 4], axis=-1).astype(np.uint8))
    assert np.abs(opened(stored(picture.convert("YCbCr"), "TIFF")) - np.asarray(picture)).max() <= 3
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = stored(to_lab.apply(picture), "TIFF")
    assert np.abs(opened(lab) - np.asarray(picture)).mean() <= 1.5
    white, black = (opened(stored(Image.new("LAB", (SIDE, SIDE), (level, 128, 128)), "TIFF")) for level in (255, 0))
    assert white.min() >= 254
    assert black.max() <= 1


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SWAPPED = SRGB.replace(b"rXYZ", b"....").replace(b"bXYZ", b"rXYZ").replace(b"....", b"bXYZ")
"""What it calls red is blue."""


def profile(space: bytes, kind: bytes, tags: dict[bytes, bytes], pcs: bytes = b"XYZ ") -> bytes:
    """An ICC profile of version 2."""
    d50 = struct.pack(">3i", 63190, 65536, 54061)
    tags = {b"wtpt": b"XYZ \0\0\0\0" + d50, **tags}
    table, body = b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    rest = struct.pack(">I", len(tags)) + table + body
    head = struct.pack(">I4xI", 128 + len(rest), 0x02400000) + kind + space + pcs + bytes(12) + b"acsp" + bytes(28)
    return (head + d50).ljust(128, b"\0") + rest


def curve(gamma: float) -> bytes:
    return b"curv" + struct.pack(">4xIH", 1, round(gamma * 256))


ONLY_BLACK_PRINTS = profile(
    b"CMYK",
    b"prtr",
    {
        b"A2B0": b"mft1"
        + struct.pack(">4x4B9i", 4, 3, 2, 0, *(65536 * (n % 4 == 0) for n in range(9)))
        + bytes(range(256)) * 4
        + b"".join(bytes([0 if black else 255, 128, 128]) for _ in range(8) for black in (0, 1))
        + bytes(range(256)) * 3
    },
    b"Lab ",
)
"""An odd press: cyan, magenta and yellow leave no trace."""


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_colours_are_those_of_the_profile(form: str, options: dict[str, object]) -> None:
    samples = noise(3)
    picture = Image.fromarray(samples.astype(np.uint8))
    assert np.array_equal(opened(stored(picture, form, icc_profile=SRGB, **options)), samples)
    swapped = opened(stored(picture, form, icc_profile=SWAPPED, **options))
    assert np.abs(swapped - samples[..., ::-1]).max() <= 1


@pytest.mark.parametrize("form", ["JPEG", "AVIF"])
def test_colours_are_those_of_the_profile_in_lossy_formats(form: str) -> None:
    flat = Image.new("RGB", (SIDE, SIDE), (220, 120, 20))
    data = stored(flat, form, quality=98, icc_profile=SWAPPED)
    assert np.abs(opened(data) - (20, 120, 220)).max() <= 5


def screen(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light, 0 to 1, by sRGB's curve as a sample, 0 to 255."""
    return 255 * np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def test_display_p3_is_converted_as_its_matrix_says() -> None:
    """The primaries of Display P3, adapted to D50 as its profile has them, with sRGB's curve."""
    columns = {b"r": (0.51512, 0.24120, -0.00105), b"g": (0.29198, 0.69225, 0.04189), b"b": (0.15710, 0.06657, 0.78407)}
    data = bytearray(SRGB)
    ours, theirs = [], []
    for name, xyz in columns.items():
        (at,) = struct.unpack_from(">I", SRGB, SRGB.index(name + b"XYZ") + 4)
        ours.append(np.array(struct.unpack_from(">3i", SRGB, at + 8)) / 65536)
        theirs.append(np.array(xyz))
        struct.pack_into(">3i", data, at + 8, *(round(value * 65536) for value in xyz))
    samples = noise(3)
    light = np.where(samples <= 10, samples / 255 / 12.92, ((samples / 255 + 0.055) / 1.055) ** 2.4)
    expected = screen(np.clip(light @ np.linalg.inv(np.stack(ours, 1)).dot(np.stack(theirs, 1)).T, 0, 1))
    found = opened(stored(Image.fromarray(samples.astype(np.uint8)), "PNG", icc_profile=bytes(data)))
    assert np.abs(found - expected).max() <= 1.5
    assert np.abs(found - samples).max() > 20


def test_alpha_outlives_the_profile_of_colours() -> None:
    samples = noise(4)
    data = stored(Image.fromarray(samples.astype(np.uint8)), "PNG", icc_profile=SWAPPED)
    assert np.abs(opened(data) - over_white(samples[..., 2::-1], samples[..., 3])).max() <= 1.5


def test_alpha_outlives_the_profile_of_a_palette() -> None:
    indices = noise(most=2)
    picture = Image.fromarray(indices.astype(np.uint8), "P")
    picture.putpalette([250, 20, 30, 40, 200, 60])
    data = stored(picture, "PNG", icc_profile=SWAPPED, transparency=0)
    assert np.abs(opened(data) - np.where(indices[..., None], (60, 200, 40), 255)).max() <= 1


def test_alpha_outlives_the_profile_of_grey() -> None:
    samples = noise(2)
    mac = profile(b"GRAY", b"mntr", {b"kTRC": curve(1.8)})
    data = stored(Image.fromarray(samples.astype(np.uint8), "LA"), "PNG", icc_profile=mac)
    expected = over_white(grey(screen((samples[..., 0] / 255) ** 1.8)), samples[..., 1])
    assert np.abs(opened(data) - expected).max() <= 2


def test_grey_may_carry_the_profile_of_colours() -> None:
    samples = noise().astype(np.uint8)
    assert np.array_equal(opened(stored(Image.fromarray(samples), "PNG", icc_profile=SRGB)), grey(samples))


def test_inks_are_printed_by_the_profile() -> None:
    inks = Image.new("CMYK", (SIDE, SIDE), (255, 200, 90, 0))
    black = Image.new("CMYK", (SIDE, SIDE), (0, 0, 0, 255))
    for form in ("TIFF", "JPEG"):
        assert opened(stored(inks, form, icc_profile=ONLY_BLACK_PRINTS)).min() >= 253
        assert opened(stored(black, form, icc_profile=ONLY_BLACK_PRINTS)).max() <= 2


@pytest.mark.parametrize(
    "unfit",
    [b"not a profile", SRGB[:200], SRGB[:128] + bytes(len(SRGB) - 128), ONLY_BLACK_PRINTS, bytes(1)],
    ids=["nonsense", "torn", "hollow", "for inks", "a byte"],
)
def test_a_profile_that_does_not_fit_is_ignored(unfit: bytes) -> None:
    samples = noise(3)
    data = stored(Image.fromarray(samples.astype(np.uint8)), "PNG", icc_profile=unfit)
    assert np.array_equal(opened(data), samples)


def test_a_profile_for_screens_on_a_picture_for_printing_is_ignored() -> None:
    inks = Image.fromarray(noise(4).astype(np.uint8), "CMYK")
    assert np.array_equal(opened(stored(inks, "TIFF", icc_profile=SRGB)), opened(stored(inks, "TIFF")))
