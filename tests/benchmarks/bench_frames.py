"""How much longer a picture takes if a frame is kept every ten steps; prints a line for RESULTS.md.

One job is painted again and again, in turn with frames and without, into a folder. Compare the ratio only.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import torch  # before the tests' own modules, which have OpenMP use one thread

from medley.layers import CONTENT_LAYERS, STYLE_LAYERS

sys.path.append(str(Path(__file__).parents[1]))
from studio import Easel

FRAME_EVERY = 10


def main() -> None:
    """Measure, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="longest side, px")
    parser.add_argument("--num-steps", type=int, default=60)
    parser.add_argument("--runs", type=int, default=5, help="of each, after one that prepares")
    args = parser.parse_args()
    print(f"{torch.get_num_threads()} threads")
    asked = {"size": args.size, "num_steps": args.num_steps}
    layers = {"content_layers": CONTENT_LAYERS, "style_layers": STYLE_LAYERS}
    with tempfile.TemporaryDirectory() as folder:
        easels = [Easel(Path(folder, str(every)), **asked, **layers, frame_every=every) for every in (0, FRAME_EVERY)]
        runs = [[easel.undisturbed().seconds.paint for easel in easels] for _ in range(1 + args.runs)][1:]
    without_s, with_s = (statistics.mean(seconds) for seconds in zip(*runs, strict=True))
    ratios = [kept / plain for plain, kept in runs]
    print(
        f"{args.num_steps} steps at {args.size} px: {without_s:.2f} s, a frame every {FRAME_EVERY} {with_s:.2f} s, "
        f"{with_s / without_s - 1:+.1%} ({min(ratios) - 1:+.1%} to {max(ratios) - 1:+.1%})"
    )


if __name__ == "__main__":
    main()
