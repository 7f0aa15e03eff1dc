"""The ancestor's way to make weights small: a layer's values in 2^bits clusters, each a table's entry.

kmeans1d finds the best clusters there are, and takes 16 bytes of memory for each value and cluster. Where that is too
much it is given a sample, and what it finds is refined on all values. Every n-th value would be a bad sample: at 8
bits many clusters are in the tails, where few values are (a sample of 1/8 costs 15 % of squared error on block2_conv2,
and this one 0.01 %). So values are taken as densely as clusters will lie, by the cube root of the values' own density
(Panter and Dite 1951), and as one sample stands for many values there, distances are stretched by the square root of
how many: a squared distance then weighs as much as those values' errors together.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from medley.errors import UsageError
from medley.telling import Told

Values = NDArray[np.float32]
_Doubles = NDArray[np.float64]

_FEW = 256
"""So few different values (those of an 8-bit file) are clustered exactly, by counts, in no time."""

_MOST_CELLS = 2**24
"""A sample has at most so many points times clusters: 270 MB and three seconds; more gains nothing at 8 bits."""

_LEAST_POINTS = 2**14
"""A sample has at least so many points; with a quarter as many, 256 clusters may be 0.2 % worse than the best."""

_ROUNDS = 10_000
"""A round of Lloyd's takes 0.1 ms; VGG's layers come to rest in 10 to 250."""


@dataclass(frozen=True)
class Clusters:
    """Values as indices into a table."""

    indices: NDArray[np.uint8]
    """Flat, one for each value."""
    table: Values
    """(2^bits,), ascending; where there are fewer different values, the last one is repeated."""
    sampled: int
    """1 where these are the best clusters there are; else how many values stood behind one that kmeans1d saw."""


def cluster(values: Values, bits: int, memory_bytes: int) -> Clusters:
    """The clusters with the least squared error, or nearly.

    Args:
        values: finite, of any shape, at least one
        bits: 1 to 8
        memory_bytes: what kmeans1d may take

    Raises:
        UsageError: kmeans1d is not installed, or so little memory does not do.
    """
    k = 2**bits
    ordered = np.sort(values, axis=None).astype(np.float64)
    centres, sampled = _centres(ordered, k, memory_bytes)
    table = _refined(ordered, centres).astype(np.float32)
    return Clusters(_nearest(values.reshape(-1), table), np.pad(table, (0, k - table.size), mode="edge"), sampled)


def squared_error(values: Values, clusters: Clusters) -> float:
    """The sum of squared differences between values and their table's entries."""
    differences = values.reshape(-1).astype(np.float64) - clusters.table[clusters.indices]
    return float(np.square(differences).sum())  # a product with itself would depend on threads


def cluster_layers(weights: Mapping[str, Values], bits: int, memory_bytes: int, told: Told) -> dict[str, Clusters]:
    """:func:`cluster` of each layer, several at a time, as cores and memory allow; the result does not depend on it.

    Args:
        weights: by layer
        bits: 1 to 8
        memory_bytes: what all kmeans1d together may take
        told: is told how many of the weights are done

    Raises:
        UsageError: kmeans1d is not installed, or so little memory does not do.
    """
    k = 2**bits
    largest_first = sorted(weights, key=lambda name: weights[name].size, reverse=True)
    needs = {name: _bytes(_points(weights[name].size, k, memory_bytes), k) for name in largest_first}
    total = sum(values.size for values in weights.values())
    told("clustering", 0, total)
    found: dict[str, Clusters] = {}
    for name, clusters in _side_by_side(lambda name: cluster(weights[name], bits, memory_bytes), needs, memory_bytes):
        found[name] = clusters
        told("clustering", sum(weights[name].size for name in found), total)
    return {name: found[name] for name in weights}


def _side_by_side(
    work: Callable[[str], Clusters], needs: Mapping[str, int], memory_bytes: int
) -> Iterator[tuple[str, Clusters]]:
    """Each name of ``needs`` with what ``work`` makes of it, as they are done; the first that fits is begun first.

    What is under way needs no more than the memory, and has a core for each.
    """
    waiting, running = list(needs), set[str]()
    ready: SimpleQueue[tuple[str, Clusters | BaseException]] = SimpleQueue()

    def put(name: str) -> None:
        try:
            ready.put((name, work(name)))
        except BaseException as error:  # it is raised where the result is waited for
            ready.put((name, error))

    while waiting or running:
        free = memory_bytes - sum(needs[name] for name in running)
        fitting = next((name for name in waiting if needs[name] <= free), None)
        if fitting and len(running) < len(os.sched_getaffinity(0)):
            waiting.remove(fitting)
            running.add(fitting)
            # A daemon: kmeans1d cannot be interrupted, and Ctrl-C need not wait for it.
            threading.Thread(target=put, args=(fitting,), daemon=True).start()
            continue
        name, result = ready.get()
        running.remove(name)
        if isinstance(result, BaseException):
            raise result
        yield name, result


def _bytes(points: int, k: int) -> int:
    """What kmeans1d takes for so many points: two tables of 8 bytes a cluster, and its lists."""
    return points * (16 * k + 100)


