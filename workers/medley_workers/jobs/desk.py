"""What a painter deals with a delivery at: services, and what can be done to a job, whoever does it."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from medley.batches.chains import Followers
from medley.batches.control import read_control
from medley.broker.paintings import Attempts
from medley.cluster import Cluster
from medley.records.base import BatchName, JobId
from medley.records.batches import AnyBatch, ControlState
from medley.records.kinds import Job
from medley.records.results import AnyResult
from medley.telling import quiet

CONTROL_READ_EVERY_S: dict[ControlState, float] = {"running": 2.0, "paused": 0.2, "cancelled": 0.2}
"""What was decided is read again after this. Reading it for each message would let a paused batch of 100,000 hold up
those behind it, as they are dropped; and of what is resumed, no message should be dropped."""


Commit = Callable[[], AnyResult]
"""Stores what was painted and commits it, on whatever thread, while something else may be painted already."""

Painted = AnyResult | Commit | Exception
"""What comes of a job's painting: its commit, or what is left to do for that, or what it failed of."""

PaintTogether = Callable[[Sequence[Job], AnyBatch], Iterable[tuple[JobId, Painted]]]
"""Paints jobs of a batch at once; gives, in any order, what comes of each. What it gives nothing of, or OutOfMemory, or
a mistake of ours, is tried alone."""


@dataclass
class Desk:
    """What a delivery is dealt with at. ``painter`` is the name of this process, ``<worker>#<index>``; ``paint`` paints
    a job of a batch and commits it, or gives what does that, ``paint_together`` some at once where that is quicker,
    ``expect`` is told which one is likely to be next, ``log_tail`` is what this process last said, and ``advance``
    tells that it is at work.
    """

    cluster: Cluster
    painter: str
    paint: Callable[[Job, AnyBatch], AnyResult | Commit]
    log_tail: Callable[[], Sequence[str]] = tuple
    advance: Callable[[], None] = quiet
    expect: Callable[[Job, AnyBatch], None] = quiet
    paint_together: PaintTogether | None = None
    followers: Followers = field(default_factory=Followers)
    _controls: dict[BatchName, tuple[float, ControlState]] = field(default_factory=dict)

    def control(self, batch: BatchName) -> ControlState:
        """What was decided about a batch, at most :data:`CONTROL_READ_EVERY_S` ago."""
        read_at, state = self._controls.get(batch, (float("-inf"), "running"))
        if time.monotonic() - read_at >= CONTROL_READ_EVERY_S[state]:
            state = read_control(self.cluster.storage, batch)
            self._controls = {batch: (time.monotonic(), state)}
        return state


class Wanted(NamedTuple):
    """A job that is to be painted now: we hold it, and the attempt is counted. It must be concluded, or given back."""

    batch: AnyBatch
    job: Job
    attempts: Attempts
