"""Hostile files, the same for one seed: mutated pictures of every format, bombs, no files at all, odd names."""

import io
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "GIF")

ODD_NAMES = (
    "two words.jpg",
    'it\'s "quoted".png',
    "new\nline.jpg",
    "$(reboot);&|.jpg",
    "-rf.jpg",
    "ünï 夜 \U0001f3a8.jpg",
)
NO_UNICODE = b"caf\xe9 \xff.jpg"


def write_hostile_files(folder: Path, count: int, seed: int) -> list[Path]:
    """Write ``count`` files (at least 100) into a folder; returns their paths. Few of them are sound pictures."""
    folder.mkdir(parents=True)
    rng = random.Random(seed)
    paths = [*_no_files(folder), *_bombs(folder), *_others(folder), *_oddly_named(folder, rng)]
    for number in range(count - len(paths)):
        form = FORMATS[number % len(FORMATS)]
        path = folder / f"mutant{number:03d}.{form.lower()}"
        path.write_bytes(mutated(_sound(form, rng), rng))
        paths.append(path)
    return paths


def _sound(form: str, rng: random.Random) -> bytes:
    """A small sound picture of a format, in one of the modes and encodings that it has."""
    side = rng.choice([33, 48, 70])
    noise = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, (side, side + 7, 3), np.uint8)
    picture = Image.fromarray(noise).convert(rng.choice(_MODES[form]))
    options = rng.choice(_OPTIONS[form])
    file = io.BytesIO()
    if rng.random() < 0.2 and form in ("GIF", "WEBP", "TIFF", "PNG"):
        options = options | {"save_all": True, "append_images": [picture.rotate(90), picture.rotate(180)]}
    picture.save(file, form, **options)
    return file.getvalue()


_MODES = {
    "JPEG": ["RGB", "L", "CMYK"],
    "PNG": ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"],
    "WEBP": ["RGB", "RGBA"],
    "TIFF": ["RGB", "RGBA", "L", "CMYK", "P", "1", "I;16", "F"],
    "GIF": ["P", "L"],
}
_OPTIONS: dict[str, list[dict[str, object]]] = {
    "JPEG": [{}, {"progressive": True}, {"quality": 20, "subsampling": 2}],
    "PNG": [{}, {"compress_level": 0}],
    "WEBP": [{}, {"lossless": True}],
    "TIFF": [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}, {"compression": "packbits"}],
    "GIF": [{}, {"transparency": 0}],
}


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Damaged in one to three of the ways in which files get damaged, or are meant to."""
    for _ in range(rng.randint(1, 3)):
        data = rng.choice(_MUTATIONS)(bytearray(data), rng)
    return data


def _flip(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 20)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _spoil_header(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 6)):
        data[rng.randrange(min(64, len(data)))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    return bytes(data)


def _truncate(data: bytearray, rng: random.Random) -> bytes:
    return bytes(data[: rng.randrange(1, len(data))])


def _insert(data: bytearray, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return bytes(data[:at]) + rng.randbytes(rng.randint(1, 300)) + bytes(data[at:])


def _repeat(data: bytearray, rng: random.Random) -> bytes:
    start, length = rng.randrange(len(data)), rng.randint(1, 200)
    return bytes(data[: start + length] + data[start:])


def _blank(data: bytearray, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.randint(1, 400))
    data[start:end] = bytes([rng.choice([0, 0xFF])]) * (end - start)
    return bytes(data)


def _huge_number(data: bytearray, rng: random.Random) -> bytes:
    at = rng.randrange(max(1, min(200, len(data) - 4)))
    data[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice([0xFFFFFFFF, 0x7FFFFFFF, 0x10000, 0]))
    return bytes(data)


_MUTATIONS: list[Callable[[bytearray, random.Random], bytes]] = [
    _flip, _flip, _spoil_header, _truncate, _insert, _repeat, _blank, _huge_number,
]  # fmt: skip


def _no_files(folder: Path) -> Iterator[Path]:
    (folder / "empty.jpg").touch()
    yield folder / "empty.jpg"
    os.mkfifo(folder / "pipe.jpg")
    yield folder / "pipe.jpg"
    for name, target in (("zero.png", "/dev/zero"), ("gone.png", "no such file"), ("loop.png", "loop.png")):
        (folder / name).symlink_to(target)
        yield folder / name


def _oddly_named(folder: Path, rng: random.Random) -> Iterator[Path]:
    """Sound and damaged pictures in turn."""
    names = [*ODD_NAMES, os.fsdecode(NO_UNICODE)]
    for number, name in enumerate(names):
        data = _sound("JPEG", rng)
        (folder / name).write_bytes(data[: len(data) // 2] if number % 2 else data)
        yield folder / name


def _others(folder: Path) -> Iterator[Path]:
    """Files that are called like pictures and are something else."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.txt", "a")
    contents = {
        "page.jpg": b"<!DOCTYPE html><title>404 Not Found</title>",
        "drawing.png": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "archive.webp": archive.getvalue(),
        "program.gif": b"\x7fELF" + bytes(400),
        "script.tiff": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
        "pointer.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
        "zeros.png": bytes(100_000),
        "letter.jpg": "Dear diary\n".encode("utf-16"),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
        yield folder / name


def _bombs(folder: Path) -> Iterator[Path]:
    """Small files that ask for much: pixels, text, profiles, tags, frames."""
    gif = io.BytesIO()
    Image.new("P", (64, 64)).save(gif, "GIF")
    frame = gif.getvalue()[gif.getvalue().index(b",") : -1]
    many = gif.getvalue()[:-1] + frame * 20_000 + b";"
    tiff = struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", 4000)
    tiff += b"".join(struct.pack("<HHII", 256 + n % 60, 4, 0xFFFFFFFF, 8) for n in range(4000)) + bytes(4)
    contents = {
        "wide.png": _png(100_000, 100_000, b""),
        "flat.png": _png(
            9_000, 9_000, zlib.compress(bytes(9_001 * 9_000), 9), colour=0
        ),  # within the limits, and sound
        "alpha.png": _png(7_000, 7_000, zlib.compress(bytes(28_001 * 7_000), 9), colour=6),
        "text.png": _png(40, 40, zlib.compress(bytes(41 * 40)), colour=0, extra=_text_bomb(b"zTXt")),
        "profile.png": _png(40, 40, zlib.compress(bytes(41 * 40)), colour=0, extra=_text_bomb(b"iCCP")),
        "wide.gif": b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + gif.getvalue()[10:],
        "frames.gif": many,
        "tags.tiff": tiff,
        "again.tiff": struct.pack("<2sHIH", b"II", 42, 8, 0) + struct.pack("<I", 8),  # its next page is itself
        "wide.webp": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x3f\0" * 2,
        "wide.jpg": b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\x01\x22\0\x02\x11\x01\x03\x11\x01\xff\xd9",
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
        yield folder / name


def _png(width: int, height: int, pixels: bytes, colour: int = 2, extra: bytes = b"") -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _text_bomb(kind: bytes) -> bytes:
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(1_000_000)) for _ in range(300)) + packer.flush()
    return _chunk(kind, b"bomb\0\0" + packed)  # in both kinds, a name and the method precede what is packed


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
