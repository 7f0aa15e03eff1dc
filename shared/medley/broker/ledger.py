"""What is under way, in Redis: what is enqueued, being painted, tried and finished, batch by batch.

Storage is the truth. All of this can be lost at any moment. That costs a LIST of the outcomes, or a painting done
twice, whose second commit is discarded; nothing else.

A job of a batch is in one of the sets ``enqueued``, ``done`` and ``failed``, or it is missing. So three numbers tell
whether a batch lacks anything.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import NamedTuple

from redis.exceptions import LockNotOwnedError

from medley.broker.backlog import Backlog
from medley.broker.paintings import KEPT_S, Paintings, key_of
from medley.broker.queue import QUEUES
from medley.broker.roster import Roster
from medley.errors import BatchBusy
from medley.records.base import BatchName, JobId
from medley.records.batches import QueueKind
from medley.records.results import Status

ENQUEUING_S = 60.0
"""A command that died while it enqueued blocks others this long; a living one renews its hold at each round trip."""

WAITS_S = ENQUEUING_S + 5.0
"""A command waits this long for another that enqueues the same batch: until a dead one no longer blocks it."""

ENDING_KEPT_S = 30
"""What is made at the end of a batch is noted twice a second."""

NOTED_AT_ONCE = 1_000
"""Jobs in one round trip: a page of a LIST."""

_OF_A_BATCH = (
    "enqueued", "attempts", "tried", "deaths", "refusals", "painting", "done", "failed",
    "counted", "control", "published", "silent", "ending",
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


class Ledger(Paintings, Roster, Backlog):
    """The ledger of one Redis: batches here, the rest in its three parts.

    Every call raises RedisUnreachable or RedisRefused when Redis does not serve it.
    """

    # Who does what

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

    @contextmanager
    def enqueuing(self, batch: BatchName, waits_s: float = WAITS_S) -> Iterator[Callable[[], None]]:
        """Hold a batch against others who would enqueue it; yields what to call now and then to go on holding it.

        Raises:
            BatchBusy: another one holds it for longer than ``waits_s``; or we were too slow to go on.
        """
        lock = self._redis.lock(key_of(batch, "lock"), timeout=ENQUEUING_S, blocking_timeout=waits_s)
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
            client.delete(*(key_of(batch, what) for what in _OF_A_BATCH))

    def forget_job(self, batch: BatchName, job: JobId) -> None:
        """Drop all that is known of one job of a batch, as it is to be tried anew."""
        with self._client() as client, client.pipeline() as pipe:
            for what in ("enqueued", "done", "failed"):
                pipe.srem(key_of(batch, what), job)
            for what in ("attempts", "tried", "deaths", "refusals", "painting"):
                pipe.hdel(key_of(batch, what), job)
            pipe.delete(f"medley:suspects:{job}")
            pipe.execute()

    def idle_painters(self, queue: QueueKind) -> int:
        """How many painting processes of a queue hold no message, at least."""
        serving = sum(QUEUES[queue] in painter.queues for painter in self.painters())
        return max(0, serving - self.unacknowledged())

    # Enqueued

    def add_enqueued(self, batch: BatchName, jobs: Sequence[JobId], queue: QueueKind) -> None:
        """Note that messages for these jobs are out in a queue, but for those that have ended already."""
        if not jobs:
            return
        with self._client() as client, client.pipeline() as pipe:
            pipe.eval(_NOTE_ENQUEUED, 3, *self._sets(batch), *jobs)
            pipe.expire(key_of(batch, "enqueued"), KEPT_S)
            pipe.hset(key_of(batch, "published"), queue, str(time.time()))
            pipe.expire(key_of(batch, "published"), KEPT_S)
            pipe.delete(key_of(batch, "silent"))
            pipe.execute()

    def remove_enqueued(self, batch: BatchName, jobs: Iterable[JobId]) -> None:
        """Note that these jobs' messages were dropped, so that they may be enqueued again."""
        with self._client() as client:
            client.srem(key_of(batch, "enqueued"), *jobs)

    def which_known(self, batch: BatchName, jobs: Sequence[JobId]) -> set[JobId]:
        """Which of these jobs have ended or have a message out, as far as is known."""
        with self._client() as client, client.pipeline(transaction=False) as pipe:
            for key in self._sets(batch):
                pipe.smismember(key, list(jobs))
            answers = pipe.execute()
        return {job for job, *known in zip(jobs, *answers, strict=True) if any(known)}

    def statuses(self, batch: BatchName, jobs: Sequence[JobId]) -> dict[JobId, Status]:
        """How those of these jobs ended that have, as far as is known."""
        with self._client() as client, client.pipeline(transaction=False) as pipe:
            for what in ("failed", "done"):
                pipe.smismember(key_of(batch, what), list(jobs))
            failed, done = pipe.execute()
        known: dict[JobId, Status] = {job: "failed" for job, is_failed in zip(jobs, failed, strict=True) if is_failed}
        return known | {job: "done" for job, is_done in zip(jobs, done, strict=True) if is_done}

    def silent_s(self, batch: BatchName) -> float:
        """For how many seconds no message of a batch has waited or been held, as calls of this saw it; 0 if one does.

        Queues are served in the order of publishing, so what is older than all that waits was delivered. A message that
        was given back may wait behind younger ones; it is then taken for lost and goes out twice, which harms nobody.
        """
        waiting_since, now = self.waiting_since(), time.time()
        held = batch in self.held_batches()
        with self._client() as client:
            published = client.hgetall(key_of(batch, "published"))
            # Two producers' clocks are compared, each of which may be so far off.
            until = {str(queue): float(at) + 2 * self._settings.clock_skew_s for queue, at in published.items()}
            if held or any(waiting_since.get(queue, math.inf) <= at for queue, at in until.items()):
                client.delete(key_of(batch, "silent"))
                return 0.0
            client.set(key_of(batch, "silent"), str(now), nx=True, ex=KEPT_S)
            return now - float(client.get(key_of(batch, "silent")) or now)

    def drop_enqueued(self, batch: BatchName) -> None:
        """Note that the messages of a batch are lost."""
        with self._client() as client:
            client.delete(key_of(batch, "enqueued"), key_of(batch, "silent"))

    # Outcomes

    def record_outcome(self, batch: BatchName, job: JobId, status: Status) -> int:
        """Note an outcome that stands in storage; returns how many the batch has now, or 0 if this one was known.

        Done wins over failed.
        """
        return self._note_outcomes(batch, [(job, status)])

    def recount(self, batch: BatchName, outcomes: Iterable[tuple[JobId, Status]], go_on: Callable[[], None]) -> None:
        """Note all the outcomes of a batch afresh, and that they are all; to be called while holding the batch."""
        with self._client() as client:
            client.delete(key_of(batch, "counted"), key_of(batch, "done"), key_of(batch, "failed"))
        outcomes = iter(outcomes)
        while some := list(islice(outcomes, NOTED_AT_ONCE)):
            self._note_outcomes(batch, some)
            go_on()
        with self._client() as client:
            client.set(key_of(batch, "counted"), self._run(), ex=KEPT_S)

    def counts(self, batch: BatchName) -> Counts:
        """How many jobs of a batch have ended, and how many have a message out, as far as this ledger knows."""
        done, failed, enqueued = key_of(batch, "done"), key_of(batch, "failed"), key_of(batch, "enqueued")
        with self._client() as client, client.pipeline(transaction=False) as pipe:
            for key in (done, failed, enqueued):
                pipe.scard(key)
            pipe.get(key_of(batch, "counted"))
            done_count, failed_count, enqueued_count, counted = pipe.execute()
        # A Redis that was started anew may be back with what it had kept some time before.
        is_counted = counted is not None and counted == self._run()
        return Counts(int(done_count), int(failed_count), int(enqueued_count), is_counted)

    def note_ending(self, batch: BatchName, what: str) -> None:
        """Note how far the making of what a batch ends with is, for people who watch."""
        with self._client() as client:
            client.set(key_of(batch, "ending"), what, ex=ENDING_KEPT_S)

    def ending(self, batch: BatchName) -> str:
        """What :meth:`note_ending` noted last; nothing, if that is long ago."""
        with self._client() as client:
            return str(client.get(key_of(batch, "ending")) or "")

    def _note_outcomes(self, batch: BatchName, outcomes: Sequence[tuple[JobId, Status]]) -> int:
        enqueued, done, failed = self._sets(batch)
        arguments = [text for outcome in outcomes for text in outcome]
        with self._client() as client, client.pipeline() as pipe:
            pipe.eval(_NOTE_OUTCOMES, 4, enqueued, done, failed, key_of(batch, "painting"), *arguments)
            for key in (enqueued, done, failed):
                pipe.expire(key, KEPT_S)
            return int(pipe.execute()[0])

    def _sets(self, batch: BatchName) -> tuple[str, str, str]:
        return key_of(batch, "enqueued"), key_of(batch, "done"), key_of(batch, "failed")
