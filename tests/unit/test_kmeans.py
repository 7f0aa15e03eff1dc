"""Clusters: as good as a naive reference's, nearly so where memory is short, and always the nearest entry."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from medley.errors import UsageError
from medley.settings import Settings
from medley_workers.compressing.kmeans import Clusters, Values, cluster, cluster_layers, squared_error
from medley_workers.compressing.sources import read_source

PLENTY = 10**9
SCANT = 4_200 * 2**14
"""Bytes with which no more than a small sample of a large layer is clustered at 8 bits."""


def draw(size: int, seed: int = 0) -> Values:
    """Values like a layer's: most near zero, few far away."""
    return (np.random.default_rng(seed).standard_t(4, size) / 100).astype(np.float32)


def least_error(values: Values, k: int) -> float:
    """The squared error of the best clusters: every way to cut the sorted values is looked at."""
    ordered = np.sort(values).astype(np.float64)
    n = ordered.size
    costs = np.full((n, n + 1), np.inf)
    for begin in range(n):
        part = ordered[begin:]
        count = np.arange(1, part.size + 1)
        costs[begin, begin + 1 :] = np.cumsum(part**2) - np.cumsum(part) ** 2 / count
    least = costs[0]
    for _ in range(min(k, n) - 1):
        least = np.minimum(least, np.min(least[:n, None] + costs, axis=0))
    return max(0.0, float(least[n]))


def check(values: Values, bits: int, clusters: Clusters) -> None:
    """What holds for all clusters."""
    table = clusters.table
    assert clusters.indices.shape == (values.size,)
    assert clusters.indices.dtype == np.uint8
    assert table.shape == (2**bits,)
    assert table.dtype == np.float32
    assert (np.diff(table) >= 0).all()
    distances = np.abs(values.reshape(-1, 1).astype(np.float64) - table)
    chosen = np.take_along_axis(distances, clusters.indices[:, None].astype(np.int64), axis=1)[:, 0]
    assert (chosen <= distances.min(axis=1) * (1 + 1e-12)).all()


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("size", [200, 400])
def test_no_clusters_are_better(bits: int, size: int) -> None:
    values = draw(size)
    clusters = cluster(values, bits, PLENTY)
    check(values, bits, clusters)
    assert clusters.sampled == 1
    # Entries are rounded to float32, which costs some of the little that is left at 8 bits.
    assert squared_error(values, clusters) == pytest.approx(least_error(values, 2**bits), rel=1e-5, abs=1e-14)


def test_entries_are_the_means_of_their_values() -> None:
    values = draw(1000)
    clusters = cluster(values, 3, PLENTY)
    for index, entry in enumerate(clusters.table):
        assert entry == np.float32(values[clusters.indices == index].astype(np.float64).mean())


@pytest.mark.parametrize("bits", [1, 5, 8])
def test_a_tensor_of_few_values_is_kept_as_it_is(bits: int) -> None:
    for few in ([0.25], [-1.0, 0.5]):
        values = np.array(few, np.float32)[np.arange(60).reshape(5, 4, 3) % len(few)]
        clusters = cluster(values, bits, PLENTY)
        check(values, bits, clusters)
        np.testing.assert_array_equal(clusters.table[clusters.indices], values.reshape(-1))
        assert clusters.table[-1] == max(few)


def test_one_value_is_its_own_table() -> None:
    clusters = cluster(np.array([3.5], np.float32), 8, PLENTY)
    assert clusters.indices.tolist() == [0]
    assert (clusters.table == 3.5).all()


@settings(max_examples=200, deadline=None)
@given(
    arrays(np.float32, st.integers(1, 400), elements=st.floats(-(2.0**60), 2.0**60, width=32)),
    st.integers(1, 8),
)
def test_no_entry_is_nearer_than_the_one_that_a_value_has(values: Values, bits: int) -> None:
    check(values, bits, cluster(values, bits, PLENTY))


@pytest.mark.parametrize("bits", [5, 8])
def test_with_little_memory_clusters_of_a_real_layer_are_nearly_the_best(bits: int, float_weights: Path) -> None:
    layer = read_source(str(float_weights), Settings()).convolution("block2_conv2")[0].numpy()
    best = cluster(layer, bits, PLENTY)
    assert best.sampled == 1
    sampled = cluster(layer, bits, SCANT)
    assert sampled.sampled > 1
    assert 1 - 1e-6 < squared_error(layer, sampled) / squared_error(layer, best) < 1.001


@pytest.mark.parametrize("bits", [2, 7])
def test_values_of_an_8_bit_file_have_the_best_clusters_with_little_memory_too(bits: int) -> None:
    table = np.sort(draw(256))
    values = table[np.random.default_rng(1).integers(0, 256, 30_000)]
    clusters = cluster(values, bits, 3_000_000)
    assert clusters.sampled == 1
    kmeans1d = pytest.importorskip("kmeans1d")
    exact = kmeans1d.cluster(values.tolist(), 2**bits)
    error = np.square(values - np.array(exact.centroids)[exact.clusters]).sum()
    assert squared_error(values, clusters) == pytest.approx(error, rel=1e-5)


def test_a_sample_of_values_most_of_which_are_equal_has_the_others_too() -> None:
    values = np.concatenate([np.zeros(90_000, np.float32), draw(10_000)])
    clusters = cluster(values, 8, SCANT)
    check(values, 8, clusters)
    assert clusters.sampled > 1
    # Four times as many clusters have about a sixteenth of the error.
    assert squared_error(values, clusters) < squared_error(values, cluster(values, 6, PLENTY)) / 12


def test_too_little_memory_is_told_with_how_much_would_do() -> None:
    with pytest.raises(UsageError, match="256 clusters need at least 69 MB"):
        cluster(draw(100_000), 8, 10_000_000)


def test_layers_have_the_same_clusters_however_many_cores_there_are() -> None:
    weights = {f"layer{n}": draw(20_000 * n, seed=n).reshape(-1, 10) for n in range(1, 4)}
    told: list[tuple[str, int, int]] = []
    found = cluster_layers(weights, 4, 10_000_000, lambda *args: told.append(args))
    assert list(found) == list(weights)
    for name, values in weights.items():
        alone = cluster(values, 4, 10_000_000)
        np.testing.assert_array_equal(found[name].indices, alone.indices)
        np.testing.assert_array_equal(found[name].table, alone.table)
    done = [count for _, count, _ in told]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 120_000)
    assert {total for _, _, total in told} == {120_000}


def test_what_goes_wrong_with_a_layer_is_raised() -> None:
    weights: dict[str, NDArray[np.float32]] = {"one": draw(100), "none": np.zeros(0, np.float32)}
    with pytest.raises(ValueError, match=r"zero-size|empty"):
        cluster_layers(weights, 4, PLENTY, lambda *_: None)


def test_ctrl_c_does_not_wait_for_the_clusters() -> None:
    """The layers here would take a minute."""
    program = """
import numpy as np
from medley_workers.compressing.kmeans import cluster_layers
weights = {str(n): np.random.default_rng(n).normal(size=500_000).astype(np.float32) for n in range(4)}
cluster_layers(weights, 8, 20 * 10**9, lambda *_: print("begun", flush=True))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, errors = process.communicate(timeout=60)
        assert time.monotonic() - began < 5
        assert errors.endswith(b"KeyboardInterrupt\n")
    finally:
        process.kill()
        process.wait()
