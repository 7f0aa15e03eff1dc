"""How worker programs end: SIGTERM drains them, Ctrl-C lets them finish, and what does not react is ended."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import wait_until
from farm import Farm, Worker, open_farm
from medley.batches.stored import read_outcome
from medley.records.batches import Batch
from medley_workers.draining import DRAIN, Drain

BACK_WITHIN_S = 5.0
"""A step, and the second in which a parent that shuts down looks at its results: 1 s, but for cores that others use."""
ENDS_WITHIN_S = 6.0
"""A second each for Celery's poll, the processes' last words and Redis's answer: 2.3 s, but for what others use."""


@pytest.fixture
def farm(tmp_path: Path, redis_url: str) -> Iterator[Farm]:
    """A farm on a folder, with the grace that people have."""
    with open_farm(tmp_path, redis_url, (tmp_path / "storage").as_uri(), grace_s=20.0) as farm:
        yield farm


def ready(farm: Farm, **overrides: object) -> Worker:
    """A worker that could take jobs."""
    worker = farm.start_worker(**overrides)
    wait_until(farm.cluster.ledger.painters, 30, "the painting process")
    wait_until(lambda: "ready." in worker.log.read_text(), 30, "the worker")
    return worker


def painting(farm: Farm, dataset: Path, num_steps: int = 3000, pairs: int = 1) -> Batch:
    """A batch of long jobs, one of which is being painted."""
    batch = farm.submit("long", dataset, pairs=pairs, num_steps=num_steps)
    wait_until(lambda: farm.cluster.ledger.painting(batch.name, 60), 60, f"a painting; {farm.told()}")
    return batch


def given_back(farm: Farm, messages: int = 1) -> bool:
    """Whether all messages are in their queue, and no lease is left."""
    return farm.cluster.ledger.queue_lengths()["bulk"] == messages and not farm.cluster.ledger.unacknowledged()


def await_exit(farm: Farm, worker: Worker, code: int) -> None:
    """Wait for the end of a worker that has nothing to complain of."""
    wait_until(lambda: not worker.program.alive(), ENDS_WITHIN_S, f"the end of the worker; {farm.told()}")
    assert worker.program.exit_code == code
    assert "Traceback" not in worker.log.read_text()


def test_a_worker_that_drains_gives_its_job_back_within_seconds_and_another_paints_it(
    farm: Farm, dataset: Path
) -> None:
    stopped = farm.start_worker()
    batch = painting(farm, dataset, num_steps=200, pairs=3)
    (job,) = farm.cluster.ledger.painting(batch.name, 60)
    # As systemd does it: every process of the service is told.
    for process in (stopped.parent, *stopped.painters()):
        process.terminate()
    wait_until(lambda: given_back(farm, 3), BACK_WITHIN_S, f"the job's return; {farm.told()}")
    await_exit(farm, stopped, 0)

    farm.start_worker()
    wait_until(lambda: farm.done(batch), 60, f"a painting; {farm.told()}")
    assert farm.done(batch) == {job}, "what was begun does not wait for the rest of its batch"
    assert farm.results(batch)[job].resumed_at
    assert read_outcome(farm.cluster.storage, batch.name, job, "done").attempts == 1


@pytest.mark.parametrize(("told", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_an_idle_worker_ends_at_once(farm: Farm, told: signal.Signals, code: int) -> None:
    worker = ready(farm, processes=2)
    worker.parent.send_signal(told)
    await_exit(farm, worker, code)


def test_a_painter_that_does_not_react_is_ended_after_the_grace(farm: Farm, dataset: Path) -> None:
    worker = farm.start_worker(grace_s=2.0)
    painting(farm, dataset)
    (painter,) = worker.painters()
    painter.suspend()
    worker.parent.terminate()
    # The grace, and three seconds for last words.
    wait_until(lambda: not worker.program.alive(), 2 + 3 + ENDS_WITHIN_S, f"the end of the worker; {farm.told()}")
    assert worker.program.exit_code == 0
    assert given_back(farm)


def test_ctrl_c_waits_for_the_picture_and_a_second_one_drains(farm: Farm, dataset: Path) -> None:
    worker = farm.start_worker()
    batch = painting(farm, dataset)
    worker.parent.send_signal(signal.SIGINT)
    wait_until(lambda: "Ctrl-C again" in worker.log.read_text(), 5, "what the worker makes of it")
    (then,) = farm.cluster.ledger.painting(batch.name, 60).values()
    wait_until(lambda: farm.cluster.ledger.painting(batch.name, 60).popitem()[1].step > then.step, 10, "a later step")
    assert not given_back(farm)

    worker.parent.send_signal(signal.SIGINT)
    wait_until(lambda: given_back(farm), BACK_WITHIN_S, f"the job's return; {farm.told()}")
    await_exit(farm, worker, 130)


def test_a_job_that_comes_after_the_word_goes_back_untouched(farm: Farm, dataset: Path) -> None:
    worker = ready(farm)
    (painter,) = worker.painters()
    painter.send_signal(DRAIN)
    batch = farm.submit("late", dataset, pairs=1)
    wait_until(lambda: "Given back at once" in worker.log.read_text(), 10, f"the job's return; {farm.told()}")
    worker.parent.terminate()
    await_exit(farm, worker, 0)
    assert given_back(farm)
    assert not farm.cluster.ledger.painting(batch.name, 60)
    assert worker.model_loads() == 0


def test_no_message_is_lost_between_a_worker_and_its_queue(farm: Farm, dataset: Path) -> None:
    worker = farm.start_worker(processes=2)
    batches = [farm.submit(f"many-{n}", dataset, num_steps=1, size=32, tv_weight=n) for n in range(5)]

    def done() -> int:
        return sum(len(farm.done(batch)) for batch in batches)

    wait_until(lambda: done() >= 5, 60, f"some pictures; {farm.told()}")
    worker.parent.terminate()
    await_exit(farm, worker, 0)
    assert 5 <= done() < 60
    assert farm.cluster.ledger.queue_lengths()["bulk"] == 60 - done()
    assert not farm.cluster.ledger.unacknowledged()


def test_who_waits_drains_at_once() -> None:
    drain = Drain()
    before = signal.signal(DRAIN, drain.set)
    try:
        assert not drain.wait(0.01)
        threading.Timer(0.2, os.kill, (os.getpid(), DRAIN)).start()
        started = time.monotonic()
        assert drain.wait(60)
        assert time.monotonic() - started < 5
    finally:
        signal.signal(DRAIN, before)
