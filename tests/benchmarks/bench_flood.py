"""What it takes to submit a hundred thousand pairs: seconds, and the memory of the producer and of Redis.

Prints rows for ``RESULTS.md``. ``--pairs`` submits others, ``--zip`` pairs that share no picture, and ``--profile``
prints where the time goes instead.
"""

import argparse
import cProfile
import math
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image

from medley import keys
from medley.batches.stored import read_batch, read_manifest
from medley.cluster import Cluster
from medley.records.batches import Sampling
from medley.records.options import StyleTransferOptions
from medley.settings import Settings
from medley_producer.local import environment, private_redis
from medley_producer.status import ledger_status, stored_status
from medley_producer.submit import Request, submit

NAME = "flood"
SIDE_PX = 64
MB = 2**20


def main() -> None:
    """Submit in a process of its own, then ask for the status; print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--zip", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--submit", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.submit:
        _submit(Path(args.submit), args)
        return
    with tempfile.TemporaryDirectory(prefix="medley-flood-") as folder, private_redis() as redis_url:
        pictures = args.pairs if args.zip else math.isqrt(args.pairs + args.pairs // 50) + 1  # with some to spare
        draw(Path(folder), pictures)
        settings = Settings(redis_url=redis_url, storage_url=Path(folder, "storage").as_uri())
        command = [sys.executable, __file__, *sys.argv[1:], "--submit", folder]
        told = subprocess.run(command, check=True, capture_output=True, text=True, env=environment(settings)).stdout
        if args.profile:
            print(told)
            return
        print(f"| {args.pairs:,} pairs of 2 x {pictures:,} pictures | |\n|---|---|\n{told}", end="")
        _look(settings)


def draw(folder: Path, count: int) -> None:
    """So many contents, and as many styles."""
    for what, blue in (("contents", 0), ("styles", 255)):
        (folder / what).mkdir()
        for n in range(count):
            picture = Image.new("RGB", (SIDE_PX, SIDE_PX), (n % 256, n // 256 % 256, blue ^ n // 65_536))
            picture.save(folder / what / f"{what[:-1]} {n:05d}, as a person would name it.png")


def _submit(folder: Path, args: argparse.Namespace) -> None:
    """Submit, and print the rows that this process knows of, or its profile."""
    cluster = Cluster.open(Settings.load())
    pools, pairing = ((f"{folder}/contents",), (f"{folder}/styles",)), "zip" if args.zip else "random"
    sampling = Sampling(content=pools[0], styles=pools[1], pairs=args.pairs, pairing=pairing)
    request = Request(NAME, sampling, StyleTransferOptions())
    begun: dict[str, float] = {}

    def told(what: str, *_: int) -> None:
        begun.setdefault(what, time.perf_counter())

    profiler, before_mb, processor_s = cProfile.Profile(), _peak_mb(), time.process_time()
    begun["scanning"] = time.perf_counter()
    if args.profile:
        profiler.enable()
    submitted = submit(cluster, request, "bulk", told)
    ended = time.perf_counter()
    profiler.disable()
    assert submitted.enqueued == args.pairs
    if args.profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(45)
        return
    for what, next_begun in zip(begun, [*list(begun.values())[1:], ended], strict=True):
        print(f"| {what} | {next_begun - begun[what]:.1f} s |")
    print(f"| messages | {cluster.ledger.queue_lengths()['bulk']:,} |")
    print(f"| submitted, of the whole | {args.pairs / (ended - begun['scanning']):,.0f} pairs/s |")
    print(f"| submitted, of the enqueuing | {args.pairs / (ended - begun['enqueuing']):,.0f} pairs/s |")
    print(f"| the producer's time on a processor | {time.process_time() - processor_s:.1f} s |")
    print(f"| the producer's memory at most (before: {before_mb:.0f} MB) | {_peak_mb():.0f} MB |")


def _look(settings: Settings) -> None:
    """Print what Redis holds, and how long it takes to ask where the batch stands."""
    cluster = Cluster.open(settings)
    batch = read_batch(cluster.storage, NAME)
    assert batch
    print(f"| Redis's memory | {int(cluster.ledger.server()['used_memory']) / MB:.0f} MB |")
    print(f"| where it stands, for a command | {_seconds(lambda: stored_status(cluster, batch)):.3f} s |")
    print(f"| where it stands, for who asks twice a second | {_seconds(lambda: ledger_status(cluster, batch)):.3f} s |")
    command = [sys.executable, "-m", "medley_producer", "status", NAME, "--json"]

    def ask() -> None:
        subprocess.run(command, check=True, capture_output=True, env=environment(settings))

    print(f"| `medley status` | {_seconds(ask):.2f} s |")
    outcomes = Path(urlsplit(cluster.storage.root).path, keys.outcomes(NAME))
    outcomes.mkdir(parents=True)
    for job in read_manifest(cluster.storage, batch):
        (outcomes / f"{job.id}.done.json").touch()  # a status reads their names alone
    cluster.ledger.forget(NAME)
    print(f"| `medley status`, when all jobs have ended and Redis has lost that | {_seconds(ask):.2f} s |")


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
