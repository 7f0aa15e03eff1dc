"""What a medley takes to make: frames a second, and memory, for a short and a long one.

Prints rows for ``RESULTS.md``. Each is made in a process of its own, from files in a folder, with the default options
but for the time of a scene, which has 100 frames. ``--presets`` compares x264's, by one medley each.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from medley.media import video
from medley.media.images import encode_jpeg, encode_png
from medley.media.scenes import Scene, write_medley
from medley.records.videos import VideoOptions, frame_count
from medley.settings import Settings

SIDE_PX = 512
KEPT = 60
"""Frames that were kept of each job."""

OPTIONS = VideoOptions(seconds_per_style=100 / 30)
PRESETS = ("superfast", "veryfast", "faster", "fast", "medium", "slow")


def main() -> None:
    """Make the pictures, then a process for each row; print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presets", action="store_true")
    parser.add_argument("--make", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        folder, scenes, preset = args.make
        _make(Path(folder), int(scenes), preset)
        return
    rows = [(4, preset) for preset in PRESETS] if args.presets else [(2, video.PRESET), (20, video.PRESET)]
    with tempfile.TemporaryDirectory(prefix="medley-video-") as folder:
        size = _draw(Path(folder), max(scenes for scenes, _ in rows))
        print(f"{_processor()}; {video.ENCODER_THREADS} encoder threads; JPEGs of {size / 1000:.0f} kB on average\n")
        print("| frames | preset | frames/s | processor time | memory at most | file |\n|---|---|---|---|---|---|")
        for scenes, preset in rows:
            command = [sys.executable, __file__, "--make", folder, str(scenes), preset]
            print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="", flush=True)


def _make(folder: Path, scenes: int, preset: str) -> None:
    """One medley; print its row."""
    path = folder / "medley.mp4"
    before_s, started = time.process_time(), time.perf_counter()
    with mock.patch.object(video, "PRESET", preset):
        summary = write_medley(path, _scenes(folder, scenes), OPTIONS, (SIDE_PX, SIDE_PX), Settings())
    wall_s, processor_s = time.perf_counter() - started, time.process_time() - before_s
    assert summary.frames == frame_count(OPTIONS, scenes)
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"| {summary.frames:,} | {preset} | {summary.frames / wall_s:.0f} | {processor_s:.1f} s | {memory_mb:.0f} MB "
        f"| {path.stat().st_size / 1e6:.1f} MB |"
    )


def _scenes(folder: Path, count: int) -> Iterator[Scene]:
    for n in range(count):
        files = sorted((folder / f"{n:03d}").iterdir())
        yield Scene(f"style {n}", f"style {n}", [partial(path.read_bytes) for path in files])


def _draw(folder: Path, scenes: int) -> float:
    """Scenes whose pictures change more and more slowly; returns the mean bytes of a JPEG."""
    sizes = []
    for n in range(scenes):
        (folder / f"{n:03d}").mkdir()
        photo, result = (_picture(seed) for seed in (n % 3, 100 + n))
        for step in range(KEPT):
            frame = Image.blend(photo, result, 1 - 0.9**step)
            path = folder / f"{n:03d}" / f"{step:06d}.jpg"
            sizes.append(path.write_bytes(encode_jpeg(np.asarray(frame))))
        (folder / f"{n:03d}" / "pastiche.png").write_bytes(encode_png(np.asarray(result), {}))
    return sum(sizes) / len(sizes)


def _picture(seed: int) -> Image.Image:
    """Smooth blots with strokes and grain, whose JPEG is about as large as that of a painting."""
    rng = np.random.default_rng(seed)
    size = (SIDE_PX, SIDE_PX)
    blots, strokes = (
        Image.fromarray(rng.integers(0, 256, (SIDE_PX // px, SIDE_PX // px, 3), np.uint8)).resize(size)
        for px in (32, 8)
    )
    pixels = np.asarray(Image.blend(blots, strokes, 0.2)) + rng.normal(0, 1, (*size, 1))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _processor() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{names[0].partition(': ')[2]}, {len(names)} cores"


if __name__ == "__main__":
    main()
