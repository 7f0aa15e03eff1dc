"""Watches a batch until its end: live progress where there is a terminal, silence elsewhere."""

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from medley.cluster import Cluster
from medley.errors import MedleyError, ServiceRefused, ServiceUnreachable
from medley.jobs import Batch
from medley.records import JobId
from medley_producer.layout import titles
from medley_producer.status import BatchStatus, noted_status, stored_status

LOOK_EVERY_S = 0.5
"""A person sees steps advance; asking the ledger more often would only cost."""

LIST_EVERY_S = 15.0
"""The ledger may have lost outcomes; storage is asked this often, as a LIST costs money on S3."""

WIDE = 110
"""Columns of a terminal that have room for everything. In a narrower one names and the bar are cut short, so that the
times can be read."""

NARROW_NAME = 22
"""Letters that are left of a name then."""

TITLES_AT_MOST = 10_000
"""Of larger batches, jobs are shown by their ids, as the titles would not fit memory."""


def follow(cluster: Cluster, batch: Batch, console: Console, look: Callable[[], None] = lambda: None) -> BatchStatus:
    """Wait until everything a batch ends with is there; returns how it ended.

    ``look`` is called at every look, and may raise to end the wait.

    Raises:
        ServiceUnreachable: Redis or storage was away for longer than MEDLEY_PATIENCE_S; the batch goes on.
        ServiceRefused: they refused us twice, :data:`LIST_EVERY_S` apart. Once, a disk may be full only until the job
            that filled it has failed.
    """
    with _progress(console) as progress:
        view = _View(progress, cluster, batch)
        listed_at = float("-inf")
        heard_at = time.monotonic()
        refused = False
        while True:
            look()
            list_now = time.monotonic() - listed_at >= LIST_EVERY_S
            try:
                status = _looked(cluster, batch, list_now)
            except ServiceUnreachable as error:
                if time.monotonic() - heard_at > cluster.settings.patience_s:
                    raise
                view.wait(error)
            except ServiceRefused as error:
                if refused:
                    raise
                refused, listed_at = True, time.monotonic()
                view.wait(error)
            else:
                heard_at = time.monotonic()
                refused = refused and not list_now
                listed_at = heard_at if list_now else listed_at
                view.show(status)
                if status.finished:
                    return status
            time.sleep(LOOK_EVERY_S)


def _looked(cluster: Cluster, batch: Batch, list_now: bool) -> BatchStatus:
    if list_now:
        cluster.storage.check()  # a storage that is full or gone would be waited for without end
        return stored_status(cluster, batch)
    status = noted_status(cluster, batch)
    return stored_status(cluster, batch) if status.finished else status


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

    def __init__(self, progress: Progress, cluster: Cluster, batch: Batch) -> None:
        self._progress = progress
        self._is_wide = progress.console.width >= WIDE
        self._steps = batch.options.num_steps
        self._batch = progress.add_task(batch.name, total=batch.jobs * self._steps, note="")
        self._jobs: dict[JobId, TaskID] = {}
        small = batch.jobs <= TITLES_AT_MOST and not progress.disable
        self._titles = dict(titles(cluster.storage, batch)) if small else {}

    def wait(self, error: MedleyError) -> None:
        """Say what is waited for."""
        self._progress.update(self._batch, note=f"waiting: {error}")

    def show(self, status: BatchStatus) -> None:
        """Draw this status."""
        speed = self._progress.tasks[0].speed
        failed = f", {status.failed} failed" if status.failed else ""
        rate = f", {speed:.2g} steps/s" if speed else ""
        note = f"{status.done}/{status.batch.jobs} painted{failed}{rate if self._is_wide else ''}"
        if status.state == "ending":
            note += ", making the sheet"
        self._progress.update(self._batch, completed=status.steps_done, note=note)
        for job in self._jobs.keys() - status.painting.keys():
            self._progress.remove_task(self._jobs.pop(job))
        for job, painting in status.painting.items():
            if job not in self._jobs:
                name = self._titles.get(job, job)
                short = name if self._is_wide or len(name) <= NARROW_NAME else f"{name[: NARROW_NAME - 1]}…"
                self._jobs[job] = self._progress.add_task(f"  {short}", total=painting.steps, note="")
            loss = f"loss {painting.loss:,.0f}" if painting.loss is not None else ""
            self._progress.update(
                self._jobs[job], completed=painting.step, note=f"step {painting.step}/{painting.steps} {loss}"
            )
