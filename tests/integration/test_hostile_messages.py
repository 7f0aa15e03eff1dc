"""Whatever stands in a queue: the worker goes on, runs what medley sent and nothing else, and says why not."""

import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import ValidationError

from conftest import wait_until
from farm import FINISHES_WITHIN_S, open_farm
from hostile_messages import Json, body_of, changed, hostile_messages, told, with_body
from medley.batches.stored import LINE_BYTES
from medley.broker.bundles import BODY_BYTES, MOST_JOBS
from medley.broker.messages import (
    KEPT_SET_ASIDE,
    MOST_BYTES,
    SET_ASIDE,
    SHOWN_CHARACTERS,
    SHOWN_OF_REASON,
    SetAside,
    read_message,
    set_aside,
)
from medley.broker.queue import QUEUES, UNACKED, UNACKED_INDEX, make_celery, publish_finish, publish_paint
from medley.broker.transport import Transport
from medley.cluster import Cluster
from medley.errors import UsageError
from medley.records.batches import AnyBatch, Batch, Sampling
from medley.records.jobs import StyleTransfer
from medley.records.kinds import Job
from medley.records.options import StyleTransferOptions
from medley.records.pictures import Picture, Style
from medley.records.results import Result
from medley.settings import Settings
from medley_producer.submit import Request, submit
from medley_workers.jobs.desk import Desk
from outcomes import list_outcomes, transfers
from painters import deliver

SEED = 6


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client as kombu's, whose answers are bytes."""
    with redis.Redis.from_url(redis_url) as client:
        yield client


def pushed(client: redis.Redis, queue: str) -> bytes:
    """Take back what was published last."""
    text: Any = client.lpop(queue)
    assert text
    return bytes(text)


def kept(client: redis.Redis) -> list[SetAside]:
    texts: Any = client.lrange(SET_ASIDE, 0, -1)
    return [SetAside.from_json(text) for text in texts]


def kept_text(text: bytes) -> str:
    """What is kept of a message."""
    return text.decode(errors="replace")[:SHOWN_CHARACTERS]


def push_poisoned_deliveries(client: redis.Redis, message: Json) -> list[bytes]:
    """Put into kombu's hash of unacknowledged messages what cannot be put back; returns what was put there."""
    entries = [
        b"", b"no JSON", b"7", b"[]", b'["a", "b"]', b"[" * 10_000, b'["text", "", "bulk.3"]', b"[{}, 7, []]",
        json.dumps([message, "", "unacked_index"]).encode(), json.dumps([{}, "", QUEUES["bulk"]]).encode(),
    ]  # fmt: skip
    for number, entry in enumerate(entries):
        client.hset(UNACKED, f"poisoned-{number}", entry)
        client.zadd(UNACKED_INDEX, {f"poisoned-{number}": number})
    return entries


@pytest.mark.parametrize("count", [200, pytest.param(2_000, marks=pytest.mark.soak)])
def test_none_of_many_hostile_messages_is_run_or_ends_the_worker(
    count: int, tmp_path: Path, redis_url: str, client: redis.Redis, dataset: Path
) -> None:
    canary = tmp_path / "canary"
    print(f"seed {SEED}")
    with open_farm(tmp_path, redis_url, (tmp_path / "storage").as_uri()) as farm:
        bait = farm.submit("bait", dataset, pairs=1)
        real = pushed(client, QUEUES["bulk"])
        hostile = hostile_messages(real, count, SEED, canary)
        for number, message in enumerate(hostile):
            client.lpush(list(QUEUES.values())[number % len(QUEUES)], message.text)
        poisoned = push_poisoned_deliveries(client, json.loads(real))

        worker = farm.start_worker()
        (painter,) = wait_until(worker.painters, 60, f"a painter; {farm.told()}")
        processes = (worker.parent.pid, painter.pid)
        good = farm.submit("good", dataset, pairs=2)
        assert len(farm.await_end(good, FINISHES_WITHIN_S + count / 10)) == 2
        wait_until(lambda: queues_are_empty(client), 30, f"empty queues; {farm.told()}")

        assert (worker.parent.pid, *(p.pid for p in worker.painters())) == processes
        log = worker.log.read_text()
        never_run = [message.text for message in hostile if not message.may_run] + poisoned
        said = log.count("is set aside")
        assert len(never_run) <= said <= len(hostile) + len(poisoned)
        found = Counter(record.message for record in kept(client))
        assert found.total() == min(said, KEPT_SET_ASIDE)
        if said <= KEPT_SET_ASIDE:
            assert not Counter(map(kept_text, never_run)) - found
        assert all(record.reason.isprintable() and record.reason[-1] == "." for record in kept(client))
        assert not canary.exists(), "a pickle was opened"
        assert "Traceback" not in log
        assert all(line.isprintable() for line in log.splitlines())
        # What may run was the one real job, whatever its message said beside that.
        outcomes = list_outcomes(farm.cluster.storage, bait.name)
        assert not outcomes.failed
        assert set(farm.results(bait)) == outcomes.done
        assert set(re.findall(r"job (\w{32}) of bait", log)) <= outcomes.done
        print(f"{count} hostile messages: {said} set aside, {worker.deliveries()} taken")


