"""The weights that come with medley: which they are, how true they are, and what loading them takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medley.records.weights import DEFAULT_CONVOLUTIONS, DEFAULT_WEIGHTS
from medley.settings import Settings
from medley_workers.compressing.likeness import relative_errors, view
from medley_workers.compressing.sources import FLOAT_WEIGHTS, read_source
from medley_workers.network.convolutions import convolution_shapes
from medley_workers.network.loading import LICENCE, describe, load_weights
from medley_workers.network.vgg import Network
from medley_workers.network.weights import find_weights

FLOATS_MB = 51.8
"""The network itself."""

PROCESS = """
import json, re, sys
from pathlib import Path
from medley.records.weights import DEFAULT_WEIGHTS
from medley_workers.network.loading import load_weights
from medley_workers.network.vgg import Network
from medley_workers.network.weights import find_weights

def resident_mb(what):
    return int(re.search(what + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1e3

before = resident_mb("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
network = Network(load_weights(find_weights(DEFAULT_WEIGHTS)), "cpu")
print(json.dumps({"grew": resident_mb("VmHWM") - before}))
"""


def test_they_say_where_they_come_from() -> None:
    info = describe(find_weights(DEFAULT_WEIGHTS))
    assert info.sha256 == DEFAULT_WEIGHTS.sha256
    assert info.bytes <= 4_500_000
    assert tuple(name for name, _ in info.layers) == DEFAULT_CONVOLUTIONS
    assert (info.provenance.source, info.provenance.source_sha256) == (FLOAT_WEIGHTS.name, FLOAT_WEIGHTS.sha256)
    assert info.provenance.licence == LICENCE


def test_they_see_what_the_float_weights_see(float_weights: Path) -> None:
    weights = load_weights(find_weights(DEFAULT_WEIGHTS))
    image = torch.nn.functional.interpolate(
        torch.randn((1, 3, 12, 12), generator=torch.Generator().manual_seed(0)) * 60, size=(96, 96), mode="bicubic"
    )
    exact = Network(read_source(str(float_weights), Settings()), "cpu")
    errors = relative_errors(view(Network(weights, "cpu"), image), view(exact, image))
    assert max(errors[:-1]) < 0.06, errors  # a blur shows the deep layers little of what they were calibrated on
    assert {name: weights.convolution(name)[0].shape for name in weights.layers} == {
        name: shape for name, shape in convolution_shapes().items() if name in weights.layers
    }


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_loading_takes_little_more_than_the_network() -> None:
    ended = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, check=True)
    assert FLOATS_MB * 0.9 < json.loads(ended.stdout)["grew"] < FLOATS_MB + 40
