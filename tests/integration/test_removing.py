"""Removing a batch, and sweeping what no batch needs: never what one does."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from conftest import draw_picture, wait_until
from medley import keys
from medley.batches import removing
from medley.batches.control import cancel, pause, read_control
from medley.batches.ending import finish_batch
from medley.batches.removing import Swept, remove_batch, sweep
from medley.batches.stored import read_manifest, read_result, write_outcome
from medley.broker.paintings import Progress
from medley.cluster import Cluster
from medley.errors import BatchBusy, UsageError
from medley.records.base import JobId
from medley.records.batches import Batch, Sampling
from medley.records.jobs import ENGINE, StyleTransfer
from medley.records.options import StyleTransferOptions
from medley.records.results import Outcome, Result, Seconds, StoredFile
from medley.settings import Settings
from medley.telling import quiet
from medley_producer.choosing import picture_of
from medley_producer.submit import Request
from medley_producer.submit import submit as submit_request
from outcomes import transfers

LEASE_S = 2.0


@pytest.fixture
def cluster(tmp_path: Path, redis_url: str) -> Cluster:
    """A Redis and a folder, with short leases."""
    storage_url = (tmp_path / "storage").as_uri()
    return Cluster.open(Settings(redis_url=redis_url, storage_url=storage_url, lease_s=LEASE_S, lease_renew_s=1))


@pytest.fixture
def submit(cluster: Cluster, dataset: Path) -> Callable[..., Batch]:
    """What submits a batch: the first photos with the first styles, one with one."""

    def make(name: str, pairs: int = 3, told: Any = quiet, **options: Any) -> Batch:
        pools = {"content": (str(dataset / "contents"),), "styles": (str(dataset / "styles"),)}
        sampling = Sampling(**pools, pairing="zip", pairs=pairs, sample_seed="x")
        chosen = StyleTransferOptions(**options)
        init = str(dataset / "first.png") if "init" in options else None
        return submit_request(cluster, Request(name, sampling, chosen, init), "bulk", told).batch

    return make


def everything(cluster: Cluster) -> set[str]:
    return set(cluster.storage.list())


def jobs_of(cluster: Cluster, batch: Batch) -> list[StyleTransfer]:
    return transfers(cluster.storage, batch)


def inputs_of(*jobs: StyleTransfer) -> set[str]:
    return {keys.input_picture(picture.input) for job in jobs for picture in (job.content, *job.styles)}


def store_files(cluster: Cluster, job: JobId, *tokens: str) -> dict[str, StoredFile]:
    """The files of attempts at a job; the last one's as a result names them, with a frame of each earlier one's."""
    files: dict[str, StoredFile] = {}
    for number, token in enumerate(tokens):
        for name, key in {
            f"frames/{number:06d}.jpg": keys.frame(job, token, number),
            "pastiche.png": keys.pastiche(job, token),
        }.items():
            cluster.storage.put(key, key.encode())
            files[name] = StoredFile(key=key, sha256=sha256(key.encode()).hexdigest(), bytes=len(key))
    return files


def store_result(cluster: Cluster, batch: Batch, job: StyleTransfer, *tokens: str) -> None:
    """What a painter leaves of a job that is done, after being interrupted by the others' attempts."""
    now = datetime.now(UTC)
    result = Result(
        job_id=job.id, batch=batch.name, content=job.content, styles=job.styles, options=batch.options, engine=ENGINE,
        weights=batch.weights, size=(8, 8), steps=4, losses=((0, 2.0), (4, 1.0)), loss=1.0, content_loss=0.5,
        png_loss=1.0, frames=(), files=store_files(cluster, job.id, *tokens), precision="float32", versions={},
        seconds=Seconds(load=0, paint=1, store=0, total=1), device="cpu", attempt=tokens[-1], worker="w",
        finished_at=now,
    )  # fmt: skip
    assert cluster.storage.put_new(keys.result(job.id), result.json_bytes())


def end(cluster: Cluster, batch: Batch, status: Any = "failed") -> None:
    """End a batch."""
    for job in read_manifest(cluster.storage, batch):
        outcome = Outcome(
            job=job.id, batch=batch.name, status=status, kind="image", attempts=1, worker="w", seconds=1,
            finished_at=datetime.now(UTC),
        )  # fmt: skip
        write_outcome(cluster.storage, outcome)
    assert finish_batch(cluster, batch.name, lambda: None)


