"""kombu's inside that leases rest on: what is unacknowledged, when it comes back, and what a renewal does."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from kombu.connection import Connection

from conftest import wait_until
from medley.broker.queue import QUEUES, publish_paint
from medley.cluster import Cluster
from medley.records.jobs import StyleTransfer
from medley.records.pictures import Picture, Style
from medley.settings import Settings

LEASE_S = 3.0


@pytest.fixture
def cluster(tmp_path: Path, redis_url: str) -> Cluster:
    settings = Settings(
        redis_url=redis_url, storage_url=(tmp_path / "storage").as_uri(), lease_s=LEASE_S, lease_renew_s=1
    )
    return Cluster.open(settings)


@contextmanager
def consumer(cluster: Cluster, received: list[Any]) -> Iterator[Connection]:
    """Takes one message at a time with kombu itself, and acknowledges none."""
    with cluster.app.connection_for_read() as connection:
        channel = connection.default_channel
        channel.basic_qos(0, 1, False)
        queue = cluster.app.amqp.queues[QUEUES["bulk"]].bind(channel)
        queue.consume(callback=received.append, no_ack=False)
        yield connection


def drained(connection: Connection, received: list[Any]) -> list[Any]:
    """What has been received, after a moment for more."""
    with suppress(TimeoutError):
        connection.drain_events(timeout=0.2)
    return received


def send(cluster: Cluster) -> None:
    picture = {"sha256": "0" * 64, "ext": "jpg", "name": "a.jpg"}
    job = StyleTransfer(id="0" * 32, content=Picture(**picture), styles=(Style(**picture),))
    publish_paint(cluster.app, cluster.settings, "bulk", "b", [job])


def test_a_lease_that_is_renewed_holds_and_one_that_lapses_comes_back(cluster: Cluster) -> None:
    send(cluster)
    first: list[Any] = []
    second: list[Any] = []
    with consumer(cluster, first) as holder, consumer(cluster, second) as other:
        wait_until(lambda: drained(holder, first), 10, "the delivery")
        tag = first[0].delivery_tag
        assert cluster.ledger.unacknowledged() == 1

        renewed_until = time.monotonic() + 3 * LEASE_S
        while time.monotonic() < renewed_until:
            assert cluster.ledger.renew_lease(tag)
            assert drained(other, second) == [], "the message was given away although its lease was renewed"

        lapsing_since = time.monotonic()
        wait_until(lambda: drained(other, second), 4 * LEASE_S, "the redelivery")
        assert time.monotonic() - lapsing_since >= LEASE_S - 1
        assert second[0].delivery_tag == tag, "a twin renews the same lease"
        assert second[0].headers["task"] == "medley.paint"


def test_an_acknowledged_delivery_is_not_renewed(cluster: Cluster) -> None:
    send(cluster)
    received: list[Any] = []
    with consumer(cluster, received) as holder:
        wait_until(lambda: drained(holder, received), 10, "the delivery")
        received[0].ack()
        assert not cluster.ledger.renew_lease(received[0].delivery_tag)
    assert cluster.ledger.unacknowledged() == 0
    assert cluster.ledger.queue_lengths() == {"finish": 0, "interactive": 0, "bulk": 0}


def test_a_message_of_one_job_is_small(cluster: Cluster) -> None:
    send(cluster)
    (message,) = cluster.ledger._redis.lrange(QUEUES["bulk"], 0, -1)
    print(f"a message of one job has {len(message)} bytes")
    assert len(message) < 1536
