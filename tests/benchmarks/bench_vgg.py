"""The series of weights that README and RESULTS.md show: k-means and ours by bits, the curve, what each part gives.

``bench_vgg.py make DIR`` makes them from the float32 originals, with one calibration for all; this takes half an hour.
``bench_vgg.py judge DIR --content C... --style S...`` prints the tables, and draws the curve as DIR/curve.png. Pictures
to judge by are given, as none that files are calibrated on may be among them.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure

from medley.layers import STYLE_LAYERS
from medley.settings import Settings
from medley_producer.samples.dataset import calibration_pictures
from medley_workers.compressing import compare, compress
from medley_workers.compressing.compare import Row
from medley_workers.compressing.compress import Asked
from medley_workers.compressing.feedback import PARTS, Calibration
from medley_workers.compressing.sources import read_source

CURVE_MB = (8.0, 6.5, 5.5, 5.0, 4.4, 4.0, 3.5, 3.15, 2.8, 2.5, 2.0, 1.5)

PARTS_AT_MB = 3.5
"""The size at which parts are left out."""


def told(what: str, done: int, total: int) -> None:
    """Progress, for whoever waits."""
    print(f"\r{what} {done}/{total}   ", end="", file=sys.stderr, flush=True)


def make(folder: Path) -> None:
    """Make the files that are not there yet."""
    settings = Settings.load()
    folder.mkdir(parents=True, exist_ok=True)
    weights = compress.needed(read_source("float", settings), all_layers=False)
    with tempfile.TemporaryDirectory() as pictures:
        paths = calibration_pictures(Path(pictures), told)
        calibration = Calibration.measure(weights, paths, settings, told)
        for asked in series(folder):
            if not asked.out.exists():
                started = time.monotonic()
                made = compress.compress(replace(asked, pictures=tuple(paths)), settings, told, calibration)
                print(f"\r{made.path.name}: {made.bytes:,} bytes, {time.monotonic() - started:.0f} s", flush=True)


def series(folder: Path) -> Iterable[Asked]:
    """What there is to make."""
    for megabytes in CURVE_MB:
        out = folder / f"ours-{megabytes:g}MB.safetensors"
        yield Asked("float", out, "feedback", target_bytes=int(megabytes * 1e6))
    for part in PARTS:
        out = folder / f"without-{part}.safetensors"
        yield Asked("float", out, "feedback", target_bytes=int(PARTS_AT_MB * 1e6), without=frozenset([part]))
    for bits in range(8, 0, -1):
        yield Asked("float", folder / f"kmeans-{bits}bit.safetensors", "kmeans", bits=bits)
        yield Asked("float", folder / f"ours-{bits}bit.safetensors", "feedback", bits=bits)


def judge(folder: Path, contents: list[Path], styles: list[Path]) -> None:
    """Print a row for each file, and draw the curve."""
    files = sorted(folder.glob("*.safetensors"), key=lambda path: (path.name.split("-")[0], path.stat().st_size))
    asked = compare.Asked(
        tuple(map(str, files)), "float", tuple(contents), tuple(styles), size=256, num_steps=0, starts=1, grid=None
    )
    compared = compare.compare(asked, Settings.load(), told)
    (folder / "errors.json").write_text(json.dumps(compared.model_dump(), indent=1))
    print("\r| file | MB | Gram error, block1..5, mean | worst | content layer |")
    print("|---|---|---|---|---|")
    for row in compared.files:
        grams = [row.errors[layer] for layer in STYLE_LAYERS]
        (content,) = (spread for layer, spread in row.errors.items() if layer not in STYLE_LAYERS)
        means = " ".join(f"{gram.mean:.3f}".lstrip("0") for gram in grams)
        name = Path(row.file).stem
        print(f"| {name} | {row.bytes / 1e6:.2f} | {means} | {worst(row):.3f} | {content.mean:.3f} |")
    draw(compared.files, folder / "curve.png")


def worst(row: Row) -> float:
    """The largest relative error of a Gram, over pictures and layers."""
    return max(row.errors[layer].most for layer in STYLE_LAYERS)


def draw(rows: Iterable[Row], path: Path) -> None:
    """The worst Gram error over the bytes: plain k-means, and ours."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for name, label, colour in (("kmeans", "k-means, one table a layer", "#b5533c"), ("ours", "medley", "#2b5d8a")):
        points = sorted((row.bytes / 1e6, worst(row)) for row in rows if Path(row.file).name.startswith(name))
        axes.plot(*zip(*points, strict=True), "o-", label=label, color=colour)
    axes.set(
        xscale="log", yscale="log", xlabel="file, MB", ylabel="largest relative error of a Gram matrix",
        title="VGG-19 up to block5_conv1, against its float32 weights (51.8 MB)",
    )  # fmt: skip
    ticks = (1.5, 2, 3, 4, 6, 8, 13)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["make", "judge"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--content", nargs="+", type=Path, default=[])
    parser.add_argument("--style", nargs="+", type=Path, default=[])
    args = parser.parse_args()
    if args.action == "make":
        make(args.folder)
    else:
        judge(args.folder, args.content, args.style)