def report(cluster: Cluster, batch: Batch, job: JobId, at: float | None = None) -> None:
    """Have a worker say that it paints a job."""
    progress = Progress(step=1, steps=9, worker="host#0", at=time.time() if at is None else at)
    cluster.ledger.report(batch.name, job, progress)


# A batch


def test_a_batch_that_has_ended_is_removed_with_all_that_is_its_own(
    cluster: Cluster, submit: Callable[..., Batch]
) -> None:
    batch, other = submit("night"), submit("other")
    store_result(cluster, batch, jobs_of(cluster, batch)[0], "token")
    others = {key for key in everything(cluster) if "night" not in key}
    end(cluster, batch)
    assert remove_batch(cluster, "night") > 5
    assert everything(cluster) == others
    assert not cluster.ledger.counts("night").counted
    assert cluster.ledger.counts("other").enqueued == other.jobs
    with pytest.raises(UsageError, match="no batch 'night'"):
        remove_batch(cluster, "night")
    assert submit("night").jobs == batch.jobs


@pytest.mark.parametrize("stop", [pause, cancel])
def test_only_a_batch_that_runs_needs_force(
    stop: Callable[[Cluster, Batch], None], cluster: Cluster, submit: Callable[..., Batch]
) -> None:
    batch = submit("night")
    before = everything(cluster)
    with pytest.raises(UsageError, match=r"'night' is running.*--force"):
        remove_batch(cluster, "night")
    assert everything(cluster) == before
    stop(cluster, batch)
    remove_batch(cluster, "night")
    submit("night")
    remove_batch(cluster, "night", force=True)
    assert not any("night" in key for key in everything(cluster))


def test_painters_are_waited_for_and_a_killed_one_as_long_as_its_lease(
    cluster: Cluster, submit: Callable[..., Batch]
) -> None:
    batch = submit("night")
    painted, killed, _ = jobs_of(cluster, batch)
    report(cluster, batch, killed.id)
    report(cluster, batch, painted.id)
    with ThreadPoolExecutor(1) as thread:
        removed = thread.submit(remove_batch, cluster, "night", force=True)
        wait_until(lambda: read_control(cluster.storage, "night") == "cancelled", 5, "the cancellation")
        assert cluster.storage.exists(keys.batch("night"))
        report(cluster, batch, painted.id)
        cluster.ledger.record_outcome("night", painted.id, "failed")
        removed.result(timeout=LEASE_S + 5)
    assert not cluster.storage.exists(keys.batch("night"))


def test_a_painter_that_does_not_stop_is_named(cluster: Cluster, submit: Callable[..., Batch]) -> None:
    batch = submit("night")
    report(cluster, batch, jobs_of(cluster, batch)[0].id, at=time.time() + 60)
    with pytest.raises(BatchBusy, match="still painted by host#0"):
        remove_batch(cluster, "night", force=True)
    assert cluster.storage.exists(keys.batch("night"))


