"""What is under way, in Redis: what is enqueued, being painted, tried and finished, batch by batch.

Storage is the truth. All of this can be lost at any moment, and then costs a LIST of the outcomes or a repeated
painting that its create-only commit discards; nothing else.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import redis
from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt
from redis.exceptions import LockNotOwnedError

from medley.broker import broker_errors, connect
from medley.errors import BatchBusy
from medley.jobs import QueueKind
from medley.queue import QUEUES, UNACKED_INDEX
from medley.records import BatchName, JobId, Record
from medley.results import Status
from medley.settings import Settings

ENQUEUING_S = 60.0
"""A command that died while it enqueued blocks others this long; a living one renews its hold at each round trip."""

WAITS_S = ENQUEUING_S + 5.0
"""A command waits this long for another that enqueues the same batch: until a dead one no longer blocks it."""

KEPT_S = 30 * 24 * 3600
"""A batch's keys outlive its last change by a month, longer than any batch waits for a worker."""

SILENT_BEATS = 6
"""A painting process that has missed this many lease renewals is no longer listed; it speaks at each."""


_OF_A_BATCH = ("enqueued", "attempts", "refusals", "painting", "done", "failed")


class Progress(Record):
    """How far one painting is."""

    step: NonNegativeInt
    steps: NonNegativeInt
    loss: float | None = None
    worker: str
    at: NonNegativeFloat


class Painter(Record):
    """One painting process. ``model_loads`` counts how often it has read the weights: once, if all is well.

    ``pixel_steps_s`` is its speed in its last job, in steps a second times pixels of the result.
    """

    model_config = ConfigDict(extra="ignore")  # a worker of a later version may say more of itself

    name: str
    version: str = "unknown"
    engine: int = 0
    device: str
    pixel_steps_s: NonNegativeFloat | None = None
    model_loads: NonNegativeInt
    jobs: NonNegativeInt