def queues_are_empty(client: redis.Redis) -> bool:
    return not any(client.llen(name) for name in QUEUES.values()) and not client.zcard(UNACKED_INDEX)


# Each message


@pytest.fixture
def real(cluster: Cluster, client: redis.Redis) -> Json:
    """What a producer sends for one job."""
    publish_paint(cluster.app, cluster.settings, "bulk", "b", [a_job("photo.jpg")])
    message: Json = json.loads(pushed(client, QUEUES["bulk"]))
    return message


def a_job(name: str) -> StyleTransfer:
    style = Style(sha256="b" * 64, ext="png", name="paint.png")
    return StyleTransfer(id="0" * 32, content=Picture(sha256="a" * 64, ext="jpg", name=name), styles=(style,))


def test_what_producers_send_is_read_as_it_was_sent(cluster: Cluster, client: redis.Redis, real: Json) -> None:
    publish_finish(cluster.app, cluster.settings, "b")
    for sent in (real, json.loads(pushed(client, QUEUES["finish"]))):
        read = json.loads(read_message(told(sent)))
        for part in ("body", "content-type", "content-encoding"):
            assert read[part] == sent[part]
        for name in ("task", "id", "at", "ignore_result"):
            assert read["headers"][name] == sent["headers"][name]
        assert read["properties"]["delivery_tag"] == sent["properties"]["delivery_tag"]
        assert read["properties"]["delivery_info"]["routing_key"] in QUEUES.values()
        assert read_message(told(read)) == read_message(told(sent))


@pytest.mark.parametrize("letter", ["a", "\u00e9", "\u753b", "\U0001f3a8", "\x01"])
def test_the_longest_line_of_a_manifest_fits_into_a_message(cluster: Cluster, client: redis.Redis, letter: str) -> None:
    job = a_job("")
    each = len(a_job(letter).json_bytes()) - len(job.json_bytes())
    job = a_job(letter * ((LINE_BYTES - 1 - len(job.json_bytes())) // each))
    publish_paint(cluster.app, cluster.settings, "bulk", "b", [job])
    text = pushed(client, QUEUES["bulk"])
    assert LINE_BYTES < len(text) <= MOST_BYTES
    assert body_of(json.loads(read_message(text)))[0][1][0]["content"]["name"] == job.content.name


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("headers", "task"), "os.system", "There is no task 'os.system'"),
        (("headers", "eta"), "2100-01-01T00:00:00+00:00", "headers.eta: Input should be None"),
        (("headers", "timelimit"), [1, None], "headers.timelimit.0: Input should be None"),
        (("content-type",), "application/x-python-serialize", "content-type: Input should be 'application/json'"),
        (("properties", "delivery_info", "routing_key"), "unacked", "there is no queue 'unacked'"),
        (("body",), "*", "body is not base64"),
        (("unknown",), "x" * MOST_BYTES, f"at most {MOST_BYTES:,}"),
    ],
)
def test_the_reason_names_what_is_wrong(real: Json, path: tuple[str, ...], value: object, reason: str) -> None:
    read_message(told(real))
    with pytest.raises(UsageError) as raised:
        read_message(told(changed(real, path, value)))
    assert reason in str(raised.value)


def test_a_message_with_one_job_that_is_none_among_others_is_not_run(real: Json) -> None:
    (batch, (job,)), kwargs, embed = body_of(real)
    read_message(with_body(real, [[batch, [job, job | {"id": "1" * 32}]], kwargs, embed]))
    with pytest.raises(UsageError, match="id: String should match"):
        read_message(with_body(real, [[batch, [job, job | {"id": "../" * 10 + "ab"}]], kwargs, embed]))


def test_a_bundle_that_medley_would_not_send_is_not_run(real: Json) -> None:
    (batch, (job,)), kwargs, embed = body_of(real)

    def said_of(jobs: list[Json]) -> str:
        with pytest.raises(UsageError) as raised:
            read_message(with_body(real, [[batch, jobs], kwargs, embed]))
        return str(raised.value)

    walk = {"kind": "walk", "id": "1" * 32, "first": 0, "count": 8}
    many = [job | {"id": f"{n:032x}"} for n in range(MOST_JOBS + 1)]
    long = [job | {"id": f"{n:032x}", "content": job["content"] | {"name": "x" * 3_000}} for n in range(2)]
    assert "twice" in said_of([job, job])
    assert "must be alone" in said_of([job, walk])
    assert "must be alone" in said_of([job, job | {"id": "1" * 32, "init": job["id"]}])
    assert f"at most {MOST_JOBS} items" in said_of(many)
    assert f"at most {BODY_BYTES:,}" in said_of(long)