def _points(size: int, k: int, memory_bytes: int) -> int:
    """How many values kmeans1d is given: all of them, where that fits, or a sample."""
    if _bytes(size, k) <= memory_bytes:
        return size
    least = min(size, _LEAST_POINTS)
    if _bytes(least, k) > memory_bytes:
        megabytes = -(-_bytes(least, k) // 1_000_000)
        raise UsageError(f"{k} clusters need at least {megabytes} MB of memory; allow it, or ask for fewer bits.")
    return min(size, _MOST_CELLS // k, memory_bytes // _bytes(1, k))


def _centres(ordered: _Doubles, k: int, memory_bytes: int) -> tuple[_Doubles, int]:
    """Centres to begin with, and how many values stood behind one that was looked at."""
    distinct, counts = np.unique(ordered, return_counts=True)
    if distinct.size <= k:
        return distinct, 1
    if distinct.size <= _FEW:
        return _best_of_few(distinct, counts.astype(np.float64), k), 1
    points = _points(ordered.size, k, memory_bytes)
    if points == ordered.size:
        return _kmeans1d(ordered, k), 1
    return _best_of_sample(ordered, k, points), -(-ordered.size // points)


def _kmeans1d(values: _Doubles, k: int) -> _Doubles:
    try:
        import kmeans1d
    except ImportError as error:
        raise UsageError(
            "Clustering is done by kmeans1d; install it with `pip install 'medley-farm[compress]'`."
        ) from error
    # It takes its values one by one, and a list's are Python's floats already.
    return np.array(kmeans1d.cluster(values.tolist(), k).centroids, dtype=np.float64)


def _best_of_sample(ordered: _Doubles, k: int, points: int) -> _Doubles:
    """The centres of about so many of the values, chosen and stretched as the module's docstring says."""
    near = max(1, ordered.size // k)  # a cluster's worth of values on either side tells how dense they are
    at = np.arange(ordered.size)
    low, high = np.maximum(at - near, 0), np.minimum(at + near, ordered.size - 1)
    gaps = (ordered[high] - ordered[low]) / (high - low)
    rates = _rates(gaps ** (2 / 3), points)  # a value's: density^(1/3) in space, density^(-2/3) among values
    chosen = np.searchsorted(np.cumsum(rates), np.arange(0.5, rates.sum()))
    sample = ordered[chosen]
    stands_for = 1 / rates[chosen]
    steps = np.diff(sample) * np.sqrt((stands_for[1:] + stands_for[:-1]) / 2)
    stretched = np.concatenate([[0.0], np.cumsum(steps)])
    centres: _Doubles = np.interp(_kmeans1d(stretched, k), stretched, sample)
    return centres


def _rates(shares: _Doubles, points: int) -> _Doubles:
    """How likely each value is taken: in proportion to its share, at most 1, and ``points`` in all."""
    rates = shares
    for _ in range(30):  # each round spreads what the last one cut off at 1
        rates = np.minimum(1.0, rates * (points / rates.sum()))
    return rates


def _best_of_few(distinct: _Doubles, counts: _Doubles, k: int) -> _Doubles:
    """The best centres of values that occur so often: dynamic programming over where each cluster begins."""
    zero = np.zeros(1)
    offsets = distinct - distinct.mean()  # small numbers lose less in sums of squares
    number, sums, squares = (
        np.concatenate([zero, np.cumsum(counts * power)]) for power in (np.ones_like(offsets), offsets, offsets**2)
    )
    n = np.maximum(number - number[:, None], 1)
    costs = (squares - squares[:, None]) - (sums - sums[:, None]) ** 2 / n  # of a cluster from row to column
    costs[np.tril_indices_from(costs)] = np.inf
    least, begins = costs[0], []
    for _ in range(k - 1):
        choices = least[:, None] + costs
        begins.append(choices.argmin(axis=0))
        least = choices.min(axis=0)
    edges = [distinct.size]
    for begin in reversed(begins):
        edges.append(int(begin[edges[-1]]))
    starts = np.array([0, *reversed(edges[1:])])
    means: _Doubles = np.add.reduceat(distinct * counts, starts) / np.add.reduceat(counts, starts)
    return means


def _refined(ordered: _Doubles, centres: _Doubles) -> _Doubles:
    """Lloyd's iteration on all values: each goes to its nearest centre, each centre to its values' mean."""
    sums = np.concatenate([np.zeros(1), np.cumsum(ordered)])
    edges = _edges(ordered, centres)
    for _ in range(_ROUNDS):
        means = np.diff(sums[edges]) / np.diff(edges)
        # Sums of very different values are not exact; a mean lies among its own.
        centres = np.clip(means, ordered[edges[:-1]], ordered[edges[1:] - 1])
        before, edges = edges, _edges(ordered, centres)
        if np.array_equal(before, edges):
            break
    return centres


def _edges(ordered: _Doubles, centres: _Doubles) -> NDArray[np.int64]:
    """Where the values of each centre begin, and the end; centres without any are left out."""
    inner = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
    return np.unique(np.concatenate([[0], inner, [ordered.size]]))


def _nearest(values: Values, table: Values) -> NDArray[np.uint8]:
    wide = table.astype(np.float64)
    return np.searchsorted((wide[1:] + wide[:-1]) / 2, values.astype(np.float64)).astype(np.uint8)
