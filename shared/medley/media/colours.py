"""Pixels of every kind that pictures come in, made RGB as a screen shows it: sRGB, 8 bits, over white, upright."""

import io
from collections.abc import Callable

from PIL import Image, ImageFile

from medley.media.orientation import turned, turned_place, turned_size

NO_RANGE = ("I", "F")
"""Pillow's modes of 32-bit samples, and signed ones, which do not say what is black and what is white."""

BAND_PIXELS = 1 << 18
"""Converted at a time; what the steps on the way hold is little beside the picture."""

_PLAIN = {"1": "L", "P": "RGB", "PA": "RGBA", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB"}

_SPACES = {"GRAY": "L", "RGB ": "RGB", "CMYK": "CMYK"}
"""The colour spaces of ICC profiles that pictures are in, and Pillow's modes for them."""

Convert = Callable[[Image.Image], Image.Image]


def to_srgb(picture: ImageFile.ImageFile, turn: int) -> Image.Image:
    """Decode a picture whose header was read, and convert it; ``turn`` is the orientation that is still to be undone.

    At most, memory holds the picture as it was decoded and once more as RGB (4 bytes a pixel).
    """
    _scale_key(picture)
    picture.load()
    plain, colours = _plainly(picture), None
    width, height = picture.size
    upright = Image.new("RGB", turned_size(picture.size, turn))
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        band = plain(picture.crop((0, top, width, bottom)))
        colours = colours or _conversion(band.mode.rstrip("A"), picture.info.get("icc_profile"))
        upright.paste(turned(_over_white(band, colours), turn), turned_place(top, bottom, height, turn))
    return upright


def _scale_key(picture: ImageFile.ImageFile) -> None:
    """Make a PNG's transparent colour comparable with 8-bit samples; Pillow leaves it as it stands in the file.

    Grey of 16 bits keeps its key, as it keeps its samples.
    """
    key, raw = picture.info.get("transparency"), picture.tile[0].args if picture.tile else None
    if picture.format != "PNG" or key is None:
        return
    if raw in ("L;2", "L;4"):
        picture.info["transparency"] = key * (85 if raw == "L;2" else 17)
    elif raw == "RGB;16B":
        picture.info["transparency"] = tuple(sample >> 8 for sample in key)


def _plainly(picture: Image.Image) -> Convert:
    """What makes a band of this picture L, LA, RGB, RGBA, CMYK or LAB, of 8 bits."""
    if picture.mode.startswith("I;16"):
        return _from_16_bits(picture)
    if picture.mode in ("1", "L", "P", "RGB") and picture.has_transparency_data:
        return lambda band: band.convert("RGBA")
    mode = _PLAIN.get(picture.mode, picture.mode)
    return lambda band: band.convert(mode)


def _from_16_bits(picture: Image.Image) -> Convert:
    """Grey of 16 or 12 bits, scaled down as Pillow scales colours; its own conversion of grey clips instead.

    A TIFF may have fewer bits, or black and white the other way round, which Pillow passes on as they are.
    """
    tags = getattr(picture, "tag_v2", {})
    drop = 4 if tags.get(258) == (12,) else 8  # BitsPerSample
    flip = 255 if tags.get(262) == 0 else 0  # PhotometricInterpretation: WhiteIsZero
    levels = [min(sample >> drop, 255) ^ flip for sample in range(1 << 16)]
    key = picture.info.get("transparency")
    opaque = [255 * (sample != key) for sample in range(1 << 16)]

    def convert(band: Image.Image) -> Image.Image:
        wide = band.convert("I")
        grey = wide.point(levels, "L")
        return grey if key is None else Image.merge("LA", (grey, wide.point(opaque, "L")))

    return convert


def _conversion(mode: str, profile: bytes | None) -> Convert:
    """What makes a band of mode L, RGB, CMYK or LAB sRGB.

    A profile that is broken, or is for another kind of picture, is ignored, as browsers do.
    """
    if mode == "LAB" or isinstance(profile, bytes):
        from PIL import ImageCms

        try:
            return _managed(mode, None if mode == "LAB" else profile)
        except (OSError, ValueError, ImageCms.PyCMSError):
            pass
    return lambda band: band.convert("RGB")


def _managed(mode: str, profile: bytes | None) -> Convert:
    """By an ICC profile; by the one of LAB itself (D50, as TIFF has it) if None.

    Relative colorimetric with black point compensation, as image editors do by default: white stays white, and black
    becomes black.

    Raises:
        OSError, ValueError, PyCMSError: the profile cannot be used.
    """
    from PIL import ImageCms

    source = ImageCms.ImageCmsProfile(io.BytesIO(profile) if profile else ImageCms.createProfile("LAB"))
    means = _SPACES.get(source.profile.xcolor_space, "") if profile else mode
    if means != mode and (mode, means) != ("L", "RGB"):  # grey may have the profile of its colours
        raise ValueError(f"a profile for {means} on a picture of mode {mode}")
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        means,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION | ImageCms.Flags.HIGHRESPRECALC,  # without, dark greys are bands
    )
    return lambda band: transform.apply(band if band.mode == means else band.convert(means))


def _over_white(band: Image.Image, colours: Convert) -> Image.Image:
    if not band.mode.endswith("A"):
        return colours(band)
    white = Image.new("RGB", band.size, "white")
    white.paste(colours(band.convert(band.mode[:-1])), mask=band.getchannel("A"))
    return white
