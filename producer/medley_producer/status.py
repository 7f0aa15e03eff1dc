"""Where a batch stands: from storage, which is the truth, and from the ledger, which knows what is under way."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from medley import keys
from medley.batches.control import read_control
from medley.batches.enqueuing import recount
from medley.batches.stored import each_outcome, read_batch, read_finished
from medley.broker.ledger import Counts
from medley.broker.paintings import Progress
from medley.broker.queue import QUEUES
from medley.cluster import Cluster
from medley.errors import UsageError
from medley.records.base import BatchName, JobId
from medley.records.batches import AnyBatch, ControlState
from medley.storage import Storage

BATCHES_AT_ONCE = 16
"""Batches that an overview asks for at once: asking waits for the network more than for anything here."""


OF_ONE_PASS_S = 5.0
"""Reports of one process that are no further apart are of pictures that it paints together."""


@dataclass(frozen=True)
class BatchStatus:
    """Counts of a batch's jobs, and what is being painted.

    ``recounted`` says that the ledger did not know the batch, so that its outcomes were counted in storage; ``ending``
    is how far the making of what it ends with is.
    """

    batch: AnyBatch
    done: int
    failed: int
    painting: dict[JobId, Progress]
    finished: bool
    control: ControlState = "running"
    recounted: bool = False
    ending: str = ""

    @property
    def ended(self) -> int:
        """Jobs that are done or have failed."""
        return self.done + self.failed

    @property
    def state(self) -> str:
        """In one word."""
        if self.finished:
            return "finished"
        if self.control != "running":
            return self.control
        if self.ended >= self.batch.jobs:
            return "ending"
        return "painting" if self.painting else "waiting"

    @property
    def steps_done(self) -> int:
        """Steps of this batch that need not be made any more."""
        return self.ended * self.batch.options.num_steps + sum(p.step for p in self.painting.values())

    @property
    def exit_code(self) -> int:
        """What a command ends with that has seen the end of the batch."""
        return 1 if self.failed or self.batch.skipped or self.state == "cancelled" else 0

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "batch": self.batch.name,
            "state": self.state,
            "pairs": self.batch.pairs,
            "jobs": self.batch.jobs,
            "done": self.done,
            "failed": self.failed,
            "skipped": len(self.batch.skipped),
            "painting": {job: progress.model_dump() for job, progress in self.painting.items()},
            "recounted": self.recounted,
        }


def stored_status(cluster: Cluster, batch: AnyBatch) -> BatchStatus:
    """Where a batch stands, whatever Redis has lost: two small objects of storage, and what the ledger counts; only
    where that does not know the batch, one LIST of its outcomes.
    """
    if finished := read_finished(cluster.storage, batch.name):
        return BatchStatus(batch, finished.done, finished.failed, {}, finished=True)
    control = read_control(cluster.storage, batch.name)
    counts, recounted = cluster.ledger.counts(batch.name), False
    if not counts.counted:
        counts, recounted = _recounted(cluster, batch), True
    ending = cluster.ledger.ending(batch.name) if counts.ended >= batch.jobs else ""
    return BatchStatus(
        batch, counts.done, counts.failed, being_painted(cluster, batch), finished=False, control=control,
        recounted=recounted, ending=ending,
    )  # fmt: skip


def ledger_status(cluster: Cluster, batch: AnyBatch, control: ControlState = "running") -> BatchStatus | None:
    """From the ledger alone, with what is known to be decided, cheap enough to ask twice a second; None if the ledger
    does not know the batch.
    """
    counts = cluster.ledger.counts(batch.name)
    if not counts.counted:
        return None
    return BatchStatus(
        batch, counts.done, counts.failed, being_painted(cluster, batch), finished=False, control=control
    )


def _recounted(cluster: Cluster, batch: AnyBatch) -> Counts:
    if recount(cluster, batch):
        return cluster.ledger.counts(batch.name)
    # Another command enqueues the batch, and has the ledger count it; we count for ourselves.
    ended = Counter(status for _, status in each_outcome(cluster.storage, batch.name))
    return Counts(ended["done"], ended["failed"], 0, counted=False)


def being_painted(cluster: Cluster, batch: AnyBatch, within_s: float | None = None) -> dict[JobId, Progress]:
    """What is being painted, as reported within the last so many seconds, or else in the time that a lease lasts."""
    reported = cluster.ledger.painting(batch.name, within_s or cluster.settings.lease_s)
    newest: dict[str, float] = {}
    for progress in reported.values():
        newest[progress.worker] = max(newest.get(progress.worker, 0.0), progress.at)
    # A process reports all pictures of a pass twice a second; what it reported of earlier ones was cut short.
    return {job: report for job, report in reported.items() if newest[report.worker] - report.at < OF_ONE_PASS_S}


def named_batch(storage: Storage, name: BatchName) -> AnyBatch:
    """A batch that must exist.

    Raises:
        UsageError: there is none of this name.
    """
    batch = read_batch(storage, name)
    if batch is None:
        raise UsageError(f"There is no batch {name!r} in {storage.root}; `medley status` lists those there are.")
    return batch


class Overview(NamedTuple):
    """Every batch in storage, by name; those whose records cannot be read with the reason."""

    batches: list[BatchStatus]
    unreadable: dict[BatchName, str]


def overview(cluster: Cluster) -> Overview:
    """Where every batch stands: a few round trips for each."""
    seen = Overview([], {})
    names = sorted(cluster.storage.folders(keys.BATCHES))
    with ThreadPoolExecutor(BATCHES_AT_ONCE) as threads:
        for name, found in zip(names, threads.map(partial(found_status, cluster), names), strict=True):
            if isinstance(found, BatchStatus):
                seen.batches.append(found)
            elif found:
                seen.unreadable[name] = found
    return seen


def found_status(cluster: Cluster, name: BatchName) -> BatchStatus | str | None:
    """Where a batch stands, or why that cannot be told; None if there is none of this name (any more)."""
    try:
        batch = read_batch(cluster.storage, name)
        return stored_status(cluster, batch) if batch else None
    except UsageError as error:  # written by another version
        return str(error)


def farm_status(cluster: Cluster) -> dict[str, Any]:
    """The workers and the queues, for machines; ``unserved`` are queues with messages that no worker takes."""
    ledger = cluster.ledger
    painters, lengths = ledger.painters(), ledger.queue_lengths()
    served = {str(painter.engine) for painter in painters}
    foreign = ledger.foreign_queue_lengths().items()
    unserved = {name: length for name, length in foreign if length and name.rpartition(".")[2] not in served}
    ours = {QUEUES[kind]: length for kind, length in lengths.items() if length}
    unserved |= {name: length for name, length in ours.items() if not any(name in p.queues for p in painters)}
    return {
        "workers": [painter.model_dump() for painter in painters],
        "stopped": ledger.stopped(),
        "queues": lengths,
        "unserved": unserved,
        "unacknowledged": ledger.unacknowledged(),
        "set_aside": ledger.set_aside_messages(),
        "set_aside_newest": next(iter(ledger.aside(1)), None),
    }
