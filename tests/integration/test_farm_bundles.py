"""Worker programs whose messages carry several jobs: one that is killed, drained or paused within a bundle."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import wait_until
from farm import Farm, Worker, open_farm
from medley import keys
from medley.batches.control import pause, resume
from medley.batches.stored import read_outcome
from medley.records.base import JobId
from medley.records.batches import Batch
from outcomes import list_outcomes

BUNDLE = 4

LONG = 100
"""Steps: of a second or more, within which a worker can be told or killed."""


@pytest.fixture
def farm(tmp_path: Path, redis_url: str) -> Iterator[Farm]:
    """A farm on a folder, whose messages carry four jobs.

    What is resumed within 0.2 s of a look at what was decided is dropped, and sent out again by the reconciler.
    """
    url = (tmp_path / "storage").as_uri()
    with open_farm(tmp_path, redis_url, url, bundle=BUNDLE, grace_s=20.0, reconcile_s=2.0) as farm:
        yield farm


def paintings(farm: Farm, batch: Batch) -> Counter[JobId]:
    """How often each job's painting began, by the workers' logs."""
    line = re.compile(rf"Painting .* \(job ([0-9a-f]{{32}}) of {batch.name}\)\.")
    return Counter(match[1] for worker in farm.workers for match in line.finditer(worker.log.read_text()))


def in_the_midst(farm: Farm, dataset: Path) -> tuple[Worker, Batch, set[JobId], JobId]:
    """A worker at the second job, or a later one, of a bundle of four; what is done, and what it is at."""
    worker = farm.start_worker()
    batch = farm.submit("bundle", dataset, pairs=BUNDLE, num_steps=LONG)
    assert farm.cluster.ledger.queue_lengths()["bulk"] == 1
    wait_until(lambda: farm.done(batch), 60, f"a picture; {farm.told()}")
    at = wait_until(lambda: farm.cluster.ledger.painting(batch.name, 60), 60, f"a painting; {farm.told()}")
    return worker, batch, farm.done(batch), next(iter(at))


def assert_ended_well(farm: Farm, batch: Batch, done: set[JobId]) -> None:
    """Another worker ends the batch, message by message, and paints nothing again that was done."""
    farm.start_worker()
    assert len(farm.await_end(batch)) == BUNDLE
    assert farm.workers[-1].deliveries() == BUNDLE + 1, "the bundle, and then each of its jobs"
    assert {paintings(farm, batch)[job] for job in done} == {1}
    assert list_outcomes(farm.cluster.storage, batch.name).failed == set()


@pytest.mark.parametrize(("together", "precisions"), [("never", ["fast"]), ("always", ["fast", "exact"])])
def test_one_bad_picture_fails_its_own_job_of_a_bundle(
    farm: Farm, dataset: Path, together: str, precisions: list[str]
) -> None:
    whole = (dataset / "contents" / "photo0.jpg").read_bytes()
    (dataset / "contents" / "photo0.jpg").write_bytes(whole[: len(whole) // 2])
    for n in (1, 2):
        (dataset / "styles" / f"paint{n}.png").unlink()
    worker = farm.start_worker(together=together)
    for number, precision in enumerate(precisions, start=1):
        before = len(worker.log.read_text())
        batch = farm.submit(precision, dataset, precision=precision)
        assert len(farm.await_end(batch)) == BUNDLE - 1
        (failed,) = list_outcomes(farm.cluster.storage, batch.name).failed
        outcome = read_outcome(farm.cluster.storage, batch.name, failed, "failed")
        assert (outcome.kind, outcome.attempts) == ("image", 1)
        assert "photo0.jpg" in outcome.reason
        (line,) = farm.cluster.storage.get(keys.failures(batch.name)).decode().splitlines()
        assert (json.loads(line)["kind"], json.loads(line)["job"]) == ("image", failed)
        assert worker.deliveries() == number
        log = worker.log.read_text()[before:]
        at_once = together == "always" and precision == "fast"
        assert log.count("Painting 3 pictures together") == at_once
        assert len(re.findall(r"Painting photo", log)) == (1 if at_once else BUNDLE)


def test_a_worker_that_is_killed_within_a_bundle(farm: Farm, dataset: Path) -> None:
    worker, batch, done, at = in_the_midst(farm, dataset)
    worker.kill()
    done |= farm.done(batch)
    assert_ended_well(farm, batch, done)
    if at not in done:
        assert read_outcome(farm.cluster.storage, batch.name, at, "done").attempts == 2
    others = farm.done(batch) - {at}
    assert {read_outcome(farm.cluster.storage, batch.name, job, "done").attempts for job in others} == {1}


def test_a_worker_that_drains_within_a_bundle(farm: Farm, dataset: Path) -> None:
    worker, batch, done, at = in_the_midst(farm, dataset)
    worker.parent.terminate()
    wait_until(lambda: not worker.program.alive(), 10, f"the end of the worker; {farm.told()}")
    assert farm.cluster.ledger.queue_lengths()["bulk"] == 1
    assert not farm.cluster.ledger.unacknowledged()
    done |= farm.done(batch)
    assert len(done) < BUNDLE
    assert_ended_well(farm, batch, done)
    outcomes = [read_outcome(farm.cluster.storage, batch.name, job, "done") for job in farm.done(batch)]
    assert {outcome.attempts for outcome in outcomes} == {1}
    if at not in done:
        assert farm.results(batch)[at].resumed_at


def test_a_batch_that_is_paused_within_a_bundle(farm: Farm, dataset: Path) -> None:
    worker, batch, done, _ = in_the_midst(farm, dataset)
    pause(farm.cluster, batch)
    wait_until(lambda: not farm.cluster.ledger.unacknowledged(), 15, f"the end of the message; {farm.told()}")
    wait_until(lambda: not farm.cluster.ledger.queue_lengths()["bulk"], 15, f"nothing that waits; {farm.told()}")
    begun = paintings(farm, batch)
    done |= farm.done(batch)
    assert begun.total() < BUNDLE + 1, "what was not begun is not"
    assert resume(farm.cluster, batch) == BUNDLE - len(done)
    assert len(farm.await_end(batch)) == BUNDLE
    assert {paintings(farm, batch)[job] for job in done} == {1}
    assert worker.model_loads() == 1


def test_two_workers_share_one_bundle(farm: Farm, dataset: Path) -> None:
    for _ in range(2):
        farm.start_worker()
    wait_until(lambda: len(farm.cluster.ledger.painters()) == 2, 60, f"two painters; {farm.told()}")
    batch = farm.submit("shared", dataset, pairs=BUNDLE, num_steps=LONG)
    results = farm.await_end(batch)
    assert len({result.worker for result in results.values()}) == 2
    assert set(paintings(farm, batch).values()) == {1}
