"""Frames of a walk a second, at 512 x 512 with neuralart's defaults, against neuralart itself, in one process.

Prints a row for ``RESULTS.md``. The two take turns, and the medians of their turns count.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from neuralart import neuralart

from medley.records.networks import WalkOptions
from medley_workers.numbers.tensors import Pixels
from medley_workers.random_networks.bezier import walk
from medley_workers.random_networks.cppn import RandomNetwork


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--frames", type=int, default=16, help="frames of a turn")
    parser.add_argument("--size", type=int, default=512, help="side of a frame, px")
    args = parser.parse_args()
    options = WalkOptions(xres=args.size, frames=args.frames)
    z, network = walk(options), RandomNetwork(options, options.z_dims)

    def theirs() -> Pixels:
        return np.stack([neuralart.render(seed=options.seed, xres=options.xres, z=list(position)) for position in z])

    their_fps, our_fps, most = compare(theirs, lambda: network.render(z), args.turns)
    print("| size | threads | neuralart, fps | medley, fps | times | greatest difference, of 255 | processor |")
    print("|---|---|---|---|---|---|---|")
    columns = [f"{args.size}", f"{torch.get_num_threads()}", f"{their_fps:.1f}", f"{our_fps:.1f}"]
    print("|", " | ".join([*columns, f"{our_fps / their_fps:.1f}", f"{most}", processor()]), "|")


def compare(theirs: Callable[[], Pixels], ours: Callable[[], Pixels], turns: int) -> tuple[float, float, int]:
    """Frames a second of each, and the greatest difference of a pixel; the first turn of each is not counted."""
    their_frames, our_frames = theirs(), ours()
    most = int(np.abs(their_frames.astype(int) - our_frames).max())
    seconds = [(timed(theirs), timed(ours)) for _ in range(turns)]
    their_s, our_s = (statistics.median(column) for column in zip(*seconds, strict=True))
    return len(their_frames) / their_s, len(our_frames) / our_s, most


def timed(work: Callable[[], Pixels]) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def processor() -> str:
    """Its name, as Linux has it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


if __name__ == "__main__":
    main()
