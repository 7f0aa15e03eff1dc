"""Where a batch stands: from storage, which is the truth, and from the ledger, which knows what is under way."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from medley import keys
from medley.batches import list_outcomes, read_batch
from medley.cluster import Cluster
from medley.errors import UsageError
from medley.jobs import Batch
from medley.ledger import Progress
from medley.records import BatchName, JobId


@dataclass(frozen=True)
class BatchStatus:
    """Counts of a batch's jobs, and what is being painted."""

    batch: Batch
    done: int
    failed: int
    painting: dict[JobId, Progress]
    finished: bool

    @property
    def state(self) -> str:
        """In one word."""
        if self.finished:
            return "finished"
        if self.done + self.failed >= self.batch.jobs:
            return "ending"
        return "painting" if self.painting else "waiting"

    @property
    def steps_done(self) -> int:
        """Steps of this batch that need not be made any more."""
        return (self.done + self.failed) * self.batch.options.num_steps + sum(p.step for p in self.painting.values())

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
        }


def stored_status(cluster: Cluster, batch: Batch) -> BatchStatus:
    """From storage, whatever Redis has lost: one LIST."""
    outcomes = list_outcomes(cluster.storage, batch.name)
    return _status(cluster, batch, len(outcomes.done), len(outcomes.failed), ended=outcomes.all)


def noted_status(cluster: Cluster, batch: Batch) -> BatchStatus:
    """From the ledger alone, unless that says that all jobs have ended: cheap enough to ask twice a second."""
    done, failed = cluster.ledger.counts(batch.name)
    return _status(cluster, batch, done, failed, ended=set())


def _status(cluster: Cluster, batch: Batch, done: int, failed: int, ended: set[JobId]) -> BatchStatus:
    reported = cluster.ledger.painting(batch.name, within_s=cluster.settings.lease_s)
    # A process paints one job at a time: what it reported of an earlier one was cut short.
    newest = {progress.worker: job for job, progress in sorted(reported.items(), key=lambda item: item[1].at)}
    painting = {job: reported[job] for job in newest.values() if job not in ended}
    complete = done + failed >= batch.jobs
    finished = complete and cluster.storage.exists(keys.finished(batch.name))
    return BatchStatus(batch, done, failed, painting, finished)


def named_batch(cluster: Cluster, name: BatchName) -> Batch:
    """A batch that must exist.

    Raises:
        UsageError: there is none of this name.
    """
    batch = read_batch(cluster.storage, name)
    if batch is None:
        raise UsageError(
            f"There is no batch {name!r} in {cluster.storage.root}; `medley status` lists those there are."
        )
    return batch


class Overview(NamedTuple):
    """Every batch in storage, by name; those whose records cannot be read with the reason."""

    batches: list[BatchStatus]
    unreadable: dict[BatchName, str]


def overview(cluster: Cluster) -> Overview:
    """Where every batch stands."""
    seen = Overview([], {})
    for name in sorted(cluster.storage.folders(keys.BATCHES)):
        try:
            if batch := read_batch(cluster.storage, name):
                seen.batches.append(stored_status(cluster, batch))
        except UsageError as error:  # written by another version
            seen.unreadable[name] = str(error)
    return seen
