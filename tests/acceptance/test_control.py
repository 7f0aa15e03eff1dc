"""What operators do with batches that exist, as they type it: pause, resume, cancel, retry, rm, status, and cron."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from conftest import wait_until
from farm import LEASE_S, Farm, open_farm
from medley import keys
from medley.batches.control import read_control
from medley.batches.ending import finish_batch
from medley.batches.stored import read_manifest, write_outcome
from medley.broker.messages import set_aside
from medley.broker.queue import QUEUES
from medley.cluster import Cluster
from medley.records.batches import AnyBatch
from medley.records.jobs import ENGINE
from medley.records.results import Outcome
from medley.settings import Settings
from medley.storage.folder import FolderStorage
from medley_producer.cli import main
from medley_producer.local import private_redis
from medley_producer.status import named_batch
from receiving import SECRET, receiver

SUBMIT = ("submit", "-c", "contents", "-s", "styles", "--size", "48", "--num-steps", "2")
ACTS_S = 5.0
"""How soon a decision reaches those that are painting."""


@dataclass(frozen=True)
class Said:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object that it printed, with nothing beside it."""
        assert self.err == ""
        assert self.out.count("\n") == 1
        return json.loads(self.out)


Medley = Callable[..., Said]


@pytest.fixture
def medley(capsys: pytest.CaptureFixture[str]) -> Medley:
    """The command line, in this process; it must end as expected."""

    def call(*line: str | Path, code: int = 0) -> Said:
        try:
            ended = main([str(word) for word in line])
        except SystemExit as end:
            ended = int(end.code or 0)
        said = Said(ended, *capsys.readouterr())
        assert said.code == code, said
        return said

    return call


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[str]:
    """One Redis for all, as these tests are many and short."""
    with private_redis() as url:
        yield url


