"""What a job costs beside its painting: a stream of small ones through Celery, Redis, S3 and one worker's process.

Prints a table for ``RESULTS.md``. The worker has its network when the clock starts. ``--bundle`` sets MEDLEY_BUNDLE.
"""

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from medley import keys
from medley.batches.stored import read_manifest, read_result
from medley.cluster import Cluster
from medley.records.batches import Batch, Sampling
from medley.records.options import StyleTransferOptions
from medley.records.results import AnyResult
from medley.settings import Settings
from medley_producer.local import local_worker, private_redis, require_alive
from medley_producer.submit import Request, submit

sys.path.append(str(Path(__file__).parents[1]))
import servers

INPUT_PX = (640, 480)
"""Larger than what is painted, as photographs are; a camera's take longer still to fetch and decode."""

WITHIN_S = 1800.0


class Painted(NamedTuple):
    """When a job was painted and when its files stood, in Unix seconds; its commit came after that."""

    begun: float
    painted: float
    stored: float


def main() -> None:
    """Paint the stream, and print where its time went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--size", type=int, default=96, help="longest side of a result, px")
    parser.add_argument("--num-steps", type=int, default=10)
    parser.add_argument("--frame-every", type=int, default=0)
    parser.add_argument("--bundle", type=int, default=None, help="jobs that a message carries at most")
    args = parser.parse_args()
    options = StyleTransferOptions(size=args.size, num_steps=args.num_steps, frame_every=args.frame_every)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="medley-farm-")))
        settings = Settings(**_services(stack, folder), **({} if args.bundle is None else {"bundle": args.bundle}))
        cluster = Cluster.open(settings)
        side = math.isqrt(args.jobs) + 1
        _draw(folder, side)
        worker = stack.enter_context(local_worker(settings, folder / "worker.log"))

        def painted(name: str, jobs: int) -> list[AnyResult]:
            sampling = Sampling(content=(f"{folder}/contents",), styles=(f"{folder}/styles",), pairs=jobs)
            batch = submit(cluster, Request(name, sampling, options), "bulk", lambda *_: None).batch
            deadline = time.monotonic() + WITHIN_S
            while not cluster.storage.exists(keys.finished(name)):
                require_alive(worker)
                assert time.monotonic() < deadline, worker.log_tail()
                time.sleep(0.5)
            return _results(cluster, batch)

        known = {result.job_id for result in painted("warm-up", 1)}
        print(_table([result for result in painted("stream", args.jobs) if result.job_id not in known]))


def _services(stack: ExitStack, folder: Path) -> dict[str, Any]:
    """A private Redis, and an S3 server with an empty bucket."""
    server = stack.enter_context(servers.seaweedfs(folder / "s3"))
    os.environ |= server.environment()
    return {
        "redis_url": stack.enter_context(private_redis()),
        "storage_url": f"s3://{server.make_bucket('farm')}/bench",
        "s3_endpoint_url": server.endpoint_url,
    }


def _draw(folder: Path, count: int) -> None:
    """So many contents, and as many styles, smooth and with grain."""
    for number, what in enumerate(("contents", "styles")):
        (folder / what).mkdir()
        for n in range(count):
            rng = np.random.default_rng(1000 * number + n)
            smooth = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize(INPUT_PX)
            pixels = np.asarray(smooth) + rng.normal(0, 8, (*INPUT_PX[::-1], 1))
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / what / f"{n:03d}.jpg", quality=90)


def _results(cluster: Cluster, batch: Batch) -> list[AnyResult]:
    found = (read_result(cluster.storage, job.id) for job in read_manifest(cluster.storage, batch))
    return [result for result in found if result]


def _table(results: Iterable[AnyResult]) -> str:
    """Where the time went between the beginning of the first job and the last one's files."""
    jobs = sorted(map(_times, results))
    assert jobs, "nothing was painted"
    wall_s = max(job.stored for job in jobs) - jobs[0].begun
    painting_s = _covered((job.begun, job.painted) for job in jobs)
    storing_s = _covered((job.begun, job.stored) for job in jobs) - painting_s
    each_ms = 1000 / len(jobs)
    rows = {
        "jobs a second": f"{len(jobs) / wall_s:.2f}",
        "of the time, something is being painted": f"{painting_s / wall_s:.1%}",
        "a job's painting, inputs included": f"{painting_s * each_ms:.0f} ms",
        "beside it, a job": f"{(wall_s - painting_s) * each_ms:.0f} ms",
        "of that, storing its files": f"{storing_s * each_ms:.0f} ms",
        "of that, between jobs": f"{(wall_s - painting_s - storing_s) * each_ms:.0f} ms",
    }
    lines = [f"| {len(jobs)} jobs | |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows.items())]
    return "\n".join(lines)


def _times(result: AnyResult) -> Painted:
    stored, seconds = result.finished_at.timestamp(), result.seconds
    begun = stored - seconds.total + seconds.load
    return Painted(begun, begun + seconds.paint, stored)


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds that lie in at least one of these spans, which are sorted by their beginnings."""
    covered_s, until = 0.0, float("-inf")
    for begun, ended in spans:
        covered_s += max(0.0, ended - max(begun, until))
        until = max(until, ended)
    return covered_s


if __name__ == "__main__":
    main()
