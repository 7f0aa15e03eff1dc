"""Make a file of weights: from a source, by a method, of a size or an error that is asked for."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from medley.errors import UsageError
from medley.layers import CONTENT_LAYERS, LAYERS, STYLE_LAYERS, convolutions
from medley.records.base import Digest
from medley.settings import Settings
from medley.telling import Told
from medley_workers.compressing.feedback import CALIBRATED, FINEST, Calibration, Grids, Part, of_bytes, of_error
from medley_workers.compressing.kmeans import cluster_layers, squared_error
from medley_workers.compressing.sources import Source, read_source
from medley_workers.network.codebook import pack
from medley_workers.network.convolutions import Convolutions, NetworkWeights
from medley_workers.network.loading import Provenance
from medley_workers.network.tensorfile import Array, write_tensors

_EXCESS = "which was within 0.1 % of the exact squared error wherever both were had"
"""At 3 to 8 bits, on the layers for which there was memory: see ``kmeans``."""

Found = tuple[Mapping[str, Array], float, dict[str, Any], tuple[str, ...]]
"""The arrays of a file, its bits a weight, how they were made, and what there is to say of it."""


@dataclass(frozen=True)
class Asked:
    """What a file is to be: exactly one of ``bits``, ``target_bytes`` and ``target_error`` is given.

    With the method kmeans it is ``bits``; with feedback, ``bits`` a weight are the most that the file may have.
    """

    source: str
    """As ``sources.read_source`` takes it."""
    out: Path
    method: Literal["kmeans", "feedback"]
    bits: int | None = None
    """1 to 8."""
    target_bytes: int | None = None
    """The most that the file may have."""
    target_error: float | None = None
    """The largest relative error of a Gram matrix on pictures that were held back."""
    without: frozenset[Part] = frozenset()
    all_layers: bool = False
    """Whether the file has all 16 convolutions, or the 13 that the default layers need."""
    memory_bytes: int = 1_000_000_000
    """What kmeans1d may take."""
    pictures: tuple[Path, ...] = ()
    """To calibrate on, besides dead leaves."""


@dataclass(frozen=True)
class Made:
    """What was made; ``bits`` is a weight's share of the whole file."""

    path: Path
    bytes: int
    sha256: Digest
    layers: int
    bits: float
    seconds: float
    notes: tuple[str, ...]


def compress(asked: Asked, settings: Settings, told: Told, calibration: Calibration | None = None) -> Made:
    """Make a file. It appears when it is whole.

    Args:
        asked: what it is to be
        settings: where the float32 originals are, and the limits of pictures
        told: hears of progress
        calibration: what the pictures tell, if it is known already

    Raises:
        UsageError: it cannot be had, or cannot be written there.
        WeightsError: the source is not the weights of VGG-19.
        ImageError: a picture to calibrate on cannot be read.
    """
    started = time.monotonic()
    source = read_source(asked.source, settings)
    weights = needed(source, asked.all_layers)
    if asked.method == "kmeans":
        arrays, bits, how, notes = _kmeans(asked, weights, told)
    else:
        if calibration is None and set(CALIBRATED) - asked.without:
            calibration = Calibration.measure(weights, asked.pictures, settings, told)
        arrays, bits, how, notes = _feedback(asked, Grids(weights, calibration, asked.without, told), weights, told)
    provenance = Provenance(
        method=asked.method,
        layers=len(weights.layers),
        bits=bits,
        source=source.name,
        source_sha256=source.sha256,
        made_by=f"medley {version('medley-farm')}",
        how=how,
    )
    data = write_tensors(asked.out, arrays, provenance.model_dump(mode="json"))
    digest = hashlib.sha256(data).hexdigest()
    share = 8 * len(data) / _count(weights)
    return Made(asked.out, len(data), digest, len(weights.layers), share, time.monotonic() - started, notes)


def needed(source: Source, all_layers: bool) -> NetworkWeights:
    """The convolutions of a source that a file has: all 16, or those of the default layers.

    Raises:
        UsageError: the source lacks one.
    """
    names = convolutions(LAYERS[-1]) if all_layers else convolutions(*CONTENT_LAYERS, *STYLE_LAYERS)
    if missing := [name for name in names if name not in source.layers]:
        raise UsageError(f"{source.name} has no {', '.join(missing)}; leave out --all-layers, or name another source.")
    return Convolutions({name: source.convolution(name) for name in names})


def _count(weights: NetworkWeights) -> int:
    """How many weights there are, without biases."""
    return sum(weights.convolution(name)[0].numel() for name in weights.layers)


def _kmeans(asked: Asked, weights: NetworkWeights, told: Told) -> Found:
    if asked.bits is None:
        raise UsageError("The method kmeans is asked for a number of bits, and for nothing else.")
    values = {name: weights.convolution(name)[0].numpy() for name in weights.layers}
    found = cluster_layers(values, asked.bits, asked.memory_bytes, told)
    arrays: dict[str, Array] = {}
    for name in weights.layers:
        arrays[f"{name}.indices"] = pack(found[name].indices, asked.bits)
        arrays[f"{name}.table"] = found[name].table
        arrays[f"{name}.bias"] = weights.convolution(name)[1].numpy()
    sampled = {name: clusters.sampled for name, clusters in found.items() if clusters.sampled > 1}
    errors = {name: squared_error(values[name], clusters) for name, clusters in found.items()}
    notes = [f"Exact optimum: {len(found) - len(sampled)} of {len(found)} convolutions."]
    if sampled:
        notes.append(f"{', '.join(sampled)}: by a sample, refined on all weights, {_EXCESS}. More --memory is exact.")
    return arrays, float(asked.bits), {"squared_error": errors, "sampled": sampled}, tuple(notes)


def _feedback(asked: Asked, grids: Grids, weights: NetworkWeights, told: Told) -> Found:
    if asked.target_error is not None:
        candidate = of_error(grids, asked.target_error, told)
    else:
        candidate = of_bytes(grids, asked.target_bytes or _count(weights) * (asked.bits or 8) // 8, told)
    worst = grids.worst_gram(candidate)
    how = {
        "bits": asked.bits,
        "target_bytes": asked.target_bytes,
        "target_error": asked.target_error,
        "without": sorted(asked.without),
        "pictures": len(asked.pictures),
        "coarseness": candidate.coarseness,
        "worst_gram_error_held_back": worst,
    }
    notes = [] if worst is None else [f"Largest relative error of a Gram on pictures held back: {worst:.3f}."]
    if candidate.coarseness == FINEST and asked.target_error is None:
        notes.append("It is smaller than asked for: a finer grid would gain nothing.")
    known = {name: value for name, value in how.items() if value not in (None, [])}
    return candidate.arrays, 8 * candidate.bytes / _count(weights), known, tuple(notes)
