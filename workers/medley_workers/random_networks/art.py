"""What random networks are for: a picture in a PNG file, of any size in little memory, and the frames of a walk."""

import math
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from medley.files import os_errors, whole_file
from medley.media.png import SIGNATURE
from medley.records.networks import ArtOptions, WalkOptions
from medley.telling import quiet
from medley.threads import in_order
from medley_workers.numbers.devices import out_of_memory
from medley_workers.numbers.tensors import Pixels
from medley_workers.random_networks.bezier import walk
from medley_workers.random_networks.cppn import Positions, RandomNetwork, rendering_threads

_BAND_PIXELS = 2**17
"""A band is at least this large: compressing bands apart then costs a few bytes in a hundred thousand."""

_BAND_TILES = 8
"""And at least so many tiles, as those that two bands share are rendered twice."""

_BATCH_BYTES = 2**26
"""Frames that are rendered together take about so much."""

_BATCH_PRODUCTS = 2**33
"""And about so many multiplications, a third of a second of two slow cores: whoever waits for a frame waits for all."""

_FILTER_SUB = 1
"""Of PNG's filters, the one by which a row needs no other: each byte less that of the pixel on the left."""


def render_png(
    options: ArtOptions,
    path: Path,
    told: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005
    device: torch.device | str = "cpu",
    threads: int | None = None,
) -> None:
    """Render a picture into a PNG file, which appears under its name when it is whole.

    Memory is for a few bands of rows, whatever the picture's size. Its text chunks say how it was made: ``Software``,
    and under ``medley_art`` the options as JSON.

    Args:
        options: what to render
        path: the file; its folder is made
        told: is called with the rows that are done and all of them, now and then, in this thread
        device: what renders
        threads: of a CPU; as many as torch works with, if not given

    Raises:
        StorageRefused: the file cannot be written there.
        StorageUnreachable: its disk is away.
        OutOfMemory: there is no room for the network or the bands.
    """
    with out_of_memory(), os_errors(str(path)):
        network = RandomNetwork(options, len(options.z), device)
        with whole_file(path) as file:
            _write_png(file, network, options, threads or network.default_threads, told)


def frames(
    options: WalkOptions,
    first: int,
    count: int,
    device: torch.device | str = "cpu",
    threads: int | None = None,
    advance: Callable[[], None] = quiet,
) -> Iterator[Pixels]:
    """``count`` frames of a walk from the frame ``first`` on, each (H, W, C), where C is 3 (RGB) or 1.

    Whichever are asked for together, each frame's bytes are the same. ``advance`` is called for each of their tiles, in
    this thread.

    Raises:
        OutOfMemory: there is no room for the network or the frames.
    """
    positions = walk(options)[first : first + count]
    pixels = math.prod(options.size)
    most = _BATCH_BYTES // options.channels, _BATCH_PRODUCTS // (options.units**2 * options.depth)
    batch = max(1, min(most) // pixels)
    with out_of_memory():
        network = RandomNetwork(options, options.z_dims, device)
        for begin in range(0, len(positions), batch):
            yield from network.render(positions[begin : begin + batch], threads, advance)


def _write_png(
    file: BinaryIO, network: RandomNetwork, options: ArtOptions, threads: int, told: Callable[[int, int], None]
) -> None:
    """Bands are rendered and compressed by threads; their order in the file, and its bytes, are always the same."""
    _write_head(file, network, options)
    z = np.array([options.z], dtype=np.float64)  # (1, Z)
    checksum, done, height = 1, 0, network.size[1]
    with rendering_threads(threads) as pool:
        for lines, compressed in in_order(pool, partial(_band, network, z), _bands(network), ahead=threads):
            checksum = zlib.adler32(lines, checksum)
            _write_chunk(file, b"IDAT", compressed)
            done += len(lines) // _line_bytes(network)
            told(done, height)
    end = zlib.compressobj(wbits=-zlib.MAX_WBITS).flush()  # an empty last block
    _write_chunk(file, b"IDAT", end + checksum.to_bytes(4, "big"))
    _write_chunk(file, b"IEND", b"")


def _write_head(file: BinaryIO, network: RandomNetwork, options: ArtOptions) -> None:
    """What stands before the pixels: size and colours, how the picture was made, and zlib's header."""
    file.write(SIGNATURE)
    colour_type = 2 if network.channels == 3 else 0
    _write_chunk(file, b"IHDR", struct.pack(">IIBBBBB", *network.size, 8, colour_type, 0, 0, 0))
    for key, value in {
        "Software": f"medley {version('medley-farm')}",
        "medley_art": options.json_bytes().decode(),
    }.items():
        _write_chunk(file, b"tEXt", f"{key}\0{value}".encode("latin-1"))
    _write_chunk(file, b"IDAT", b"\x78\x9c")  # a window of 32 KB, and the usual level


def _bands(network: RandomNetwork) -> Iterator[range]:
    """The rows of each band, from top to bottom."""
    width, height = network.size
    rows = max(1, max(_BAND_PIXELS, network.tile * _BAND_TILES) // width)
    return (range(top, min(top + rows, height)) for top in range(0, height, rows))


def _band(network: RandomNetwork, z: Positions, rows: range) -> tuple[bytes, bytes]:
    """Some rows as PNG has them before they are compressed, and compressed."""
    width = network.size[0]
    pixels = network.pixels(z, rows.start * width, rows.stop * width)
    lines = _filtered(pixels.reshape(len(rows), width * network.channels), network.channels)
    return lines, _deflated(lines)


def _line_bytes(network: RandomNetwork) -> int:
    """A row with the number of its filter."""
    return 1 + network.size[0] * network.channels


def _filtered(rows: Pixels, channels: int) -> bytes:
    """Rows, (H, W * C), as PNG compresses them: each begins with its filter's number."""
    lines = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
    lines[:, 0] = _FILTER_SUB
    lines[:, 1 : 1 + channels] = rows[:, :channels]
    np.subtract(rows[:, channels:], rows[:, :-channels], out=lines[:, 1 + channels :])  # modulo 256, as PNG wants it
    return lines.tobytes()


def _deflated(data: bytes) -> bytes:
    """A part of a deflate stream that ends on a whole byte and refers to no other part, so parts can be joined."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH)


def _write_chunk(file: BinaryIO, kind: bytes, data: bytes) -> None:
    file.write(len(data).to_bytes(4, "big") + kind)
    file.write(data)
    file.write(zlib.crc32(data, zlib.crc32(kind)).to_bytes(4, "big"))