@pytest.fixture
def client(shared_redis: str) -> Iterator[redis.Redis]:
    """A plain client of it, emptied."""
    with redis.Redis.from_url(shared_redis, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def cluster(
    dataset: Path, shared_redis: str, client: redis.Redis, monkeypatch: pytest.MonkeyPatch  # noqa: ARG001  it empties
) -> Cluster:  # fmt: skip
    """A Redis and a folder as the commands see them, at work in the dataset's folder; nobody paints."""
    monkeypatch.chdir(dataset)
    monkeypatch.setenv("MEDLEY_REDIS_URL", shared_redis)
    monkeypatch.setenv("MEDLEY_STORAGE_URL", (dataset / "storage").as_uri())
    return Cluster.open(Settings.load())


def end(cluster: Cluster, name: str, kinds: Sequence[str], finish: bool = True) -> AnyBatch:
    """Write outcomes for the first jobs of a batch: ``painted``, or how they failed."""
    batch = named_batch(cluster.storage, name)
    for job, kind in zip(read_manifest(cluster.storage, batch), kinds, strict=False):
        done = kind == "painted"
        outcome = Outcome(
            job=job.id, batch=name, status="done" if done else "failed", kind=kind, attempts=0 if done else 2,
            names=job.names, reason="" if done else f"no {kind} here", log=() if done else ("one line", f"two {kind}s"),
            worker="host#1", seconds=1, finished_at=datetime.now(UTC),
        )  # fmt: skip
        write_outcome(cluster.storage, outcome)
        cluster.ledger.record_outcome(name, job.id, outcome.status)
    if finish:
        assert finish_batch(cluster, name, lambda: None)
    return batch


# Decisions


def test_a_batch_is_paused_resumed_and_cancelled(cluster: Cluster, medley: Medley) -> None:
    medley(*SUBMIT, "--batch", "night", "--pairs", "5")
    assert medley("pause", "night", "--json").json == {"batch": "night", "state": "paused"}
    assert medley("status", "night", "--json").json["state"] == "paused"
    assert "is paused. `medley resume night`" in medley(*SUBMIT, "--batch", "night", "--pairs", "5", code=2).err
    assert "goes on" in medley("resume", "night").out
    assert medley("status", "night", "--json").json["state"] == "waiting"
    said = medley("cancel", "night").out
    assert "`medley rm night`" in said
    assert "`medley resume night`" in said
    assert "is cancelled" in medley(*SUBMIT, "--batch", "night", "--pairs", "5", code=2).err
    assert "night: cancelled, 0 of 5" in medley("status", "night", "--watch").out
    medley("pause", "night", code=2)
    cluster.ledger.forget("night")
    assert medley("resume", "night", "--json").json == {"batch": "night", "state": "running", "enqueued": 5}
    end(cluster, "night", ["painted"] * 5)
    for command in ("pause", "resume", "cancel"):
        assert "has ended" in medley(command, "night", code=2).err


@pytest.mark.parametrize(("command", "state"), [("pause", "paused"), ("cancel", "cancelled")])
def test_decisions_need_no_redis(
    command: str, state: str, cluster: Cluster, medley: Medley, monkeypatch: pytest.MonkeyPatch
) -> None:
    medley(*SUBMIT, "--batch", "night")
    monkeypatch.setenv("MEDLEY_REDIS_URL", "unix:///nowhere/redis.sock")
    said = medley(command, "night")
    assert said.out.startswith(f"Batch night is {state}.")
    assert read_control(cluster.storage, "night") == state
    medley("status", "night", code=3)


@pytest.mark.parametrize("command", ["pause", "resume", "cancel", "retry", "rm"])
def test_a_batch_that_is_not_there_is_said_to_be(command: str, cluster: Cluster, medley: Medley) -> None:
    assert "no batch 'NOPE'" in medley(command, "NOPE", code=2).err
    assert "cannot be a batch's name" in medley(command, "../x", code=2).err
    assert list(cluster.storage.list()) == []


# Status


def test_status_is_right_whatever_redis_has_lost_and_says_so(
    cluster: Cluster, medley: Medley, client: redis.Redis
) -> None:
    medley(*SUBMIT, "--batch", "night", "--pairs", "6")
    end(cluster, "night", ["painted", "image", "painted"], finish=False)
    assert "counted again" not in medley("status", "night").out
    for line in (("status", "night"), ("status",)):
        client.flushall()
        lost = medley(*line).out
        assert "night: waiting, 2 of 6 painted, 1 failed; counted again from storage" in lost
        assert "counted again" not in medley(*line).out
    client.flushall()
    assert medley("status", "night", "--json").json["recounted"] is True
    end(cluster, "night", ["painted"] * 6)
    client.flushall()
    assert "night: finished, 6 of 6 painted, 0 failed\n" in medley("status", "night").out


def test_status_reads_neither_the_manifest_nor_the_outcomes(
    cluster: Cluster, medley: Medley, monkeypatch: pytest.MonkeyPatch
) -> None:
    medley(*SUBMIT, "--batch", "night")
    end(cluster, "night", ["painted", "image"], finish=False)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    for method in ("list", "get_file"):
        monkeypatch.setattr(FolderStorage, method, refuse)
    assert "night: waiting, 1 of 12 painted, 1 failed" in medley("status", "night").out


def test_status_names_what_nobody_serves_what_was_set_aside_and_who_stopped(
    cluster: Cluster, medley: Medley, client: redis.Redis
) -> None:
    client.lpush(f"bulk.{ENGINE + 1}", "a", "b")
    set_aside(client, QUEUES["bulk"], "It is \x1b[2J no message.", b"{")
    cluster.ledger.note_stopped("host#1", "3 jobs failed here that others painted.")
    said = medley("status").out
    assert f"queue bulk.{ENGINE + 1} holds 2 messages, and no worker that is up serves it" in said
    assert "1 message set aside" in said
    assert "no message." in said
    assert "\x1b" not in said
    assert "worker host#1 stopped: 3 jobs failed here" in said
    assert "No worker is up." in said
    told = medley("status", "--json").json
    assert told["unserved"] == {f"bulk.{ENGINE + 1}": 2}
    assert (told["set_aside"], told["stopped"].keys()) == (1, {"host#1"})


def test_failures_are_named_with_their_logs_before_the_end_and_after(cluster: Cluster, medley: Medley) -> None:
    Path("contents", "note.jpg").write_text("no picture")
    medley(*SUBMIT, "--batch", "night", "--pairs", "4", "--pairing", "product", code=1)
    kinds = ["painted", "image", "resource", "painted"]
    end(cluster, "night", kinds[:3], finish=False)
    during = medley("status", "night", "--failed"), medley("status", "night", "--failed", "--json").json
    end(cluster, "night", kinds)
    after = medley("status", "night", "--failed"), medley("status", "night", "--failed", "--json").json
    for said, told in (during, after):
        assert "  skipped note.jpg is not a picture" in said.out
        assert (
            "photo0.jpg x paint1.png: no image here [image; by host#1, attempt 2]\n      one line\n      two images\n"
            in said.out
        )
        assert "[resource; " in said.out
        skipped, *failed = told["failures"]
        assert skipped["skipped"] == "note.jpg"
        assert {failure["kind"]: failure["log"][-1] for failure in failed} == {
            "image": "two images", "resource": "two resources"
        }  # fmt: skip
        assert (told["batch"], told["failed"]) == ("night", 2)
    assert "`medley status night --failed`" in medley("status", "night").out
    medley("status", "--failed", code=2)


# Retry and removal


def test_what_failed_is_tried_again_by_kind_or_all_of_it(cluster: Cluster, medley: Medley) -> None:
    medley(*SUBMIT, "--batch", "night", "--pairs", "4")
    end(cluster, "night", ["painted", "image", "resource", "resource"])
    assert "None failed as poison" in medley("retry", "night", "--kind", "poison").out
    assert medley("status", "night", "--json").json["state"] == "finished"
    assert medley("retry", "night", "--kind", "image", "poison", "--json").json == {"batch": "night", "retried": 1}
    status = medley("status", "night", "--json").json
    assert (status["state"], status["done"], status["failed"]) == ("waiting", 1, 2)
    assert "2 jobs that failed are tried again" in medley("retry", "night").out
    medley("pause", "night")
    assert "is paused" in medley("retry", "night", code=2).err
    medley("resume", "night")
    end(cluster, "night", ["painted"] * 4)
    assert "finished, 4 of 4 painted, 0 failed" in medley("status", "night").out


def test_a_batch_is_removed_and_then_what_nobody_needs(cluster: Cluster, medley: Medley) -> None:
    medley(*SUBMIT, "--batch", "night", "--pairs", "4")
    assert "--force" in medley("rm", "night", code=2).err
    assert medley("rm", "night", "--force", "--json").json["state"] == "removed"
    assert "no batch 'night'" in medley("status", "night", code=2).err
    left = set(cluster.storage.list())
    assert left
    assert "Would remove" in medley("rm", "--unused", "--dry-run").out
    assert set(cluster.storage.list()) == left
    assert medley("rm", "--unused", "--json").json["objects"] == len(left)
    assert list(cluster.storage.list()) == []


@pytest.mark.parametrize("line", ["rm", "rm night --unused", "rm night --dry-run", "rm --unused --force"])
def test_half_a_removal_is_refused(line: str, cluster: Cluster, medley: Medley) -> None:  # noqa: ARG001  it is there
    said = medley(*line.split(), code=2)
    assert (said.out, said.err.count("\n")) == ("", 1)


# cron


def test_cron_may_submit_twice_and_the_next_night_is_another_batch(cluster: Cluster, medley: Medley) -> None:
    nightly = (*SUBMIT, "--batch", "nightly-{date}", "--pairs", "5", "--json")
    before = datetime.now(UTC)
    first = medley(*nightly).json
    assert first["batch"] in {f"nightly-{now:%Y-%m-%d}" for now in (before, datetime.now(UTC))}
    assert first["enqueued"] == 5
    again = medley(*(first["batch"] if word == "nightly-{date}" else word for word in nightly)).json
    assert again == {**first, "enqueued": 0}
    assert sum(cluster.ledger.queue_lengths().values()) == 5
    assert "exists with other arguments" in medley(*nightly, "--num-steps", "3", code=2).err
    other = medley(*nightly, "--date-format", "%y%j").json
    assert other["batch"] != first["batch"]
    assert medley(*nightly, "--dry-run").json["batch"] == first["batch"]


def test_whom_to_tell_is_kept_secret(cluster: Cluster, medley: Medley) -> None:
    url = f"https://example.org/{SECRET}"
    asking = (*SUBMIT, "--batch", "night", "--pairs", "2", "--notify", url)
    said = [medley(*asking), medley("status", "night"), medley("status", "night", "--json")]
    assert not any(SECRET in text for one in said for text in (one.out, one.err))
    assert SECRET in cluster.storage.get(keys.notify("night")).decode()
    cluster.storage.delete(keys.notify("night"))
    assert not any(SECRET.encode() in cluster.storage.get(key) for key in cluster.storage.list("batches/"))
    end(cluster, "night", ["painted"] * 2)
    medley(*asking)
    assert not cluster.storage.exists(keys.notify("night"))  # it has ended, and whoever asked then was told
    refused = medley(*SUBMIT, "--batch", "other", "--notify", f"ftp://{SECRET}", code=2)
    assert SECRET not in refused.err
    assert not cluster.storage.exists(keys.batch("other"))


# With a worker


@pytest.fixture
def farm(tmp_path: Path, dataset: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Farm]:
    """A farm with one worker, as the commands see it."""
    monkeypatch.chdir(dataset)
    monkeypatch.setenv("MEDLEY_REDIS_URL", redis_url)
    monkeypatch.setenv("MEDLEY_STORAGE_URL", (tmp_path / "storage").as_uri())
    monkeypatch.setenv("MEDLEY_LEASE_S", str(LEASE_S))
    monkeypatch.setenv("MEDLEY_LEASE_RENEW_S", "1")
    with open_farm(tmp_path, redis_url, (tmp_path / "storage").as_uri(), reconcile_s=1.0) as farm:
        farm.start_worker()
        yield farm


def test_decisions_reach_those_that_paint_and_the_end_is_told(farm: Farm, medley: Medley) -> None:
    def painting() -> Any:
        return farm.cluster.ledger.painting("long", within_s=LEASE_S)

    medley(*SUBMIT, "--batch", "long", "--num-steps", "5000")
    wait_until(painting, 60, f"a painting; {farm.told()}")
    medley("pause", "long")
    wait_until(lambda: not painting(), ACTS_S, f"the pause; {farm.told()}")
    assert medley("status", "long", "--json").json["state"] == "paused"

    with receiver(500, 204) as there:
        line = (*SUBMIT, "--batch", "nightly-{date}", "--pairs", "2", "--wait", "--json", "--notify", there.url)
        told = medley(*line).json
        assert (told["state"], told["done"], told["failed"]) == ("finished", 2, 0)
        wait_until(lambda: len(there.asked) == 2, 10, f"word of the end; {farm.told()}")
        assert there.asked[-1].body["batch"] == told["batch"]
        assert medley(*line).json["done"] == 2  # the same night once more: at once, and nobody is told
    assert len(there.asked) == 2

    medley("resume", "long")
    wait_until(painting, 30, f"a painting again; {farm.told()}")
    medley("rm", "long", "--force")
    assert not any("long" in key for key in farm.cluster.storage.list())
    assert sum(farm.cluster.ledger.queue_lengths().values()) == 0 or not painting()
    assert SECRET not in farm.told()
