"""How long the dashboard's pages take, with fifty batches of which one has a hundred thousand jobs; a table.

It serves the real program over a private Redis and a folder: 90,000 jobs are done, 500 have failed, four are being
painted, and others wait. First paints are Chromium's. ``--jobs`` takes another number.
"""

import argparse
import math
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import torch  # noqa: F401  # before the tests' settings, which bound its threads

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bench_flood import draw
from browser.visiting import chromium, visiting
from conftest import wait_until
from ended import paint_batch
from medley import keys
from medley.batches.stored import read_manifest, read_result
from medley.broker.paintings import Progress
from medley.cluster import Cluster
from medley.records.batches import Batch, Sampling
from medley.records.options import StyleTransferOptions
from medley.records.results import Outcome
from medley.settings import Settings
from medley.telling import quiet
from medley_producer.local import environment, private_redis
from medley_producer.submit import Request, submit
from servers import free_ports

NAME = "flood"
SMALL = 49
ASKED = 20
DONE, FAILED = 0.9, 0.005


def main() -> None:
    """Submit, pretend to paint, serve, ask; print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="medley-pages-") as folder, private_redis() as redis_url:
        draw(Path(folder), math.isqrt(args.jobs + args.jobs // 50) + 1)
        settings = Settings(redis_url=redis_url, storage_url=Path(folder, "storage").as_uri())
        cluster = Cluster.open(settings)
        pools = {"content": (f"{folder}/contents",), "styles": (f"{folder}/styles",)}
        for number in range(SMALL):
            last = paint_batch(cluster, Sampling(**pools, pairs=4, sample_seed="x"), f"night-{number:02d}")
        big = Sampling(**pools, pairs=args.jobs)
        batch = submit(cluster, Request(NAME, big, StyleTransferOptions()), "bulk", quiet).batch
        _end(cluster, batch, last)
        with served(settings, Path(folder)) as url:
            _measure(cluster, batch, url)


def _end(cluster: Cluster, batch: Batch, painted: Batch) -> None:
    """Write outcomes as if workers had; all results are copies of one that was painted."""
    model = next(iter(read_manifest(cluster.storage, painted))).id
    result = read_result(cluster.storage, model)
    assert result
    text = result.json_bytes().decode()
    root = Path(urlsplit(cluster.storage.root).path)
    (root / keys.outcomes(NAME)).mkdir(parents=True)
    now = datetime.now(UTC)
    for number, job in enumerate(read_manifest(cluster.storage, batch)):
        if number >= (DONE + FAILED) * batch.jobs:
            break
        failed = number % 181 == 180
        outcome = Outcome(
            job=job.id, batch=NAME, status="failed" if failed else "done", kind="image" if failed else "painted",
            names=job.names, reason=f"{job.names} has no picture in it." if failed else "",
            log=("a line of a log",) * 20 if failed else (), attempts=1, worker="w#0", seconds=3.0, loss=1.0,
            finished_at=now,
        )  # fmt: skip
        (root / keys.outcome(NAME, job.id, outcome.status)).write_bytes(outcome.json_bytes())
        if not failed:
            (root / keys.result(job.id)).parent.mkdir(parents=True, exist_ok=True)
            (root / keys.result(job.id)).write_text(text.replace(model, job.id, 1))
    cluster.ledger.forget(NAME)


@contextmanager
def served(settings: Settings, folder: Path) -> Iterator[str]:
    """Serve until the block is left; gives the URL."""
    (port,) = free_ports(1)
    (folder / "tmp").mkdir()
    command = [sys.executable, "-m", "medley_producer", "dashboard", "--port", str(port)]
    variables = environment(settings) | {"TMPDIR": str(folder / "tmp")}
    with (folder / "log").open("wb") as log, subprocess.Popen(command, env=variables, stderr=log) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: _is_up(url), 120, "the dashboard")
            yield url
        finally:
            process.terminate()


def _is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=60):  # noqa: S310
            return True
    except OSError:
        return False


def _measure(cluster: Cluster, batch: Batch, url: str) -> None:
    started = time.perf_counter()
    print(f"| the batch's page, the very first time | {1000 * _seconds(url + '/batches/' + NAME):.0f} ms |  |  |")
    wait_until(lambda: b'"complete":true' in _got(f"{url}/api/batches/{NAME}/jobs"), 300, "the manifest")
    known_s = time.perf_counter() - started
    wait_until(lambda: b'"complete":true' in _got(f"{url}/api/batches/{NAME}/failures"), 300, "the failures")
    jobs = read_manifest(cluster.storage, batch)
    first = next(jobs)
    waiting = list(jobs)[-4:]
    for job in waiting:
        told = Progress(step=40, steps=100, loss=1.0, names=job.names, worker="w#0", at=time.time() + 600)
        cluster.ledger.report(NAME, job.id, told)
    pages = {
        "all batches": "/",
        "the batch": f"/batches/{NAME}",
        "the batch, page 800": f"/batches/{NAME}?page=800",
        "those that failed": f"/batches/{NAME}?state=failed",
        "those that wait": f"/batches/{NAME}?state=waiting",
        "those of a name": f"/batches/{NAME}?q=content+00123",
        "a job": f"/batches/{NAME}/jobs/{first.id}",
        "workers and queues": "/workers",
        "the jobs as JSON": f"/api/batches/{NAME}/jobs",
        "metrics": "/metrics",
    }
    print(f"| {batch.jobs:,} jobs | median, ms | most, ms | first paint, ms |\n|---|---|---|---|")
    with chromium() as browser:
        for what, path in pages.items():
            taken = [1000 * _seconds(url + path) for _ in range(ASKED)]
            painted = ""
            if not path.startswith(("/api", "/metrics")):
                with visiting(browser, url + path) as visit:
                    painted = f"{visit.page.evaluate(FIRST_PAINT):.0f}"
            print(f"| {what} | {median(taken):.0f} | {max(taken):.0f} | {painted} |", flush=True)
    (catalogue,) = Path(urlsplit(cluster.storage.root).path).parent.glob("tmp/medley-dashboard-*/jobs.sqlite")
    print(f"The manifest was read in {known_s:.1f} s, into {catalogue.stat().st_size / 2**20:.0f} MB.")


FIRST_PAINT = """() => new Promise((done) => {
    const look = () => {
        const [entry] = performance.getEntriesByName("first-contentful-paint");
        if (entry) done(entry.startTime); else setTimeout(look, 10);
    };
    look();
})"""


def _got(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310
        found: bytes = answer.read()
        return found


def _seconds(url: str) -> float:
    started = time.perf_counter()
    _got(url)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
