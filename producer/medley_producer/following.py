"""Watches a batch until its end: live progress where there is a terminal, silence elsewhere."""

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from medley import keys
from medley.cluster import Cluster
from medley.errors import MedleyError, ServiceRefused, ServiceUnreachable, UsageError
from medley.records.base import JobId
from medley.records.batches import AnyBatch, ControlState
from medley.telling import shown
from medley_producer.status import BatchStatus, ledger_status, stored_status

LOOK_EVERY_S = 0.5
"""A person sees steps advance; asking the ledger more often would only cost."""

STORED_EVERY_S = 5.0
"""Storage is asked this often for what was decided and whether the end is there, as requests cost money on S3."""

REFUSED_S = 15.0
"""A service that refuses us for longer is told of; a disk may be full only until the job that filled it has failed."""

WIDE = 110
"""Columns of a terminal that have room for everything. In a narrower one names and the bar are cut short, so that the
times can be read."""

NARROW_NAME = 22
"""Letters that are left of a name then."""


def follow(cluster: Cluster, batch: AnyBatch, console: Console, look: Callable[[], None] = lambda: None) -> BatchStatus:
    """Wait until a batch is cancelled, or everything it ends with is there; returns how it ended.

    ``look`` is called at every look, and may raise to end the wait.

    Raises:
        UsageError: the batch was removed.
        ServiceUnreachable: Redis or storage was away for longer than MEDLEY_PATIENCE_S; the batch goes on.
        ServiceRefused: they refused us for longer than :data:`REFUSED_S`.
    """
    with _progress(console) as progress:
        view = _View(progress, batch)
        stored_at = float("-inf")
        heard_at = time.monotonic()
        refused_at: float | None = None
        control: ControlState = "running"
        while True:
            look()
            stored_now = time.monotonic() - stored_at >= STORED_EVERY_S
            try:
                status = _looked(cluster, batch, None if stored_now else control)
            except ServiceUnreachable as error:
                if time.monotonic() - heard_at > cluster.settings.patience_s:
                    raise
                view.wait(error)
            except ServiceRefused as error:
                stored_at = time.monotonic()
                refused_at = refused_at or stored_at
                if stored_at - refused_at >= REFUSED_S:
                    raise
                view.wait(error)
            else:
                heard_at = time.monotonic()
                if stored_now:
                    stored_at, refused_at = heard_at, None
                control = status.control
                view.show(status)
                if status.finished or status.control == "cancelled":
                    return status
            time.sleep(LOOK_EVERY_S)


def _looked(cluster: Cluster, batch: AnyBatch, control: ControlState | None) -> BatchStatus:
    """Where the batch stands now; as stored, unless it is known what was decided and the ledger suffices."""
    if control is None:
        cluster.storage.check()  # a storage that is full or gone would be waited for without end
        if not cluster.storage.exists(keys.batch(batch.name)):
            raise UsageError(f"Batch {batch.name!r} was removed while it was waited for.")
        return stored_status(cluster, batch)
    status = ledger_status(cluster, batch, control)
    return status if status and status.ended < batch.jobs else stored_status(cluster, batch)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),  # names of files may hold what rich takes for markup
        BarColumn(bar_width=24 if console.width >= WIDE else 6),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=console,
        transient=False,
        disable=not console.is_terminal,
    )


class _View:
    """The lines: one for the batch, one for each job being painted."""

    def __init__(self, progress: Progress, batch: AnyBatch) -> None:
        self._progress = progress
        self._is_wide = progress.console.width >= WIDE
        self._steps = batch.options.num_steps
        self._batch = progress.add_task(batch.name, total=batch.jobs * self._steps, note="")
        self._jobs: dict[JobId, TaskID] = {}

    def wait(self, error: MedleyError) -> None:
        """Say what is waited for."""
        self._progress.update(self._batch, note=f"waiting: {error}")

    def show(self, status: BatchStatus) -> None:
        """Draw this status."""
        speed = self._progress.tasks[0].speed
        failed = f", {status.failed} failed" if status.failed else ""
        rate = f", {speed:.2g} steps/s" if speed else ""
        note = f"{status.done}/{status.batch.jobs} painted{failed}{rate if self._is_wide else ''}"
        ending = status.ending or "making the video and the gallery"
        note += {"ending": f", {ending}", "paused": ", paused"}.get(status.state, "")
        self._progress.update(self._batch, completed=status.steps_done, note=note)
        for job in self._jobs.keys() - status.painting.keys():
            self._progress.remove_task(self._jobs.pop(job))
        for job, painting in status.painting.items():
            if job not in self._jobs:
                name = shown(painting.names) or job
                short = name if self._is_wide or len(name) <= NARROW_NAME else f"{name[: NARROW_NAME - 1]}…"
                self._jobs[job] = self._progress.add_task(f"  {short}", total=painting.steps, note="")
            loss = f"loss {painting.loss:,.0f}" if painting.loss is not None else ""
            self._progress.update(
                self._jobs[job], completed=painting.step, note=f"step {painting.step}/{painting.steps} {loss}"
            )
