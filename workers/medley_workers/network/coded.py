"""The method ``feedback``: integers on a grid, entropy-coded. How they are chosen is in ``compressing``.

A kernel of nine taps is ``T (q * s)``: ``q`` are nine integers, ``s`` the steps of their columns, ``T`` the layer's
transform. The layers are laid end to end, each as a matrix (out, 9 in). A file has, in little-endian numbers:

- ``words``: uint16, and ``states``: uint32, (4096,): the stream of :mod:`medley_workers.network.rans`; a symbol is
  q + 127, with q cut to -127..127
- ``escape_at``: uint32, and ``escape_value``: int16: where q is beyond that, in order, and what it is
- ``side``: uint8, zlib's: one after the other, ``first`` (float16, the first convolution's weight, which is not on a
  grid), ``biases`` (float16, of all convolutions), ``taps`` (float16, T of each layer, (9, 9)), ``steps`` (int8, of
  each column, s = 2^(step / 2)), ``rows`` and ``columns`` (int8, of each row and column; the class of q is their sum,
  cut to 0..38), ``shares`` (uint16, (39, 255), of each class, how often of 4,096 a symbol is expected)
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medley_workers.network import rans
from medley_workers.network.convolutions import convolution_shapes
from medley_workers.network.tensorfile import Array, Arrays
from medley_workers.threads import one_thread

LANES = 4096
"""Divides the number of weights in 64 rows of every convolution but the first."""

TAPS = 9
"""Of a 3 x 3 kernel."""

STEPS_AN_OCTAVE = 2
"""Steps are powers of the square root of two: finer ones were measured to gain nothing."""

_CLASSES_AN_OCTAVE = 3
_LOWEST = -6 * _CLASSES_AN_OCTAVE
_CLASSES = 13 * _CLASSES_AN_OCTAVE
"""Classes are thirds of an octave of the mean magnitude, from 1/64 to 128."""

_ROWS = 64
"""That are decoded together; divides the rows of every convolution."""

_MOST = 127
"""Larger integers are stored beside the stream: about a thousand of the default file's 13 million."""

_ARRAYS = {"side": "|u1", "states": "<u4", "words": "<u2", "escape_at": "<u4", "escape_value": "<i2"}

Integers = npt.NDArray[np.int16]

MOST_INTEGER = np.iinfo(np.int16).max


@dataclass(frozen=True, eq=False)
class CodedLayer:
    """A convolution on a grid: its weights, for each kernel, are ``taps @ (integers x steps)``."""

    integers: Integers
    """(out, 9 in), a column for each input channel and coefficient."""

    step_logs: npt.NDArray[np.int8]
    """(9 in,), the base 2 logarithm of each column's step, in units of 1 / STEPS_AN_OCTAVE."""

    taps: npt.NDArray[np.float16]
    """(9, 9), from coefficients to taps."""

    def weight(self) -> Tensor:
        """(out, in, 3, 3) of float32."""
        scaled = torch.from_numpy(self.integers) * torch.from_numpy(steps_of(self.step_logs))
        kernels = scaled.reshape(-1, TAPS) @ torch.from_numpy(self.taps.astype(np.float32)).T
        return kernels.reshape(len(scaled), -1, 3, 3)


def steps_of(logs: npt.NDArray[np.int8]) -> npt.NDArray[np.float32]:
    """The steps whose logarithms these are."""
    return np.exp2(logs.astype(np.float32) / STEPS_AN_OCTAVE)