@pytest.mark.parametrize("part", ["jobs", "styles"])
def test_a_message_with_very_many_mistakes_costs_little(real: Json, part: str) -> None:
    (batch, (job,)), kwargs, embed = body_of(real)
    many: list[int] = [0] * (MOST_BYTES // 5)  # in base64 a third longer
    text = with_body(real, [[batch, many if part == "jobs" else [job | {"styles": many}]], kwargs, embed])
    assert MOST_BYTES * 0.7 < len(text) < MOST_BYTES
    with pytest.raises(UsageError) as raised:
        read_message(text)
    assert isinstance(raised.value.__cause__, ValidationError)
    assert raised.value.__cause__.error_count() < 10, "the worker's event loop waits while mistakes are listed"


def test_celery_is_given_nothing_that_medley_does_not_read(real: Json) -> None:
    stamped = changed(changed(real, ("headers", "stamped_headers"), 7), ("headers", "callbacks"), [{"task": "x"}])
    assert read_message(told(stamped)) == read_message(told(real))


# What is kept


def test_the_newest_that_were_set_aside_are_kept_and_no_more(client: redis.Redis) -> None:
    for number in range(KEPT_SET_ASIDE + 5):
        set_aside(client, "bulk.3", "It is one.", str(number))
    assert [record.message for record in kept(client)] == [str(KEPT_SET_ASIDE + 4 - n) for n in range(KEPT_SET_ASIDE)]


@pytest.mark.parametrize("text", [b"\xff" * 10_000, "\ud800" * 10_000, "\x00\x1b[2J\n" * 10_000, b"", ""])
def test_what_is_kept_is_short_and_harmless(
    client: redis.Redis, text: bytes | str, caplog: pytest.LogCaptureFixture
) -> None:
    set_aside(client, "bulk.3", f"It has {text!r}." + "\x1b\n\ud800" * 1_000, text)
    (record,) = kept(client)
    assert len(record.message) <= SHOWN_CHARACTERS
    assert len(record.reason) <= SHOWN_OF_REASON + 3
    assert record.reason.isprintable()
    (line,) = caplog.messages
    assert SET_ASIDE in line
    assert line.isprintable()


def test_a_redis_that_does_not_keep_it_ends_nothing(client: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    client.set(SET_ASIDE, "not a list")
    set_aside(client, "bulk.3", "It is none.", b"text")
    assert "It is none." in caplog.text
    assert "dropped" in caplog.text


@pytest.mark.parametrize("url", ["redis://:secret@h:1/2", "rediss://user:secret@h:1/0", "unix:///a/b.sock"])
def test_celery_consumes_through_it_whatever_the_url(url: str, tmp_path: Path) -> None:
    app = make_celery(Settings(redis_url=url, storage_url=tmp_path.as_uri()))
    for connection in (app.connection_for_read(), app.connection_for_write()):
        assert isinstance(connection.transport, Transport)
        assert isinstance(connection.clone().transport, Transport)
        assert "secret" not in connection.as_uri()


# What others see of them


def test_whoever_looks_at_the_queues_bears_them(cluster: Cluster, client: redis.Redis, tmp_path: Path) -> None:
    publish_paint(cluster.app, cluster.settings, "bulk", "b", [a_job("photo.jpg")])
    real = pushed(client, QUEUES["bulk"])
    odd_times = [
        told(changed(json.loads(real), ("headers", "at"), at)) for at in (float("nan"), 1e999, 10**400, -1, "x")
    ]
    texts = [message.text for message in hostile_messages(real, 300, SEED, tmp_path / "canary")] + odd_times
    ledger = cluster.ledger
    for text in texts:
        client.rpush(QUEUES["bulk"], text)
        assert 0 <= ledger.waiting_since()["bulk"] < 1e12
        entry = b"[" + text + b', "", "bulk.3"]'
        client.hset(UNACKED, mapping={"a": text, "b": entry})
        ledger.held_batches()
    assert sum(ledger.queue_lengths().values()) == len(texts)
    set_aside(client, "bulk.3", "It is none.", real)
    client.lpush(SET_ASIDE, "none of ours", b"\xff")
    assert [record["reason"] for record in ledger.aside(10)] == ["It is none."]


# Jobs that are not what they say


@pytest.fixture
def batch(cluster: Cluster, dataset: Path) -> Batch:
    sampling = Sampling(content=(str(dataset / "contents"),), styles=(str(dataset / "styles"),), pairs=2)
    return submit(cluster, Request("b", sampling, StyleTransferOptions()), "bulk", lambda *_: None).batch


def test_a_job_whose_id_is_not_of_its_inputs_is_set_aside(cluster: Cluster, batch: Batch, client: redis.Redis) -> None:
    def paint(job: Job, _: AnyBatch) -> Result:
        raise AssertionError(job)

    job, other = transfers(cluster.storage, batch)
    forged = [
        job.model_copy(update={"id": uuid.uuid4().hex}),
        job.model_copy(update={"id": other.id}),
        job.model_copy(update={"content": other.content.model_copy(update={"sha256": "0" * 64})}),
        job.model_copy(update={"styles": (*job.styles, *job.styles)}),
        job.model_copy(update={"styles": (job.styles[0].model_copy(update={"weight": 9.0}),)}),
    ]
    for one in forged:
        deliver(Desk(cluster, "w#0", paint), batch.name, one)
    assert not list_outcomes(cluster.storage, batch.name).all
    assert [json.loads(record.message)["id"] for record in kept(client)] == [one.id for one in reversed(forged)]
