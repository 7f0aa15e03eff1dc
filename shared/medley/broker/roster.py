"""Who is up, what waits and what workers hold, in Redis: the part of the ledger that knows no batch's jobs."""

import base64
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import redis
from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt

from medley.broker.connection import broker_errors, connect
from medley.broker.messages import SET_ASIDE, SetAside, set_aside
from medley.broker.queue import QUEUES, UNACKED, UNACKED_INDEX
from medley.errors import RedisRefused, UsageError
from medley.records.base import BatchName, JobId, Record
from medley.records.batches import QueueKind
from medley.settings import Settings

SILENT_BEATS = 6
"""A painting process that has missed this many lease renewals is no longer listed; it speaks at each."""

SILENT_KEPT_S = 3600.0
"""So long is it known of a painting process that it fell silent, and did not say farewell: until somebody was told."""

SCANNED = 1_000
"""Keys in one step of a scan, so that it takes few round trips."""

DAY_S = 24 * 3600
"""What is held against a worker, and why one stopped, is forgotten after a day: it is mended or gone by then."""


class Painter(Record):
    """One painting process. ``model_loads`` counts how often it has read the weights: once, if all is well.

    ``pixel_steps_s`` is its speed in its last job, in steps a second times pixels of the result. ``queues`` are the
    names of those that it serves, ``weights`` what it has loaded, and ``memory_bytes`` what it holds of its device's
    memory.
    """

    model_config = ConfigDict(extra="ignore")  # a worker of a later version may say more of itself

    name: str
    version: str = "unknown"
    engine: int = 0
    queues: tuple[str, ...] = ()
    device: str
    weights: str = ""
    memory_bytes: NonNegativeInt | None = None
    pixel_steps_s: NonNegativeFloat | None = None
    model_loads: NonNegativeInt
    jobs: NonNegativeInt


