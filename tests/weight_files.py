"""Small files of weights in medley's format, the same for one seed: VGG-19's first convolutions, of both methods."""

from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medley_workers.network.codebook import pack
from medley_workers.network.coded import CodedLayer, encode_layers
from medley_workers.network.convolutions import convolution_shapes
from medley_workers.network.loading import Provenance
from medley_workers.network.tensorfile import Array, write_tensors

LAYERS = 3
"""So many that a file of either method has 60 kB or less, and all that it is made of."""


def names(layers: int = LAYERS) -> list[str]:
    """The first convolutions of VGG-19."""
    return list(convolution_shapes())[:layers]


def note(method: str, **changes: Any) -> dict[str, Any]:
    """What a file says of itself."""
    provenance = Provenance.model_validate(
        {"method": method, "layers": LAYERS, "bits": 3, "source": "draw", "source_sha256": "0" * 64, "made_by": "test"}
    )
    return provenance.model_dump(mode="json") | changes


def kmeans_arrays(bits: int = 3, seed: int = 0) -> dict[str, Array]:
    """Tables and indices of the first convolutions, drawn at random."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Array] = {}
    for name in names():
        shape = convolution_shapes()[name]
        arrays[f"{name}.indices"] = pack(rng.integers(0, 2**bits, prod(shape), np.uint8), bits)
        arrays[f"{name}.table"] = rng.normal(0, 0.05, 2**bits).astype(np.float32)
        arrays[f"{name}.bias"] = rng.normal(0, 1, shape[0]).astype(np.float32)
    return arrays


def coded_layers(layers: int = LAYERS, seed: int = 0) -> list[CodedLayer]:
    """All convolutions but the first: rows and columns differ in size, some integers are escaped, columns are zero."""
    rng = np.random.default_rng(seed)
    drawn = []
    for name in names(layers)[1:]:
        out, inputs, _, _ = convolution_shapes()[name]
        width = 9 * inputs
        spread = np.exp2(rng.uniform(-2, 1, (out, 1)) + rng.uniform(-5, 3, width))
        integers = np.rint(rng.laplace(0, spread)).astype(np.int16)
        integers[:, ::7] = 0
        integers[3, 1], integers[5, 2], integers[-1, -1] = 128, -128, -32_767
        steps = rng.integers(-20, 10, width).astype(np.int8)
        drawn.append(CodedLayer(integers, steps, rng.normal(0, 0.3, (9, 9)).astype(np.float16)))
    return drawn


def feedback_arrays(seed: int = 0) -> dict[str, Array]:
    """Coded weights of the first convolutions, drawn at random; the first one and the biases are one half."""
    shapes = [convolution_shapes()[name] for name in names()]
    biases = [torch.full(shape[:1], 0.5) for shape in shapes]
    return encode_layers(torch.full(shapes[0], 0.5), biases, coded_layers(seed=seed))


def write_small_file(path: Path, method: str) -> Path:
    """A sound file of a method."""
    write_tensors(path, kmeans_arrays() if method == "kmeans" else feedback_arrays(), note(method))
    return path
