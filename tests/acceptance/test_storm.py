"""Nothing is lost, whatever is killed, away or failing; a job that kills its worker costs three attempts of its own."""

import time
from pathlib import Path

import pytest

from conftest import wait_until
from farm import LEASE_S, Farm, open_farm
from fixtures_s3 import storage_on
from medley import keys
from medley.batches.stored import read_manifest, read_outcome
from medley.records.batches import Batch
from outcomes import list_outcomes
from servers import S3Server
from storm import Weather, draw_dataset, mortal_redis, storm

SOON_S = 150.0
"""The small storm takes under a minute; this allows for a machine that has other things to do."""


@pytest.fixture
def storage_url(seaweedfs_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place on a real S3 server, for which the environment is set."""
    return storage_on(seaweedfs_server, monkeypatch).root


def test_a_storm_loses_nothing(tmp_path: Path, seaweedfs_server: S3Server, storage_url: str) -> None:
    weather = Weather(seed=6, jobs=10, workers=2, kills=2, redis_deaths=("nothing",), outages=1, outage_s=2.0)
    storm(tmp_path, seaweedfs_server, storage_url, weather, SOON_S)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2, 3, 21, 22])
def test_a_great_storm_loses_nothing(tmp_path: Path, seaweedfs_server: S3Server, storage_url: str, seed: int) -> None:
    storm(tmp_path, seaweedfs_server, storage_url, Weather(seed), within_s=800)


def test_a_worker_whose_job_ends_while_redis_is_away_takes_the_next_one(tmp_path: Path) -> None:
    with mortal_redis() as redis, open_farm(tmp_path, redis.url, (tmp_path / "storage").as_uri()) as farm:
        worker = farm.start_worker(processes=1)
        batch = farm.submit("away", draw_dataset(tmp_path / "data", 2, 1), num_steps=60)
        wait_until(lambda: farm.cluster.ledger.painting(batch.name, LEASE_S), 60, "a painting")
        redis.kill()
        for painter in worker.painters():
            painter.kill()
        wait_until(lambda: "Couldn't reject" in worker.log.read_text(), 30, f"the end of the job; {farm.told()}")
        redis.start()
        assert len(farm.await_end(batch)) == 2


class Curse:
    """Whoever paints one job of a batch is killed."""

    def __init__(self, farm: Farm, batch: Batch) -> None:
        self.job = next(read_manifest(farm.cluster.storage, batch)).id
        self.kills = 0
        self._farm, self._batch, self._struck_at = farm, batch, 0.0

    def strike(self) -> bool:
        """Kill the painter that reports the job, if one does; true when the batch has ended."""
        report = self._farm.cluster.ledger.painting(self._batch.name, LEASE_S).get(self.job)
        if report and report.at > self._struck_at:  # what the last one said stands for a while
            worker = next(each for each in self._farm.workers if f"-{each.parent.pid}#" in report.worker)
            for painter in worker.painters():
                painter.kill()
            self._struck_at = time.time()
            self.kills += 1
        return self._farm.cluster.storage.exists(keys.finished(self._batch.name))


def curse_a_job(folder: Path, redis_url: str, dataset: Path, within_s: float) -> None:
    """Paint all pairs on two workers, and kill whoever paints one of them."""
    with open_farm(folder, redis_url, (folder / "storage").as_uri(), processes=1) as farm:
        farm.start_worker()
        farm.start_worker()
        batch = farm.submit("cursed", dataset, num_steps=40)
        curse = Curse(farm, batch)
        wait_until(curse.strike, within_s, f"the end of the batch; {farm.told()}")

        storage, attempts = farm.cluster.storage, farm.settings.attempts
        outcomes = list_outcomes(storage, batch.name)
        assert outcomes.failed == {curse.job}
        assert len(outcomes.done) == batch.jobs - 1
        failed = read_outcome(storage, batch.name, curse.job, "failed")
        assert (failed.kind, failed.attempts, curse.kills) == ("poison", attempts, attempts)
        tried = {job: read_outcome(storage, batch.name, job, "done").attempts for job in outcomes.done}
        assert set(tried.values()) == {1}, "the others paid for it"
        kills = f"{curse.kills} kills, {batch.jobs - 1} others done"
        print(f"\ncursed job: {kills}, each painted once")


def test_a_job_that_kills_its_worker_costs_three_attempts(tmp_path: Path, redis_url: str) -> None:
    curse_a_job(tmp_path, redis_url, draw_dataset(tmp_path / "data", 3, 2), SOON_S)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_job_that_kills_its_worker_spares_ninety_nine(tmp_path: Path, redis_url: str) -> None:
    curse_a_job(tmp_path, redis_url, draw_dataset(tmp_path / "data", 10, 10), within_s=800)
