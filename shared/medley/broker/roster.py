"""Who paints at one Redis: the painting processes that are up, and what is held against their workers."""

import re
import time

from pydantic import ConfigDict, NonNegativeFloat, NonNegativeInt

from medley.broker.connection import SCANNED, Connection
from medley.records.base import JobId, Record

SILENT_BEATS = 6
"""A painting process that has missed this many lease renewals is no longer listed; it speaks at each."""

SILENT_KEPT_S = 3600.0
"""So long is it known of a painting process that it fell silent, and did not say farewell: until somebody was told."""

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


class Roster(Connection):
    """The part of the ledger that knows workers."""

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
        """The painting processes that have spoken within :data:`SILENT_BEATS` lease renewals, sorted by name."""
        return [painter for painter, silent_s in self.painters_heard() if silent_s <= self.silent_after_s]

    @property
    def silent_after_s(self) -> float:
        """A painting process of which nothing is heard for longer is not up, or not to be reached."""
        return self._settings.lease_renew_s * SILENT_BEATS

    def painters_heard(self) -> list[tuple[Painter, float]]:
        """All that have spoken within :data:`SILENT_KEPT_S`, sorted by name, with the seconds since each spoke."""
        with self._client() as client:
            names = sorted(client.scan_iter("medley:painter:*", count=SCANNED))
            with client.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.get(name)
                    pipe.pttl(name)
                answers = pipe.execute()
        heard = zip(answers[::2], answers[1::2], strict=True)
        return [(Painter.from_json(text), max(0.0, SILENT_KEPT_S - left_ms / 1000)) for text, left_ms in heard if text]

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


def _literal(name: str) -> str:
    """A name as a pattern of Redis that matches it alone."""
    return re.sub(r"([*?\[\]^\\])", r"\\\1", name)
