"""Hundreds of hostile files of weights: each is refused in a sentence, or is a network like any other."""

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import weight_files
from hostile_weights import with_header
from medley_workers.network.convolutions import convolution_shapes
from medley_workers.network.rans import FLOOR, ONE
from medley_workers.network.tensorfile import Array, write_tensors

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the most memory that a process had")

SEED = "5"

SLOWEST_S = 10.0
"""For one file, on a slow machine that does something else as well; they take some milliseconds."""

MARGIN_BYTES = 40_000_000
"""What may be taken beside the network's floats."""

_MEASURE = """
import json, resource, sys, time
from pathlib import Path
from hostile_weights import mutant
from medley.errors import WeightsError
from medley_workers.network.loading import load_weights
from medley_workers.network.convolutions import convolution_shapes

def row(name):
    rows = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(rows[name].split()[0]) * 1024

def look_at(weights):
    assert weights.layers == tuple(convolution_shapes())[: len(weights.layers)], weights.layers
    for name in weights.layers:
        weight, bias = weights.convolution(name)
        shape = convolution_shapes()[name]
        assert (weight.shape, bias.shape) == (shape, shape[:1]), name
        assert weight.isfinite().all() and bias.isfinite().all(), name

def from_here():
    Path("/proc/self/clear_refs").write_text("5")  # the most is counted from here
    return row("VmRSS")
"""

_READ_MUTANTS = (
    _MEASURE
    + """
sound, path, seed, count = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
look_at(load_weights(Path(sys.argv[1])))
refused, slowest, most = [], (0.0, 0), (0, 0)
for number in range(count):
    path.write_bytes(mutant(sound, f"{seed}/{number}"))
    print(number, end=" ", file=sys.stderr, flush=True)  # the last one is to blame for whatever happens
    before, started = from_here(), time.perf_counter()
    try:
        look_at(load_weights(path))
    except WeightsError as error:
        refused.append(str(error))
    slowest = max(slowest, (time.perf_counter() - started, number))
    most = max(most, (row("VmHWM") - before, number))
print(json.dumps({"refused": refused, "slowest": slowest, "most": most}))
"""
)

_READ_IN_LITTLE_MEMORY = (
    _MEASURE
    + """
limit = row("VmSize") + 50_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    bytearray(60_000_000)
except MemoryError:
    print("there is little memory")
try:
    load_weights(Path(sys.argv[1]))
except WeightsError as error:
    print(error)
"""
)

_READ_ONE = (
    _MEASURE
    + """
before = from_here()
weights = load_weights(Path(sys.argv[1]))
print(row("VmHWM") - before)
look_at(weights)
"""
)


def run(script: str, *arguments: str | Path, within_s: float = 100.0) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(weight_files.__file__).parent)}
    command = [sys.executable, "-X", "faulthandler", "-W", "error", "-c", script, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=within_s, check=False)


@pytest.mark.parametrize("count", [150, pytest.param(5_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("method", ["kmeans", "feedback"])
def test_mutants_are_refused_in_a_sentence_or_are_networks(method: str, count: int, tmp_path: Path) -> None:
    sound = weight_files.write_small_file(tmp_path / "sound", method)
    path = tmp_path / "mutant"
    done = run(_READ_MUTANTS, sound, path, SEED, str(count), within_s=60 + count / 5)
    assert done.returncode == 0, f"{method}, seed {SEED}/N, N is the last of: {done.stderr[-3000:]}"
    told: dict[str, Any] = json.loads(done.stdout)
    refused, (slowest, slow), (most, large) = told["refused"], told["slowest"], told["most"]
    print(f"{method}, seed {SEED}: {len(refused)} of {count} refused; slowest {slowest:.3f} s ({slow}),")
    print(f"most memory {most / 1e6:.1f} MB ({large}); {len(set(refused))} different sentences")
    for sentence in refused:
        assert sentence.startswith(str(path))
        assert sentence.endswith(".")
        assert sentence.isprintable()
        assert len(sentence) < 1_000
    assert 0.5 < len(refused) / count < 0.99, "mutations are too fine, or too coarse"
    assert len(set(refused)) > 10, "mutations are too much alike"
    assert slowest < SLOWEST_S
    assert most < MARGIN_BYTES


HEADERS = {
    "a shape": {"x": {"dtype": "F32", "shape": [2**34], "data_offsets": [0, 2**36]}},
    "a shape and no data": {"x": {"dtype": "F32", "shape": [2**34], "data_offsets": [0, 0]}},
    "a shape that overflows": {"x": {"dtype": "U8", "shape": [2**32, 2**32], "data_offsets": [0, 0]}},
    "an axis without end beside one of nothing": {"x": {"dtype": "U8", "shape": [0, 2**62], "data_offsets": [0, 0]}},
}


@pytest.mark.parametrize("promised", HEADERS)
def test_a_header_that_promises_much_allocates_nothing(promised: str, tmp_path: Path) -> None:
    note = {"__metadata__": {"medley": json.dumps(weight_files.note("kmeans"))}}
    (tmp_path / "much").write_bytes(with_header(note | HEADERS[promised]))
    done = run(_READ_IN_LITTLE_MEMORY, tmp_path / "much")
    assert done.returncode == 0, done.stderr[-3000:]
    first, sentence = done.stdout.splitlines()
    assert first == "there is little memory"
    assert sentence.startswith(f"{tmp_path / 'much'} is damaged")


def write_largest_network(path: Path) -> None:
    """All convolutions in a file that has hardly any bytes, as every integer is sure to be zero."""
    shapes = list(convolution_shapes().values())
    outs, ins = (sum(shape[axis] for shape in shapes[1:]) for axis in (0, 1))
    halves = np.zeros(27 * 64 + 64 + outs + 81 * (len(shapes) - 1), np.float16)  # the first one, biases, taps
    steps_rows_columns = np.zeros(9 * ins + outs + 9 * ins, np.int8)
    shares = np.zeros((39, 255), np.uint16)
    shares[:, 127] = ONE
    side = zlib_of(halves, steps_rows_columns, shares)
    arrays: dict[str, Array] = {
        "side": side,
        "states": np.full(4096, FLOOR, np.uint32),
        "words": np.zeros(0, np.uint16),
    }
    escapes: dict[str, Array] = {"escape_at": np.zeros(0, np.uint32), "escape_value": np.zeros(0, np.int16)}
    write_tensors(path, arrays | escapes, weight_files.note("feedback", layers=len(shapes)))


def zlib_of(*arrays: Array) -> Array:
    return np.frombuffer(zlib.compress(b"".join(array.tobytes() for array in arrays)), np.uint8)


def test_the_largest_network_takes_little_more_than_its_floats(tmp_path: Path) -> None:
    write_largest_network(tmp_path / "largest")
    assert (tmp_path / "largest").stat().st_size < 30_000
    done = run(_READ_ONE, tmp_path / "largest")
    assert done.returncode == 0, done.stderr[-3000:]
    floats = 4 * sum(int(np.prod(shape)) + shape[0] for shape in convolution_shapes().values())
    print(f"{int(done.stdout) / 1e6:.0f} MB for {floats / 1e6:.0f} MB of floats")
    assert floats < int(done.stdout) < floats + MARGIN_BYTES