class Ledger:
    """The ledger of one Redis. Every call raises RedisUnreachable or RedisRefused when Redis does not serve it."""

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

    def server(self) -> dict[str, str | int | float]:
        """What Redis says of itself (INFO): ``redis_version``, ``maxmemory_policy``, ``aof_enabled`` and more."""
        with self._client() as client:
            return dict(client.info())

    @contextmanager
    def enqueuing(self, batch: BatchName) -> Iterator[Callable[[], None]]:
        """Hold a batch against others who would enqueue it; yields what to call now and then to go on holding it.

        Raises:
            BatchBusy: another one holds it for longer than :data:`WAITS_S`; or we were too slow to go on.
        """
        lock = self._redis.lock(_key(batch, "lock"), timeout=ENQUEUING_S, blocking_timeout=WAITS_S)
        with self._client():
            if not lock.acquire():
                raise BatchBusy(f"Batch {batch!r} is being enqueued by another command. Try again when that has ended.")

        def go_on() -> None:
            with self._client():
                try:
                    lock.reacquire()
                except LockNotOwnedError as error:
                    raise BatchBusy(f"Enqueuing {batch!r} was too slow to go on holding it. Submit again.") from error

        try:
            yield go_on
        finally:
            with self._client(), suppress(LockNotOwnedError):
                lock.release()

    def forget(self, batch: BatchName) -> None:
        """Drop all that is known under a name, which is to be another batch's now."""
        with self._client() as client:
            client.delete(*(_key(batch, what) for what in _OF_A_BATCH))

    # Enqueued

    def add_enqueued(self, batch: BatchName, jobs: Iterable[JobId]) -> None:
        """Note that messages for these jobs are out."""
        self._add(_key(batch, "enqueued"), jobs)

    def remove_enqueued(self, batch: BatchName, jobs: Iterable[JobId]) -> None:
        """Note that these jobs' messages were dropped, so that they may be enqueued again."""
        with self._client() as client:
            client.srem(_key(batch, "enqueued"), *jobs)

    def which_enqueued(self, batch: BatchName, jobs: list[JobId]) -> set[JobId]:
        """Which of these jobs have a message out, as far as is known."""
        with self._client() as client:
            known = client.smismember(_key(batch, "enqueued"), jobs)
        return {job for job, is_known in zip(jobs, known, strict=True) if is_known}

    # Attempts

    def count_attempt(self, batch: BatchName, job: JobId) -> int:
        """Count one more attempt; returns how many that makes."""
        return self._count(_key(batch, "attempts"), job)

    def give_back(self, batch: BatchName, job: JobId) -> None:
        """Take an attempt back, as the job is given back through no fault of its own, and is painted no more."""
        with self._client() as client, client.pipeline(transaction=False) as pipe:
            pipe.hincrby(_key(batch, "attempts"), job, -1)
            pipe.hdel(_key(batch, "painting"), job)
            pipe.execute()

    def count_refusal(self, batch: BatchName, job: JobId) -> int:
        """Count that a service refused what this job needs; returns how many times that makes."""
        return self._count(_key(batch, "refusals"), job)

    def refusals(self, batch: BatchName, job: JobId) -> int:
        """How often a service refused what this job needs."""
        with self._client() as client:
            return int(client.hget(_key(batch, "refusals"), job) or 0)

    def count_trouble(self, message: str) -> int:
        """Count that a message could not be dealt with at all; returns how many times that makes."""
        return self._count("medley:trouble", message)

    # Painting

    def report(self, batch: BatchName, job: JobId, progress: Progress) -> None:
        """Say how far a painting is."""
        key = _key(batch, "painting")
        with self._client() as client, client.pipeline(transaction=False) as pipe:
            pipe.hset(key, job, progress.json_bytes())
            pipe.expire(key, KEPT_S)
            pipe.execute()

    def painting(self, batch: BatchName, within_s: float) -> dict[JobId, Progress]:
        """What is being painted, as reported within the last so many seconds."""
        with self._client() as client:
            reports = client.hgetall(_key(batch, "painting"))
        progress = {str(job): Progress.from_json(text) for job, text in reports.items()}
        return {job: report for job, report in progress.items() if time.time() - report.at < within_s}

    # Outcomes

    def record_outcome(self, batch: BatchName, job: JobId, status: Status) -> int:
        """Note an outcome that stands in storage; returns how many the batch has now. Done wins over failed."""
        done, failed = _key(batch, "done"), _key(batch, "failed")
        with self._client() as client, client.pipeline() as pipe:
            if status == "done":
                pipe.sadd(done, job)
                pipe.srem(failed, job)
            elif not client.sismember(done, job):
                pipe.sadd(failed, job)
            pipe.expire(done, KEPT_S)
            pipe.expire(failed, KEPT_S)
            pipe.hdel(_key(batch, "painting"), job)
            pipe.scard(done)
            pipe.scard(failed)
            replies = pipe.execute()
        return int(replies[-2]) + int(replies[-1])

    def seed_outcomes(self, batch: BatchName, done: Iterable[JobId], failed: Iterable[JobId]) -> None:
        """Note the outcomes found in storage, where this ledger does not know of them."""
        self._add(_key(batch, "done"), done)
        self._add(_key(batch, "failed"), failed)

    def counts(self, batch: BatchName) -> tuple[int, int]:
        """How many jobs of a batch are done and how many failed, as far as this ledger knows."""
        with self._client() as client, client.pipeline(transaction=False) as pipe:
            pipe.scard(_key(batch, "done"))
            pipe.scard(_key(batch, "failed"))
            done, failed = pipe.execute()
        return int(done), int(failed)

    # Workers and queues

    def greet(self, painter: Painter) -> None:
        """Say that a painting process is there."""
        with self._client() as client:
            kept_ms = int(self._settings.lease_renew_s * SILENT_BEATS * 1000)
            client.set(f"medley:painter:{painter.name}", painter.json_bytes(), px=kept_ms)

    def painters(self) -> list[Painter]:
        """The painting processes that have spoken within :data:`SILENT_BEATS` lease renewals, by name."""
        with self._client() as client:
            names = sorted(client.scan_iter("medley:painter:*"))
            texts = client.mget(names) if names else []
        return [Painter.from_json(text) for text in texts if text]

    def queue_lengths(self) -> dict[QueueKind, int]:
        """Messages that wait in each queue."""
        with self._client() as client, client.pipeline(transaction=False) as pipe:
            for name in QUEUES.values():
                pipe.llen(name)
            return dict(zip(QUEUES, map(int, pipe.execute()), strict=True))

    def foreign_queue_lengths(self) -> dict[str, int]:
        """Messages that wait in the queues of other engines, by the queue's name."""
        with self._client() as client:
            names = {name for kind in QUEUES for name in client.scan_iter(f"{kind}.*", _type="list")}
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

    def _count(self, key: str, what: str) -> int:
        with self._client() as client, client.pipeline() as pipe:
            pipe.hincrby(key, what, 1)
            pipe.expire(key, KEPT_S)
            return int(pipe.execute()[0])

    def _add(self, key: str, jobs: Iterable[JobId]) -> None:
        members = list(jobs)
        if members:
            with self._client() as client, client.pipeline(transaction=False) as pipe:
                pipe.sadd(key, *members)
                pipe.expire(key, KEPT_S)
                pipe.execute()


def _key(batch: BatchName, what: str) -> str:
    return f"medley:batch:{batch}:{what}"
