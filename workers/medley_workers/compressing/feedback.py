"""The method ``feedback``: all convolutions on grids, fine enough for a size or an error that is asked for."""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

from medley.errors import UsageError
from medley.settings import Settings
from medley.telling import Told
from medley_workers.compressing.allotment import allot
from medley_workers.compressing.grid import Rounding
from medley_workers.compressing.likeness import Judge
from medley_workers.compressing.moments import Moments, second_moments
from medley_workers.compressing.pictures import pictures
from medley_workers.network.coded import CodedLayer, decode_layers, encode_layers
from medley_workers.network.convolutions import Convolutions, NetworkWeights
from medley_workers.network.tensorfile import Arrays
from medley_workers.network.vgg import Network
from medley_workers.threads import one_thread

Part = Literal["feedback", "column-steps", "transform", "allotment", "contexts"]
"""What can be left out: making up for errors, a step for each column by how much it matters, the transform over the
taps, coarser grids for layers that do less harm, and coding by the magnitudes of rows and columns."""

PARTS: tuple[Part, ...] = get_args(Part)
CALIBRATED: tuple[Part, ...] = ("feedback", "column-steps", "allotment")
"""Those that look at pictures."""

FINEST, COARSEST = 2.0**-5, 2.0**2
"""Steps, in deviations of the weights: below, half precision of the rest limits what is gained; above, all is zero."""

_SEARCH_STEPS = 12
"""Halvings of those seven octaves: what is found is within 0.2 % of the coarseness, or 0.1 % of the bytes."""

_HEADER_BYTES = 4_000
"""More than a file's header takes."""


@dataclass(frozen=True)
class Candidate:
    """The network on grids of one coarseness."""

    coarseness: float
    arrays: Arrays
    """As :func:`medley_workers.network.coded.encode_layers` makes them."""

    @property
    def bytes(self) -> int:
        """Of a file with these arrays, at most."""
        return _HEADER_BYTES + sum(array.nbytes for array in self.arrays.values())


@dataclass(frozen=True)
class Calibration:
    """What pictures tell: the moments of each convolution's inputs, and a judge with pictures that were held back."""

    moments: Moments
    judge: Judge

    @classmethod
    def measure(cls, weights: NetworkWeights, paths: Sequence[Path], settings: Settings, told: Told) -> Self:
        """Look at dead leaves and at these pictures.

        Raises:
            ImageError: a picture cannot be read.
        """
        told("making pictures", 0, 0)
        seen, held_back = pictures(paths, settings)
        network = Network(weights, "cpu")
        return cls(second_moments(network, weights.layers[1:], seen, told), Judge(network, held_back))


class Grids:
    """The network, prepared to be rounded more or less finely."""

    def __init__(
        self, weights: NetworkWeights, calibration: Calibration | None, without: frozenset[Part], told: Told
    ) -> None:
        """Prepare each layer, and allot; with no calibration, all of :data:`CALIBRATED` is left out."""
        self._weights, self._contexts = weights, "contexts" not in without
        self.judge = calibration.judge if calibration else None
        with one_thread():
            self._roundings = {
                name: Rounding(
                    weights.convolution(name)[0], calibration.moments[name] if calibration else None,
                    transform="transform" not in without, feedback="feedback" not in without,
                    column_steps="column-steps" not in without,
                )
                for name in weights.layers[1:]
            }  # fmt: skip
        self._shares = dict.fromkeys(self._roundings, 1.0)
        if self.judge and "allotment" not in without:
            self._shares = allot(weights, self._roundings, self.judge, told)

    def at(self, coarseness: float) -> Candidate:
        """The network on grids of this coarseness."""
        with one_thread(), ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
            layers = list(threads.map(lambda name: self._layer(name, coarseness), self._roundings))
        convolutions = [self._weights.convolution(name) for name in self._weights.layers]
        biases = [bias for _, bias in convolutions]
        return Candidate(coarseness, encode_layers(convolutions[0][0], biases, layers, contexts=self._contexts))

    def worst_gram(self, candidate: Candidate) -> float | None:
        """The largest relative error of a Gram on the pictures that were held back, if there are any."""
        if self.judge is None:
            return None
        return self.judge.worst_gram(Network(self.decoded(candidate), "cpu"))

    def decoded(self, candidate: Candidate) -> NetworkWeights:
        """The weights of a candidate."""
        return Convolutions(decode_layers(candidate.arrays, self._weights.layers))

    def _layer(self, name: str, coarseness: float) -> CodedLayer:
        return self._roundings[name].at(coarseness * self._shares[name])


def of_bytes(grids: Grids, most_bytes: int, told: Told) -> Candidate:
    """The finest that has at most so many bytes.

    Raises:
        UsageError: none is so small.
    """
    if (coarsest := grids.at(COARSEST)).bytes > most_bytes:
        raise UsageError(f"The weights cannot be had in {most_bytes:,} bytes: ask for {coarsest.bytes:,} or more.")
    if (finest := grids.at(FINEST)).bytes <= most_bytes:
        return finest
    return _search(grids, coarsest, lambda candidate: candidate.bytes <= most_bytes, told, is_finer_better=True)


def of_error(grids: Grids, most_error: float, told: Told) -> Candidate:
    """The coarsest whose largest relative error of a Gram, on pictures that were held back, is at most this.

    Raises:
        UsageError: even the finest is worse, or there are no pictures.
    """
    judge = grids.judge
    if judge is None:
        raise UsageError(f"An error can be asked for only with one of {', '.join(CALIBRATED)}, which look at pictures.")

    def error(candidate: Candidate) -> float:
        return judge.worst_gram(Network(grids.decoded(candidate), "cpu"))

    finest = grids.at(FINEST)
    if (least := error(finest)) > most_error:
        least = math.ceil(least * 1e4) / 1e4
        raise UsageError(f"No grid is fine enough for an error of {most_error:g}: ask for {least:g} or more.")
    return _search(grids, finest, lambda candidate: error(candidate) <= most_error, told, is_finer_better=False)


def _search(
    grids: Grids, best: Candidate, fits: Callable[[Candidate], bool], told: Told, *, is_finer_better: bool
) -> Candidate:
    """The finest that fits, if that is better, or the coarsest: halves the range, in octaves; ``best`` fits already."""
    low, high = math.log2(FINEST), math.log2(COARSEST)
    for done in range(_SEARCH_STEPS):
        told("looking for the coarseness", done, _SEARCH_STEPS)
        middle = (low + high) / 2
        candidate = grids.at(2**middle)
        is_fit = fits(candidate)
        if is_fit:
            best = candidate
        if is_fit == is_finer_better:
            high = middle
        else:
            low = middle
    return best
