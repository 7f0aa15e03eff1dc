"""What it takes to scan a hundred thousand pictures: seconds, and memory that the process grew by. No claim is made.

Prints rows for ``RESULTS.md``. ``--count`` scans fewer.
"""

import argparse
import csv
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from medley.settings import Settings
from medley_producer.datasets.buckets import Buckets
from medley_producer.datasets.scanning import scan

PER_FOLDER = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--scan", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.scan:
        print(_scanned(args.scan))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "pictures")
        table = _write(root, args.count)
        print(f"| {args.count:,} pictures | seconds | memory grew by |\n|---|---|---|")
        for what, place in (("a folder of folders", root), ("a CSV of 14 columns", table)):
            # In a process each, as memory that one took would hide what the next one takes.
            command = [sys.executable, __file__, "--scan", str(place)]
            print(f"| {what} | {subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()} |")


def _write(root: Path, count: int) -> Path:
    """Empty files, as a scan opens none, and a table that names them."""
    table = root.parent / "table.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["filename", *(f"column{n}" for n in range(13))])
        for number in range(count):
            name = f"{number // PER_FOLDER:03d}/painting {number}.jpg"
            if number % PER_FOLDER == 0:
                (root / name).parent.mkdir(parents=True)
            (root / name).touch()
            rows.writerow([f"pictures/{name}", *(f"what one says of painting {number}" for _ in range(13))])
    return table


def _scanned(place: str) -> str:
    before, started = _peak_mb(), time.perf_counter()
    found = scan([place], Buckets(Settings()))
    return f"{time.perf_counter() - started:.2f} | {_peak_mb() - before:.0f} MB for {len(found.entries):,}"


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