class Roster:
    """What is known of one Redis. Every call raises RedisUnreachable or RedisRefused when it does not serve it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._redis = connect(settings)

    @contextmanager
    def _client(self) -> Iterator[redis.Redis]:
        with broker_errors(self._settings):
            yield self._redis

    def check(self) -> None:
        """Find out whether Redis answers and lets us write."""
        with self._client() as client:
            client.set("medley:check", "1", ex=1)

    def clock_skew_s(self) -> float:
        """This machine's clock minus Redis's, in seconds."""
        with self._client() as client:
            seconds, microseconds = client.time()
            return time.time() - (seconds + microseconds / 1e6)

    def server(self, section: str | None = None) -> dict[str, str | int | float]:
        """What Redis says of itself (INFO): ``redis_version``, ``maxmemory_policy``, ``aof_enabled`` and more."""
        with self._client() as client:
            return dict(client.info(section))

    def claim(self, what: str, for_s: float) -> bool:
        """Be the only one to do something for so many seconds; false if another one is."""
        with self._client() as client:
            return bool(client.set(f"medley:claim:{what}", "1", nx=True, px=int(for_s * 1000)))

    def keep_claim(self, what: str, for_s: float) -> None:
        """Go on being the only one."""
        with self._client() as client:
            client.set(f"medley:claim:{what}", "1", px=int(for_s * 1000))

    def is_claimed(self, what: str) -> bool:
        """Whether someone is about it."""
        with self._client() as client:
            return bool(client.exists(f"medley:claim:{what}"))

    def end_claim(self, what: str) -> None:
        """Let others do it."""
        with self._client() as client:
            client.delete(f"medley:claim:{what}")

    def age_s(self) -> float:
        """For how many seconds this Redis has kept what it is told: since it was first asked, or lost everything."""
        with self._client() as client:
            client.set("medley:since", str(time.time()), nx=True)
            return max(0.0, time.time() - float(client.get("medley:since") or time.time()))

    # Workers

    def greet(self, painter: Painter) -> None:
        """Say that a painting process is there."""
        with self._client() as client:
            client.set(f"medley:painter:{painter.name}", painter.json_bytes(), px=int(SILENT_KEPT_S * 1000))

    def farewell(self, worker: str) -> None:
        """Say that a worker's painting processes are gone, as they should be."""
        with self._client() as client:
            if names := list(client.scan_iter(f"medley:painter:{_literal(worker)}#*", count=SCANNED)):
                client.delete(*names)

    def painters(self) -> list[Painter]:
        """The painting processes that have spoken within :data:`SILENT_BEATS` lease renewals, by name."""
        return [painter for painter, silent_s in self.painters_heard() if silent_s <= self.silent_after_s]

    @property
    def silent_after_s(self) -> float:
        """A painting process of which nothing is heard for longer is not up, or not to be reached."""
        return self._settings.lease_renew_s * SILENT_BEATS

    def painters_heard(self) -> list[tuple[Painter, float]]:
        """Those, and the ones that fell silent in the last :data:`SILENT_KEPT_S`; with the seconds since each spoke."""
        with self._client() as client:
            names = sorted(client.scan_iter("medley:painter:*", count=SCANNED))
            with client.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.get(name)
                    pipe.pttl(name)
                answers = pipe.execute()
        heard = zip(answers[::2], answers[1::2], strict=True)
        return [(Painter.from_json(text), max(0.0, SILENT_KEPT_S - left_ms / 1000)) for text, left_ms in heard if text]

    def idle_painters(self, queue: QueueKind) -> int:
        """How many painting processes of a queue hold no message, at least."""
        serving = sum(QUEUES[queue] in painter.queues for painter in self.painters())
        return max(0, serving - self.unacknowledged())

    def suspect(self, job: JobId, worker: str) -> bool:
        """Note that a job failed on a worker; false if it did so before."""
        key = f"medley:suspects:{job}"
        with self._client() as client, client.pipeline() as pipe:
            pipe.hsetnx(key, worker, str(time.time()))
            pipe.expire(key, DAY_S)
            return bool(pipe.execute()[0])

    def suspects(self, job: JobId) -> dict[str, float]:
        """The workers on which a job failed, each with when it first did (Unix time)."""
        with self._client() as client:
            return {str(worker): float(at) for worker, at in client.hgetall(f"medley:suspects:{job}").items()}

    def acquit(self, job: JobId, painted_by: str) -> None:
        """Note that a job was painted: what failed before was not its fault, but that of the workers it failed on."""
        if not (suspects := self.suspects(job)):
            return
        with self._client() as client, client.pipeline() as pipe:
            for worker in suspects.keys() - {painted_by}:
                pipe.sadd(f"medley:blamed:{worker}", job)
                pipe.expire(f"medley:blamed:{worker}", DAY_S)
            pipe.delete(f"medley:suspects:{job}")
            pipe.execute()

    def blamed(self, worker: str) -> set[JobId]:
        """The jobs that failed on a worker and that others then painted, in the last day."""
        with self._client() as client:
            return set(map(str, client.smembers(f"medley:blamed:{worker}")))

    def welcome(self, worker: str) -> None:
        """Forget what was held against a worker of this name, as it starts anew."""
        with self._client() as client:
            client.delete(f"medley:blamed:{worker}")
            client.hdel("medley:stopped", worker)

    def note_stopped(self, worker: str, why: str) -> None:
        """Say why a worker stopped of itself, for whoever looks."""
        with self._client() as client, client.pipeline() as pipe:
            pipe.hset("medley:stopped", worker, why)
            pipe.expire("medley:stopped", DAY_S)
            pipe.execute()

    def stopped(self) -> dict[str, str]:
        """The workers that stopped of themselves in the last day, and why."""
        with self._client() as client:
            return {str(worker): str(why) for worker, why in client.hgetall("medley:stopped").items()}

    # Queues

    def queue_lengths(self) -> dict[QueueKind, int]:
        """Messages that wait in each queue."""
        with self._client() as client, client.pipeline(transaction=False) as pipe:
            for name in QUEUES.values():
                pipe.llen(name)
            return dict(zip(QUEUES, map(int, pipe.execute()), strict=True))

    def foreign_queue_lengths(self) -> dict[str, int]:
        """Messages that wait in the queues of other engines, by the queue's name."""
        with self._client() as client:
            names = {name for kind in QUEUES for name in client.scan_iter(f"{kind}.*", count=SCANNED, _type="list")}
            return {name: int(client.llen(name)) for name in sorted(names - set(QUEUES.values()))}

    def unacknowledged(self) -> int:
        """Messages that a worker holds."""
        with self._client() as client:
            return int(client.zcard(UNACKED_INDEX))

    def renew_lease(self, delivery_tag: str) -> bool:
        """Put a delivery's time to now; false if the delivery is no longer held (acknowledged, or taken away)."""
        with self._client() as client:
            client.zadd(UNACKED_INDEX, {delivery_tag: time.time()}, xx=True)
            return client.zscore(UNACKED_INDEX, delivery_tag) is not None

    def _run(self) -> str:
        """What is another one after each start of this Redis; always the same where it gives no right to ask."""
        try:
            return str(self.server("server").get("run_id", ""))
        except RedisRefused:
            return "unknown"

    def waiting_since(self) -> dict[str, float]:
        """When the longest waiting message of each of our queues, if one waits, was published (Unix time).

        Queues are lists that are served from their tail, so one look at each tells; but for messages that were given
        back, which stand behind younger ones.
        """
        with self._client() as client, client.pipeline(transaction=False) as pipe:
            for name in QUEUES.values():
                pipe.lindex(name, -1)
            heads = dict(zip(QUEUES, pipe.execute(), strict=True))
        return {kind: _published_at(str(text)) for kind, text in heads.items() if text is not None}

    def held_messages(self) -> dict[str, int]:
        """How many messages of each queue workers hold, by the queue's name."""
        with self._client() as client:
            return Counter(name for text in client.hvals(UNACKED) if (name := _queue_of(str(text))))

    def held_batches(self) -> set[BatchName]:
        """The batches of which workers hold messages."""
        with self._client() as client:
            return {name for text in client.hvals(UNACKED) if (name := _batch_of(str(text)))}

    # Messages set aside

    def set_aside(self, queue: str, reason: str, message: bytes | str) -> None:
        """Keep a message that is not run."""
        with self._client() as client:
            set_aside(client, queue, reason, message)

    def set_aside_messages(self) -> int:
        """How many messages were set aside."""
        with self._client() as client:
            return int(client.llen(SET_ASIDE))

    def aside(self, limit: int) -> list[dict[str, Any]]:
        """The newest messages that were set aside, each with when, from which queue, and why."""
        with self._client() as client:
            texts = client.lrange(SET_ASIDE, 0, limit - 1)
        records = []
        for text in texts:
            with suppress(UsageError):
                records.append(SetAside.from_json(text).model_dump())
        return records


def _published_at(text: str) -> float:
    """A waiting message's time of publishing; for ever ago if it does not say, so that nothing is taken for lost."""
    with suppress(ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError):
        at = float(json.loads(text)["headers"]["at"])
        return at if 0 <= at <= time.time() else 0.0
    return 0.0


def _literal(name: str) -> str:
    """A name as a pattern of Redis that matches it alone."""
    return re.sub(r"([*?\[\]^\\])", r"\\\1", name)


def _queue_of(text: str) -> str | None:
    """The queue of a message that a worker holds, as kombu keeps it."""
    with suppress(ValueError, TypeError, IndexError, RecursionError):
        return str(json.loads(text)[2])
    return None


def _batch_of(text: str) -> BatchName | None:
    """The batch of a message that a worker holds, as kombu keeps it: ``[message, exchange, routing key]``."""
    with suppress(ValueError, KeyError, TypeError, IndexError, RecursionError):
        body = json.loads(base64.b64decode(json.loads(text)[0]["body"]))
        return str(body[0][0])
    return None