def test_what_a_removal_that_was_cut_short_left_is_removed_by_the_next(
    cluster: Cluster, submit: Callable[..., Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    end(cluster, submit("night"))
    monkeypatch.setattr(removing, "CHUNK", 1)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remove_batch(cluster, "night", told=interrupt)
    assert not cluster.storage.exists(keys.batch("night"))
    assert remove_batch(cluster, "night") > 1
    assert not any("night" in key for key in everything(cluster))


def test_a_batch_that_is_being_submitted_or_cannot_be_read_needs_force(
    cluster: Cluster, submit: Callable[..., Batch]
) -> None:
    cluster.storage.put(keys.open_batch("begun"), b"")
    with pytest.raises(UsageError, match=r"'begun' is being submitted.*--force"):
        remove_batch(cluster, "begun")
    submit("newer")
    cluster.storage.put(keys.batch("newer"), b'{"from": "the future"}')
    with pytest.raises(UsageError, match=r"Not a valid Batch.*rm newer --force"):
        remove_batch(cluster, "newer")
    for name in ("begun", "newer"):
        remove_batch(cluster, name, force=True)
    assert not any(name in key for key in everything(cluster) for name in ("begun", "newer"))


# What no batch needs


def test_a_sweep_keeps_what_batches_need_and_nothing_else(cluster: Cluster, submit: Callable[..., Batch]) -> None:
    gone, kept = submit("gone", 3), submit("kept", 2)
    done, lacking, unused = jobs_of(cluster, gone)
    assert jobs_of(cluster, kept) == [done, lacking]
    store_result(cluster, gone, done, "first", "last")  # gone on with: its result names files of both
    store_files(cluster, done.id, "loser")
    store_files(cluster, lacking.id, "begun", "again")
    store_result(cluster, gone, unused, "token")
    foreign = {"jobs/notes/list.txt", "inputs/readme.txt", "models/readme.txt", "jobs/readme.txt"}
    for key in (*foreign, keys.checkpoint(done.id), keys.checkpoint(lacking.id), keys.model("0" * 64)):
        cluster.storage.put(key, b"")
    remove_batch(cluster, "gone", force=True)
    before = everything(cluster)

    planned = sweep(cluster, dry_run=True)
    assert everything(cluster) == before
    swept = sweep(cluster)
    assert swept == planned
    after = everything(cluster)
    assert swept.objects == len(before - after)
    assert (swept.jobs, swept.inputs, swept.models) == (1, 2, 1)
    assert swept.leftovers == len({key for key in before if "/loser/" in key}) + len(["first's picture", "checkpoint"])
    named = read_result(cluster.storage, done.id)
    assert named
    assert {file.key for file in named.files.values()} <= after
    assert {key for key in before if lacking.id in key} <= after
    assert {
        keys.input_picture(picture.input) for job in (done, lacking) for picture in (job.content, *job.styles)
    } <= after
    assert foreign <= after
    assert not any(unused.id in key or "/loser/" in key for key in after)
    assert sweep(cluster) == Swept()


def test_a_sweep_keeps_a_batchs_own_weights_and_first_picture(
    cluster: Cluster, submit: Callable[..., Batch], dataset: Path
) -> None:
    first = picture_of(draw_picture(dataset / "first.png", seed=50), cluster.settings)
    batch = submit("night", init=first)
    cluster.storage.put(keys.model(batch.weights.sha256), b"weights")
    before = everything(cluster)
    assert keys.input_picture(first.input) in before
    assert sweep(cluster) == Swept()
    assert everything(cluster) == before


def test_attempts_that_are_under_way_are_left_alone(cluster: Cluster, submit: Callable[..., Batch]) -> None:
    batch = submit("night")
    job = jobs_of(cluster, batch)[0]
    store_result(cluster, batch, job, "token")
    store_files(cluster, job.id, "twin")
    report(cluster, batch, job.id, at=time.time() + 60)
    assert sweep(cluster) == Swept()


def test_a_sweep_and_a_submission_keep_out_of_each_others_way(cluster: Cluster, submit: Callable[..., Batch]) -> None:
    submit("night", 1)
    refused: list[str] = []

    def submit_too(*_: object) -> None:
        with pytest.raises(BatchBusy, match="being swept") as error:
            submit("other")
        refused.append(str(error.value))

    def sweep_too(what: str, *_: object) -> None:
        if what == "uploading":
            with pytest.raises(BatchBusy, match="'other' is being submitted") as error:
                sweep(cluster)
            refused.append(str(error.value))

    sweep(cluster, told=submit_too)
    assert refused
    refused.clear()
    batch = submit("other", told=sweep_too)
    assert refused
    used = {
        keys.input_picture(picture.input) for job in jobs_of(cluster, batch) for picture in (job.content, *job.styles)
    }
    assert sweep(cluster) == Swept()
    assert used <= everything(cluster)


def test_two_sweeps_do_not_meet_and_one_that_lost_its_claim_stops(
    cluster: Cluster, submit: Callable[..., Batch]
) -> None:
    submit("night")

    def sweep_too(*_: object) -> None:
        with pytest.raises(BatchBusy, match="swept by another command"):
            sweep(cluster)

    sweep(cluster, told=sweep_too)
    with pytest.raises(BatchBusy, match="Sweep again"):
        sweep(cluster, told=lambda *_: cluster.ledger.end_claim(removing.SWEEPING))


@pytest.mark.parametrize("which", ["batch.json", ".jsonl"])
def test_nothing_is_swept_where_a_batch_cannot_be_read(
    which: str, cluster: Cluster, submit: Callable[..., Batch]
) -> None:
    submit("night")
    cluster.storage.put(keys.model("0" * 64), b"")
    (record,) = [key for key in everything(cluster) if key.endswith(which)]
    cluster.storage.put(record, b'{"from": "the future"}\n')
    before = everything(cluster)
    with pytest.raises(UsageError, match=r"Nothing was swept.*'night'"):
        sweep(cluster)
    assert everything(cluster) == before
