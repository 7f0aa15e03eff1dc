"""What becomes of a delivered job: with a real Redis and a folder, and a painter that fails as it is told."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from medley import keys
from medley.batches.control import cancel, pause, resume
from medley.batches.ending import finish_batch
from medley.batches.reconciling import reconcile
from medley.batches.removing import remove_batch
from medley.batches.stored import read_manifest, read_outcome, write_outcome
from medley.broker.paintings import Progress
from medley.broker.roster import Painter as Greeting
from medley.cluster import Cluster
from medley.errors import (
    ImageError,
    JobHeld,
    NumbersError,
    OutOfMemory,
    PaintingStopped,
    ServiceUnreachable,
    StorageRefused,
    StorageUnreachable,
    UsageError,
    WeightsError,
)
from medley.records.batches import AnyBatch, Batch, Sampling
from medley.records.jobs import StyleTransfer
from medley.records.kinds import Job
from medley.records.options import StyleTransferOptions
from medley.records.results import AnyResult
from medley.settings import Settings
from medley_producer.submit import Request, submit
from medley_workers.jobs.desk import Desk
from medley_workers.jobs.suspicion import why_stop
from outcomes import an_outcome, list_outcomes
from painters import Painter, deliver, result_of


@pytest.fixture
def batch(cluster: Cluster, dataset: Path) -> Batch:
    sampling = Sampling(content=(str(dataset / "contents"),), styles=(str(dataset / "styles"),), pairs=2)
    return submit(cluster, Request("b", sampling, StyleTransferOptions()), "bulk", lambda *_: None).batch


@pytest.fixture
def job(cluster: Cluster, batch: Batch) -> StyleTransfer:
    line = cluster.storage.get(keys.manifest(batch.name, batch.manifest)).splitlines()[0]
    return StyleTransfer.from_json(line)


def test_a_painted_job_is_not_painted_again(cluster: Cluster, batch: Batch, job: StyleTransfer) -> None:
    painter = Painter(cluster)
    for _ in range(3):
        deliver(painter.desk, batch.name, job)
    assert painter.paintings == 1
    assert list_outcomes(cluster.storage, batch.name).done == {job.id}
    assert read_outcome(cluster.storage, batch.name, job.id, "done").kind == "painted"


def test_what_another_batch_painted_is_reused(cluster: Cluster, batch: Batch, job: StyleTransfer) -> None:
    cluster.storage.put(keys.result(job.id), result_of(job, batch).json_bytes())
    painter = Painter(cluster)
    deliver(painter.desk, batch.name, job)
    assert painter.paintings == 0
    assert read_outcome(cluster.storage, batch.name, job.id, "done").kind == "reused"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ImageError("sky.jpg is truncated."), "image sky.jpg is truncated."),
        (WeightsError("They are not in storage."), "weights They are not in storage."),
        (ZeroDivisionError("by nought"), "bug ZeroDivisionError: by nought"),
    ],
)
def test_a_job_that_fails_is_listed_with_its_reason(
    cluster: Cluster, batch: Batch, job: StyleTransfer, error: Exception, told: str
) -> None:
    painter = Painter(cluster, error)
    deliver(painter.desk, batch.name, job)
    outcome = read_outcome(cluster.storage, batch.name, job.id, "failed")
    assert f"{outcome.kind} {outcome.reason}".startswith(told)
    assert outcome.attempts == 1
    deliver(painter.desk, batch.name, job)
    assert painter.paintings == 1


@pytest.mark.parametrize("error", [StorageUnreachable("away"), SystemExit(0)])
def test_a_job_given_back_does_not_count(
    cluster: Cluster, batch: Batch, job: StyleTransfer, error: BaseException
) -> None:
    painter = Painter(cluster, error)
    for _ in range(cluster.settings.attempts + 2):
        with pytest.raises(type(error)):
            deliver(painter.desk, batch.name, job)
    assert list_outcomes(cluster.storage, batch.name).all == set()
    deliver(Painter(cluster).desk, batch.name, job)
    assert read_outcome(cluster.storage, batch.name, job.id, "done").attempts == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [(StorageRefused("There is no room."), "storage"), (OutOfMemory("There is no room."), "resource")],
)
def test_what_there_is_no_room_for_fails_after_some_attempts(
    cluster: Cluster, batch: Batch, job: StyleTransfer, error: Exception, kind: str
) -> None:
    painter = Painter(cluster, error)
    for _ in range(cluster.settings.attempts - 1):
        with pytest.raises(type(error)):
            deliver(painter.desk, batch.name, job)
    deliver(painter.desk, batch.name, job)
    outcome = read_outcome(cluster.storage, batch.name, job.id, "failed")
    assert (outcome.kind, outcome.reason) == (kind, "There is no room.")


def test_nothing_is_painted_for_ever_for_a_storage_that_takes_nothing(
    cluster: Cluster, batch: Batch, job: StyleTransfer, tmp_path: Path
) -> None:
    (tmp_path / "storage" / keys.outcomes(batch.name)).write_text("a file where outcomes must lie")
    painter = Painter(cluster, StorageRefused("The disk is full."))
    for _ in range(10):
        with pytest.raises(StorageRefused):
            deliver(painter.desk, batch.name, job)
    assert painter.paintings == cluster.settings.attempts


def test_a_storage_that_refused_for_a_while_costs_nothing(cluster: Cluster, batch: Batch, job: StyleTransfer) -> None:
    for _ in range(cluster.settings.attempts - 1):
        with pytest.raises(StorageRefused):
            deliver(Painter(cluster, StorageRefused("The disk is full.")).desk, batch.name, job)
    deliver(Painter(cluster).desk, batch.name, job)
    assert read_outcome(cluster.storage, batch.name, job.id, "done").attempts == 1


def test_a_job_that_ends_its_workers_is_poison(cluster: Cluster, batch: Batch, job: StyleTransfer) -> None:
    for _ in range(cluster.settings.attempts):  # each of these workers died without a word
        cluster.ledger.count_attempt(batch.name, job.id, "gone")
    painter = Painter(cluster)
    deliver(painter.desk, batch.name, job)
    assert painter.paintings == 0
    assert read_outcome(cluster.storage, batch.name, job.id, "failed").kind == "poison"


def test_a_job_that_another_worker_paints_is_given_back(cluster: Cluster, batch: Batch, job: StyleTransfer) -> None:
    painter = Painter(cluster)
    report = Progress(step=1, steps=9, loss=1.0, worker="another", at=time.time())
    cluster.ledger.report(batch.name, job.id, report)
    with pytest.raises(JobHeld, match="another"):
        deliver(painter.desk, batch.name, job)
    cluster.ledger.let_go(job.id, "another")
    deliver(painter.desk, batch.name, job)
    assert painter.paintings == 1


def test_a_job_whose_batch_is_gone_is_dropped(cluster: Cluster, batch: Batch, job: StyleTransfer) -> None:
    cluster.storage.delete(keys.batch(batch.name))
    painter = Painter(cluster)
    deliver(painter.desk, batch.name, job)
    assert painter.paintings == 0
    assert list_outcomes(cluster.storage, batch.name).all == set()


def test_an_outcome_stands_even_if_redis_is_gone(
    tmp_path: Path, cluster: Cluster, batch: Batch, job: StyleTransfer
) -> None:
    write_outcome(cluster.storage, an_outcome(batch, job))
    nowhere = Settings(redis_url=f"unix://{tmp_path}/none.sock", storage_url=cluster.settings.storage_url)
    away = replace(cluster, ledger=Cluster.open(nowhere).ledger)
    deliver(Desk(away, "w", Painter(cluster)), batch.name, job)  # acknowledged: raising would give it back


def test_redis_away_before_an_attempt_gives_the_job_back(
    tmp_path: Path, cluster: Cluster, batch: Batch, job: StyleTransfer
) -> None:
    nowhere = Settings(redis_url=f"unix://{tmp_path}/none.sock", storage_url=cluster.settings.storage_url)
    with pytest.raises(ServiceUnreachable):
        deliver(Desk(Cluster.open(nowhere), "w", Painter(cluster)), batch.name, job)


@pytest.mark.parametrize("decide", [pause, cancel])
def test_a_stopped_batchs_messages_are_dropped_and_come_back_with_it(
    cluster: Cluster, batch: Batch, job: StyleTransfer, decide: Callable[[Cluster, Batch], None]
) -> None:
    decide(cluster, batch)
    painter = Painter(cluster)
    deliver(painter.desk, batch.name, job)
    assert painter.paintings == 0
    assert cluster.ledger.counts(batch.name).enqueued == 1
    assert resume(cluster, batch) == 1
    deliver(painter.desk, batch.name, job)
    assert painter.paintings == 1


def test_a_painting_that_is_stopped_does_not_count(cluster: Cluster, batch: Batch, job: StyleTransfer) -> None:
    stopped = Painter(cluster, PaintingStopped("The worker drains."))
    with pytest.raises(PaintingStopped):
        deliver(stopped.desk, batch.name, job)
    assert cluster.ledger.counts(batch.name).enqueued == 2
    pause(cluster, batch)
    deliver(Painter(cluster, PaintingStopped("The batch is paused.")).desk, batch.name, job)
    assert cluster.ledger.counts(batch.name).enqueued == 1
    resume(cluster, batch)
    deliver(Painter(cluster).desk, batch.name, job)
    assert read_outcome(cluster.storage, batch.name, job.id, "done").attempts == 1


def test_a_job_that_two_batches_share_ends_both(cluster: Cluster, batch: Batch, job: StyleTransfer) -> None:
    twin = submit(cluster, Request("twin", batch.sampling, batch.options), "bulk", lambda *_: None).batch
    painter = Painter(cluster)
    for line in read_manifest(cluster.storage, batch):
        deliver(painter.desk, batch.name, line)
        deliver(painter.desk, twin.name, line)
    assert painter.paintings == 2
    for name in (batch.name, twin.name):
        assert finish_batch(cluster, name, lambda: None)
    assert {read_outcome(cluster.storage, name, job.id, "done").kind for name in ("b", "twin")} == {"painted", "reused"}


def test_a_failure_names_its_worker_and_the_last_lines_of_its_log(
    cluster: Cluster, batch: Batch, job: StyleTransfer
) -> None:
    deliver(Painter(cluster, ImageError("sky.jpg is truncated.")).desk, batch.name, job)
    outcome = read_outcome(cluster.storage, batch.name, job.id, "failed")
    assert (outcome.worker, outcome.log, outcome.names) == ("w", ("the last", "lines"), job.names)


def greet(cluster: Cluster, *names: str) -> None:
    for name in names:
        cluster.ledger.greet(Greeting(name=name, device="cpu", model_loads=1, jobs=0))


def test_a_failure_that_may_be_a_machines_is_tried_by_another_and_held_against_the_first(
    cluster: Cluster, dataset: Path
) -> None:
    greet(cluster, "bad#0", "good#0", "good#1")
    sampling = Sampling(content=(str(dataset / "contents"),), styles=(str(dataset / "styles"),), pairs=4)
    batch = submit(cluster, Request("s", sampling, StyleTransferOptions()), "bulk", lambda *_: None).batch
    bad, good = Painter(cluster, NumbersError("The loss is nan.")), Painter(cluster)
    for count, job in enumerate(read_manifest(cluster.storage, batch), start=1):
        for _ in range(2):
            with pytest.raises(JobHeld, match="another worker is to try it"):
                deliver(bad.desk_of("bad#0"), "s", job)
        assert bad.paintings == count, "it does not try itself again while the other may"
        deliver(good.desk_of("good#1"), "s", job)
    assert list_outcomes(cluster.storage, "s").failed == set()
    why = why_stop(cluster.ledger, cluster.settings, "bad")
    assert why is not None
    assert "4 jobs failed here" in why
    assert why_stop(cluster.ledger, cluster.settings, "good") is None
    cluster.ledger.welcome("bad")
    assert why_stop(cluster.ledger, cluster.settings, "bad") is None


def test_a_job_that_fails_on_two_workers_has_failed(cluster: Cluster, batch: Batch, job: StyleTransfer) -> None:
    greet(cluster, "one#0", "two#0")
    painter = Painter(cluster, NumbersError("The loss is nan."))
    with pytest.raises(JobHeld):
        deliver(painter.desk_of("one#0"), batch.name, job)
    deliver(painter.desk_of("two#0"), batch.name, job)
    assert read_outcome(cluster.storage, batch.name, job.id, "failed").kind == "numbers"
    assert why_stop(cluster.ledger, cluster.settings, "one") is None


def test_the_last_outcome_enqueues_the_end(cluster: Cluster, batch: Batch) -> None:
    painter = Painter(cluster)
    manifest = cluster.storage.get(keys.manifest(batch.name, batch.manifest)).splitlines()
    waiting: Callable[[], int] = lambda: cluster.ledger.queue_lengths()["finish"]  # noqa: E731
    deliver(painter.desk, batch.name, StyleTransfer.from_json(manifest[0]))
    assert waiting() == 0
    deliver(painter.desk, batch.name, StyleTransfer.from_json(manifest[1]))
    assert waiting() == 1


def test_submitting_again_enqueues_what_is_missing_only(cluster: Cluster, batch: Batch, job: StyleTransfer) -> None:
    request = Request(batch.name, batch.sampling, batch.options)
    again: Callable[[], int] = lambda: submit(cluster, request, "bulk", lambda *_: None).enqueued  # noqa: E731
    assert cluster.ledger.queue_lengths()["bulk"] == 2
    assert again() == 0
    cluster.ledger.forget(batch.name)  # as a Redis that lost everything
    deliver(Painter(cluster).desk, batch.name, job)
    assert again() == 1


def test_a_name_used_again_owes_nothing_to_the_batch_before(cluster: Cluster, batch: Batch) -> None:
    for key in list(cluster.storage.list(keys.batch_folder(batch.name))):
        cluster.storage.delete(key)
    request = Request(batch.name, batch.sampling, batch.options)
    assert submit(cluster, request, "bulk", lambda *_: None).enqueued == 2


def test_what_a_removed_batch_left_is_not_taken_for_the_next_ones(cluster: Cluster, batch: Batch) -> None:
    for line in read_manifest(cluster.storage, batch):
        write_outcome(cluster.storage, an_outcome(batch, line))
    assert finish_batch(cluster, batch.name, lambda: None)
    cluster.storage.delete(keys.batch(batch.name))  # a removal that was cut short
    options = batch.options.model_copy(update={"num_steps": 7})
    again = submit(cluster, Request(batch.name, batch.sampling, options), "bulk", lambda *_: None)
    assert again.enqueued == 2
    assert list_outcomes(cluster.storage, batch.name).all == set()
    assert not cluster.storage.exists(keys.finished(batch.name))


def test_a_painter_whose_batch_is_removed_meanwhile_leaves_nothing_of_it(
    cluster: Cluster, batch: Batch, job: StyleTransfer
) -> None:
    painter = Painter(cluster)

    def paint(job: Job, of: AnyBatch) -> AnyResult:
        remove_batch(cluster, batch.name, force=True)
        return painter(job, of)

    deliver(replace(painter.desk, paint=paint), batch.name, job)
    assert painter.paintings == 1
    assert list(cluster.storage.list(keys.batch_folder(batch.name))) == []


def test_a_record_that_cannot_be_read_costs_its_messages_only(
    cluster: Cluster, batch: Batch, job: StyleTransfer
) -> None:
    cluster.storage.put(keys.control(batch.name), b"{")
    painter = Painter(cluster)
    deliver(painter.desk, batch.name, job)
    assert painter.paintings == 0
    assert cluster.ledger.counts(batch.name).enqueued == 1


def test_a_batch_of_another_engine_is_left_to_its_own_workers(cluster: Cluster, batch: Batch) -> None:
    older = batch.model_copy(update={"engine": batch.engine - 1})
    cluster.storage.put(keys.batch(batch.name), older.json_bytes())
    cluster.ledger.forget(batch.name)
    assert reconcile(cluster, batch.name) == 0
    with pytest.raises(UsageError, match="Use the version that submitted it"):
        resume(cluster, older)


def test_celerys_own_variable_may_not_send_messages_elsewhere(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "CELERY_BROKER_URL", "redis://elsewhere")
    with pytest.raises(UsageError, match="CELERY_BROKER_URL"):
        Cluster.open(cluster.settings)
