"""Worker programs over a real Redis: whole batches, killed workers, long jobs, a Redis that loses everything."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import wait_until
from farm import LEASE_S, Farm, open_farm
from fixtures_s3 import storage_on
from medley import keys
from medley.batches.stored import read_outcome
from medley.broker.paintings import Progress
from medley.broker.roster import Painter
from medley.records.base import JobId
from medley.settings import Settings
from outcomes import PREVIEWS
from servers import S3Server


@pytest.fixture
def farm(tmp_path: Path, redis_url: str) -> Iterator[Farm]:
    """A farm on a folder."""
    with open_farm(tmp_path, redis_url, (tmp_path / "storage").as_uri()) as farm:
        yield farm


def test_twelve_jobs_on_two_processes_over_s3(
    tmp_path: Path, redis_url: str, seaweedfs_server: S3Server, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = storage_on(seaweedfs_server, monkeypatch)
    with open_farm(tmp_path, redis_url, storage.root, s3_endpoint_url=seaweedfs_server.endpoint_url) as farm:
        worker = farm.start_worker(processes=2)
        batch = farm.submit("twelve", dataset, frame_every=2)
        results = farm.await_end(batch)

        assert len(results) == batch.jobs == 12
        assert farm.done(batch) == set(results)
        for result in results.values():
            assert result.frames == (0, 2)
            assert set(result.files) == {"frames/000000.jpg", "frames/000002.jpg", "pastiche.png", *PREVIEWS}
            for file in result.files.values():
                assert len(storage.get(file.key)) == file.bytes
            steps = [step for step, _ in result.losses]
            assert steps[0] == 0
            assert steps[-1] == result.steps == 3
            assert result.losses[-1][1] == result.loss < result.losses[0][1]
            assert read_outcome(storage, batch.name, result.job_id, "done").attempts == 1
        assert storage.exists(keys.contact_sheet(batch.name))
        assert list(storage.list("open/")) == []

        painters = farm.cluster.ledger.painters()
        assert sorted(painter.model_loads for painter in painters) == [1, 1]
        assert worker.model_loads() == 2
        mapped = Path(f"/proc/{worker.parent.pid}/maps").read_text()
        assert "libtorch" not in mapped, "torch is in the parent process"
        assert all("libtorch" in Path(f"/proc/{p.pid}/maps").read_text() for p in worker.painters())


@pytest.mark.parametrize("batches", [2, pytest.param(9, marks=pytest.mark.soak)])
def test_many_jobs_load_the_network_once(batches: int, farm: Farm, dataset: Path) -> None:
    farm.start_worker()
    for n in range(batches):
        last = farm.submit(f"many-{n}", dataset, num_steps=1, size=32, tv_weight=n)
    farm.await_end(last)
    told_of_all: Callable[[], list[Painter]] = lambda: [  # noqa: E731
        painter for painter in farm.cluster.ledger.painters() if painter.jobs >= batches * 12
    ]
    (painter,) = wait_until(told_of_all, 10, "a painter that speaks of all jobs")
    assert painter.model_loads == 1
    assert farm.workers[0].model_loads() == 1


def kill_a_painter(farm: Farm, dataset: Path, taken_up_within_s: float) -> None:
    """Kill one of two workers while it paints, and see the other take its job up and end the batch."""
    farm.start_worker()
    farm.start_worker()
    batch = farm.submit("killed", dataset, pairs=4, num_steps=100)
    painting: Callable[[], dict[JobId, Progress]] = lambda: farm.cluster.ledger.painting(batch.name, 60)  # noqa: E731
    job, progress = next(iter(wait_until(painting, 60, "a painting").items()))
    victim = next(w for w in farm.workers if f"-{w.parent.pid}#" in progress.worker)
    survivor = next(w for w in farm.workers if w is not victim)
    taken_up: Callable[[], bool] = lambda: (  # noqa: E731
        job in farm.done(batch) or painting().get(job, progress).worker != progress.worker
    )
    victim.kill()
    wait_until(taken_up, taken_up_within_s, f"another worker's painting of {job}; {farm.told()}")

    results = farm.await_end(batch)
    assert len(results) == 4
    assert f"-{survivor.parent.pid}#" in results[job].worker
    assert read_outcome(farm.cluster.storage, batch.name, job, "done").attempts == 2


def test_a_killed_workers_job_is_taken_up_within_the_lease(farm: Farm, dataset: Path) -> None:
    # The lease, a sweep (a third of it), a wait for the last report to age, and what the survivor is painting.
    kill_a_painter(farm, dataset, taken_up_within_s=LEASE_S * 4 / 3 + 1.5 + 20)


def real_settings() -> dict[str, Any]:
    """What farms of tests shorten, as it is for people."""
    names = ("lease_s", "lease_renew_s", "give_back_s")
    return {name: Settings.model_fields[name].default for name in names}


@pytest.mark.soak
def test_at_the_real_settings_it_is_taken_up_within_a_minute(tmp_path: Path, redis_url: str, dataset: Path) -> None:
    with open_farm(tmp_path, redis_url, (tmp_path / "storage").as_uri(), **real_settings()) as farm:
        kill_a_painter(farm, dataset, taken_up_within_s=60)


def outlast_three_leases(farm: Farm, dataset: Path) -> None:
    """Paint for over three leases on one of two workers, and see that the other never gets the job."""
    lease_s = farm.settings.lease_s
    farm.start_worker()
    farm.await_end(farm.submit("warm-up", dataset, pairs=1))
    (short,) = farm.await_end(farm.submit("short", dataset, pairs=1, num_steps=100)).values()
    steps = round(100 * 5 * lease_s / short.seconds.paint)
    idle = farm.start_worker()
    wait_until(lambda: "ready." in idle.log.read_text(), 30, "a second worker that could take the job")
    (result,) = farm.await_end(farm.submit("long", dataset, pairs=1, num_steps=steps), within_s=10 * lease_s).values()

    assert result.seconds.paint > 3 * lease_s
    assert sum(worker.deliveries() for worker in farm.workers) == 3
    assert read_outcome(farm.cluster.storage, "long", result.job_id, "done").attempts == 1


def test_a_job_that_lasts_three_leases_is_delivered_once(tmp_path: Path, redis_url: str, dataset: Path) -> None:
    url = (tmp_path / "storage").as_uri()
    with open_farm(tmp_path, redis_url, url, lease_s=3.0, lease_renew_s=0.5) as farm:
        outlast_three_leases(farm, dataset)


@pytest.mark.soak
def test_at_the_real_settings_it_is_delivered_once_too(tmp_path: Path, redis_url: str, dataset: Path) -> None:
    with open_farm(tmp_path, redis_url, (tmp_path / "storage").as_uri(), **real_settings()) as farm:
        outlast_three_leases(farm, dataset)


def test_a_message_that_cannot_be_dealt_with_is_dropped_and_can_be_sent_again(farm: Farm, dataset: Path) -> None:
    batch = farm.submit("future", dataset, pairs=1)
    known = farm.cluster.storage.get(keys.batch(batch.name))
    farm.cluster.storage.put(keys.batch(batch.name), b'{"from": "another version"}')
    worker = farm.start_worker()
    wait_until(lambda: "is dropped: Not a valid Batch" in worker.log.read_text(), 60, f"the drop; {farm.told()}")
    farm.cluster.storage.put(keys.batch(batch.name), known)
    assert farm.submit("future", dataset, pairs=1) == batch
    assert len(farm.await_end(batch)) == 1
