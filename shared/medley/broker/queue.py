"""The one place that knows Celery's settings: task names, queues, and every setting with its reason."""

import os
import re
import ssl
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, get_args

from celery import Celery
from celery.utils import uuid
from kombu.entity import Queue
from kombu.messaging import Producer
from kombu.transport import TRANSPORT_ALIASES

from medley.broker.bundles import as_sent, bundled
from medley.broker.connection import broker_errors, redis_url
from medley.errors import UsageError
from medley.records.base import BatchName
from medley.records.batches import QueueKind
from medley.records.jobs import ENGINE
from medley.records.kinds import Job
from medley.settings import Settings

PAINT, FINISH = "medley.paint", "medley.finish"
"""The tasks: to paint jobs of a batch, and to make what it ends with."""

QUEUES: dict[QueueKind, str] = {kind: f"{kind}.{ENGINE}" for kind in get_args(QueueKind)}
"""In the order in which they are served. They carry the engine's number, so that a worker of another version
never sees a message that it would paint differently."""

PUBLISH_AT_ONCE = 500
"""Messages in one round trip: six times as many a second as one by one, and more at once are no quicker."""

_OVERRIDES = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
"""Variables that Celery heeds before what it is told."""

TRANSPORT = "medley"
"""How kombu calls our transport; a class's whole name cannot stand in the URL of a unix socket."""

UNACKED = "unacked"
"""kombu's hash of unacknowledged messages by their delivery tag."""

UNACKED_INDEX = "unacked_index"
"""kombu's sorted set of unacknowledged deliveries by time: where a lease is renewed."""

FRONT = "front"
"""The header that puts a message before all others of its queue; it goes no further than our transport."""

_CONFIGURATION: dict[str, Any] = {
    # What comes out of a queue is looked at before Celery has it: a text that is no message ends its event loop.
    "broker_transport": TRANSPORT,
    # Messages are JSON only: a pickled one would run code.
    "task_serializer": "json",
    "accept_content": ["json"],
    # Outcomes are kept in storage; results would fill Redis.
    "task_ignore_result": True,
    # Strangers' names are not made into queues.
    "task_create_missing_queues": False,
    "task_default_queue": QUEUES["bulk"],
    # A message is acknowledged after its outcome stands, and given back when its process dies;
    # the ledger's count of attempts bounds that, so Celery must not count a second time.
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_retry_on_worker_lost": False,
    # CUDA cannot be used in a child that was forked after anything touched it.
    "worker_pool": "prefork",
    "worker_pool_start_method": "spawn",
    # A late-acknowledging worker on Redis hoards messages unless prefetching is off.
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    # A blip must not stop a hundred paintings; create-only commits make a second delivery harmless.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # A spawned child imports Celery and our tasks first; 4 s is not enough on a cold disk.
    "worker_proc_alive_timeout": 60.0,
    # A Redis that is away comes back: try for ever, as leases and the ledger bound what is lost.
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    # A command gives up within 15 s.
    "task_publish_retry_policy": {"max_retries": 1, "interval_start": 0.2},
    # Nothing listens to these, and each costs messages.
    "worker_send_task_events": False,
    "task_send_sent_event": False,
    "worker_enable_remote_control": False,
    # Logging is medley's own.
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
}
"""Celery's settings that are the same everywhere."""


class Sent(NamedTuple):
    """What a worker knows of a message: its queue, when it was first sent (Unix time), and whether this is not its
    first delivery, as a worker gave it back or was lost.
    """

    queue: QueueKind
    at: float
    redelivered: bool = False


def make_celery(settings: Settings) -> Celery:
    """The application that producers publish with and workers consume with.

    Raises:
        UsageError: no Redis is set, a variable of Celery's own would override it, or MEDLEY_CA_FILE is unusable.
    """
    if foreign := [name for name in _OVERRIDES if name in os.environ]:
        raise UsageError(
            f"{foreign[0]} is set, and Celery would use it instead of MEDLEY_REDIS_URL. Unset it for medley."
        )
    TRANSPORT_ALIASES[TRANSPORT] = "medley.broker.transport:Transport"
    # What redis-py calls unix:, kombu calls socket:, after the transport's name.
    app = Celery("medley", broker=re.sub("^unix:", f"{TRANSPORT}+socket:", redis_url(settings)))
    app.conf.update(
        _CONFIGURATION,
        # Separate queues, as Redis priorities are approximate.
        task_queues=[Queue(name, routing_key=name) for name in QUEUES.values()],
        broker_connection_timeout=settings.connect_timeout_s,
        broker_transport_options=transport_options(settings),
        # kombu verifies no certificate unless told to; the ledger's client does.
        broker_use_ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED} if settings.redis.startswith("rediss:") else None,
    )
    return app


