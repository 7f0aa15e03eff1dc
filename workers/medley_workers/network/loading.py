"""The network's weights from files, whoever made them.

medley's own are safetensors. The metadata has one key, ``medley``: a JSON object, :class:`Provenance`, which says how
the weights are stored (``method``), how many convolutions there are (``layers``, the first ones of VGG-19, in order),
and where they come from. The arrays are those of ``codebook`` (kmeans) or ``coded`` (feedback).
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from medley.errors import WeightsError
from medley.records.base import Digest, Record, first_problem
from medley.telling import shown
from medley.weight_files import is_tensor_file
from medley_workers.network.codebook import decode_codebooks
from medley_workers.network.coded import decode_layers
from medley_workers.network.convolutions import Convolutions, NetworkWeights, convolution_shapes
from medley_workers.network.pastiches import load_pastiches
from medley_workers.network.rans import Damaged
from medley_workers.network.tensorfile import Array, opened, read_tensors

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
        return decode_codebooks(arrays, provenance.names, provenance.bits)
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
