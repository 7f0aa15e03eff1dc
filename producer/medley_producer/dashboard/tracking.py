"""A batch as it is followed: where it stood when it was looked at last, and how quickly that changes."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from itertools import islice

from medley.batches.stored import each_outcome, read_finished, read_result
from medley.cluster import Cluster
from medley.errors import UsageError
from medley.records.base import JobId
from medley.records.walks import WalkBatch
from medley_producer.dashboard.objects import preview
from medley_producer.dashboard.views import BatchView
from medley_producer.status import BatchStatus

RATE_OVER_S = 300.0
"""Rates are of the last so many seconds: enough for jobs of a minute, few enough to see that a worker is gone."""

RATE_FROM_S = 2.0
"""Over less than that, a rate says nothing."""


class Tracked:
    """Of one batch; ``status`` is where it stood last."""

    def __init__(self, cluster: Cluster, status: BatchStatus) -> None:
        self.status = status
        self._finished_at: datetime | None = None
        self._picture = ""
        self._seen: deque[tuple[float, int, int]] = deque()  # (when, jobs ended, steps done)
        self.note(cluster, status)

    @property
    def is_settled(self) -> bool:
        """Whether nothing changes any more, unless it is opened again."""
        return self.status.finished or (self.status.control == "cancelled" and not self.status.painting)

    def note(self, cluster: Cluster, status: BatchStatus) -> None:
        """Note where it stands now."""
        before, self.status = self.status, status
        name = status.batch.name
        if not status.finished:
            self._finished_at = None
        elif self._finished_at is None and (finished := read_finished(cluster.storage, name)):
            self._finished_at = finished.finished_at
        if status.ended < before.ended:  # some are tried again
            self._seen.clear()
        ended = sorted(before.painting.keys() - status.painting.keys())
        if ended and status.done > before.done:
            known = cluster.ledger.statuses(name, ended)
            self._picture = self._found(cluster, (job for job in ended if known.get(job) == "done")) or self._picture
        if not self._picture and status.done:
            done = (job for job, how in each_outcome(cluster.storage, name) if how == "done")
            self._picture = self._found(cluster, done)
        self._seen.append((time.monotonic(), status.ended, status.steps_done))
        while self._seen[0][0] < time.monotonic() - RATE_OVER_S:
            self._seen.popleft()

    def _found(self, cluster: Cluster, done: Iterator[JobId]) -> str:
        """Where the picture of the first one of these jobs is shown."""
        with suppress(UsageError):  # another version painted it
            for job in islice(done, 1):
                result = read_result(cluster.storage, job)
                return preview(result) if result else ""
        return ""

    def view(self, stuck: int) -> BatchView:
        """What is told of it."""
        status = self.status
        batch = status.batch
        steps = batch.jobs * batch.options.num_steps
        jobs_a_minute, eta_s = self._rates(status, steps)
        return BatchView(
            name=batch.name,
            kind="walk" if isinstance(batch, WalkBatch) else "style_transfer",
            state=status.state,
            pairs=batch.pairs,
            jobs=batch.jobs,
            done=status.done,
            failed=status.failed,
            painting=len(status.painting),
            skipped=len(batch.skipped),
            progress=1.0 if status.finished else min(1.0, status.steps_done / max(1, steps)),
            jobs_a_minute=jobs_a_minute,
            eta_s=eta_s,
            stuck=stuck,
            ending=status.ending,
            picture=self._picture,
            created_at=batch.created_at,
            finished_at=self._finished_at,
        )

    def _rates(self, status: BatchStatus, steps: int) -> tuple[float | None, float | None]:
        """Jobs a minute, and the seconds that are left at the rate at which steps are made."""
        (begun, ended, made), (now, ended_now, made_now) = self._seen[0], self._seen[-1]
        if status.finished or status.control != "running" or now - begun < RATE_FROM_S or made_now <= made:
            return None, None
        left_s = (steps - made_now) * (now - begun) / (made_now - made)
        return 60 * (ended_now - ended) / (now - begun), max(0.0, left_s)
