"""What is under way, in Redis: what is enqueued, being painted, tried and finished, batch by batch.

Storage is the truth. All of this can be lost at any moment, and then costs a LIST of the outcomes or a repeated
painting that its create-only commit discards; nothing else.

A job of a batch is in one of the sets ``enqueued``, ``done`` and ``failed``, or it is missing; so three numbers tell
whether a batch lacks anything.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import NamedTuple

from pydantic import NonNegativeFloat, NonNegativeInt
from redis.exceptions import LockNotOwnedError

from medley.errors import BatchBusy
from medley.jobs import QueueKind
from medley.records import BatchName, JobId, Record
from medley.results import ControlState, Status
from medley.roster import Painter, Roster

__all__ = ["Counts", "Ledger", "Painter", "Progress"]

ENQUEUING_S = 60.0
"""A command that died while it enqueued blocks others this long; a living one renews its hold at each round trip."""

WAITS_S = ENQUEUING_S + 5.0
"""A command waits this long for another that enqueues the same batch: until a dead one no longer blocks it."""

KEPT_S = 30 * 24 * 3600
"""A batch's keys outlive its last change by a month, longer than any batch waits for a worker."""

CONTROL_KEPT_S = 30.0
"""Then painters look into storage again, so that what Redis was told wrongly, or not told, holds no longer."""

NOTED_AT_ONCE = 1_000
"""Jobs in one round trip: a page of a LIST."""

_OF_A_BATCH = (
    "enqueued", "attempts", "tried", "deaths", "refusals", "painting", "done", "failed",
    "counted", "control", "published", "silent",
)  # fmt: skip

_NOTE_ENQUEUED = """
for _, job in ipairs(ARGV) do
    if redis.call('sismember', KEYS[2], job) == 0 and redis.call('sismember', KEYS[3], job) == 0 then
        redis.call('sadd', KEYS[1], job)
    end
end
"""
"""A script, as a painter may be done with a job before it is noted that its message is out."""

_NOTE_OUTCOMES = """
local new = 0
for i = 1, #ARGV, 2 do
    local job, status = ARGV[i], ARGV[i + 1]
    redis.call('srem', KEYS[1], job)
    redis.call('hdel', KEYS[4], job)
    if status == 'done' then
        new = new + redis.call('sadd', KEYS[2], job)
        redis.call('srem', KEYS[3], job)
    elseif redis.call('sismember', KEYS[2], job) == 0 then
        new = new + redis.call('sadd', KEYS[3], job)
    end
end
return new > 0 and redis.call('scard', KEYS[2]) + redis.call('scard', KEYS[3]) or 0
"""
"""A script, as done wins over failed whoever is sooner."""


class Progress(Record):
    """How far one painting is; ``names`` are its pictures, as the dataset calls them."""

    step: NonNegativeInt
    steps: NonNegativeInt
    loss: float | None = None
    names: str = ""
    worker: str
    at: NonNegativeFloat


class Counts(NamedTuple):
    """How many jobs of a batch are done, failed and enqueued. Without ``counted``, Redis does not know the batch."""

    done: int
    failed: int
    enqueued: int
    counted: bool

    @property
    def ended(self) -> int:
        """Done and failed together."""
        return self.done + self.failed


class Attempts(NamedTuple):
    """How often a job was begun, now included; the worker of the time before, and how that ended, where it died."""

    number: int
    worker: str
    death: str