def encode_layers(
    first: Tensor, biases: Sequence[Tensor], layers: Sequence[CodedLayer], *, contexts: bool = True
) -> dict[str, Array]:
    """The arrays of a file.

    Args:
        first: the weight of the first convolution, which is kept in half precision
        biases: of all convolutions, in order; kept in half precision
        layers: all convolutions but the first, in order
        contexts: whether the integers are coded by the magnitudes of their row and column, or of their layer only
    """
    scales = [_scales(layer.integers, contexts) for layer in layers]
    classes = np.concatenate([_classes(rows, columns) for rows, columns in scales])
    integers = np.concatenate([layer.integers.reshape(-1) for layer in layers])
    escapes = np.flatnonzero((integers < -_MOST) | (integers > _MOST))
    symbols = (np.clip(integers, -_MOST, _MOST) + _MOST).astype(np.uint8)
    width = 2 * _MOST + 1
    counts = np.bincount(classes.astype(np.int64) * width + symbols, minlength=_CLASSES * width)
    shares = rans.frequencies(counts.reshape(_CLASSES, width))
    states, words = rans.encode(symbols, classes, shares, LANES)
    side = {
        "first": first.numpy(),
        "biases": torch.cat(list(biases)).numpy(),
        "taps": np.stack([layer.taps for layer in layers]),
        "steps": np.concatenate([layer.step_logs for layer in layers]),
        "rows": np.concatenate([rows for rows, _ in scales]),
        "columns": np.concatenate([columns for _, columns in scales]),
        "shares": shares,
    }
    names = list(convolution_shapes())[: len(layers) + 1]
    packed = b"".join(side[name].astype(kind).tobytes() for name, (kind, _) in _side_arrays(names).items())
    return {
        "side": np.frombuffer(zlib.compress(packed, 9), np.uint8),
        "states": states,
        "words": words,
        "escape_at": escapes.astype(np.uint32),
        "escape_value": integers[escapes],
    }


