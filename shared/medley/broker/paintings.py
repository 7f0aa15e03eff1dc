"""What painters say of the jobs they are at, and what they are told of their batches."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import NonNegativeFloat, NonNegativeInt

from medley.broker.connection import Connection
from medley.records.base import BatchName, JobId, Record
from medley.records.batches import ControlState

KEPT_S = 30 * 24 * 3600
"""A batch's keys outlive its last change by a month, longer than any batch waits for a worker."""

CONTROL_KEPT_S = 30.0
"""Then painters look into storage again, so that what Redis was told wrongly, or not told, holds no longer."""


class Progress(Record):
    """How far one painting is; ``names`` are its pictures, as the dataset calls them."""

    step: NonNegativeInt
    steps: NonNegativeInt
    loss: float | None = None
    names: str = ""
    worker: str
    at: NonNegativeFloat


class Attempts(NamedTuple):
    """How often a job was begun, now included; the worker of the time before, and how that ended, where it died."""

    number: int
    worker: str
    death: str


class Paintings(Connection):
    """The part of the ledger that knows attempts, their progress, and decisions."""

    # Control

    def set_control(self, batch: BatchName, state: ControlState) -> None:
        """Tell those that are painting what was decided about their batch, for :data:`CONTROL_KEPT_S`."""
        with self._client() as client:
            client.set(key_of(batch, "control"), state, px=int(CONTROL_KEPT_S * 1000))

    # Attempts

    def hold(self, job: JobId, worker: str) -> str:
        """Say that a painter is at work on a job, whatever its batch; returns who is: another one, if it was sooner.

        It is let go, if that is not said again, when a lease would lapse that was renewed just now.
        """
        with self._client() as client:
            key = f"medley:holder:{job}"
            client.set(key, worker, nx=True, px=self._held_ms)
            return str(client.get(key) or worker)

    def let_go(self, job: JobId, worker: str) -> None:
        """Say that a painter is no longer at work on a job."""
        with self._client() as client:
            if client.get(f"medley:holder:{job}") == worker:
                client.delete(f"medley:holder:{job}")

    def count_attempt(self, batch: BatchName, job: JobId, worker: str) -> Attempts:
        """Count one more attempt; returns how many that makes, and what is known of the one before."""
        attempts, tried = key_of(batch, "attempts"), key_of(batch, "tried")
        with self._client() as client, client.pipeline() as pipe:
            pipe.hincrby(attempts, job, 1)
            pipe.hget(tried, job)
            pipe.hget(key_of(batch, "deaths"), job)
            pipe.hset(tried, job, worker)
            pipe.expire(attempts, KEPT_S)
            pipe.expire(tried, KEPT_S)
            count, before, death, *_ = pipe.execute()
        return Attempts(int(count), str(before or ""), str(death or ""))

    def attempts(self, batch: BatchName, jobs: Sequence[JobId]) -> dict[JobId, int]:
        """How many attempts were begun at those of these jobs at which any was."""
        if not jobs:
            return {}
        with self._client() as client:
            counts = client.hmget(key_of(batch, "attempts"), list(jobs))
        return {job: int(count) for job, count in zip(jobs, counts, strict=True) if count}

    def note_death(self, batch: BatchName, job: JobId, how: str) -> None:
        """Note how the process ended that worked on a job."""
        with self._client() as client, client.pipeline() as pipe:
            pipe.hset(key_of(batch, "deaths"), job, how)
            pipe.expire(key_of(batch, "deaths"), KEPT_S)
            pipe.execute()

    def give_back(self, batch: BatchName, job: JobId) -> None:
        """Take an attempt back, as the job is given back through no fault of its own, and is painted no more."""
        with self._client() as client, client.pipeline(transaction=False) as pipe:
            pipe.hincrby(key_of(batch, "attempts"), job, -1)
            pipe.hdel(key_of(batch, "painting"), job)
            pipe.execute()

    def count_refusal(self, batch: BatchName, job: JobId) -> int:
        """Count that a service refused what this job needs; returns how many times that makes."""
        return self._count(key_of(batch, "refusals"), job)

    def refusals(self, batch: BatchName, job: JobId) -> int:
        """How often a service refused what this job needs."""
        with self._client() as client:
            return int(client.hget(key_of(batch, "refusals"), job) or 0)

    def count_trouble(self, what: str) -> int:
        """Count that a message, or a batch's end, could not be dealt with; returns how many times that makes."""
        return self._count("medley:trouble", what)

    def forget_trouble(self, what: str) -> None:
        """Begin to count anew."""
        with self._client() as client:
            client.hdel("medley:trouble", what)

    # Painting

    def report(self, batch: BatchName, job: JobId, progress: Progress) -> ControlState | None:
        """Say how far a painting is; returns what was decided about its batch, or None if Redis does not know."""
        key = key_of(batch, "painting")
        with self._client() as client, client.pipeline(transaction=False) as pipe:
            pipe.hset(key, job, progress.json_bytes())
            pipe.expire(key, KEPT_S)
            pipe.set(f"medley:holder:{job}", progress.worker, px=self._held_ms)
            pipe.get(key_of(batch, "control"))
            state: ControlState | None = pipe.execute()[-1]
            return state

    def painting(self, batch: BatchName, within_s: float) -> dict[JobId, Progress]:
        """What is being painted, as reported within the last so many seconds."""
        with self._client() as client:
            reports = client.hgetall(key_of(batch, "painting"))
        progress = {str(job): Progress.from_json(text) for job, text in reports.items()}
        return {job: report for job, report in progress.items() if time.time() - report.at < within_s}

    @property
    def _held_ms(self) -> int:
        """For how long a job is held: as long as a lease lasts after its last renewal."""
        return int((self._settings.lease_s - self._settings.lease_renew_s) * 1000)

    def _count(self, key: str, what: str) -> int:
        with self._client() as client, client.pipeline() as pipe:
            pipe.hincrby(key, what, 1)
            pipe.expire(key, KEPT_S)
            return int(pipe.execute()[0])


def key_of(batch: BatchName, what: str) -> str:
    """The name in Redis of what is known of a batch."""
    return f"medley:batch:{batch}:{what}"
