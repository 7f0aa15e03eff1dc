"""Watching a batch: a service that is away for a while is waited for, and one that stays away is told."""

import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from conftest import wait_until
from medley import keys
from medley.batches.control import cancel, pause
from medley.batches.ending import finish_batch
from medley.batches.stored import read_manifest, write_outcome
from medley.broker.paintings import Progress
from medley.cluster import Cluster
from medley.errors import RedisUnreachable, UsageError
from medley.records.batches import Batch, Sampling
from medley.records.options import StyleTransferOptions
from medley.records.results import Outcome
from medley.settings import Settings
from medley_producer.following import follow
from medley_producer.local import Owned, private_redis, start_redis
from medley_producer.local import redis_url as url_in
from medley_producer.submit import Request, submit


@pytest.fixture
def folder() -> Path:
    """A folder for a Redis that a test starts and stops itself."""
    with private_redis() as url:
        folder = Path(url.removeprefix("unix://")).parent
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def server(folder: Path) -> Iterator[Owned]:
    server = start_redis(folder)
    yield server
    server.stop()


@pytest.fixture
def cluster(tmp_path: Path, folder: Path, server: Owned) -> Cluster:  # noqa: ARG001  it must run
    return Cluster.open(Settings(redis_url=url_in(folder), storage_url=(tmp_path / "storage").as_uri()))


@pytest.fixture
def batch(cluster: Cluster, dataset: Path) -> Batch:
    sampling = Sampling(content=(str(dataset / "contents"),), styles=(str(dataset / "styles"),), pairs=1)
    return submit(cluster, Request("b", sampling, StyleTransferOptions()), "bulk", lambda *_: None).batch


def fail_all(cluster: Cluster, batch: Batch) -> None:
    """End the batch, without painting."""
    for job in read_manifest(cluster.storage, batch):
        outcome = Outcome(
            job=job.id, batch=batch.name, status="failed", kind="image", attempts=1, worker="w", seconds=1,
            finished_at=datetime.now(UTC),
        )  # fmt: skip
        write_outcome(cluster.storage, outcome)
        cluster.ledger.record_outcome(batch.name, job.id, "failed")
    assert finish_batch(cluster, batch.name, lambda: None)


def test_a_redis_that_comes_back_is_waited_for(cluster: Cluster, batch: Batch, folder: Path, server: Owned) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=400)
    with ThreadPoolExecutor(1) as thread:
        watched = thread.submit(follow, cluster, batch, console)
        server.stop()
        wait_until(lambda: "waiting: Redis" in screen.getvalue(), 10, "word of the wait")
        again = start_redis(folder)
        try:
            fail_all(cluster, batch)
            status = watched.result(timeout=20)
        finally:
            again.stop()
    assert (status.state, status.failed) == ("finished", 1)


def test_a_redis_that_stays_away_is_told(cluster: Cluster, batch: Batch, server: Owned) -> None:
    impatient = Cluster.open(cluster.settings.model_copy(update={"patience_s": 0.5}))
    server.stop()
    started = time.monotonic()
    with pytest.raises(RedisUnreachable, match="does not answer"):
        follow(impatient, batch, Console(file=io.StringIO()))
    assert time.monotonic() - started >= 0.5


def test_a_pause_and_what_is_painted_are_shown_and_a_cancellation_ends_the_wait(
    cluster: Cluster, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medley_producer.following.STORED_EVERY_S", 0.2)
    (job,) = read_manifest(cluster.storage, batch)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=400)
    with ThreadPoolExecutor(1) as thread:
        watched = thread.submit(follow, cluster, batch, console)
        progress = Progress(step=1, steps=9, names="a \x1b[2J.jpg x b.jpg", worker="w", at=time.time())
        cluster.ledger.report(batch.name, job.id, progress)
        wait_until(lambda: r"a \x1b[2J.jpg x b.jpg" in screen.getvalue(), 10, "what is painted")
        pause(cluster, batch)
        wait_until(lambda: "0/1 painted, paused" in screen.getvalue(), 10, "word of the pause")
        cancel(cluster, batch)
        assert watched.result(timeout=10).state == "cancelled"


def test_a_batch_that_is_removed_is_waited_for_no_more(
    cluster: Cluster, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medley_producer.following.STORED_EVERY_S", 0.2)

    def remove() -> None:
        cluster.storage.delete(keys.batch(batch.name))

    with pytest.raises(UsageError, match="'b' was removed"):
        follow(cluster, batch, Console(file=io.StringIO()), look=remove)