def transport_options(settings: Settings) -> dict[str, object]:
    """kombu's Redis options; they must be the same for every producer and worker on one Redis."""
    return {
        # The lease: a delivery that is not renewed this long goes to another worker.
        "visibility_timeout": settings.lease_s,
        # Sweep for lapsed leases every 5 s (kombu: about 100 s), and always when it is time.
        "unacked_restore_interval": min(5.0, settings.lease_s / 3),
        "unacked_restore_throttle": 1,
        # A sweeper that is killed blocks the others this long (kombu: 300 s).
        "unacked_mutex_expire": max(1, min(15, int(settings.lease_s / 3))),
        # Queues are served in the order they are given.
        "queue_order_strategy": "priority",
        # One list a queue, so that its length is its LLEN.
        "priority_steps": [0],
        # A publish must not hang for ever on a connection that went away silently.
        "socket_timeout": settings.connect_timeout_s * 2,
        "socket_connect_timeout": settings.connect_timeout_s,
        "socket_keepalive": True,
        "health_check_interval": 25,
    }


def publish_paint(
    app: Celery, settings: Settings, queue: QueueKind, batch: BatchName, jobs: Iterable[Job], *, bundle: int = 1
) -> None:
    """Enqueue jobs in one round trip, at most ``bundle`` of them in a message.

    If it raises, some may have been enqueued: submitting again must be (and is) harmless.

    Raises:
        RedisUnreachable, RedisRefused: nothing is known of how many went out.
    """
    with broker_errors(settings), app.producer_or_acquire() as producer, producer.batch(max_size=PUBLISH_AT_ONCE):
        how: dict[str, Any] = {}
        for some in bundled(jobs, bundle):
            _send(app, producer, PAINT, queue, _paint_args(batch, some), {"at": time.time()}, **how)
            how = {"declare": []}  # the first has declared the queue; asking again takes 30 us each


def publish_again(
    app: Celery, settings: Settings, message: Sent, batch: BatchName, jobs: Sequence[Job], *, bundle: int = 1
) -> None:
    """Enqueue jobs of a message anew, at the front of its queue: they do not wait for what was sent after it.

    The message must not be acknowledged before.

    Raises:
        RedisUnreachable, RedisRefused: nothing is known of how many went out.
    """
    with broker_errors(settings), app.producer_or_acquire() as producer:
        for some in reversed([*bundled(jobs, bundle)]):  # the last one that comes to the front is there first
            _send(app, producer, PAINT, message.queue, _paint_args(batch, some), {"at": message.at, FRONT: True})


def publish_finish(app: Celery, settings: Settings, batch: BatchName) -> None:
    """Enqueue the end of a batch; it may be done twice."""
    with broker_errors(settings), app.producer_or_acquire() as producer:
        _send(app, producer, FINISH, "finish", (batch,), {"at": time.time()})


def _paint_args(batch: BatchName, jobs: Iterable[Job]) -> tuple[object, ...]:
    return batch, [as_sent(job) for job in jobs]


def _send(
    app: Celery,
    producer: Producer,
    task: str,
    queue: QueueKind,
    args: tuple[object, ...],
    headers: dict[str, object],
    **how: Any,
) -> None:
    # What app.send_task does, without its search for a task's own options and for the task that sends: ours have none,
    # and the search takes 25 us, as long as half of the rest. The reprs are what Celery puts into headers for logs;
    # whole, they double the message. ``at`` tells how long a message has waited.
    message = app.amqp.create_task_message(uuid(), task, args, argsrepr="-", kwargsrepr="-", ignore_result=True)
    app.amqp.send_task_message(producer, task, message, queue=QUEUES[queue], headers=headers, **how)