class Ledger(Roster):
    """The ledger of one Redis. Every call raises RedisUnreachable or RedisRefused when Redis does not serve it."""

    @contextmanager
    def enqueuing(self, batch: BatchName, waits_s: float = WAITS_S) -> Iterator[Callable[[], None]]:
        """Hold a batch against others who would enqueue it; yields what to call now and then to go on holding it.

        Raises:
            BatchBusy: another one holds it for longer than ``waits_s``; or we were too slow to go on.
        """
        lock = self._redis.lock(_key(batch, "lock"), timeout=ENQUEUING_S, blocking_timeout=waits_s)
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

    def forget_job(self, batch: BatchName, job: JobId) -> None:
        """Drop all that is known of one job of a batch, as it is to be tried anew."""
        with self._client() as client, client.pipeline() as pipe:
            for what in ("enqueued", "done", "failed"):
                pipe.srem(_key(batch, what), job)
            for what in ("attempts", "tried", "deaths", "refusals", "painting"):
                pipe.hdel(_key(batch, what), job)
            pipe.delete(f"medley:suspects:{job}")
            pipe.execute()

    # Control

    def set_control(self, batch: BatchName, state: ControlState) -> None:
        """Tell those that are painting what was decided about their batch, for :data:`CONTROL_KEPT_S`."""
        with self._client() as client:
            client.set(_key(batch, "control"), state, px=int(CONTROL_KEPT_S * 1000))

    # Enqueued

    def add_enqueued(self, batch: BatchName, jobs: Sequence[JobId], queue: QueueKind) -> None:
        """Note that messages for these jobs are out in a queue, but for those that have ended already."""
        if not jobs:
            return
        with self._client() as client, client.pipeline() as pipe:
            pipe.eval(_NOTE_ENQUEUED, 3, *self._sets(batch), *jobs)
            pipe.expire(_key(batch, "enqueued"), KEPT_S)
            pipe.hset(_key(batch, "published"), queue, str(time.time()))
            pipe.expire(_key(batch, "published"), KEPT_S)
            pipe.delete(_key(batch, "silent"))
            pipe.execute()

    def remove_enqueued(self, batch: BatchName, jobs: Iterable[JobId]) -> None:
        """Note that these jobs' messages were dropped, so that they may be enqueued again."""
        with self._client() as client:
            client.srem(_key(batch, "enqueued"), *jobs)

    def which_known(self, batch: BatchName, jobs: Sequence[JobId]) -> set[JobId]:
        """Which of these jobs have ended or have a message out, as far as is known."""
        with self._client() as client, client.pipeline(transaction=False) as pipe:
            for key in self._sets(batch):
                pipe.smismember(key, list(jobs))
            answers = pipe.execute()
        return {job for job, *known in zip(jobs, *answers, strict=True) if any(known)}

    def silent_s(self, batch: BatchName) -> float:
        """For how long no message of a batch has waited or been held, as seen whenever this is asked; 0 if one does.

        Queues are served in the order of publishing, so messages that are older than all that waits were delivered. One
        that was given back since may wait behind younger ones; taken for lost, it goes out twice, which harms nobody.
        """
        waiting_since, now = self.waiting_since(), time.time()
        held = batch in self.held_batches()
        with self._client() as client:
            published = client.hgetall(_key(batch, "published"))
            # Two producers' clocks are compared, each of which may be so far off.
            until = {str(queue): float(at) + 2 * self._settings.clock_skew_s for queue, at in published.items()}
            if held or any(waiting_since.get(queue, math.inf) <= at for queue, at in until.items()):
                client.delete(_key(batch, "silent"))
                return 0.0
            client.set(_key(batch, "silent"), str(now), nx=True, ex=KEPT_S)
            return now - float(client.get(_key(batch, "silent")) or now)

    def drop_enqueued(self, batch: BatchName) -> None:
        """Note that the messages of a batch are lost."""
        with self._client() as client:
            client.delete(_key(batch, "enqueued"), _key(batch, "silent"))

    # Attempts

    def hold(self, job: JobId, worker: str) -> str:
        """Say that a painter is at work on a job, whatever its batch; returns who is: another one, if it was sooner.

        What is held is let go if it is not said again for as long as a lease lasts after its last renewal.
        """
        for_ms = int((self._settings.lease_s - self._settings.lease_renew_s) * 1000)
        with self._client() as client:
            key = f"medley:holder:{job}"
            client.set(key, worker, nx=True, px=for_ms)
            return str(client.get(key) or worker)

    def let_go(self, job: JobId, worker: str) -> None:
        """Say that a painter is no longer at work on a job."""
        with self._client() as client:
            if client.get(f"medley:holder:{job}") == worker:
                client.delete(f"medley:holder:{job}")

    def count_attempt(self, batch: BatchName, job: JobId, worker: str) -> Attempts:
        """Count one more attempt; returns how many that makes, and what is known of the one before."""
        attempts, tried = _key(batch, "attempts"), _key(batch, "tried")
        with self._client() as client, client.pipeline() as pipe:
            pipe.hincrby(attempts, job, 1)
            pipe.hget(tried, job)
            pipe.hget(_key(batch, "deaths"), job)
            pipe.hset(tried, job, worker)
            pipe.expire(attempts, KEPT_S)
            pipe.expire(tried, KEPT_S)
            count, before, death, *_ = pipe.execute()
        return Attempts(int(count), str(before or ""), str(death or ""))

    def note_death(self, batch: BatchName, job: JobId, how: str) -> None:
        """Note how the process ended that worked on a job."""
        with self._client() as client, client.pipeline() as pipe:
            pipe.hset(_key(batch, "deaths"), job, how)
            pipe.expire(_key(batch, "deaths"), KEPT_S)
            pipe.execute()

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

    def forget_trouble(self, message: str) -> None:
        """Begin to count anew."""
        with self._client() as client:
            client.hdel("medley:trouble", message)

    # Painting

    def report(self, batch: BatchName, job: JobId, progress: Progress) -> ControlState | None:
        """Say how far a painting is; returns what was decided about its batch, or None if Redis does not know."""
        key, for_ms = _key(batch, "painting"), int((self._settings.lease_s - self._settings.lease_renew_s) * 1000)
        with self._client() as client, client.pipeline(transaction=False) as pipe:
            pipe.hset(key, job, progress.json_bytes())
            pipe.expire(key, KEPT_S)
            pipe.set(f"medley:holder:{job}", progress.worker, px=for_ms)
            pipe.get(_key(batch, "control"))
            state: ControlState | None = pipe.execute()[-1]
            return state

    def painting(self, batch: BatchName, within_s: float) -> dict[JobId, Progress]:
        """What is being painted, as reported within the last so many seconds."""
        with self._client() as client:
            reports = client.hgetall(_key(batch, "painting"))
        progress = {str(job): Progress.from_json(text) for job, text in reports.items()}
        return {job: report for job, report in progress.items() if time.time() - report.at < within_s}

    # Outcomes

    def record_outcome(self, batch: BatchName, job: JobId, status: Status) -> int:
        """Note an outcome that stands in storage; returns how many the batch has now, or 0 if this one was known.

        Done wins over failed.
        """
        return self._note_outcomes(batch, [(job, status)])

    def recount(self, batch: BatchName, outcomes: Iterable[tuple[JobId, Status]], go_on: Callable[[], None]) -> None:
        """Note all the outcomes of a batch afresh, and that they are all; to be called while holding the batch."""
        with self._client() as client:
            client.delete(_key(batch, "counted"), _key(batch, "done"), _key(batch, "failed"))
        outcomes = iter(outcomes)
        while some := list(islice(outcomes, NOTED_AT_ONCE)):
            self._note_outcomes(batch, some)
            go_on()
        with self._client() as client:
            client.set(_key(batch, "counted"), self._run(), ex=KEPT_S)

    def counts(self, batch: BatchName) -> Counts:
        """How many jobs of a batch have ended, and how many have a message out, as far as this ledger knows."""
        done, failed, enqueued = _key(batch, "done"), _key(batch, "failed"), _key(batch, "enqueued")
        with self._client() as client, client.pipeline(transaction=False) as pipe:
            for key in (done, failed, enqueued):
                pipe.scard(key)
            pipe.get(_key(batch, "counted"))
            done_count, failed_count, enqueued_count, counted = pipe.execute()
        # A Redis that was started anew may be back with what it had kept some time before.
        is_counted = counted is not None and counted == self._run()
        return Counts(int(done_count), int(failed_count), int(enqueued_count), is_counted)

    def _note_outcomes(self, batch: BatchName, outcomes: Sequence[tuple[JobId, Status]]) -> int:
        enqueued, done, failed = self._sets(batch)
        arguments = [text for outcome in outcomes for text in outcome]
        with self._client() as client, client.pipeline() as pipe:
            pipe.eval(_NOTE_OUTCOMES, 4, enqueued, done, failed, _key(batch, "painting"), *arguments)
            for key in (enqueued, done, failed):
                pipe.expire(key, KEPT_S)
            return int(pipe.execute()[0])

    def _sets(self, batch: BatchName) -> tuple[str, str, str]:
        return _key(batch, "enqueued"), _key(batch, "done"), _key(batch, "failed")

    def _count(self, key: str, what: str) -> int:
        with self._client() as client, client.pipeline() as pipe:
            pipe.hincrby(key, what, 1)
            pipe.expire(key, KEPT_S)
            return int(pipe.execute()[0])


def _key(batch: BatchName, what: str) -> str:
    return f"medley:batch:{batch}:{what}"