def decode_layers(arrays: Arrays, names: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """The convolutions of a file, weight and bias by name; :func:`encode_layers` undone.

    Raises:
        rans.Damaged: the arrays are not those of these layers.
    """
    _check(arrays)
    side = _read_side(arrays["side"], names)
    if not all(np.isfinite(side[name]).all() for name in ("first", "biases", "taps")):
        raise rans.Damaged("a value is not finite")
    shapes = [convolution_shapes()[name] for name in names]
    sizes = [prod(shape) for shape in shapes]
    weights = torch.empty(sum(sizes))
    at = sizes[0]
    weights[:at] = torch.from_numpy(side["first"].astype(np.float32).reshape(-1))
    with one_thread():
        for piece in _pieces(arrays, side, names[1:]):
            weight = piece.weight().reshape(-1)
            weights[at : at + len(weight)] = weight
            at += len(weight)
    each = zip(torch.split_with_sizes(weights, sizes), shapes, strict=True)
    biases = torch.split_with_sizes(torch.from_numpy(side["biases"].astype(np.float32)), [out for out, *_ in shapes])
    return dict(zip(names, zip((weight.view(shape) for weight, shape in each), biases, strict=True), strict=True))


def _pieces(arrays: Arrays, side: Arrays, names: Sequence[str]) -> Iterator[CodedLayer]:
    """The layers in order, a few rows at a time, so that little more than the weights is ever in memory."""
    decoder = rans.Decoder(arrays["states"], arrays["words"], side["shares"])
    row = column = weight = 0
    shapes = convolution_shapes()
    for index, name in enumerate(names):
        out, width = shapes[name][0], shapes[name][1] * TAPS
        columns = slice(column, column + width)
        for begin in range(row, row + out, _ROWS):
            classes = _classes(side["rows"][begin : begin + _ROWS], side["columns"][columns])
            integers = _integers(decoder.decode(classes), arrays, weight)
            yield CodedLayer(integers.reshape(_ROWS, width), side["steps"][columns], side["taps"][index])
            weight += len(classes)
        row, column = row + out, column + width
    decoder.finish()
    if (arrays["escape_at"] >= weight).any():
        raise rans.Damaged("an escape is beyond the last weight")


def _integers(symbols: npt.NDArray[np.uint8], arrays: Arrays, begin: int) -> Integers:
    """What symbols mean, the first of which is of the weight ``begin``; escapes are put in their places."""
    integers = symbols.astype(np.int16)
    integers -= _MOST
    here = slice(*np.searchsorted(arrays["escape_at"], (begin, begin + len(integers))))
    integers[arrays["escape_at"][here] - begin] = arrays["escape_value"][here]
    return integers


def _scales(integers: Integers, contexts: bool) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """Logarithms of the mean magnitude: of rows, relative to the layer's, and of columns, as classes."""
    least = 2.0 ** (_LOWEST / _CLASSES_AN_OCTAVE - 2)  # so that a column of zeros has a logarithm
    magnitude = abs(integers.astype(np.float64)) + least
    rows = np.log2(magnitude.mean(axis=1) / magnitude.mean())
    columns = np.log2(magnitude.mean(axis=0))
    if not contexts:
        rows, columns = np.zeros_like(rows), np.full_like(columns, np.log2(magnitude.mean()))
    return _as_logs(rows), (_as_logs(columns) - _LOWEST).astype(np.int8)


def _as_logs(octaves: npt.NDArray[np.float64]) -> npt.NDArray[np.int8]:
    logs: npt.NDArray[np.int8] = np.clip(np.rint(octaves * _CLASSES_AN_OCTAVE), -100, 100).astype(np.int8)
    return logs


def _classes(rows: npt.NDArray[np.int8], columns: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """The class of each integer of a layer, (out x 9 in,)."""
    sums = rows.astype(np.int16)[:, None] + columns.astype(np.int16)[None]
    classes: npt.NDArray[np.uint8] = np.clip(sums, 0, _CLASSES - 1).astype(np.uint8).reshape(-1)
    return classes


def _side_arrays(names: Sequence[str]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Kind and shape of what goes with the integers, in the order in which it is stored."""
    shapes = [convolution_shapes()[name] for name in names]
    coded = shapes[1:]
    columns = sum(inputs for _, inputs, _, _ in coded) * TAPS
    return {
        "first": ("<f2", shapes[0]),
        "biases": ("<f2", (sum(shape[0] for shape in shapes),)),
        "taps": ("<f2", (len(coded), TAPS, TAPS)),
        "steps": ("|i1", (columns,)),
        "rows": ("|i1", (sum(shape[0] for shape in coded),)),
        "columns": ("|i1", (columns,)),
        "shares": ("<u2", (_CLASSES, 2 * _MOST + 1)),
    }


def _read_side(packed: Array, names: Sequence[str]) -> dict[str, Array]:
    kinds = _side_arrays(names)
    size = sum(np.dtype(kind).itemsize * prod(shape) for kind, shape in kinds.values())
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(packed.tobytes(), size + 1)  # never more than there should be
    except zlib.error as error:
        raise rans.Damaged("what goes with the integers cannot be inflated") from error
    if len(data) != size or not inflater.eof:
        raise rans.Damaged(f"what goes with the integers is not {size:,} bytes")
    arrays: dict[str, Array] = {}
    at = 0
    for name, (kind, shape) in kinds.items():
        arrays[name] = np.frombuffer(data, kind, prod(shape), at).reshape(shape)
        at += arrays[name].nbytes
    return arrays


def _check(arrays: Arrays) -> None:
    if arrays.keys() != _ARRAYS.keys():
        raise rans.Damaged(f"its arrays are not {', '.join(_ARRAYS)}")
    for name, kind in _ARRAYS.items():
        if arrays[name].dtype != np.dtype(kind) or arrays[name].ndim != 1:
            raise rans.Damaged(f"{name} is not a row of {kind}")
    if arrays["states"].shape != (LANES,):
        raise rans.Damaged(f"there are not {LANES} states")
    if arrays["escape_at"].shape != arrays["escape_value"].shape:
        raise rans.Damaged("there are not as many escapes as places for them")
    if (arrays["escape_at"][1:] <= arrays["escape_at"][:-1]).any():
        raise rans.Damaged("the places of escapes are not in order")
